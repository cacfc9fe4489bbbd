"""Executables as pickles: for processes that are started afresh, for `copy`, joblib, Ray.

An executable that was loaded from a package which still is that package is pickled as its path, so
that every process maps the same file. Any other is pickled as the bytes of a package, and what a
package cannot hold cannot be pickled: `save` says why. The number of threads, notes and the present
values of bound inputs come along.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...compiler.classes import dataclass
from ...compiler.errors import PackageError
from ..base.build import object_cache
from ..package.container import HEADER

if TYPE_CHECKING:
    from .executable import Executable


@dataclass(frozen=True)
class Source:
    """The package that an executable was loaded from. The header has the hash of all hashes."""

    path: str
    header: bytes
    native: bool

    def is_there(self) -> bool:
        try:
            with open(self.path, "rb") as file:
                return file.read(HEADER.size) == self.header
        except OSError:
            return False


def reduced(exe: "Executable") -> tuple:
    """What `__reduce__` gives."""
    return restore, (state_of(exe),)


def state_of(exe: "Executable") -> dict[str, Any]:
    """What a pickle holds. Raises UsageError for what no package can hold."""
    source = exe.source if exe.source is not None and exe.source.is_there() else None
    return {
        "source": source,
        "package": None if source is not None else _bytes(exe),
        "threads": exe.threads,
        "cache": _cache(exe),
        "notes": list(exe.notes),
        "bound": _bound(exe),
    }


def _bound(exe: "Executable") -> dict:
    """Copies of the present values of bound inputs."""
    with exe._bound_run:
        return {name: array.copy() for name, array in exe._bound.items()}


def _bytes(exe: "Executable") -> bytes:
    import tempfile  # slow to import, and nothing that is only loaded needs it

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pickled.tsl"
        exe.save(path)
        return path.read_bytes()


def _cache(exe: "Executable") -> str | bool | None:
    """The option `cache` that gives the executable's."""
    if exe.target.cache is None:
        return None
    folder = exe.target.cache.folder
    return False if folder is None else None if folder == object_cache(None).folder else str(folder)


def restore(state: dict[str, Any]) -> "Executable":
    """The executable of a pickle. Raises PackageError where its file is gone or another one."""
    source, options = state["source"], {"threads": state["threads"], "cache": state["cache"]}
    if source is None:
        exe = _of_bytes(state["package"], options)
    else:
        if not source.is_there():
            raise PackageError(
                "the package of a pickled executable is gone, or another one",
                where=source.path,
                fix="keep the file where it was, for all who read the pickle",
            )
        exe = _load(source.path, native=source.native, **options)
    exe.notes = list(dict.fromkeys([*state["notes"], *exe.notes]))
    for name, array in state["bound"].items():
        exe.bind(name, array)
    return exe


def _of_bytes(package: bytes, options: dict) -> "Executable":
    """What is mapped stays mapped when the file is gone."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pickled.tsl"
        path.write_bytes(package)
        exe = _load(path, **options)
    exe.source = None
    return exe


def _load(path: Any, *, threads: int, cache: Any, native: bool = True) -> "Executable":
    from .package import load

    return load(path, native=native, threads=threads, cache=object_cache(cache))
