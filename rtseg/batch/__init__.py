"""Offline batches that survive anything: inputs, journal, segments, workers, and the joining of their results."""
