"""The compiler: one typed graph, its passes, loops, and the generators of native code."""
