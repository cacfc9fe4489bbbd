"""Weights in files beside the model: memory-mapped, and only from the model's own folder."""

import math
from pathlib import Path, PureWindowsPath

import numpy as np

from ...compiler.errors import ModelError
from ...compiler.types import DType


def read(tensor, dtype: DType, shape: tuple, folder: Path | None, where: str) -> np.ndarray:
    """The array of a TensorProto whose data_location is EXTERNAL, mapped read-only.

    Raises ModelError if the location leaves `folder` (after symlinks are resolved), or if offset
    and length do not fit the file and the dtype and dims.
    """
    from .proto import file_bytes, from_bytes

    entries = {e.key: e.value for e in tensor.external_data}
    path = _locate(entries.get("location", ""), folder, where)
    count = math.prod(shape)
    expected = file_bytes(count, dtype)
    offset = _number(entries, "offset", 0, where)
    length = _number(entries, "length", expected, where)
    size = path.stat().st_size
    if length != expected:
        raise ModelError(
            "the length of external data does not fit the tensor",
            where=where,
            expected=f"{expected} bytes for {dtype}[{','.join(map(str, shape))}]",
            received=f"length={length}",
        )
    if offset + length > size:
        raise ModelError(
            "external data end after the file's end",
            where=where,
            expected=f"at most {size} bytes, the size of {path.name}",
            received=f"offset={offset}, length={length}",
        )
    if dtype.kind == "s":
        raise ModelError("text cannot be external data", where=where)
    if count == 0:
        return np.zeros(shape, dtype.numpy)
    data = np.memmap(path, np.uint8, "r", offset, (length,))
    return from_bytes(data, dtype, shape, where)


def _locate(location: str, folder: Path | None, where: str) -> Path:
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
    folder = folder.resolve()
    path = (folder / location).resolve()
    if not path.is_relative_to(folder):
        raise ModelError(
            "external data must lie in the model's folder",
            where=where,
            expected=str(folder),
            received=f"{location} -> {path}",
        )
    if not path.is_file():
        raise ModelError("the file with external data is missing", where=where, received=location)
    return path


def _number(entries, key: str, default: int, where: str) -> int:
    text = entries.get(key, "")
    if not text:
        return default
    if not text.isdecimal():
        raise ModelError(
            f"{key} of external data is not a number", where=where, received=repr(text)
        )
    return int(text)
