"""Regions of interest: roi_align (He et al., Mask R-CNN, 2017) and roi_max_pool (Girshick, 2015).

A region [x1, y1, x2, y2] of image b, times `scale`, is cut into bins of equal size.

    roi_align      each bin is the mean (or maximum) of samples on a grid, read by linear
                   interpolation; a sample more than one pixel outside of the image counts as 0
    roi_max_pool   regions are rounded to pixels; each bin is the maximum of its pixels, 0 if none
"""

import itertools
import math

import numpy as np

from ..errors import TypeMismatch
from ..types import I32, I64
from .common import array, case, floats, reference, through_expansion, wide
from .gather import INDICES
from .points import beside, index, interpolate, linear_taps
from .registry import Attr, Expand, NotDifferentiable, register


def _check(x, rois, columns: int, *more):
    if x.rank != 4 or rois.rank != 2 or rois.shape[1] != columns:
        raise TypeMismatch(
            "regions need x [N,C,H,W] and a row of numbers for each region",
            expected=f"[R,{columns}]",
            received=f"{x}, {rois}",
        )


def roi_align_shape(x, rois, batch, *, size, mode, sampling, **_):
    _check(x, rois, 4)
    if mode not in ("avg", "max") or len(size) != 2 or sampling < 0:
        raise TypeMismatch(
            "unknown attributes of roi_align",
            expected="a mode of avg|max, two sizes, sampling of at least 0",
            received=f"mode={mode}, size={list(size)}, sampling={sampling}",
        )
    return (rois.shape[0], x.shape[1], *size)


def grid_limit(length, bins: int, sampling: int) -> int:
    """Samples of a bin along an axis, at most. Without `sampling` it is what a region as long as
    the image and a pixel per bin more would have."""
    return sampling or math.ceil(length / bins) + 1


# -- roi_align: numpy ------------------------------------------------------------------------


def _axis_ref(low, high, length, bins, sampling, half_pixel):
    """Places [R, bins, S] of the samples along an axis, and which of them count."""
    extent = high - low if half_pixel else np.maximum(high - low, 1)
    limit = grid_limit(length, bins, sampling)
    count = np.full_like(extent, sampling) if sampling else np.ceil(extent / bins)
    count = np.minimum(count, limit)[:, None, None]
    each = (extent / bins)[:, None, None]
    k = np.arange(limit, dtype=low.dtype)
    place = low[:, None, None] + np.arange(bins, dtype=low.dtype)[:, None] * each
    place = place + (k + 0.5) * each / np.maximum(count, 1)
    return place, k < count


def roi_align_ref(x, rois, batch, *, size, scale, sampling, mode, half_pixel):
    rois = rois * rois.dtype.type(scale) - rois.dtype.type(0.5 if half_pixel else 0)
    ends = [(rois[:, 1], rois[:, 3]), (rois[:, 0], rois[:, 2])]
    axes = [_axis_ref(*e, d, n, sampling, half_pixel) for e, d, n in zip(ends, x.shape[2:], size)]
    (py, cy), (px, cx) = axes
    py, px = py[:, :, None, :, None], px[:, None, :, None, :]
    counts = cy[:, :, None, :, None] & cx[:, None, :, None, :]
    h, w = x.shape[2:]
    near = (py >= -1) & (py <= h) & (px >= -1) & (px <= w)
    py, px = np.clip(py, 0, h - 1), np.clip(px, 0, w - 1)
    front, b = x.transpose(0, 2, 3, 1), batch.astype(int).reshape(-1, 1, 1, 1, 1)
    terms = []
    for i, j in itertools.product((0, 1), repeat=2):
        at = [np.floor(p).astype(int) for p in (py, px)]
        ty, tx = py - at[0], px - at[1]
        weight = (ty if i else 1 - ty) * (tx if j else 1 - tx) * near
        value = front[b, np.minimum(at[0] + i, h - 1), np.minimum(at[1] + j, w - 1)]
        terms.append(value * weight[..., None])
    counts = np.broadcast_to(counts, near.shape)[..., None]
    if mode == "max":
        y = np.where(counts, np.max(terms, 0), -np.inf).max((3, 4))
        y = np.where(counts.any((3, 4)), y, 0)
    else:
        y = np.where(counts, sum(terms), 0).sum((3, 4)) / np.maximum(counts.sum((3, 4)), 1)
    return y.transpose(0, 3, 1, 2).astype(x.dtype)


# -- roi_align: other ops ----------------------------------------------------------------------


def _axis(b, low, high, length, bins, sampling, half_pixel):
    """As `_axis_ref`."""
    one = b.scalar(1, low.dtype)
    extent = high - low if half_pixel else b.maximum(high - low, one)
    limit = grid_limit(length, bins, sampling)
    each = (extent * (1 / bins)).reshape(-1, 1, 1)
    if sampling:
        count = b.scalar(sampling, low.dtype).expand((low.shape[0], 1, 1))
    else:
        count = b.minimum(b.ceil(each), b.scalar(limit, low.dtype))
    k = b.iota(shape=(1, 1, limit), axis=2, dtype=low.dtype)
    bin_ = b.iota(shape=(1, bins, 1), axis=1, dtype=low.dtype)
    place = low.reshape(-1, 1, 1) + bin_ * each + (k + 0.5) * each / b.maximum(count, one)
    return place, k < count


def _roi_align(b, x, rois, batch, *, size, scale, sampling, mode, half_pixel):
    given, lengths = x.dtype, x.shape[2:]
    x, rois = wide(x), wide(rois) * scale - (0.5 if half_pixel else 0.0)
    count, bins = rois.shape[0], size
    places, counted = [], []
    for d, (length, n) in enumerate(zip(lengths, bins)):
        low, high = rois[:, 1 - d], rois[:, 3 - d]
        place, counts = _axis(b, low, high, length, n, sampling, half_pixel)
        limit = place.shape[2]
        spread = (count, n, 1, limit, 1) if d == 0 else (count, 1, n, 1, limit)
        places.append(place.reshape(*spread))
        flat = (counts.shape[0], 1, 1, limit, 1) if d == 0 else (counts.shape[0], 1, 1, 1, limit)
        counted.append(counts.reshape(*flat))
    counts = b.emit("and", *counted)
    near = [b.emit("and", p >= -1, p <= n) for p, n in zip(places, lengths)]
    near = beside(b.emit("and", *near), 1, 1)
    image = batch.cast(I32).reshape(-1, 1, 1, 1, 1)

    def fold(place, axis):
        last = x.shape[axis] - 1
        return b.clip(place, b.scalar(0, place.dtype), b.scalar(last, place.dtype))

    places = [fold(p, d + 2) for d, p in enumerate(places)]
    kept = beside(counts, 1, 1)
    if mode == "max":
        y = _largest(b, x, image, places, fold)
        y = b.where(near, y, b.scalar(0, y.dtype))
        y = b.where(kept, y, b.scalar(-math.inf, y.dtype)).max(axes=(4, 5))
        return b.where(y > -math.inf, y, b.scalar(0, y.dtype)).cast(given)
    y = interpolate(
        b, x, [image], places, axes=(0, 2, 3), lead=1, taps=linear_taps, fold=fold
    )  # [R, C, PH, PW, S, S]
    y = b.where(b.emit("and", near, kept), y, b.scalar(0, y.dtype)).sum(axes=(4, 5))
    total = counts.cast(y.dtype).sum(axes=(3, 4)).reshape(-1, 1, 1, 1)
    return (y / b.maximum(total, b.scalar(1, y.dtype))).cast(given)


def _largest(b, x, image, places, fold):
    """The largest of the four pixels around a sample, each times its weight, as ONNX has it."""
    lows = [b.floor(p) for p in places]
    result = None
    for steps in itertools.product((0, 1), repeat=2):
        at = [fold(low + step, d + 2) for d, (low, step) in enumerate(zip(lows, steps))]
        value = b.gather_points(x, image, *map(index, at), axes=(0, 2, 3), lead=1)
        parts = [p - q if step else 1 - (p - q) for p, q, step in zip(places, lows, steps)]
        value = value * beside(parts[0] * parts[1], 1, 1)
        result = value if result is None else b.maximum(result, value)
    return result


ROIS = [[0.3, 0.2, 4.1, 3.3], [-1.2, 1.1, 2.3, 9.4], [1.7, 1.6, 1.9, 1.7]]


def _align_samples():
    x, rois, batch = floats((2, 2, 5, 6)), array(ROIS), array([1, 0, 1], "i64")
    for half_pixel in (False, True):
        for sampling in (0, 2):
            more = {"size": (2, 3), "half_pixel": half_pixel, "sampling": sampling}
            yield case(x, rois, batch, rtol=1e-4, **more)
            yield case(x, rois, batch, mode="max", scale=0.7, grad=False, rtol=1e-4, **more)
    yield case(floats((1, 1, 4, 4), dtype="f64"), array([[0, 0, 3, 2]], "f64"),
               array([0], "i32"), size=(2, 2), sampling=1, grad=False)  # fmt: skip
    yield case(floats((1, 2, 4, 4), dtype="f16"), array(ROIS, "f16"), array([0, 0, 0], "i64"),
               size=(2, 2), sampling=2, rtol=5e-3)  # fmt: skip


register(
    "roi_align",
    "x: T, rois: T, batch: I -> T",
    """Regions [R,4] (x1, y1, x2, y2) of the images x [N,C,H,W] that `batch` [R] names, resampled
    to [R,C,*size].

    `sampling` samples per bin and axis; with 0 as many as the bin has pixels, rounded up, but not
    more than a region of the image's own size would have.
    """,
    attrs={
        "size": Attr("ints", doc="rows and columns of the result"),
        "scale": Attr("float", 1.0, "from the regions' coordinates to x's pixels"),
        "sampling": Attr("int", 0),
        "mode": Attr("str", "avg", "avg|max"),
        "half_pixel": Attr("bool", True, "coordinates are half a pixel less"),
    },
    shape=roi_align_shape,
    ref=reference(roi_align_ref),
    grad=through_expansion,
    loops=Expand(_roi_align),
    samples=_align_samples,
    family="sample",
    T="float",
    I=INDICES,
)


# -- roi_max_pool ------------------------------------------------------------------------------


def roi_max_pool_shape(x, rois, *, size, **_):
    _check(x, rois, 5)
    return (rois.shape[0], x.shape[1], *size)


def _rounded(x, h):
    """To the nearest whole number, halves away from zero."""
    return h.sign(x) * h.floor(h.abs(x) + 0.5)


def roi_max_pool_ref(x, rois, *, size, scale):
    y = np.zeros((len(rois), x.shape[1], *size), x.dtype)
    for r, row in enumerate(rois):
        start = _rounded(row[[2, 1]] * scale, np)
        end = _rounded(row[[4, 3]] * scale, np)
        each = np.maximum(end - start + 1, 1) / size
        for bin_ in np.ndindex(*size):
            low = np.clip(np.floor(bin_ * each) + start, 0, x.shape[2:]).astype(int)
            high = np.clip(np.ceil((np.array(bin_) + 1) * each) + start, 0, x.shape[2:]).astype(int)
            seen = x[int(row[0]), :, low[0] : high[0], low[1] : high[1]]
            if seen.size:
                y[(r, slice(None), *bin_)] = seen.max((1, 2))
    return y


def _roi_max_pool(b, x, rois, *, size, scale):
    given, count = x.dtype, rois.shape[0]
    x, rois = wide(x), wide(rois)
    image = b.gather(x, rois[:, 0].cast(I64), axis=0).reshape(count, x.shape[1], 1, 1, *x.shape[2:])
    inside = None
    for d, (n, length) in enumerate(zip(size, x.shape[2:])):
        start = _rounded(rois[:, 2 - d] * scale, b).reshape(-1, 1)
        end = _rounded(rois[:, 4 - d] * scale, b).reshape(-1, 1)
        each = b.maximum(end - start + 1, b.scalar(1, x.dtype)) * (1 / n)
        bin_ = b.iota(shape=(1, n), axis=1, dtype=x.dtype)
        low, high = b.floor(bin_ * each) + start, b.ceil((bin_ + 1) * each) + start
        at = b.iota(shape=(1, 1, length), axis=2, dtype=x.dtype)
        here = b.emit("and", at >= low.reshape(-1, n, 1), at < high.reshape(-1, n, 1))
        shape = (count, 1, n, 1, length, 1) if d == 0 else (count, 1, 1, n, 1, length)
        here = here.reshape(*shape)
        inside = here if inside is None else b.emit("and", inside, here)
    y = b.where(inside, image, b.scalar(-math.inf, x.dtype)).max(axes=(4, 5))
    some = inside.cast(I64).max(axes=(4, 5)) > 0
    return b.where(some, y, b.scalar(0, y.dtype)).cast(given)


register(
    "roi_max_pool",
    "x: T, rois: T -> T",
    """The maxima of the bins of regions [R,5] (image, x1, y1, x2, y2) of x [N,C,H,W]: [R,C,*size].

    Corners are rounded to pixels and belong to the region; bins may overlap by a pixel.
    """,
    attrs={"size": Attr("ints"), "scale": Attr("float", 1.0)},
    shape=roi_max_pool_shape,
    ref=reference(roi_max_pool_ref),
    grad=NotDifferentiable("use roi_align, whose bins follow the region"),
    loops=Expand(_roi_max_pool),
    samples=lambda: [
        case(floats((2, 2, 5, 6)), array([[1, *ROIS[0]], [0, *ROIS[1]], [1, 7, 2, 9, 3]]),
             size=(2, 3)),
        case(floats((1, 1, 8, 8), dtype="f64"), array([[0, 0, 0, 30, 30]], "f64"), size=(4, 3),
             scale=0.25),
    ],
    family="sample",
    T="float",
)  # fmt: skip
