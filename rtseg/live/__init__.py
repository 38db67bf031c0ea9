"""From frames to labelled frames: segmenter, overlapped loop, thread budget, benchmark (no torch)."""
