"""Object code by content hash, under the user's cache folder.

A file's name is the hash of everything that its contents follow from, so entries never go stale;
they are written to a temporary name and renamed, so a reader sees whole files only. Each begins
with the SHA-256 of the rest: an entry that was cut or changed on the disk is compiled again, and
overwritten, rather than run.

What is in the folder is run, so nobody else may be able to write to it: a folder or an entry of
another user's, or one that others may write to, is not used, and `note` says so.

What is kept is bounded: objects lie in 256 places by the last two digits of their names, which a
hash spreads evenly, and whoever writes into a place removes what was written longest ago beyond its
part of `LIMIT`.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from ....system.files import (
    is_own,
    not_private,
    open_regular,
    replacing_file,
    size_of,
    user_cache,
)

DIGEST = hashlib.sha256().digest_size
LIMIT = 1 << 30  # bytes of all objects, about
PLACES = 256


def cache_folder() -> Path:
    """Where objects and packages are, if nobody says otherwise."""
    return Path(user_cache())


class ObjectCache:
    """Objects in `folder`; `None` keeps nothing. An unwritable folder is no error."""

    def __init__(self, folder: Path | None):
        self.folder, self.note, self._known = folder, None, False

    def _usable(self) -> bool:
        """Whether there is a folder that only this user writes to; looked at once."""
        if not self._known and self.folder is not None:
            try:
                reason = not_private(self.folder)
            except (OSError, ValueError):  # a read-only home: the next run compiles again
                self.folder, reason = None, None
            if reason is not None:
                self.note = f"the cache of compiled kernels in {self.folder} is not used: {reason}"
                self.folder = None
        self._known = True
        return self.folder is not None

    def _place(self, key: str) -> Path:
        return self.folder / key[-2:]

    def get(self, key: str) -> bytes | None:
        if not self._usable():
            return None
        try:
            with open_regular(self._place(key) / key) as file:
                if not is_own(os.fstat(file.fileno())):
                    return None
                entry = file.read(size_of(file))
        except OSError:
            return None
        digest, data = entry[:DIGEST], entry[DIGEST:]
        return data if hashlib.sha256(data).digest() == digest else None

    def put(self, key: str, data: bytes) -> None:
        if not self._usable():
            return
        place = self._place(key)
        try:
            place.mkdir(mode=0o700, exist_ok=True)
            with replacing_file(place / key, durable=False) as file:
                file.write(hashlib.sha256(data).digest() + data)
            _trim(place, key)
        except OSError:  # a full disk: the next run compiles again
            pass


def _trim(place: Path, keep: str) -> None:
    """Remove what was written longest ago, beyond this place's part. Raises OSError."""
    found = []
    with os.scandir(place) as folder:
        for file in folder:
            if not file.name.startswith("."):
                with suppress(OSError):  # another process has just removed it
                    stat = file.stat()
                    found.append((stat.st_mtime_ns, stat.st_size, file))
    total = sum(size for _, size, _ in found)
    for _, size, file in sorted(found, key=lambda entry: entry[0]):
        if total <= LIMIT // PLACES:
            return
        if file.name != keep:
            with suppress(OSError):
                os.unlink(file)
            total -= size
