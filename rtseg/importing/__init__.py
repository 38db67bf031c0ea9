"""Networks of other makes: from an ONNX file of any form to the one that every command takes."""
