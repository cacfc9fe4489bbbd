"""The GPU backend: loops to Triton source to a cubin."""
