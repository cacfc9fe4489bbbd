"""Object code by content hash, under the user's cache folder.

A file's name is the hash of everything that its contents follow from, so entries never go stale;
they are written to a temporary name and renamed, so a reader sees whole files only.
"""

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/tessel` or `~/.cache/tessel`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tessel"


class ObjectCache:
    """Objects in `folder`; `None` keeps nothing. An unwritable folder is no error."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    def get(self, key: str) -> bytes | None:
        if self.folder is None:
            return None
        try:
            return (self.folder / key[:2] / key).read_bytes() or None
        except OSError:
            return None

    def put(self, key: str, data: bytes) -> None:
        if self.folder is None:
            return
        place = self.folder / key[:2]
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=place, delete=False) as f:
                f.write(data)
            os.replace(f.name, place / key)
        except OSError:
            return  # a read-only home: the next run compiles again
