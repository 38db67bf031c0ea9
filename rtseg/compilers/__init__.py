"""From the ONNX file that ships to an engine's own form, on the machine that will run it."""
