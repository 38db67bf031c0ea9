"""Metrics of labels, such as confusion, boundary F1, calibration and stability."""
