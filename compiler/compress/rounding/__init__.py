"""Rounding of weights: pure functions of arrays, each with its source."""
