"""Weights in files beside the model: memory-mapped, and only from the model's own folder."""

import math
from pathlib import Path, PureWindowsPath

import numpy as np

from ....compiler.errors import ModelError
from ....compiler.ir.types import DType
from ....compiler.system import files
from ....compiler.system.mapped import MappedFile


class Folder:
    """The folder of a model, in which its external data lie; each file is mapped once."""

    def __init__(self, path: Path):
        self.path = path
        self._mapped: dict[Path, MappedFile | None] = {}  # None: it is empty

    def map(self, path: Path) -> MappedFile | None:
        if path not in self._mapped:
            with files.reading(path, ModelError) as file:
                empty = files.size_of(file) == 0
                self._mapped[path] = None if empty else MappedFile.of(file, ModelError, path)
        return self._mapped[path]


def names_of_files(model) -> list[str]:
    """The files that hold weights of a ModelProto, as it names them."""
    graphs, nodes, found = [model.graph], [n for f in model.functions for n in f.node], {}
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            nodes += graph.node
            tensors = [
                *graph.initializer,
                *(x for s in graph.sparse_initializer for x in (s.values, s.indices)),
            ]
        else:
            attributes = nodes.pop().attribute
            graphs += [g for a in attributes for g in (a.g, *a.graphs)]
            tensors = [t for a in attributes for t in (a.t, *a.tensors)]
        for tensor in tensors:
            found |= {e.value: None for e in tensor.external_data if e.key == "location"}
    return list(found)


def read(tensor, dtype: DType, shape: tuple, folder: Folder | None, where: str) -> np.ndarray:
    """The array of a TensorProto whose data_location is EXTERNAL, mapped read-only.

    Raises ModelError if the location leaves `folder` (after symlinks are resolved), or if offset
    and length do not fit the file and the dtype and dims.
    """
    from .proto import file_bytes, from_bytes

    entries = {e.key: e.value for e in tensor.external_data}
    path = _locate(entries.get("location", ""), folder, where)
    expected = file_bytes(math.prod(shape), dtype)
    offset = _number(entries, "offset", 0, where)
    length = _number(entries, "length", expected, where)
    if length != expected:
        raise ModelError(
            "the length of external data does not fit the tensor",
            where=where,
            expected=f"{expected} bytes for {dtype}[{','.join(map(str, shape))}]",
            received=f"length={length}",
        )
    data = folder.map(path)
    size = 0 if data is None else len(data)
    if offset + length > size:
        raise ModelError(
            "external data end after the file's end",
            where=where,
            expected=f"at most {size} bytes, the size of {path.name}",
            received=f"offset={offset}, length={length}",
        )
    if dtype.kind == "s":
        raise ModelError("text cannot be external data", where=where)
    if length == 0:
        return np.zeros(shape, dtype.numpy)
    return from_bytes(np.frombuffer(data, np.uint8, length, offset), dtype, shape, where)


def _locate(location: str, folder: Folder | None, where: str) -> Path:
    if folder is None:
        raise ModelError(
            "the model keeps weights in other files, and its folder is not known",
            where=where,
            received=location,
            fix="read the model from its path, or load it with onnx.load first",
        )
    absolute = Path(location).is_absolute() or PureWindowsPath(location).drive
    if not location or absolute or ".." in Path(location).parts:
        raise ModelError(
            "external data must lie in the model's folder",
            where=where,
            expected="a relative path without ..",
            received=repr(location),
        )
    try:
        base = folder.path.resolve()
        path = (base / location).resolve()
        exists = path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, links in a circle
        raise ModelError(
            f"external data: {_reason(error)}", where=where, received=files.shown(location)
        ) from None
    if not path.is_relative_to(base):
        raise ModelError(
            "external data must lie in the model's folder",
            where=where,
            expected=str(base),
            received=f"{location} -> {path}",
        )
    if not exists:
        raise ModelError("the file with external data is missing", where=where, received=location)
    return path


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "links in a circle" if isinstance(error, RuntimeError) else str(error)


def _number(entries, key: str, default: int, where: str) -> int:
    text = entries.get(key, "")
    if not text:
        return default
    if not text.isdecimal() or len(text) > 18:  # 2^63 has 19 digits
        raise ModelError(
            f"{key} of external data is not a number", where=where, received=repr(files.shown(text))
        )
    return int(text)
