"""The native frontend: Python functions traced into graphs, and layers for them."""
