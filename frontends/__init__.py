"""Frontends: where models come from."""
