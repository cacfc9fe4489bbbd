"""Targets: what code is made for. `table.py` lists them, `base.py` says what one is."""
