"""Passes that only pay on CPUs."""
