"""TensorRT: from a network to a kept engine, and running it."""
