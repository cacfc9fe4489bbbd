"""Files: only regular ones are read, and what is written appears whole or not at all.

    with reading(path, ModelError) as file:        # never a FIFO, a device, a folder, a socket
        data = file.read()
    with replacing(path, PackageError) as file:    # a new file, which takes the name at the end
        file.write(data)

Who opens whatever a path names can hang for ever (a FIFO that nobody writes), fill memory
(`/dev/zero`) or change a device by merely opening it. So a file is looked at before it is opened,
opened without waiting, and looked at once more: meanwhile the name may have got another file.
"""

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from ..errors import TesselError

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_MESSAGES = {
    errno.ENOENT: "there is no such file or folder",
    errno.ENOTDIR: "there is no such file or folder",
    errno.ELOOP: "its symbolic links form a circle",
    errno.ENAMETOOLONG: "its name is too long for a file",
}
_TICK = 20_000_000  # ns: within it, a file may change twice and tell one time of change
_SHOWN = 200  # characters of a path in an error

Path = str | os.PathLike


class NotRegular(OSError):
    """The path names something else than a regular file."""


def open_regular(path: Path) -> BinaryIO:
    """A regular file, open for reading. Raises OSError, NotRegular for anything else."""
    try:
        _refuse_special(os.stat(path))
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError:  # a NUL, or characters that no name of a file has
        raise OSError(errno.EINVAL, "this is no name of a file") from None
    try:
        _refuse_special(os.fstat(handle))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _refuse_special(found: os.stat_result) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise NotRegular(errno.EINVAL, f"it is {_KINDS.get(kind, 'no regular file')}")


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def read_file(path: Path) -> bytes:
    """The bytes of a regular file, at most as many as it says it has. Raises OSError."""
    with open_regular(path) as file:
        return file.read(size_of(file))


@contextmanager
def reading(path: Path, kind: type[TesselError], **more: str) -> Iterator[BinaryIO]:
    """A regular file, open for reading; what goes wrong with it is an error of this `kind`."""
    with file_errors(path, kind, "cannot be read", **more), open_regular(path) as file:
        yield file


@contextmanager
def file_errors(path: Path, kind: type[TesselError], said: str, **more: Any) -> Iterator[None]:
    """Errors of the system about `path` as errors of this `kind`; `said`: "cannot be read"."""
    try:
        yield
    except OSError as error:
        reason = _MESSAGES.get(error.errno or 0) or error.strerror or str(error)
        raise kind(f"the file {said}: {reason}", where=shown(path), **more) from None


def shown(path: Path) -> str:
    """A path as errors name it: not longer than anyone reads."""
    text = os.fsdecode(path)
    return text if len(text) <= _SHOWN else text[: _SHOWN // 2] + "…" + text[-_SHOWN // 2 :]


def stamp(path: Path) -> list[int]:
    """What tells a file, as it is, from all others and from what it may become. Raises OSError.

    Who reads it after this and finds the same stamp then has read one content: a file that was
    written just now is waited for, since a second change at the same time would not show."""
    found = os.stat(path)
    if 0 <= time.time_ns() - found.st_ctime_ns < _TICK:
        time.sleep(_TICK / 1e9)
        found = os.stat(path)
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


# -- writing ----------------------------------------------------------------------------------


@contextmanager
def replacing(
    path: Path, kind: type[TesselError], mode: int | None = None, durable: bool = True
) -> Iterator[BinaryIO]:
    """A new file that takes the name `path` when the block ends well, and is gone if it does not.

    It is on the disk before it has the name, so a crash leaves the old file or the new one, whole;
    not `durable`, it is not waited for. Its mode is `mode`, else that of the file which it
    replaces, else what the umask leaves of rw-rw-rw-. Links are followed: what they point to is
    replaced. Raises `kind` for what cannot be written.
    """
    with file_errors(path, kind, "cannot be written"), replacing_file(path, durable, mode) as file:
        yield file


@contextmanager
def replacing_file(path: Path, durable: bool = True, mode: int | None = None) -> Iterator[BinaryIO]:
    """`replacing`, raising OSError. Not `durable`: without waiting for the disk."""
    target, before = _target(path)
    mode = before if mode is None else mode
    folder, name = os.path.split(target)
    temporary = os.path.join(folder or ".", f".{name[:32]}.{os.urandom(6).hex()}.tmp")
    handle = os.open(
        temporary,
        os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC,
        0o666 if mode is None else 0o600,
    )
    try:
        with os.fdopen(handle, "w+b") as file:
            if mode is not None:
                os.fchmod(handle, mode)
            yield file
            file.flush()
            if durable:
                os.fsync(handle)
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        _sync_folder(folder or ".")


def _target(path: Path) -> tuple[str, int | None]:
    """Where links lead, and the mode of the file that is there."""
    try:
        target = os.path.realpath(path)
        found = os.stat(target)
    except ValueError:
        raise OSError(errno.EINVAL, "this is no name of a file") from None
    except FileNotFoundError:
        return target, None
    _refuse_special(found)
    return target, stat.S_IMODE(found.st_mode)


def _sync_folder(folder: str) -> None:
    """The renaming on the disk too, where the file system can say so."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_file(path: Path, data: bytes, kind: type[TesselError]) -> None:
    """`data` as the file `path`, whole or not at all."""
    with replacing(path, kind) as file:
        file.write(data)


# -- folders that nobody else writes to -------------------------------------------------------


def user_cache() -> str:
    """The folder for what tessel keeps of a user's: `$XDG_CACHE_HOME/tessel` or `~/.cache/tessel`;
    for users without a home, one of the folder for temporary files.

    A relative XDG_CACHE_HOME is none, as its specification says: it would be another folder, and
    perhaps someone else's, wherever a process happens to be."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    if os.path.isabs(base):
        return os.path.join(base, "tessel")
    import tempfile  # slow to import, and nearly everybody has a home

    return os.path.join(tempfile.gettempdir(), f"tessel-{os.geteuid()}")


def not_private(folder: Path) -> str | None:
    """Why somebody else could put code into `folder`, which is made (rwx------) if need be; None if
    nobody could but its owner and root. Raises OSError.

    A folder whose parent others may write to, as /tmp, is still private if that one is sticky.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    real = os.path.realpath(folder)
    found = os.stat(real)
    if reason := _open_to_others(found):
        return reason
    for path in (real, os.path.abspath(folder)):  # also where links to it lie
        while (parent := os.path.dirname(path)) != path:
            path, found = parent, os.stat(parent)
            if _open_to_others(found) is not None and not found.st_mode & stat.S_ISVTX:
                return f"{path}: {_open_to_others(found)}"
    return None


def _open_to_others(found: os.stat_result) -> str | None:
    if not is_own(found):
        return "it belongs to another user"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to it (mode {stat.S_IMODE(found.st_mode):04o})"
    return None


def is_own(found: os.stat_result) -> bool:
    """Whether a file belongs to the user of this process, or to root."""
    return found.st_uid in (os.geteuid(), 0)
