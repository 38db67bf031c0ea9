"""From torch to what ships: the ONNX file, its card, and the parity gate between them."""
