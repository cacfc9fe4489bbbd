"""Packages of earlier compilations: a model that was compiled before starts at once.

    entry = find(model, options, cache)     # None: this is not kept
    exe = entry.load(threads, objects)      # None: it has not been compiled before
    entry.keep(exe, files)

A compilation follows from the bytes of the model, the options, the processor and the compiler.
Their hash names an entry of the folder `packages` of the cache: one file, a package with a section
of what packages do not say (`about`): notes, and which files beside the model held weights. Such a
model's entry belongs to its folder, and to these very files as they were before they were read.
Entries are written to a temporary name and renamed; the folder must be the user's own, since what
is in it is run. What is kept is bounded (`folder.py`).
"""

import hashlib
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...compiler.errors import ModelError, TesselError, UsageError
from ...compiler.system.files import is_own, not_private, reading, size_of, stamp
from ..base.build import ShapeSpecialized
from ..execution.executable import Executable
from ..execution.package import Package, save
from ..package.container import digest_of
from .folder import bytes_of, fits, remove, trim, use
from .specialized import attach
from .specialized import keep as keep_specialized
from .specialized import load as load_specialized

if TYPE_CHECKING:
    from ...compiler.backends.llvm.base.cache import ObjectCache

GROWING = 64 << 20  # bytes up to which a package is written again when it has code for more sizes
DEFERRED = ".deferred.tsl"
OFF = "TESSEL_REUSE"  # this variable set to 0: nothing is reused

Stamps = Mapping[str, list[int]]  # of files, by name


def find(model: object, options: Mapping, folder: Path | None) -> "Entry | None":
    """The entry of a model (a path or the bytes of a file) with options of `compile`; None where
    there is no folder for it, the model is neither, or options are not plain values. Raises
    UsageError for nonsense in TESSEL_REUSE."""
    if folder is None or not _is_on() or not isinstance(model, (str, os.PathLike, bytes)):
        return None
    chosen = canonical(options)
    if chosen is None:
        return None
    try:
        if not_private(folder) is not None:
            return None
        key = hashlib.sha256(repr((_compiler(), _processor(), chosen)).encode())
        own = None if isinstance(model, bytes) else stamp(model)
        key.update(_digest(model))
    except (OSError, ValueError, TesselError):
        return None  # whoever reads the model says what is wrong with it
    return Entry(
        folder,
        key.hexdigest()[:40],
        None if own is None else os.path.abspath(os.fsdecode(model)),
        own,
    )


def _is_on() -> bool:
    said = os.environ.get(OFF, "").strip()
    if said not in ("", "0", "1"):
        raise UsageError(
            f"{OFF} is neither 0 nor 1",
            expected="0: everything is compiled anew; 1, or unset",
            received=said,
        )
    return said != "0"


def why_not(folder: Path | None) -> str | None:
    """What to say of a folder that is not used, because it is not the user's alone."""
    reason = None
    if folder is not None and _is_on():
        with suppress(OSError, ValueError):
            reason = not_private(folder)
    return reason and f"the cache of packages in {folder} is not used: {reason}"


def specialized(package: Path) -> Path:
    """Beside it, what is kept of a model that is read anew for sizes or values."""
    return package.with_name(package.stem + DEFERRED)


def canonical(x: Any) -> tuple | None:
    """A value of options that is equal for equal ones and for no others, also as text; None for
    what is no plain value (options are mappings, and never None)."""
    if isinstance(x, Mapping):
        if not all(type(k) is str for k in x):
            return None
        parts = [(k, canonical(v)) for k, v in sorted(x.items())]
        return None if any(v is None for _, v in parts) else ("map", *parts)
    if type(x) in (list, tuple):
        items = [canonical(v) for v in x]
        return None if None in items else ("list", *items)
    if isinstance(x, (np.integer, np.floating, np.bool_)):
        x = x.item()
    if x is None or type(x) in (bool, int, float, str, bytes):
        return (type(x).__name__, x)
    return None


def _digest(model: str | os.PathLike[str] | bytes) -> bytes:
    """The hash of a model's bytes. Raises ModelError, OSError."""
    if isinstance(model, bytes):
        return digest_of(0, len(model), lambda start, size: memoryview(model)[start : start + size])
    with reading(model, ModelError) as file:
        return digest_of(0, size_of(file), lambda start, size: os.pread(file.fileno(), size, start))


def _compiler() -> list:
    """What tells this compiler from others: its files, and the versions of what it stands on."""
    import llvmlite

    root = Path(__file__).parents[2]
    found = [llvmlite.__version__, np.__version__, sys.version_info[:3]]
    found += [_place("onnx"), _place("ml_dtypes")]  # they read and fold; imported only then
    ahead, files = [str(root / room) for room in ("compiler", "frontends", "runtime")], []
    while ahead:
        with os.scandir(ahead.pop()) as folder:
            for file in folder:
                if file.name.endswith(".py"):
                    stat = file.stat()
                    files.append((file.name, stat.st_size, stat.st_mtime_ns))
                elif file.name != "__pycache__" and file.is_dir():
                    ahead.append(file.path)
    return found + sorted(files)


def _place(package: str) -> tuple | None:
    """What tells a package that is not imported from other versions of it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    stat = os.stat(spec.origin)
    return spec.origin, stat.st_size, stat.st_mtime_ns


def _processor() -> tuple:
    """What tells this machine's processor from others, without asking LLVM."""
    said = [platform.machine(), platform.system()]
    with suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if not line.strip():
                break  # the others are like the first
            if line.startswith(("flags", "model name", "Features", "CPU part", "isa")):
                said.append(line)
    return tuple(said)


class Entry:
    """Where a compilation is kept. `path` is the model's, if it is a file, and `own` its stamp
    before its bytes were read."""

    def __init__(self, folder: Path, key: str, path: str | None, own: list[int] | None):
        self.folder, self.key, self.path, self.own = folder, key, path, own
        self.beside = "/" if path is None else os.path.realpath(os.path.dirname(path))
        here = hashlib.sha256(os.fsencode(self.beside)).hexdigest()[:16]
        self.alone, self.with_files = folder / f"{key}.tsl", folder / f"{key}-{here}.tsl"

    def load(
        self, threads: int, objects: "ObjectCache", make: Callable[[], ShapeSpecialized]
    ) -> Executable | None:
        """What was kept, with weights mapped. None if there is nothing, or it is of no use now.
        `make` reads the model, where it is one that is read anew for sizes or values."""
        for path in (self.alone, self.with_files):
            for package in (path, specialized(path)):
                try:
                    if is_own(os.stat(package)):
                        return self._load(package, threads, objects, make)
                except FileNotFoundError:
                    continue
                except (OSError, ValueError, KeyError, TypeError, AttributeError, TesselError):
                    return None
        return None

    def _load(
        self,
        package: Path,
        threads: int,
        objects: "ObjectCache",
        make: Callable[[], ShapeSpecialized],
    ) -> Executable | None:
        if package.name.endswith(DEFERRED):
            exe, about = load_specialized(package, make, threads, objects)
            files = dict(about["files"])
            if not self._are(files):
                return None
            attach(package, exe, about, partial(self._is_same, files))
        else:
            found, stamps = self._load_package(package, threads, objects)
            if found is None:
                return None
            exe, files = found, dict(stamps)
            exe.on_built = partial(self._grow, package=package, files=files)
        with suppress(OSError):
            use(package)
        return exe

    def _load_package(
        self, package: Path, threads: int, objects: "ObjectCache"
    ) -> tuple[Executable | None, Stamps]:
        kept = Package(package)
        about, files = kept.about, dict(kept.about["files"])
        if not self._are(files):
            return None, {}
        kept.container.check()  # a damaged one is found now, when it can be made again
        exe = kept.load(threads=threads, cache=objects)
        notes = [str(n) for n in about["notes"]]
        if not set(exe.notes) <= set(notes):
            return None, {}  # its code does not run on this machine
        exe.notes[:] = notes
        exe.source = None  # the file may go at any time, and pickles would miss it
        return exe, files

    def keep(self, exe: Executable, files: Stamps) -> None:
        """Write what was compiled, with the stamps that the `files` beside the model had before
        they were read. Nothing is kept of what a package cannot hold, of what is too large, and of
        a model that has changed meanwhile."""
        if type(exe) is not Executable or not self._is_same(files):
            return
        package = self.with_files if files else self.alone
        if exe.specialize is not None:
            self._keep_specialized(exe, specialized(package), files)
        elif self._write(exe, package, files):
            exe.on_built = partial(self._grow, package=package, files=files)

    def _keep_specialized(self, exe: Executable, path: Path, files: Stamps) -> None:
        about = {"files": list(files.items())}
        if not fits(self.folder, 0):
            return
        with suppress(OSError, TesselError):
            keep_specialized(path, exe, about)
            attach(path, exe, about, partial(self._is_same, files))

    def _grow(self, exe: Executable, package: Path, files: Stamps) -> None:
        """Sizes that are compiled by themselves are added, unless that would be much to write."""
        with suppress(OSError):
            if os.stat(package).st_size <= GROWING:
                self._write(exe, package, files)

    def _write(self, exe: Executable, package: Path, files: Stamps) -> bool:
        if not fits(self.folder, bytes_of(exe.graph)):
            return False
        try:
            about = {"notes": exe.notes, "files": list(files.items())}
            save(exe, package, durable=False, about=about)
            kept = fits(self.folder, os.stat(package).st_size)
        except (OSError, TesselError):
            kept = False
        if not kept:
            remove(package)
            return False
        trim(self.folder, keep=package)
        return True

    def _is_same(self, files: Stamps) -> bool:
        """Whether the model, and the files beside it, are what they were before they were read."""
        try:
            return (self.path is None or stamp(self.path) == self.own) and self._are(files)
        except OSError:
            return False

    def _are(self, files: Stamps) -> bool:
        """Whether files beside the model have these stamps. Raises OSError."""
        return all(stamp(os.path.join(self.beside, n)) == found for n, found in files.items())
