"""Softmax, attention and normalisations."""
