"""Backends: what runs or prints the scheduled loops."""
