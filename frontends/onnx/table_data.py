"""Operators whose results are as large as data says: NonZero, Compress.

Each fills as much as there can be and counts; see `sizes.py`.
"""

import numpy as np

from ...compiler import dims
from ...compiler.types import I64, normalize_axis
from .call import Call
from .sizes import first_places, scalar


def nonzero(c: Call):
    """i64[rank, n]: the indices of elements that are not 0, in order."""
    x, known = c.x(0), c.known(0)
    if known is not None and not x.symbolic:
        return c.b.constant(np.asarray(np.nonzero(known), np.int64))
    places = first_places(c, _is_true(c, x).reshape((dims.prod(x.shape),)), "nonzero")
    rows, rest = [], 1
    for d in reversed(x.shape):
        row = places if rest == 1 else c.b.emit("div", places, scalar(c, rest))
        rows.append(row if len(rows) == x.rank - 1 else c.b.emit("mod", row, scalar(c, d)))
        rest = rest * d
    rows = [r.reshape((1, *r.shape)) for r in reversed(rows)]
    if not rows:
        return places.reshape((1, *places.shape))[:0]
    return rows[0] if len(rows) == 1 else c.b.emit("concat", *rows, axis=0)


def _is_true(c: Call, x):
    return x if x.dtype.kind == "b" else c.b.emit("not_equal", x, c.scalar(0, x.dtype))


def compress(c: Call):
    """The slices of x on an axis (elements, without one) whose condition is true."""
    x, keep = c.x(0), c.x(1)
    if c.has("axis"):
        axis = normalize_axis(c.attr("axis"), x.rank)
    else:
        x, axis = x.reshape((dims.prod(x.shape),)), 0
    known = c.known(1)
    if known is not None:
        return c.b.emit("gather", x, c.b.constant(np.flatnonzero(known).astype(I64.numpy)), axis=axis)
    return c.b.emit("gather", x, first_places(c, keep, "compress"), axis=axis)


TABLE = {"NonZero": nonzero, "Compress": compress}
