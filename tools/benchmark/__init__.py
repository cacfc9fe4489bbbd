"""`tessel bench`: backends side by side."""
