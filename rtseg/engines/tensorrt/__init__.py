"""TensorRT: builds engines from networks, caches and runs them."""
