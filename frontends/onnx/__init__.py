"""The ONNX frontend: models read into graphs, and graphs written as models."""
