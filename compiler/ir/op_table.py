"""The table of op records: whole when it is read, whoever reads it first."""

import importlib
from typing import Any

RECORDS = "..op_records"  # found by name: records are made of what this room has


class Records(dict):
    """Op records by name. Reading it imports the files that register them, once: a package's
    machine code runs without them.

    `loaded` is set by `records.py` when all of them are there. Until then other threads wait at
    Python's import lock, and an import that was interrupted is made up for by the next reader.
    `makers` are the namespaces of the files that registered them.
    """

    loaded = False

    def __init__(self):
        super().__init__()
        self.makers: dict[str, dict] = {}

    def _load(self) -> dict:
        if not self.loaded:
            importlib.import_module(RECORDS, __package__)
        return self

    def add(self, op: Any, maker: dict) -> None:
        """A new record. A file whose import was interrupted registers its ops again."""
        assert not dict.__contains__(self, op.name) or (
            maker is not self.makers[op.name]
            and maker["__name__"] == self.makers[op.name]["__name__"]
        ), f"{op.name} is registered twice"
        self.makers[op.name] = maker
        self[op.name] = op

    def __getitem__(self, name):
        return dict.__getitem__(self._load(), name)

    def __contains__(self, name):
        return dict.__contains__(self._load(), name)

    def __iter__(self):
        return dict.__iter__(self._load())

    def __len__(self):
        return dict.__len__(self._load())

    def keys(self):
        return dict.keys(self._load())

    def values(self):
        return dict.values(self._load())

    def items(self):
        return dict.items(self._load())

    def get(self, name, default=None):
        return dict.get(self._load(), name, default)
