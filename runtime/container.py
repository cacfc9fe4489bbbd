"""The container of `.tsl` files: named sections, each at a multiple of 4096 bytes.

    header   magic "\\x89tessel\\n", version u32, 0 u32, table offset u64, table size u64,
             file size u64, blake2b-128 of the table                            (56 bytes)
    sections bytes; arrays are mapped from here
    table    JSON: [{"name", "offset", "size", "hash"}, …]

`Writer` writes to a temporary file and renames it. `Container` maps a file; a section's hash is
checked when it is opened, except for those of more than 16 MiB, which `check()` reads.
"""

import hashlib
import json
import mmap
import os
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..compiler.errors import PackageError

MAGIC, VERSION = b"\x89tessel\n", 1
HEADER = struct.Struct("<8sIIQQQ16s")
PAGE = 4096
LARGE = 16 << 20


def digest(data=b""):
    return hashlib.blake2b(data, digest_size=16)


class Writer:
    """Writes a container: `add` sections, then `close`. As a context manager it cleans up."""

    def __init__(self, path):
        import tempfile  # slow to import, and nothing that reads packages needs it

        self.path = Path(path)
        self._table: list[dict] = []
        try:
            handle, self._temporary = tempfile.mkstemp(
                dir=self.path.parent, prefix=f".{self.path.name}."
            )
        except OSError as error:
            raise PackageError(f"cannot write: {error.strerror}", where=str(path)) from None
        self._file = os.fdopen(handle, "wb")
        self._file.write(bytes(HEADER.size))

    def add(self, name: str, pieces: Iterable) -> None:
        """A section of the concatenated `pieces` (anything that holds bytes)."""
        self._file.write(bytes(-self._file.tell() % PAGE))
        offset, check = self._file.tell(), digest()
        for piece in pieces:
            view = memoryview(piece).cast("B") if len(piece) else b""
            self._file.write(view)
            check.update(view)
        size = self._file.tell() - offset
        self._table.append(
            {"name": name, "offset": offset, "size": size, "hash": check.hexdigest()}
        )

    def close(self) -> None:
        table = json.dumps(self._table).encode()
        offset = self._file.tell()
        self._file.write(table)
        total = self._file.tell()
        self._file.seek(0)
        self._file.write(
            HEADER.pack(MAGIC, VERSION, 0, offset, len(table), total, digest(table).digest())
        )
        self._file.close()
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(self._temporary, 0o666 & ~mask)
        os.replace(self._temporary, self.path)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.close()
        else:
            self._file.close()
            Path(self._temporary).unlink(missing_ok=True)


class Container:
    """A mapped file. Raises PackageError for anything that is not whole."""

    def __init__(self, path):
        self.where, self.verified = str(path), LARGE
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < HEADER.size:
                    self.refuse("this is no .tsl package: it is too short")
                self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise PackageError(
                f"the package cannot be read: {error.strerror}", where=self.where
            ) from None
        magic, version, _, offset, length, total, check = HEADER.unpack_from(self.data)
        if magic != MAGIC:
            self.refuse("this is no .tsl package")
        if version != VERSION:
            self.refuse(
                "the package has another version", expected=VERSION, received=version,
                fix="compile the model again with this version of tessel",
            )  # fmt: skip
        if total != size or offset + length > size:
            self.refuse("the package is cut off", expected=f"{total} bytes", received=size)
        table = self.data[offset : offset + length]
        if digest(table).digest() != check:
            self.refuse("the package is damaged: its table")
        self.table = {entry["name"]: entry for entry in json.loads(table)}
        for entry in self.table.values():
            if entry["offset"] + entry["size"] > size:
                self.refuse(f"the package is damaged: section {entry['name']}")
            if entry["size"] <= LARGE:
                self._verify(entry)

    def refuse(self, message: str, **more):
        more.setdefault("fix", "make the package again with tessel compile")
        raise PackageError(message, where=self.where, **more)

    def _verify(self, entry: dict) -> None:
        view = memoryview(self.data)[entry["offset"] : entry["offset"] + entry["size"]]
        if digest(view).hexdigest() != entry["hash"]:
            self.refuse(f"the package is damaged: section {entry['name']}")

    def check(self) -> None:
        """Verify every section's hash, also of the large ones."""
        for entry in self.table.values():
            self._verify(entry)

    def section(self, name: str) -> np.ndarray:
        """A section's bytes, mapped and read-only."""
        entry = self.table.get(name)
        if entry is None:
            self.refuse(f"the package is damaged: no section {name}")
        return np.frombuffer(self.data, np.uint8, entry["size"], entry["offset"])
