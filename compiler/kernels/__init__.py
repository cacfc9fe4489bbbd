"""Kernels and programs: loops over expressions, their proofs, their work."""
