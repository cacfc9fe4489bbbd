"""Object code by content hash, under the user's cache folder.

A file's name is the hash of everything that its contents follow from, so entries never go stale;
they are written to a temporary name and renamed, so a reader sees whole files only. Each begins
with the SHA-256 of the rest: an entry that was cut or changed on the disk is compiled again, and
overwritten, rather than run.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

DIGEST = hashlib.sha256().digest_size


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
            entry = (self.folder / key[:2] / key).read_bytes()
        except OSError:
            return None
        digest, data = entry[:DIGEST], entry[DIGEST:]
        return data if hashlib.sha256(data).digest() == digest else None

    def put(self, key: str, data: bytes) -> None:
        if self.folder is None:
            return
        import tempfile  # slow to import, and nothing that only reads needs it

        place = self.folder / key[:2]
        temporary = None
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=place, delete=False) as f:
                temporary = Path(f.name)
                f.write(hashlib.sha256(data).digest() + data)
            os.replace(temporary, place / key)
            temporary = None
        except OSError:
            pass  # a read-only home, a full disk: the next run compiles again
        finally:  # also of what was interrupted
            if temporary is not None:
                with suppress(OSError):
                    temporary.unlink()
