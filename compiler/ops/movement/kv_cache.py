"""cache_update: new entries written into a cache at a position of each sequence's own."""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.bounds import assume_at_least, assume_equal
from ...ir.op import Attr, Kernels, register
from ...ir.types import I64, normalize_axis
from ..common import array, case, floats, ints, mask, require_shape


def cache_update_shape(cache, update, start=None, *, axis, circular):
    axis = normalize_axis(axis, cache.rank)
    fits = (
        cache.rank == update.rank >= 2
        and axis > 0
        and all(
            (assume_at_least if a == axis else assume_equal)(d, e)
            for a, (d, e) in enumerate(zip(cache.shape, update.shape))
        )
    )
    if not fits or (start is not None and start.rank != 1):
        raise TypeMismatch(
            "cache_update takes a cache [B,…,T,…], an update [B,…,S,…] with S <= T, a start per B",
            received=f"{cache}, {update}, {start}, axis={axis}",
        )
    require_shape("cache_update", "start", start, cache.shape[:1])
    return cache.shape


def cache_update_ref(cache, update, start=None, *, axis, circular):
    axis, y = axis % cache.ndim, cache.copy()
    start = np.zeros(len(cache), np.int64) if start is None else start
    for n, begin in enumerate(start):
        steps, size = np.arange(update.shape[axis]), cache.shape[axis]
        at = (begin % size + steps) % size if circular and size else begin + steps
        inside = (at >= 0) & (at < size)
        row, new = np.moveaxis(y[n], axis - 1, 0), np.moveaxis(update[n], axis - 1, 0)
        row[at[inside]] = new[inside]
    return y


def _cache_update(k, out, cache, update, start=None, *, axis, circular):
    """The cache, then the update's entries: where the cache is written in place, only those."""
    axis = normalize_axis(axis, len(cache.shape))
    size, count = cache.shape[axis], update.shape[axis]
    k.store(out.shape, lambda *i: (i, cache[i]))

    def written(*i):
        begin = s.const(0) if start is None else s.cast(start[(i[0],)], I64)
        if circular:
            at = (begin % size + i[axis]) % size
            return (*i[:axis], at, *i[axis + 1 :]), update[i]
        at = s.maximum(s.minimum(begin, size), -count) + i[axis]  # what is further out is all out
        return (*i[:axis], at, *i[axis + 1 :]), update[i], (at >= 0) & (at < size)

    if count != 0:
        k.store(update.shape, written)


def cache_update_grad(c, dy):
    """The cache's gradient is dy where nothing was written, the update's is dy where it was."""
    (cache, update, start), b = c.inputs, c.b
    axis, circular = normalize_axis(c.attrs["axis"], cache.rank), c.attrs["circular"]
    size, count = cache.shape[axis], update.shape[axis]
    zeros = b.scalar(0, dy.dtype).expand(update.shape)
    dcache = b.cache_update(dy, zeros, start, axis=axis, circular=circular)
    places = b.iota(shape=(cache.shape[0], count), axis=1, dtype=I64)
    if start is not None:
        places = places + start.cast(I64).reshape(-1, 1)
    if circular:
        places = b.mod(places, b.scalar(size, I64))
    d = b.gather_points(
        dy, b.iota(shape=(cache.shape[0], 1), axis=0, dtype=I64), places, axes=(0, axis), lead=1
    )
    inside = b.emit("and", places >= 0, places < size)
    d = mask(inside.reshape(*inside.shape[:1], *[1] * (cache.rank - 2), count), d)
    order = list(range(cache.rank - 1))
    order.insert(axis, cache.rank - 1)
    return [dcache, d.transpose(order), None]


register(
    "cache_update",
    "cache: T, update: T, start: i64? -> T",
    """The cache [B,…,T,…] with the update [B,…,S,…] written at start[b] (0 if absent) on `axis`.

    `circular` goes on at 0 beyond T; else what would lie outside is left out.
    """,
    attrs={"axis": Attr("int", -2), "circular": Attr("bool", False)},
    shape=cache_update_shape,
    ref=cache_update_ref,
    grad=cache_update_grad,
    loops=Kernels(_cache_update),
    samples=lambda: [
        case(floats((2, 3, 5, 2)), floats((2, 3, 2, 2), 1), array([3, 0], "i64")),
        case(floats((2, 3, 5, 2)), floats((2, 3, 2, 2), 1), array([4, -1], "i64"), circular=True),
        case(floats((2, 4)), floats((2, 3), 1), array([2, -1], "i64"), axis=1),
        case(ints((1, 4, 2), dtype="u8"), ints((1, 4, 2), 1, dtype="u8")),
        case(floats((2, 4, 2), dtype="bf16"), floats((2, 0, 2), 1, dtype="bf16")),
    ],
    group="move",
    T="any",
)
