"""Resize and Upsample: output sizes and scales are resolved here."""

TABLE = {}
