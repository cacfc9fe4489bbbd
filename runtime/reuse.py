"""Packages of earlier compilations: a model that was compiled before starts at once.

    entry = find(model, options, cache)     # None: this is not kept
    exe = entry.load(threads, objects)      # None: it has not been compiled before
    entry.keep(exe, files)

A compilation follows from the bytes of the model, the options, the processor and the compiler.
Their hash names an entry of the folder `packages` of the cache: a package, and beside it what the
package does not say: notes, and which files beside the model held weights. Entries are written to a
temporary name and renamed; the folder must be the user's own, since what is in it is run. Those
that were used longest ago go when all together exceed `limit_of` bytes.
"""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from ..compiler.errors import ModelError, TesselError
from ..compiler.files import is_own, not_private, read_file, reading, replacing_file
from .build import constants
from .executable import Executable
from .package import load, save

LIMIT = 4 << 30  # bytes of all entries, by default
SHARE = 8  # an entry takes at most this part of them
GROWING = 64 << 20  # bytes up to which a package is written again when it has code for more sizes
OFF = "TESSEL_REUSE"  # this variable set to 0: nothing is reused
PIECE = 1 << 20


def find(model, options: Mapping, folder: Path | None) -> "Entry | None":
    """The entry of a model (a path or the bytes of a file) with options of `compile`; None where
    there is no folder for it, or the model is neither."""
    if folder is None or os.environ.get(OFF) == "0":
        return None
    if not isinstance(model, (str, os.PathLike, bytes)):
        return None
    try:
        if not_private(folder) is not None:
            return None
        what = (_compiler(), _processor(), sorted(options.items()))
        key = hashlib.sha256(repr(what).encode())
        for piece in _pieces(model):
            key.update(piece)
    except (OSError, ValueError, TesselError):
        return None  # whoever reads the model says what is wrong with it
    beside = None if isinstance(model, bytes) else Path(os.path.abspath(model)).parent
    return Entry(folder, key.hexdigest()[:40], beside)


def _pieces(model) -> Iterator[bytes]:
    if isinstance(model, bytes):
        yield model
        return
    with reading(model, ModelError) as file:
        while piece := file.read(PIECE):
            yield piece


def _compiler() -> list:
    """What tells this compiler from others: the files that it consists of, and LLVM's binding."""
    import llvmlite

    root = Path(__file__).parents[1]
    found = [llvmlite.__version__]
    for room in ("compiler", "frontends", "runtime"):
        for at, folders, names in os.walk(root / room):
            folders[:] = sorted(f for f in folders if f != "__pycache__")
            for name in sorted(n for n in names if n.endswith(".py")):
                stat = os.stat(os.path.join(at, name))
                found.append((name, stat.st_size, stat.st_mtime_ns))
    return found


def _processor() -> tuple:
    """What tells this machine's processor from others, without asking LLVM."""
    said = [platform.machine(), platform.system()]
    with suppress(OSError), open("/proc/cpuinfo") as file:
        first = file.read().split("\n\n")[0].splitlines()
        said += sorted(
            line for line in first
            if line.startswith(("flags", "model name", "Features", "CPU part", "isa"))
        )  # fmt: skip
    return tuple(said)


class Entry:
    """Where a compilation is kept. `beside` is the folder of the model's file."""

    def __init__(self, folder: Path, key: str, beside: Path | None):
        self.folder, self.beside = folder, beside
        self.package, self.about = folder / f"{key}.tsl", folder / f"{key}.json"

    def load(self, threads: int, objects) -> Executable | None:
        """What was kept, with weights mapped. None if there is nothing, or it is of no use now."""
        try:
            if not is_own(os.stat(self.package)):
                return None
            about = json.loads(read_file(self.about))
            if any(self._stamp(name) != stamp for name, *stamp in about["files"]):
                return None
            exe = load(self.package, threads=threads, cache=objects)
            notes = [str(n) for n in about["notes"]]
        except (OSError, ValueError, KeyError, TypeError, TesselError):
            return None
        if not set(exe.notes) <= set(notes):
            return None  # its code does not run on this machine
        exe.notes[:] = notes
        with suppress(OSError):
            os.utime(self.package)
        self._watch(exe, about["files"])
        return exe

    def keep(self, exe: Executable, files: Callable[[], Iterable[str]]) -> None:
        """Write what was compiled, with the names of the `files` beside the model that hold its
        weights. Nothing is kept of what a package cannot hold, or of what is too large."""
        if type(exe) is not Executable or exe.specialize is not None:
            return
        try:
            stamps = [[name, *self._stamp(name)] for name in files()]
        except (OSError, TesselError):
            return
        if self._write(exe, stamps):
            self._watch(exe, stamps)

    def _watch(self, exe: Executable, files: list) -> None:
        exe.on_built = partial(self._grow, files=files)

    def _grow(self, exe: Executable, files: list) -> None:
        """Sizes that are compiled by themselves are added, unless that would be much to write."""
        with suppress(OSError):
            if os.stat(self.package).st_size <= GROWING:
                self._write(exe, files)

    def _write(self, exe: Executable, files: list) -> bool:
        limit = limit_of(self.folder)
        try:
            if _bytes_of(exe) * SHARE > limit:
                return False
            with replacing_file(self.about, durable=False) as file:
                file.write(json.dumps({"notes": exe.notes, "files": files}).encode())
            save(exe, self.package, durable=False)
        except (OSError, TesselError):
            remove(self.package)
            return False
        trim(self.folder, limit)
        return True

    def _stamp(self, name: str) -> list:
        found = os.stat(os.path.join(self.beside or "/", name))
        return [found.st_size, found.st_mtime_ns]


def _bytes_of(exe: Executable) -> int:
    """What the weights of a package take, about: as the graph has them, and packed."""
    return 2 * sum(x.nbytes for x in constants(exe.graph) if x.dtype != object)


# -- the folder ----------------------------------------------------------------------------


def entries(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """The packages, those that were used last at the end."""
    found = []
    with suppress(OSError):
        for path in folder.glob("*.tsl"):
            with suppress(OSError):  # another process has just removed it
                found.append((path, os.stat(path)))
    return sorted(found, key=lambda entry: entry[1].st_mtime_ns)


def trim(folder: Path, limit: int) -> None:
    """Remove what was used longest ago until the rest is within `limit` bytes. Whoever has a
    package mapped keeps it."""
    found = entries(folder)
    total = sum(stat.st_size for _, stat in found)
    for path, stat in found:
        if total <= limit:
            break
        remove(path)
        total -= stat.st_size


def remove(package: Path) -> None:
    for path in (package, package.with_suffix(".json")):
        with suppress(OSError):
            path.unlink()


def limit_of(folder: Path) -> int:
    """Bytes of all entries at most: what `set_limit` wrote, or the default."""
    try:
        return int(read_file(folder / "limit"))
    except (OSError, ValueError):
        return LIMIT


def set_limit(folder: Path, limit: int) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing_file(folder / "limit") as file:
        file.write(str(limit).encode())
    trim(folder, limit)
