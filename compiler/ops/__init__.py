"""Op records, one file per family; `registry.py` says what a record is."""
