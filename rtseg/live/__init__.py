"""From frames to labelled frames: segmenter, labellers around it, policies, overlapped loop, benchmark (no torch)."""
