"""From the shipped ONNX file to its INT8 form, for onnxruntime and OpenVINO."""
