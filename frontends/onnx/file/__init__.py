"""ONNX files: bytes, text, external data, schemas."""
