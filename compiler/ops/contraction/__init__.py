"""Sums of products: matrices, convolutions, Fourier transforms."""
