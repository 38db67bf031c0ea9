"""Offline batches that survive failures: inputs, journal, segments, workers, and joining the results."""
