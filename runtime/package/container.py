"""The container of `.tsl` files: named sections, each at a multiple of 4096 bytes.

    header   magic "\\x89tessel\\n", version u32, 0 u32, table offset u64, table size u64,
             file size u64, blake2b-128 of the table                            (56 bytes)
    sections bytes; arrays are mapped from here
    table    JSON: [{"name", "offset", "size", "hash"}, …]

A section's hash is the SHA-256 of the SHA-256s of its pieces of 4 MiB, so that several cores can
check a large one. `Container` reads files of up to 16 MiB and maps larger ones. Everything is
checked when the file is opened, but for sections of arrays above 16 MiB: those are checked when
they are first used (`MappedFile.check`: the first run, or compiling), so that opening costs little.
"""

import hashlib
import io
import json
import mmap
import os
import struct
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, BinaryIO, NoReturn, Self, cast

import numpy as np

from ...compiler.errors import PackageError
from ...compiler.system.files import reading, replacing, shown, size_of
from ...compiler.system.mapped import MappedFile
from ...compiler.system.nesting import read_json

MAGIC, VERSION = b"\x89tessel\n", 2
HEADER = struct.Struct("<8sIIQQQ16s")
PAGE = 4096
LARGE = 16 << 20
PIECE = 4 << 20
READ = 256 << 10  # bytes of a piece that are in memory at a time
ARRAYS = ("weights", "packed")  # the sections that may be checked later
_FIELDS = {"name": str, "offset": int, "size": int, "hash": str}


def digest(data: bytes = b"") -> "hashlib.blake2b":
    """Of a table."""
    return hashlib.blake2b(data, digest_size=16)


class SectionHash:
    """The hash of a section, from its bytes in order."""

    def __init__(self) -> None:
        self._all, self._piece, self._left = hashlib.sha256(), hashlib.sha256(), PIECE

    def update(self, view: memoryview) -> None:
        while len(view):
            part, view = view[: self._left], view[self._left :]
            self._piece.update(part)
            self._left -= len(part)
            if not self._left:
                self._all.update(self._piece.digest())
                self._piece, self._left = hashlib.sha256(), PIECE

    def hexdigest(self) -> str:
        whole = self._all.copy()
        if self._left < PIECE:
            whole.update(self._piece.digest())
        return whole.hexdigest()


class Writer:
    """Writes a container: `add` sections in a `with` block. The file appears when it ends well."""

    def __init__(self, path: str | os.PathLike[str], durable: bool = True):
        self.path, self.durable = path, durable
        self._table: list[dict] = []

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._file = self._stack.enter_context(
            replacing(self.path, PackageError, durable=self.durable)
        )
        self._file.write(bytes(HEADER.size))
        return self

    def add(self, name: str, pieces: Iterable) -> None:
        """A section of the concatenated `pieces` (anything that holds bytes)."""
        self._file.write(bytes(-self._file.tell() % PAGE))
        offset, check = self._file.tell(), SectionHash()
        for piece in pieces:
            view = memoryview(piece).cast("B") if len(piece) else memoryview(b"")
            self._file.write(view)
            check.update(view)
        size = self._file.tell() - offset
        self._table.append(
            {"name": name, "offset": offset, "size": size, "hash": check.hexdigest()}
        )

    def _finish(self) -> None:
        table = json.dumps(self._table).encode()
        offset = self._file.tell()
        self._file.write(table)
        total = self._file.tell()
        self._file.seek(0)
        self._file.write(
            HEADER.pack(MAGIC, VERSION, 0, offset, len(table), total, digest(table).digest())
        )

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        with self._stack:
            if error is None:
                self._finish()
            else:
                raise error


class Container:
    """An open file. Raises PackageError for anything that is not whole."""

    def __init__(self, path: str | os.PathLike[str]):
        self.where = shown(path)
        self.verified: set[str] = set()  # names of sections
        with reading(path, PackageError) as file:
            size = size_of(file)
            if size < HEADER.size:
                self.refuse("this is no .tsl package: it is too short")
            self.data = self._read(file, size) if size <= LARGE else self._map(file, path)
        offset, length = self._header(size)
        table = self.data[offset : offset + length]
        check = HEADER.unpack_from(self.data)[-1]
        if digest(table).digest() != check:
            self.refuse("the package is damaged: its table")
        self.table = self._entries(table, size)
        self._verify(e for e in self.table.values() if not _waits(e))

    def _read(self, file: BinaryIO, size: int) -> mmap.mmap:
        """In memory that begins at a page, as a mapped file would."""
        data = mmap.mmap(-1, size)
        if cast(io.BufferedIOBase, file).readinto(data) != size:
            self.refuse("the package is cut off")
        return data

    def _map(self, file: BinaryIO, path: str | os.PathLike[str]) -> MappedFile:
        return MappedFile.of(file, PackageError, path, lambda: self._verify(self.table.values()))

    def _header(self, size: int) -> tuple[int, int]:
        """Where the table is."""
        magic, version, _, offset, length, total, _ = HEADER.unpack_from(self.data)
        if magic != MAGIC:
            self.refuse("this is no .tsl package")
        if version != VERSION:
            self.refuse(
                "the package has another version",
                expected=VERSION,
                received=version,
                fix="compile the model again with this version of tessel",
            )
        if total != size or offset + length > size:
            self.refuse("the package is cut off", expected=f"{total} bytes", received=size)
        return offset, length

    def _entries(self, table: bytes, size: int) -> dict[str, dict]:
        entries = read_json(table, "the package's table", PackageError, self.where)
        if not isinstance(entries, list) or not all(map(_is_entry, entries)):
            self.refuse("the package's table does not make sense")
        for entry in entries:
            if entry["offset"] + entry["size"] > size:
                self.refuse(f"the package is damaged: section {entry['name']}")
        found = {entry["name"]: entry for entry in entries}
        if len(found) < len(entries):
            self.refuse("the package's table names a section twice")
        return found

    def refuse(self, message: str, **more: Any) -> NoReturn:
        more.setdefault("fix", "make the package again with tessel compile")
        raise PackageError(message, where=self.where, **more)

    def _verify(self, entries: Iterable[dict]) -> None:
        for entry in entries:
            if entry["name"] in self.verified:
                continue
            if self._hash(entry) != entry["hash"]:
                self.refuse(f"the package is damaged: section {entry['name']}")
            self.verified.add(entry["name"])

    def _hash(self, entry: dict) -> str:
        return digest_of(entry["offset"], entry["size"], self._piece).hex()

    def _piece(self, start: int, size: int) -> bytes | memoryview:
        """Read, not mapped: a file that is cut just now is an error, and no end of the process."""
        if isinstance(self.data, MappedFile):
            return os.pread(self.data.handle, size, start)
        return memoryview(self.data)[start : start + size]

    def check(self) -> None:
        """Verify every section's hash, also of the large ones, and that the file is as it was."""
        if isinstance(self.data, MappedFile):
            self.data.check()
        self._verify(self.table.values())

    def section(self, name: str) -> np.ndarray:
        """A section's bytes, read-only."""
        entry = self.table.get(name)
        if entry is None:
            self.refuse(f"the package is damaged: no section {name}")
        section = np.frombuffer(self.data, np.uint8, entry["size"], entry["offset"])
        section.flags.writeable = False
        return section


def _waits(entry: dict) -> bool:
    """Whether a section is checked when it is first used."""
    return entry["name"] in ARRAYS and entry["size"] > LARGE


def _is_entry(entry: object) -> bool:
    """Whether an entry of a table has its fields, with numbers that can be places."""
    return isinstance(entry, dict) and all(
        type(entry.get(k)) is kind and (kind is str or 0 <= entry[k] < 1 << 62)
        for k, kind in _FIELDS.items()
    )


def digest_of(start: int, size: int, read: Callable) -> bytes:
    """The hash (as of a section) of bytes that `read(offset, size)` gives.

    SHA-256 lets other threads run, so pieces are hashed by as many as there are cores, each of
    which holds little of the file at a time.
    """

    def digest_at(at: int) -> bytes:
        own, end = hashlib.sha256(), min(at + PIECE, start + size)
        for part in range(at, end, READ):
            own.update(read(part, min(READ, end - part)))
        return own.digest()

    places = range(start, start + size, PIECE)
    digests: Iterable[bytes]
    if len(places) < 4:
        digests = map(digest_at, places)
    else:
        from concurrent.futures import ThreadPoolExecutor

        from ...compiler.system.cores import available_cores

        with ThreadPoolExecutor(min(available_cores(), len(places))) as threads:
            digests = list(threads.map(digest_at, places))
    return hashlib.sha256(b"".join(digests)).digest()
