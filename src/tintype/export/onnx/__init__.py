"""The form `onnx`: a model as graphs that ONNX Runtime and others compute, in any language."""
