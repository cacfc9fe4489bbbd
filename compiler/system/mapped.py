"""Files whose bytes arrays are views of: they must not change while anybody reads them.

A mapped file that somebody cuts ends the process (SIGBUS, which Python cannot catch) at the next
read behind its end, and one that is written over changes results without a word. So who reads such
arrays again and again asks first: `check` compares the file's size and time of change with those
that it had when it was mapped. A file that is replaced under its name by another one, as everything
that tessel writes is, stays what it was for who has it mapped.
"""

import mmap
import os
import weakref
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, Self

import numpy as np

from ..errors import TesselError
from .concurrency import give_lock
from .files import shown


class MappedFile(mmap.mmap):
    """The bytes of a file, read-only. `check` raises an error of the given kind."""

    kind: type[TesselError]
    where: str
    handle: int
    _verify: Callable[[], object] | None
    _verifying: Any  # a lock
    _stamp: tuple[int, int]

    @classmethod
    def of(
        cls,
        file: BinaryIO,
        kind: type[TesselError],
        path: str | os.PathLike[str],
        verify: Callable[[], object] | None = None,
    ) -> Self:
        """A file that is open and not empty. `verify` is called once, by the first `check`: it
        raises an error if the bytes are not those that were written."""
        mapped = cls(file.fileno(), 0, access=mmap.ACCESS_READ)
        mapped.kind, mapped.where, mapped._verify = kind, shown(path), verify
        mapped.handle = os.dup(file.fileno())
        give_lock(mapped, "_verifying")
        weakref.finalize(mapped, os.close, mapped.handle)
        mapped._stamp = mapped._now()
        return mapped

    def _now(self) -> tuple[int, int]:
        found = os.fstat(self.handle)
        return found.st_size, found.st_mtime_ns

    def check(self) -> None:
        """Raise if the file has changed since it was mapped, or never held what it should."""
        if self._now() != self._stamp:
            raise self.kind(
                "the file has changed while it is in use",
                where=self.where,
                fix="load it again; write a new version under another name and rename it",
            )
        if self._verify is not None:
            with self._verifying:
                if self._verify is not None:
                    self._verify()
                    self._verify = None


def files_behind(arrays: Iterable[np.ndarray]) -> list[MappedFile]:
    """The mapped files that arrays are views of, each once."""
    found: dict[int, MappedFile] = {}
    for array in arrays:
        x: Any = array
        while x is not None and not isinstance(x, MappedFile):
            x = x.obj if isinstance(x, memoryview) else getattr(x, "base", None)
        if x is not None:
            found[id(x)] = x
    return list(found.values())


def check_files(arrays: Iterable[np.ndarray]) -> None:
    """Raise if a file that arrays are views of has changed."""
    for file in files_behind(arrays):
        file.check()
