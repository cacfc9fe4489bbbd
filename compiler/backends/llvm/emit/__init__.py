"""LLVM IR of expressions."""
