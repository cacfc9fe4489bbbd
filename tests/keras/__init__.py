"""Keras' own tests, run on tessel: `python -m tests.keras losses metrics [--traced]`."""
