"""A model whose files beside it are known as they were before they were read.

source = Watched("model.onnx")
graph = read(source)
source.files            # {"weights.bin": stamp}: see `compiler/system/files.py`
"""

from contextlib import suppress
from typing import Any

from ....compiler.system.files import stamp
from . import proto as pb
from .external import names_of_files


class Watched(pb.Source):
    """`source` is what `pb.load` takes. `files` are None before it was loaded; a file that is not
    there has no stamp that any file could have."""

    def __init__(self, source: Any):
        self.source = source
        self.files: dict[str, list[int]] | None = None

    def load(self) -> pb.Loaded:
        loaded = pb.load(self.source)
        if self.files is None:
            names = [] if loaded.folder is None else names_of_files(loaded.model)
            self.files = {name: [] for name in names}
            for name in names:
                with suppress(OSError, ValueError):
                    self.files[name] = stamp(loaded.folder.path / name)
        return loaded
