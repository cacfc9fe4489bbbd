"""tessel: a compiler-based graph optimizer, inference and training toolkit."""
