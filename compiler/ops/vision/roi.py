"""Regions of interest: roi_align (He et al., Mask R-CNN, 2017) and roi_max_pool (Girshick, 2015).

A region [x1, y1, x2, y2] of image b, times `scale`, is cut into bins of equal size.

    roi_align      each bin is the mean (or maximum) of samples on a grid, read by linear
                   interpolation; a sample more than one pixel outside of the image counts as 0
    roi_max_pool   regions are rounded to pixels; each bin is the maximum of its pixels, 0 if none
"""

import itertools
import math

import numpy as np

from ...errors import TypeMismatch
from ...ir.bounds import assume_equal
from ...ir.builder import Builder
from ...ir.dims import ceil_div
from ...ir.limits import Limit
from ...ir.op import Attr, Expand, NotDifferentiable, register
from ...ir.types import I32, I64
from ..common import (
    array,
    case,
    floats,
    reference,
    require_elements,
    require_shape,
    scalar_of_dim,
    through_expansion,
    wide,
)
from ..movement.gather import INDICES
from .points import beside, index, interpolate, linear_taps

IMAGE = "a region's image"


def _check(x, rois, columns: int):
    if x.rank != 4 or rois.rank != 2 or not assume_equal(rois.shape[1], columns):
        raise TypeMismatch(
            "regions need x [N,C,H,W] and a row of numbers for each region",
            expected=f"[R,{columns}]",
            received=f"{x}, {rois}",
        )
    require_elements("regions of interest", x, (0, 2, 3), rois.shape[0])


def roi_align_shape(x, rois, batch, *, size, mode, sampling, **_):
    _check(x, rois, 4)
    require_shape("roi_align", "batch", batch, (rois.shape[0],))
    if mode not in ("avg", "max") or len(size) != 2 or min(size) < 1 or sampling < 0:
        raise TypeMismatch(
            "unknown attributes of roi_align",
            expected="a mode of avg|max, two sizes of at least 1, sampling of at least 0",
            received=f"mode={mode}, size={list(size)}, sampling={sampling}",
        )
    return (rois.shape[0], x.shape[1], *size)


def usual_limit(length, bins: int):
    """Samples per bin and axis of a region as long as the image, and a pixel per bin more."""
    return ceil_div(length, bins) + 1


def inside_limit(length):
    """Samples per bin that can lie in the image at all: they are more than half a pixel apart."""
    return 2 * (length + 2) + 1


# -- roi_align: numpy ------------------------------------------------------------------------


def _axis_ref(low, high, bins, sampling, half_pixel):
    """Places [R, bins, S] of the samples along an axis, and which of them count."""
    extent = high - low if half_pixel else np.maximum(high - low, 1)
    count = np.full_like(extent, sampling) if sampling else np.ceil(extent / bins)
    limit = int(count.max(initial=1))
    count, each = count[:, None, None], (extent / bins)[:, None, None]
    k = np.arange(limit, dtype=low.dtype)
    place = low[:, None, None] + np.arange(bins, dtype=low.dtype)[:, None] * each
    place = place + (k + 0.5) * each / np.maximum(count, 1)
    return place, k < count


def roi_align_ref(x, rois, batch, *, size, scale, sampling, mode, half_pixel):
    rois = rois * rois.dtype.type(scale) - rois.dtype.type(0.5 if half_pixel else 0)
    ends = [(rois[:, 1], rois[:, 3]), (rois[:, 0], rois[:, 2])]
    (py, cy), (px, cx) = [_axis_ref(*e, n, sampling, half_pixel) for e, n in zip(ends, size)]
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


def _axis(b, low, high, length, bins, sampling, half_pixel, everything):
    """Places [R, bins, S] of samples along an axis, which of them count, and how many there are.

    Samples are counted from the first one on, or, where `everything` must be exact, from the first
    one that lies in the image.
    """
    zero, one = b.scalar(0, low.dtype), b.scalar(1, low.dtype)
    each = _bin_size(b, low, high, bins, half_pixel)
    low = low.reshape(-1, 1, 1) + b.iota(shape=(1, bins, 1), axis=1, dtype=low.dtype) * each
    if sampling:
        count = b.scalar(sampling, low.dtype).expand((low.shape[0], 1, 1))
    else:
        count = b.ceil(each)
    step = each / b.maximum(count, one)
    limit = inside_limit(length) if everything else usual_limit(length, bins)
    k = b.iota(shape=(1, 1, sampling or limit), axis=2, dtype=low.dtype)
    if everything:
        k = k + b.maximum(b.ceil((-1.0 - low) / step - 0.5), zero)
    return low + (k + 0.5) * step, k < count, b.maximum(count, zero)


def _bin_size(b, low, high, bins, half_pixel):
    extent = high - low if half_pixel else b.maximum(high - low, b.scalar(1, low.dtype))
    return (extent * (1 / bins)).reshape(-1, 1, 1)


def _roi_align(b, x, rois, batch, *, size, sampling, half_pixel, scale, mode):
    """A region whose bins have more samples than usual makes the exact, long way be taken."""
    attrs = {"size": size, "sampling": sampling, "mode": mode, "half_pixel": half_pixel}
    given, x = x.dtype, wide(x)
    rois = wide(rois) * scale - (0.5 if half_pixel else 0.0)
    batch = batch.cast(I32)
    if sampling:
        return _sampled(b, x, rois, batch, **attrs).cast(given)
    many = None
    for d, (length, n) in enumerate(zip(x.shape[2:], size)):
        each = _bin_size(b, rois[:, 1 - d], rois[:, 3 - d], n, half_pixel)
        beyond = each > scalar_of_dim(b, usual_limit(length, n), each.dtype)
        many = beyond if many is None else b.emit("or", many, beyond)
    condition = b.greater(many.cast(I32).sum(), b.scalar(0, I32))
    ways = [_way((x, rois, batch), everything=e, **attrs) for e in (True, False)]
    y = b.emit("if", condition, x, rois, batch, then_graph=ways[0], else_graph=ways[1])
    return y.cast(given)


def _way(operands, **attrs):
    """The sampling as a graph of its own, a branch."""
    b = Builder(name="everything" if attrs["everything"] else "usual")
    inputs = [b.input(name, t.type) for name, t in zip(("x", "rois", "batch"), operands)]
    b.output("y", _sampled(b, *inputs, **attrs))
    return b.graph


def _sampled(b, x, rois, batch, *, size, sampling, mode, half_pixel, everything=False):
    lengths, regions = x.shape[2:], rois.shape[0]
    places, counted, counts = [], [], []
    for d, (length, n) in enumerate(zip(lengths, size)):
        place, counts_, count = _axis(
            b, rois[:, 1 - d], rois[:, 3 - d], length, n, sampling, half_pixel, everything
        )
        s = place.shape[2]
        places.append(place.reshape(*((regions, n, 1, s, 1) if d == 0 else (regions, 1, n, 1, s))))
        rows = counts_.shape[1]
        counted.append(counts_.reshape(*((-1, rows, 1, s, 1) if d == 0 else (-1, 1, rows, 1, s))))
        counts.append(count.reshape(-1, 1, 1, 1))
    ends = [scalar_of_dim(b, n, p.dtype) for p, n in zip(places, lengths)]
    near = [b.emit("and", p >= -1, p <= end) for p, end in zip(places, ends)]
    seen = b.emit("and", b.emit("and", *near), b.emit("and", *counted))  # [R, PH, PW, S, S]
    image, total = batch.reshape(-1, 1, 1, 1, 1), counts[0] * counts[1]

    def fold(place, axis):
        last = scalar_of_dim(b, x.shape[axis] - 1, place.dtype)
        return b.clip(place, b.scalar(0, place.dtype), last)

    places, zero = [fold(p, d + 2) for d, p in enumerate(places)], b.scalar(0, x.dtype)
    if mode == "max":
        y = _largest(b, x, image, places, fold)
        y = b.where(beside(seen, 1, 1), y, b.scalar(-math.inf, y.dtype)).max(axes=(4, 5))
        found = seen.cast(x.dtype).sum(axes=(3, 4)).reshape(regions, 1, *size)
        y = b.where(found < total, b.maximum(y, zero), y)  # the others are 0
        return b.where(total > 0, y, zero)
    y = interpolate(
        b, x, [image], places, axes=(0, 2, 3), lead=1, taps=linear_taps, fold=fold
    )  # [R, C, PH, PW, S, S]
    y = b.where(beside(seen, 1, 1), y, zero).sum(axes=(4, 5))
    return y / b.maximum(total, b.scalar(1, y.dtype))


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
    for mode in ("avg", "max"):  # regions far larger than the image
        yield case(
            x,
            array([[-7.1, -30.3, 40.2, 60.7], [1.1, -2.3, 2.2, 90.4]]),
            batch[:2],
            size=(2, 3),
            mode=mode,
            grad=mode == "avg",
            rtol=1e-4,
        )
    yield case(
        floats((1, 1, 4, 4), dtype="f64"),
        array([[0, 0, 3, 2]], "f64"),
        array([0], "i32"),
        size=(2, 2),
        sampling=1,
        grad=False,
    )
    yield case(
        floats((1, 2, 4, 4), dtype="f16"),
        array(ROIS, "f16"),
        array([0, 0, 0], "i64"),
        size=(2, 2),
        sampling=2,
        rtol=5e-3,
    )


register(
    "roi_align",
    "x: T, rois: T, batch: I -> T",
    """Regions [R,4] (x1, y1, x2, y2) of the images x [N,C,H,W] that `batch` [R] names, resampled
    to [R,C,*size].

    `sampling` samples per bin and axis; with 0 as many as the bin has pixels, rounded up.
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
    limits=lambda x, *_, **__: [Limit(2, 0, x.shape[0], IMAGE)],
    samples=_align_samples,
    group="sample",
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
    limits=lambda x, *_, **__: [Limit(1, 0, x.shape[0], IMAGE, 0)],
    samples=lambda: [
        case(
            floats((2, 2, 5, 6)),
            array([[1, *ROIS[0]], [0, *ROIS[1]], [1, 7, 2, 9, 3]]),
            size=(2, 3),
        ),
        case(
            floats((1, 1, 8, 8), dtype="f64"),
            array([[0, 0, 0, 30, 30]], "f64"),
            size=(4, 3),
            scale=0.25,
        ),
    ],
    group="sample",
    T="float",
)
