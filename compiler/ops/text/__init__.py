"""Strings, maps and trees."""
