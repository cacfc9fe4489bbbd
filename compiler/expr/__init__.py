"""Scalar expressions and index arithmetic: what op records are written in."""
