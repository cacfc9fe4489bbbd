"""ONNX in and out: `read` gives a Graph, `write` a ModelProto."""
