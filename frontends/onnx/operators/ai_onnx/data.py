"""Operators whose results are as large as data says: NonZero, Compress, Unique, NonMaxSuppression.

Each fills as much as there can be and counts; see `sizes.py`.
"""

import numpy as np

from .....compiler.ir import dims
from .....compiler.ir.builder import Tensor
from .....compiler.ir.dim_arrays import smaller
from .....compiler.ir.types import I64, STR, normalize_axis
from ...read.call import Call
from ...read.symbolic import all_places, bind, first_places, scalar, sized


def nonzero(c: Call):
    """i64[rank, n]: the indices of elements that are not 0, in order."""
    x, known = c.x(0), c.known(0)
    if known is not None and not x.symbolic:
        found = np.nonzero(known.reshape(known.shape or 1))
        return c.b.constant(np.array(found, np.int64)[: x.rank])
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
    if x.dtype.kind == "b":
        return x
    return c.b.emit("not_equal", x, c.scalar("" if x.dtype == STR else 0, x.dtype))


def compress(c: Call):
    """The slices of x on an axis (elements, without one) whose condition is true."""
    x, keep = c.x(0), c.x(1)
    if c.has("axis"):
        axis = normalize_axis(c.attr("axis"), x.rank)
    else:
        x, axis = x.reshape((dims.prod(x.shape),)), 0
    known = c.known(1)
    if known is not None and isinstance(x.shape[axis], int):
        known = known[: x.shape[axis]]  # what is longer than the axis does not count
        return c.b.emit(
            "gather", x, c.b.constant(np.flatnonzero(known).astype(I64.numpy)), axis=axis
        )
    size = smaller(keep.shape[0], x.shape[axis])
    if size != keep.shape[0]:
        keep = c.b.emit("slice", keep, axes=(0,), starts=(0,), steps=(1,), sizes=(size,))
    return c.b.emit("gather", x, first_places(c, keep, "compress"), axis=axis)


def unique(c: Call):
    """Rows in sorted order; a group is what is equal, and its first row stands for it.

    All of it is counted on all rows, n of them; only then are results cut to the groups, k.
    """
    rows, shape_of = _rows(c)
    b, (n, _) = c.b, rows.shape
    zero, one = c.scalar(0, I64), c.scalar(1, I64)
    turns = b.emit("iota", shape=(n,), axis=0, dtype=I64)
    order = b.emit("sort_rows", rows)
    ordered = b.emit("gather", rows, order, axis=0)
    first = b.emit("or", _differs_from_before(c, ordered, turns), b.emit("equal", turns, zero))
    group = b.emit("sub", b.emit("running_count", first), one)
    starts, count = all_places(c, first)
    if not c.attr("sorted", 1):
        # Groups in the order of their first rows: count those among all rows instead.
        order_of_first = b.emit("gather", order, b.emit("gather", starts, group, axis=0), axis=0)
        first = _scattered(c, order, first)
        numbers = b.emit("sub", b.emit("running_count", first), one)
        group = b.emit("gather", numbers, order_of_first, axis=0)
        starts, count = all_places(c, first)
    (k,) = bind(c, [count], "unique")

    def cut(y):
        return b.emit("slice", y, axes=(0,), starts=(0,), steps=(1,), sizes=(k,))

    places = cut(starts)
    indices = places
    if c.attr("sorted", 1):
        indices = b.emit("gather", order, places, axis=0)
    counts = b.emit(
        "scatter_elements",
        _filled(c, zero, (n,)),
        group,
        _filled(c, one, (n,)),
        axis=0,
        reduction="add",
    )
    y = shape_of(b.emit("gather", rows, indices, axis=0))
    return [y, indices, _scattered(c, order, group), cut(counts)][: len(c.outputs)]


def _rows(c: Call):
    """The operand as rows that are compared, [n, m], and how rows become a result again."""
    x = c.x(0)
    if not c.has("axis"):
        return x.reshape((dims.prod(x.shape), 1)), lambda y: y.reshape(y.shape[:1])
    axis = normalize_axis(c.attr("axis"), x.rank)
    rest = [i for i in range(x.rank) if i != axis]
    moved = x.transpose((axis, *rest))
    back = tuple(sorted(range(x.rank), key=[axis, *rest].__getitem__))
    flat = moved.reshape((moved.shape[0], dims.prod(moved.shape[1:])))
    return flat, lambda y: y.reshape((y.shape[0], *moved.shape[1:])).transpose(back)


def _differs_from_before(c: Call, rows, turns):
    """Whether a row differs from the one before it; NaNs are equal to each other."""
    b = c.b
    before = b.emit("maximum", b.emit("sub", turns, c.scalar(1, I64)), c.scalar(0, I64))
    before = b.emit("gather", rows, before, axis=0)
    same = b.emit("equal", rows, before)
    if rows.dtype.is_float:
        same = b.emit("or", same, b.emit("and", b.emit("isnan", rows), b.emit("isnan", before)))
    others = b.emit("reduce_sum", b.emit("not", same).cast(I64), axes=(1,), keepdims=False)
    return b.emit("greater", others, c.scalar(0, I64))


def _filled(c: Call, value, shape):
    return c.b.emit("expand", value, shape=shape)


def _scattered(c: Call, places, values):
    """y[places[i]] = values[i], for places that are a permutation."""
    none = _filled(c, c.scalar(0, values.dtype), values.shape)
    return c.b.emit("scatter_elements", none, places, values, axis=0)


def non_max_suppression(c: Call):
    """[n, 3] of (batch, class, box), per class from the best score down.

    Boxes that are not above the score's threshold count as none.
    """
    b, scores = c.b, c.x(1)
    boxes = _corners(c)
    (batch, classes, n), dtype = scores.shape, scores.dtype
    for axis, size in ((0, batch), (1, n)):
        boxes = sized(c, boxes, axis, size, "the boxes of the scores")
    most = None if _absent(c, 2) else c.elements(2, "max_output_boxes_per_class")[0]
    if most is None or (isinstance(most, int) and most <= 0):
        return b.constant(np.zeros((0, 3), np.int64))
    overlap = c.scalar(0, dtype) if _absent(c, 3) else c.x(3).reshape(())
    if not _absent(c, 4):
        above = b.emit("greater", scores, c.x(4).reshape(()))
        scores = b.emit("where", above, scores, c.scalar(-np.inf, dtype))
    limit, steps = (most.cast(I64), n) if isinstance(most, Tensor) else (None, smaller(n, most))
    picked = b.emit("suppress", boxes, scores, overlap, limit, steps=steps)
    taken = b.emit("greater_equal", picked, c.scalar(0, I64))
    total = batch * classes * steps
    places = first_places(c, taken.reshape((total,)), "boxes")
    row = b.emit("div", places, scalar(c, steps))
    box = b.emit("gather", picked.reshape((total,)), places, axis=0)
    parts = [b.emit("div", row, scalar(c, classes)), b.emit("mod", row, scalar(c, classes)), box]
    return b.emit("concat", *(p.reshape((*p.shape, 1)) for p in parts), axis=1)


def _absent(c: Call, i: int) -> bool:
    return c[i] is None or c.x(i).shape == (0,)


def _corners(c: Call):
    """[batch, n, 4]: two opposite corners of each box."""
    boxes = c.x(0)
    if not c.attr("center_point_box", 0):
        return boxes
    batch, n, _ = boxes.shape
    middle, size = (
        c.b.emit("slice", boxes, axes=(2,), starts=(i,), steps=(1,), sizes=(2,)) for i in (0, 2)
    )
    ways = c.b.constant(np.array([[[[-0.5], [0.5]]]], boxes.dtype.numpy))
    middle, size = (x.reshape((batch, n, 1, 2)) for x in (middle, size))
    return c.b.emit("add", middle, c.b.emit("mul", size, ways)).reshape((batch, n, 4))


TABLE = {
    "NonZero": nonzero,
    "Compress": compress,
    "Unique": unique,
    "NonMaxSuppression": non_max_suppression,
}
