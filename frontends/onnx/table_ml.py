"""The ai.onnx.ml domain: linear classifiers, normalisers, maps."""

TABLE = {}
