"""What can be said of a graph without changing it: ranges of integers, equations of sizes."""
