"""Schedules of kernels: nests and windows; contractions have a folder of their own."""
