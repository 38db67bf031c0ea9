"""What runs on an NVIDIA GPU without TensorRT, and what all GPU engines share."""
