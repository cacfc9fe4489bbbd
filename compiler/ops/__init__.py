"""Op records, one file per family; `op.py` says what a record is."""
