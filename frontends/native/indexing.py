"""Indexing by integer arrays, as numpy does it.

    x[i, j]         x[i[k], j[k]] for each k: arrays are broadcast against each other
    x[:, i]         the places i along the second axis
    x[..., i, None, 2:]

The axes of the arrays stand where the first of them is, if they lie beside each other; else they
come first.
"""

from typing import Any

import numpy as np

from ...compiler.errors import TypeMismatch
from ...compiler.ir.builder import Tensor
from ...compiler.ir.types import broadcast

ARRAYS = (Tensor, np.ndarray, list)


def index_by_arrays(x: Any, key: tuple[Any, ...]) -> Any:
    """x[key], where some of the key are arrays of integers (or of bools that are known)."""
    key = _whole(x, tuple(p for k in key for p in _places(k)))
    # Numbers beside arrays are arrays, too.
    is_array = [isinstance(k, (Tensor, np.ndarray, int, np.integer)) for k in key]
    # What slices and None say comes first; afterwards each array has an axis.
    y = x[tuple(slice(None) if a else k for a, k in zip(is_array, key))]
    axes = [i for i, a in enumerate(is_array) if a]
    arrays = [_indices(x, k) for a, k in zip(is_array, key) if a]
    if len(axes) == 1:
        return y.b.emit("gather", y, arrays[0], axis=axes[0])
    rest = [i for i in range(y.rank) if i not in axes]
    shape = broadcast(*(a.shape for a in arrays))
    columns = [a.expand(shape).reshape((*shape, 1)) for a in arrays]
    y = y.transpose(*axes, *rest)
    y = y.b.emit("gather_nd", y, y.b.emit("concat", *columns, axis=len(shape)))
    if axes[-1] - axes[0] + 1 != len(axes) or axes[0] == 0:
        return y
    first, count = axes[0], len(shape)
    before, after = range(count, count + first), range(count + first, y.rank)
    return y.transpose(*before, *range(count), *after)


def _places(k: Any) -> list[Any]:
    """An entry of a key; of known bools, the places where they hold, one array for each axis."""
    if isinstance(k, list):
        k = np.asarray(k, np.int64 if not k else None)
    if isinstance(k, np.ndarray) and k.dtype == bool:
        return list(np.nonzero(k))
    return [k]


def _whole(x: Any, key: tuple[Any, ...]) -> tuple[Any, ...]:
    """The key without `...`."""
    count = sum(k is not None and k is not Ellipsis for k in key)
    if count > x.rank:
        raise TypeMismatch("too many indices", expected=x.rank, received=count)
    at = next((i for i, k in enumerate(key) if k is Ellipsis), None)
    if at is None:
        return key
    return (*key[:at], *[slice(None)] * (x.rank - count), *key[at + 1 :])


def _indices(x: Any, k: Any) -> Any:
    """Indices as a tensor of i64."""
    t = k if isinstance(k, Tensor) else x.b.constant(np.asarray(k))
    if not t.dtype.is_int:
        raise TypeMismatch(
            "an index is an integer",
            received=t.type,
            fix="how many places a mask chooses, a compiled shape must know: where(mask, x, 0), "
            "or a numpy array of bools"
            if t.dtype.kind == "b"
            else "cast it: i.cast('i64')",
        )
    return t.cast("i64")


__all__ = ["ARRAYS", "index_by_arrays"]
