"""Functions of vectors: exp, erf, sin and others."""
