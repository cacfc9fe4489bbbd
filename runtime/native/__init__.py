"""Machine code in memory: linking, threads, calls into Python."""
