"""From a torch network to the shipped form: the ONNX file, its card, and the parity gate between them."""
