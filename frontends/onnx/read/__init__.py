"""From an ONNX model to a graph."""
