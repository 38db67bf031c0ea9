"""From the ONNX file that ships to its INT8 form, for onnxruntime and OpenVINO."""
