"""Greedy suppression of boxes that overlap: the core of NonMaxSuppression."""

import numpy as np

from ...errors import TypeMismatch
from ...ir.builder import Builder
from ...ir.op import Attr, Expand, NotDifferentiable, register
from ...ir.types import I64
from ..common import array, case, floats, require_shape


def suppress_shape(boxes, scores, overlap, most=None, *, steps):
    limits = overlap.rank if most is None else max(overlap.rank, most.rank)
    if (boxes.rank, scores.rank, limits) != (3, 3, 0) or boxes.shape[2] != 4:
        raise TypeMismatch(
            "suppress wants boxes [G,K,4], scores [G,C,K], one overlap and one number of boxes",
            received=f"{boxes}, {scores}, {overlap}, {most}",
        )
    require_shape("suppress", "scores", scores, (boxes.shape[0], scores.shape[1], boxes.shape[1]))
    return (*scores.shape[:2], steps)


def suppress_ref(boxes, scores, overlap, most=None, *, steps):
    most = steps if most is None else most
    wide = np.float32 if boxes.dtype.itemsize < 4 else boxes.dtype
    boxes, overlap = boxes.astype(wide), overlap.astype(wide)
    y1, y2 = np.minimum(boxes[..., 0], boxes[..., 2]), np.maximum(boxes[..., 0], boxes[..., 2])
    x1, x2 = np.minimum(boxes[..., 1], boxes[..., 3]), np.maximum(boxes[..., 1], boxes[..., 3])
    area = (y2 - y1) * (x2 - x1)
    picked = np.full((*scores.shape[:2], steps), -1, np.int64)
    for g, c in np.ndindex(*scores.shape[:2]):
        left = scores[g, c].astype(wide)
        for step in range(steps):
            if step >= most or left.size == 0 or np.max(left) == -np.inf:
                break
            k = int(np.argmax(left))
            picked[g, c, step] = k
            height = np.minimum(y2[g], y2[g, k]) - np.maximum(y1[g], y1[g, k])
            width = np.minimum(x2[g], x2[g, k]) - np.maximum(x1[g], x1[g, k])
            common = np.maximum(height, 0) * np.maximum(width, 0)
            with np.errstate(all="ignore"):
                gone = (common > 0) & (common / (area[g] + area[g, k] - common) > overlap)
            gone[k] = True
            left[gone] = -np.inf
    return picked


def _suppress(b, boxes, scores, overlap, most=None, *, steps):
    """A scan: each step takes the best of what is left, and drops what it covers.

    The corners and areas of all boxes lie in rows of their own, [G, 1, K]; those of the best are
    read from [G, K, 5] by its index.
    """
    wide = boxes.dtype.compute
    boxes, scores, overlap = boxes.cast(wide), scores.cast(wide), overlap.cast(wide)
    g, k = boxes.shape[:2]
    first, second = (b.slice(boxes, axes=(2,), starts=(i,), steps=(1,), sizes=(2,)) for i in (0, 2))
    low, high = b.minimum(first, second), b.maximum(first, second)
    area = b.reduce_prod(high - low, axes=(2,), keepdims=True)
    packed = b.concat(low, high, area, axis=2)
    most = b.scalar(np.iinfo(np.int64).max, I64) if most is None else most
    body = _body(packed, scores, overlap)
    rows = packed.transpose(2, 0, 1).reshape(5, g, 1, k)
    turns = b.iota(shape=(steps,), axis=0, dtype=I64)
    _, picked = b.scan(scores, turns, packed, rows, overlap, most, body=body, states=1, scans=1)
    return picked.transpose(1, 2, 3, 0).reshape(*scores.shape[:2], steps)


def _body(packed, scores, overlap):
    b = Builder(name="suppress")
    (g, k, _), wide = packed.shape, packed.dtype
    left = b.input("left", scores.type)
    turn = b.input("turn", "i64[]")
    packed = b.input("packed", packed.type)
    rows = b.input("rows", packed.type.with_shape((5, g, 1, k)))
    overlap = b.input("overlap", overlap.type)
    most = b.input("most", "i64[]")
    nothing, none = b.scalar(-np.inf, wide), b.scalar(0, wide)
    places = b.iota(shape=(k,), axis=0, dtype=I64)
    top = b.reduce_max(left, axes=(2,), keepdims=True)
    best = b.where(b.equal(left, top), places, b.scalar(np.iinfo(np.int64).max, I64))
    best = b.reduce_min(best, axes=(2,), keepdims=True)
    found = b.greater(top, nothing) & b.less(turn, most)
    mine = b.gather_nd(packed, best, batch_dims=1)

    def coordinate(i):
        return rows[i], b.slice(mine, axes=(2,), starts=(i,), steps=(1,), sizes=(1,))

    def length(i):
        (low, my_low), (high, my_high) = coordinate(i), coordinate(i + 2)
        return b.maximum(b.minimum(high, my_high) - b.maximum(low, my_low), none)

    common = length(0) * length(1)
    area, my_area = coordinate(4)
    union = area + my_area - common
    gone = b.greater(common, none) & b.greater(common / union, overlap)
    gone = gone | b.equal(places, best)
    b.output("next", b.where(gone, nothing, left))
    b.output("picked", b.where(found, best, b.scalar(-1, I64)))
    return b.graph


def samples():
    for seed, steps in ((0, 3), (1, 6)):
        corners = floats((2, 6, 2), seed, 0, 1)
        boxes = np.concatenate([corners, corners + floats((2, 6, 2), seed + 2, 0.2, 0.6)], 2)
        scores = floats((2, 2, 6), seed + 4, 0, 1)
        yield case(boxes, scores, array(0.3), steps=steps)
    flipped = array([[[1, 1, 0, 0], [0, 0, 1, 0.9], [2, 2, 3, 3], [0, 0, 0, 0]]])
    scores = array([[[0.5, 0.5, -np.inf, 0.1]]])
    yield case(flipped, scores, array(0.5), steps=4)
    yield case(flipped, scores, array(0.95), steps=2)
    yield case(flipped, scores, array(0.5), steps=0)
    for most in (-1, 1, 1 << 40):
        yield case(flipped, scores, array(0.5), array(most, "i64"), steps=4)


register(
    "suppress",
    "boxes: T, scores: T, overlap: T, most: i64? -> i64",
    """Indices of the best boxes that do not overlap, i64[G,C,steps]; -1 where none is left.

    boxes: [G,K,4], any two opposite corners; scores: [G,C,K], -inf for none. In each step the best
    score of those left is taken (of equal ones the first), and boxes whose intersection with it,
    divided by their union, is above `overlap` are dropped. After `most` boxes there are no more.
    """,
    attrs={"steps": Attr("dim")},
    shape=suppress_shape,
    ref=suppress_ref,
    grad=NotDifferentiable("the choice is piecewise constant", zero=True),
    loops=Expand(_suppress),
    samples=samples,
    group="sort",
    T="float",
)
