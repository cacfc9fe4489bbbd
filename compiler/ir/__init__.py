"""The typed graph: types, dims, op records, nodes; text, parser, verifier, interpreter."""
