"""numpy's functions that move elements: shapes, axes, joins, parts, order."""

from typing import Any

import numpy as np

from .traced import SCALARS, TracedArray, cast, emit, find, joined, lift, promoted


def reshape(x: TracedArray, shape: Any = None, **_: Any) -> TracedArray:
    return x.reshape(shape if isinstance(shape, (tuple, list)) else (shape,))


def transpose(x: TracedArray, axes: Any = None) -> TracedArray:
    return TracedArray(x.array.transpose(*(() if axes is None else tuple(axes))))


def swapaxes(x: TracedArray, axis1: int, axis2: int) -> TracedArray:
    order = list(range(x.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(x, order)


def moveaxis(x: TracedArray, source: Any, destination: Any) -> TracedArray:
    source = [a % x.ndim for a in np.atleast_1d(source).tolist()]
    destination = [a % x.ndim for a in np.atleast_1d(destination).tolist()]
    order = [a for a in range(x.ndim) if a not in source]
    for to, of in sorted(zip(destination, source)):
        order.insert(to, of)
    return transpose(x, order)


def expand_dims(x: TracedArray, axis: Any) -> TracedArray:
    axes = np.atleast_1d(axis)
    rank = x.ndim + len(axes)
    at = {int(a) % rank for a in axes}
    sizes = iter(x.shape)
    return x.reshape(tuple(1 if i in at else next(sizes) for i in range(rank)))


def squeeze(x: TracedArray, axis: Any = None) -> TracedArray:
    if axis is None:
        axes = {i for i, n in enumerate(x.shape) if n == 1}
    else:
        axes = {int(a) % x.ndim for a in np.atleast_1d(axis)}
    if any(x.shape[a] != 1 for a in axes):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return x.reshape(tuple(n for i, n in enumerate(x.shape) if i not in axes))


def ravel(x: TracedArray, *_: Any) -> TracedArray:
    return x.reshape((-1,)) if x.size else x.reshape((0,))


def broadcast_to(x: TracedArray, shape: Any) -> TracedArray:
    shape = (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)
    return TracedArray(x.array.expand(shape))


def concatenate(xs: Any, axis: int | None = 0) -> TracedArray:
    xs = joined(*xs)
    if axis is None:
        xs, axis = [ravel(x) for x in xs], 0
    return xs[0] if len(xs) == 1 else emit("concat", *xs, axis=axis)


def append(x: Any, values: Any, axis: int | None = None) -> TracedArray:
    return concatenate([x, values], axis)


def stack(xs: Any, axis: int = 0) -> TracedArray:
    if isinstance(xs, TracedArray):
        xs = list(xs)
    return concatenate([expand_dims(x, axis) for x in joined(*xs)], axis)


def array(x: Any, dtype: Any = None, **_: Any) -> TracedArray:
    return lift(find(x), x, dtype)


def _at_least(x: TracedArray, rank: int) -> TracedArray:
    if x.ndim >= rank:
        return x
    return x.reshape({1: (-1,), 2: (1, -1), 3: (*([1] * (x.ndim < 2)), *x.shape, 1)}[rank])


def _stacked(rank: int, axis: int) -> Any:
    return lambda xs: concatenate([_at_least(x, rank) for x in joined(*xs)], axis)


def hstack(xs: Any) -> TracedArray:
    xs = [_at_least(x, 1) for x in joined(*xs)]
    return concatenate(xs, 0 if xs[0].ndim == 1 else 1)


vstack, dstack = _stacked(2, 0), _stacked(3, 2)


def array_split(x: TracedArray, indices_or_sections: Any, axis: int = 0) -> list[TracedArray]:
    size = x.shape[axis]
    if isinstance(indices_or_sections, (int, np.integer)):
        n = int(indices_or_sections)
        sizes = [size // n + (i < size % n) for i in range(n)]
        ends = np.cumsum(sizes).tolist()
    else:
        ends = [min(int(i), size) for i in indices_or_sections] + [size]
    starts = [0, *ends[:-1]]
    before = (slice(None),) * (axis % x.ndim)
    return [x[(*before, slice(s, e))] for s, e in zip(starts, ends)]


def split(x: TracedArray, indices_or_sections: Any, axis: int = 0) -> list[TracedArray]:
    if isinstance(indices_or_sections, int) and x.shape[axis] % indices_or_sections:
        raise ValueError("array split does not result in an equal division")
    return array_split(x, indices_or_sections, axis)


def take(x: Any, indices: Any, axis: int | None = None, **_: Any) -> TracedArray:
    like = find(x, indices)
    x = lift(like, x)
    if axis is None:
        x, axis = ravel(x), 0
    if isinstance(indices, (int, np.integer)):
        return x[(*(slice(None),) * (axis % x.ndim), int(indices))]
    return emit("gather", x, cast(lift(like, indices), "int64"), axis=axis)


def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> TracedArray:
    like = find(x, indices)
    x, indices = lift(like, x), cast(lift(like, indices), "int64")
    if axis is None:
        x, indices, axis = ravel(x), ravel(indices), 0
    axis %= x.ndim
    around = [max(a, b) for a, b in zip(x.shape, indices.shape)]
    wide = [x.shape[i] if i == axis else n for i, n in enumerate(around)]
    own = [indices.shape[i] if i == axis else n for i, n in enumerate(around)]
    return emit("gather_elements", broadcast_to(x, wide), broadcast_to(indices, own), axis=axis)


def repeat(x: TracedArray, repeats: Any, axis: int | None = None) -> TracedArray:
    if axis is None:
        x, axis = ravel(x), 0
    size = x.shape[axis]
    counts = np.broadcast_to(np.asarray(repeats), (size,))
    return emit("gather", x, np.repeat(np.arange(size), counts), axis=axis)


def tile(x: TracedArray, reps: Any) -> TracedArray:
    reps = [int(n) for n in np.atleast_1d(reps)]
    rank = max(x.ndim, len(reps))
    x = x.reshape((1,) * (rank - x.ndim) + tuple(x.shape))
    return emit("tile", x, repeats=[1] * (rank - len(reps)) + reps)


def flip(x: TracedArray, axis: Any = None) -> TracedArray:
    axes = range(x.ndim) if axis is None else np.atleast_1d(axis).tolist()
    return emit("reverse", x, axes=[a % x.ndim for a in axes]) if x.ndim else x


def roll(x: TracedArray, shift: Any, axis: Any = None) -> TracedArray:
    if axis is None:
        return roll(ravel(x), shift, 0).reshape(x.shape)
    for n, a in zip(*np.broadcast_arrays(np.atleast_1d(shift), np.atleast_1d(axis))):
        size = x.shape[a]
        places = (np.arange(size) - int(n)) % max(size, 1)
        x = emit("gather", x, places, axis=int(a))
    return x


def rot90(x: TracedArray, k: int = 1, axes: Any = (0, 1)) -> TracedArray:
    a, b = (i % x.ndim for i in axes)
    return [
        lambda: x,
        lambda: swapaxes(flip(x, b), a, b),
        lambda: flip(flip(x, a), b),
        lambda: flip(swapaxes(x, a, b), b),
    ][k % 4]()


def pad(x: TracedArray, pad_width: Any, mode: str = "constant", **options: Any) -> TracedArray:
    width = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2))
    value = None
    if mode == "constant":
        value = lift(x, options.get("constant_values", 0), x.dtype)
    modes = {"symmetric": "symmetric", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode == "symmetric":
        for axis, (low, high) in enumerate(width.tolist()):
            size = x.shape[axis]
            places = np.pad(np.arange(size), (low, high), mode="symmetric")
            x = emit("gather", x, places, axis=axis)
        return x
    pads = [*width[:, 0].tolist(), *width[:, 1].tolist()]
    return emit("pad", x, value, pads=pads, mode=modes.get(mode, mode))


def where(condition: Any, x: Any = None, y: Any = None) -> TracedArray:
    like = find(condition, x, y)
    x, y = joined(x, y) if find(x, y) is not None else _alike(like, x, y)
    return emit("where", cast(lift(like, condition), "bool"), x, y)


def _alike(like: TracedArray, x: Any, y: Any) -> tuple[TracedArray, TracedArray]:
    """Two operands of which none is traced, in the dtype that numpy gives them."""
    values = [v if isinstance(v, SCALARS) else np.asarray(v) for v in (x, y)]
    dtype = promoted(*values)
    return lift(like, values[0], dtype), lift(like, values[1], dtype)


def tril(x: TracedArray, k: int = 0) -> TracedArray:
    return emit("trilu", x, k=int(k), upper=False)


def triu(x: TracedArray, k: int = 0) -> TracedArray:
    return emit("trilu", x, k=int(k), upper=True)


def diagonal(x: TracedArray, offset: int = 0, axis1: int = 0, axis2: int = 1) -> TracedArray:
    x = moveaxis(x, (axis1, axis2), (-2, -1))
    rows, columns = x.shape[-2:]
    i = np.arange(max(0, min(rows + min(offset, 0), columns - max(offset, 0))))
    return x[(..., i - min(offset, 0), i + max(offset, 0))]


def diag(x: TracedArray, k: int = 0) -> TracedArray:
    if x.ndim == 2:
        return diagonal(x, k)
    n = x.shape[0] + abs(k)
    places = np.arange(x.shape[0])
    eye = np.zeros((x.shape[0], n, n), x.dtype)
    eye[places, places - min(k, 0), places + max(k, 0)] = 1
    return (x.reshape((-1, 1, 1)) * eye).sum(axis=0)


def zeros_like(x: TracedArray, dtype: Any = None, **_: Any) -> np.ndarray:
    return np.zeros(x.shape, x.dtype if dtype is None else dtype)


def ones_like(x: TracedArray, dtype: Any = None, **_: Any) -> np.ndarray:
    return np.ones(x.shape, x.dtype if dtype is None else dtype)


def full_like(x: Any, fill_value: Any, dtype: Any = None, **_: Any) -> Any:
    dtype = x.dtype if dtype is None else dtype
    if find(fill_value) is None:
        return np.full(x.shape, fill_value, dtype)
    return broadcast_to(lift(fill_value, fill_value, dtype), x.shape)


def full(shape: Any, fill_value: Any, dtype: Any = None) -> TracedArray:
    return broadcast_to(lift(find(fill_value), fill_value, dtype), shape)


def meshgrid(*xs: Any, indexing: str = "xy", **_: Any) -> list[TracedArray]:
    like = find(xs)
    xs = [ravel(lift(like, x)) for x in xs]
    rank = len(xs)
    places = list(range(rank))
    if indexing == "xy" and rank > 1:
        places[:2] = 1, 0
    shape = [0] * rank
    for place, x in zip(places, xs):
        shape[place] = x.shape[0]
    return [
        broadcast_to(x.reshape([-1 if i == place else 1 for i in range(rank)]), shape)
        for place, x in zip(places, xs)
    ]
