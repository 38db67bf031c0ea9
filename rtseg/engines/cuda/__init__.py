"""Engines for NVIDIA GPUs without TensorRT, and what all GPU engines share."""
