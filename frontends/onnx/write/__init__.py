"""From a graph to an ONNX model."""
