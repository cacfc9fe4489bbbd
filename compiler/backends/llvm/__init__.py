"""The CPU backend: loops to LLVM IR to machine code."""
