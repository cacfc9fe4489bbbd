"""The folder of packages of earlier compilations: what is in it, and how much may be.

Those that were used longest ago go when all together exceed `limit_of` bytes. What a process that
was ended has left half written goes when it is older than any writing takes.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from ...compiler.errors import UsageError
from ...compiler.ir.graph import Graph, constants
from ...compiler.system.files import file_errors, read_file, replacing_file

LIMIT = 4 << 30  # bytes of all entries, by default
SHARE = 8  # an entry takes at most this part of them
STALE = 3600  # seconds after which a file with a temporary name is nobody's any more


def entries(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """The packages, those that were used last at the end."""
    return sorted(found(folder, "*.tsl"), key=lambda entry: entry[1].st_atime_ns)


def use(path: Path) -> None:
    """Note that a package is used, by its time of access: its time of change would tell whoever has
    it mapped that it has changed. Raises OSError."""
    os.utime(path, ns=(time.time_ns(), os.stat(path).st_mtime_ns))


def unfinished(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Files that are being written, or that a process which was ended has left; also of folders in
    this one."""
    return found(folder, ".*.tmp") + found(folder, "*/.*.tmp")


def found(folder: Path, pattern: str) -> list[tuple[Path, os.stat_result]]:
    """The files of a folder whose names are like `pattern`."""
    files = []
    with suppress(OSError):
        for path in folder.glob(pattern):
            with suppress(OSError):  # another process has just removed it
                stat = os.stat(path)
                files += [(path, stat)] if S_ISREG(stat.st_mode) else []
    return files


def fits(folder: Path, size: int) -> bool:
    """Whether an entry of so many bytes may be kept."""
    return size * SHARE <= limit_of(folder)


def bytes_of(graph: Graph) -> int:
    """What the weights of a package take, about: as the graph has them, and packed."""
    return 2 * sum(x.nbytes for x in constants(graph) if x.dtype != object)


def trim(folder: Path, keep: Path | None = None) -> None:
    """Remove what is stale, and what was used longest ago until the rest is within the limit; what
    has just been written stays, whatever the clock says. Whoever has a package mapped keeps it."""
    now = time.time()
    for path, stat in unfinished(folder):
        if abs(now - stat.st_mtime) > STALE:
            remove(path)
    kept, limit = entries(folder), limit_of(folder)
    total = sum(stat.st_size for _, stat in kept)
    for path, stat in kept:
        if total <= limit:
            break
        if path != keep:
            remove(path)
            total -= stat.st_size


def remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def limit_of(folder: Path) -> int:
    """Bytes of all entries at most: what `set_limit` wrote, or the default."""
    try:
        return max(0, int(read_file(folder / "limit")))
    except (OSError, ValueError):
        return LIMIT


def set_limit(folder: Path, limit: int) -> None:
    """Keep at most so many bytes from now on. Raises UsageError where that cannot be written."""
    with file_errors(folder, UsageError, "with the limit cannot be written"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing_file(folder / "limit") as file:
            file.write(str(limit).encode())
    trim(folder)
