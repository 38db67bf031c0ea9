"""Where labelled frames go: recordings, label maps, pictures, a window."""
