"""numpy's indexing of traced arrays, basic and advanced, and places that are written to."""

from typing import Any

import numpy as np

from ....compiler.errors import UnsupportedError
from ...native.tracing import user_line
from .traced import TracedArray, cast, emit, find, lift


def get(x: TracedArray, key: Any) -> TracedArray:
    """x[key]: ints, slices, None, Ellipsis, and arrays of ints that stand side by side."""
    key = key if isinstance(key, tuple) else (key,)
    key = tuple(_part(k) for k in key)
    arrays = [k for k in key if isinstance(k, (TracedArray, np.ndarray))]
    if not arrays:
        return TracedArray(x.array[key])
    count = sum(k is not None and k is not Ellipsis for k in key)
    if any(k is Ellipsis for k in key):
        at = next(i for i, k in enumerate(key) if k is Ellipsis)
        key = key[:at] + (slice(None),) * (x.ndim - count) + key[at + 1 :]
    # The basic part first: it keeps each axis that an array indexes.
    is_array = [isinstance(k, (TracedArray, np.ndarray)) for k in key]
    basic = tuple(slice(None) if a else k for a, k in zip(is_array, key))
    axes = _places(basic, is_array)
    y = TracedArray(x.array[basic]) if any(k != slice(None) for k in basic) else x
    if len(arrays) == 1:
        return emit("gather", y, _indices(x, arrays[0]), axis=axes[0])
    if axes != list(range(axes[0], axes[0] + len(axes))):
        raise UnsupportedError(
            "arrays that index axes apart from each other are not traced",
            where=user_line(),
            fix="index one after the other, or use keras.ops.take_along_axis",
        )
    first, n = axes[0], len(axes)
    order = (*axes, *(i for i in range(y.ndim) if i not in axes))
    y = TracedArray(y.array.transpose(order))
    places = _stacked(x, arrays)
    y = emit("gather_nd", y, places)
    rank = places.ndim - 1
    back = (*range(rank, rank + first), *range(rank), *range(rank + first, y.ndim))
    assert n == places.shape[-1]
    return TracedArray(y.array.transpose(back))


def _part(k: Any) -> Any:
    if hasattr(k, "assign_add"):
        k = k.value
    if isinstance(k, list):
        k = np.asarray(k)
    if isinstance(k, np.ndarray) and k.dtype == bool:
        (k,) = np.nonzero(k)
    if isinstance(k, TracedArray) and k.dtype == bool:
        raise UnsupportedError(
            "how many elements a traced mask takes is not known while a step is traced",
            where=user_line(),
            fix="use keras.ops.where",
        )
    if isinstance(k, (np.integer, np.ndarray)) and np.ndim(k) == 0:
        return int(k)
    return k


def _places(basic: tuple, is_array: list[bool]) -> list[int]:
    """The axes, after the basic part, that arrays index."""
    axes, axis = [], 0
    for k, a in zip(basic, is_array):
        if a:
            axes.append(axis)
        axis += k is None or isinstance(k, slice)
    return axes


def _indices(like: TracedArray, k: Any) -> TracedArray:
    return cast(lift(like, k), "int64")


def _stacked(like: TracedArray, arrays: list) -> TracedArray:
    shape = np.broadcast_shapes(*(k.shape for k in arrays))
    parts = [
        TracedArray(_indices(like, k).array.expand(shape).reshape((*shape, 1))) for k in arrays
    ]
    return emit("concat", *parts, axis=-1)


def scatter(indices: Any, values: Any, shape: Any) -> TracedArray:
    """Zeros of `shape` with `values` added at `indices` [..., depth]."""
    like = find(indices, values)
    values = lift(like, values)
    zeros = lift(like, np.zeros(tuple(int(n) for n in shape), values.dtype))
    return scatter_update(zeros, indices, values, "add")


def scatter_update(x: Any, indices: Any, updates: Any, reduction: str | None = None) -> TracedArray:
    like = find(x, indices, updates)
    x = lift(like, x)
    reduction = {None: "none"}.get(reduction, reduction)
    updates = lift(like, updates, x.dtype)
    places = _indices(like, indices)
    depth = places.shape[-1]
    updates = TracedArray(updates.array.expand((*places.shape[:-1], *x.shape[depth:])))
    return emit("scatter_nd", x, places, updates, reduction=reduction)


def slice_(x: TracedArray, start_indices: Any, shape: Any) -> TracedArray:
    """A box of `shape` at `start_indices`, which may be traced."""
    for axis, (start, size) in enumerate(zip(_starts(start_indices), shape)):
        if isinstance(start, TracedArray):
            places = cast(start, "int64").reshape(1) + np.arange(size)
            x = emit("gather", x, places, axis=axis)
        else:
            x = get(x, (*(slice(None),) * axis, slice(int(start), int(start) + int(size))))
    return x


def slice_update(x: Any, start_indices: Any, updates: Any) -> TracedArray:
    like = find(x, start_indices, updates)
    x, updates = lift(like, x), lift(like, updates)
    updates = cast(updates, x.dtype)
    rank = len(updates.shape)
    parts = []
    for axis, (start, size) in enumerate(zip(_starts(start_indices), updates.shape)):
        at = np.arange(size).reshape([-1 if i == axis else 1 for i in range(rank)])
        start = cast(start, "int64") if isinstance(start, TracedArray) else int(start)
        parts.append(lift(like, start + at if isinstance(start, int) else start.reshape(()) + at))
    return emit("scatter_nd", x, _stacked(like, parts), updates)


def _starts(start_indices: Any) -> Any:
    if isinstance(start_indices, TracedArray):
        return [start_indices[i] for i in range(start_indices.shape[0])]
    return [s if isinstance(s, TracedArray) else int(s) for s in start_indices]
