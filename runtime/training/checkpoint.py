"""Checkpoints: named arrays in one safetensors file, written whole or not at all."""

import os
from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ...compiler.errors import ModelError, TesselError, UsageError, entrance
from ...compiler.ir.types import dtype_of
from ...compiler.system.files import reading, shown, write_file

FORMAT = {"format": "tessel.checkpoint", "version": "1"}


@entrance
def save_checkpoint(path: str | os.PathLike, values: Mapping[str, np.ndarray]) -> None:
    """Write `values` to `path`. A file that is there is replaced once the new one is complete."""
    data = save({n: np.ascontiguousarray(v).reshape(v.shape) for n, v in values.items()}, FORMAT)
    write_file(path, data, UsageError)


@entrance
def load_checkpoint(
    path: str | os.PathLike, like: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint, which must be those of `like` in name, dtype and shape.

    Raises ModelError for a damaged file, or listing every array that differs.
    """
    with reading(path, ModelError):
        pass  # a FIFO or a device would be opened, and waited for
    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("format") != FORMAT["format"]:
                raise ModelError("this is no checkpoint of tessel", where=shown(path))
            values = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"the checkpoint cannot be read: {error}", where=shown(path)) from None
    findings = []
    for name in sorted(like.keys() | values.keys()):
        expected, received = _shown(like.get(name)), _shown(values.get(name))
        if expected != received:
            findings.append(TesselError(name, expected=expected, received=received))
    if findings:
        raise ModelError(
            "the checkpoint is of another model or optimizer", where=shown(path), findings=findings
        )
    return values


@entrance
def contents(path: str | os.PathLike) -> tuple[dict[str, str], list[tuple[str, str, list[int]]]]:
    """The metadata of a safetensors file, and (name, dtype, shape) of its arrays, which are not
    read. Raises ModelError."""
    with reading(path, ModelError):
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            slices = ((n, file.get_slice(n)) for n in sorted(file.keys()))
            return dict(file.metadata() or {}), [
                (n, s.get_dtype(), list(s.get_shape())) for n, s in slices
            ]
    except (SafetensorError, OSError) as error:
        raise ModelError(f"the arrays cannot be read: {error}", where=shown(path)) from None


def _shown(x: np.ndarray | None) -> str:
    return "nothing" if x is None else f"{dtype_of(x)}[{','.join(map(str, x.shape))}]"
