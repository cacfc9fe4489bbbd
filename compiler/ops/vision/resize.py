"""resize: nearest, linear and cubic interpolation with ONNX's coordinate modes.

Output index i of an axis lies at source = (a*i + b) / c in the input, with ints a, b, c: every
coordinate mode is such a line. So places and weights are exact integer arithmetic, which the
index simplifier understands, and ties round the same way everywhere.

    half_pixel            (i + 1/2) / scale - 1/2
    pytorch_half_pixel    the same, but 0 where the output has one element
    half_pixel_symmetric  half_pixel, centred when the output size was rounded
    asymmetric            i / scale
    align_corners         i * (size - 1) / (size * scale - 1)
    tf_crop_and_resize    align_corners inside the region `roi` (relative: start…, end…)

With `antialias` the filter of an axis that shrinks is stretched by 1 / scale, so that every input
element has its part, and its weights are divided by their sum.
"""

import itertools

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.op import Attr, Pull, register
from ...ir.types import BOOL, F32, F64, NUMERIC
from ..common import case, floats, ints, reference, require_elements
from ..contraction.windows import accumulator
from .resize_taps import (
    COORDINATES,
    MODES,
    ROUNDING,
    Expressions,
    axis_matrix,
    cubic_weights,
    filter_weight,
    lines,
    nearest,
    stretched,
)


def resize_shape(x, *, sizes, mode, coordinate_mode, nearest_mode, scales, roi, **_):
    if mode not in MODES or coordinate_mode not in COORDINATES or nearest_mode not in ROUNDING:
        raise TypeMismatch(
            "unknown mode of resize",
            expected=f"{'|'.join(MODES)}, {'|'.join(COORDINATES)}, {'|'.join(ROUNDING)}",
            received=f"{mode}, {coordinate_mode}, {nearest_mode}",
        )
    if len(sizes) != x.rank or len(scales) not in (0, x.rank) or len(roi) not in (0, 2 * x.rank):
        raise TypeMismatch(
            "resize needs one size (and scale, or none) per axis",
            expected=x.rank,
            received=f"sizes={list(sizes)}, scales={list(scales)}, roi={list(roi)}",
        )
    if x.dtype == BOOL and mode != "nearest":
        raise TypeMismatch("bools cannot be interpolated", expected="mode nearest", received=mode)
    for axis, size in enumerate(sizes):
        require_elements("resize", x, (axis,), size)
    return sizes


# -- numpy ---------------------------------------------------------------------------------


def _matrices(shape, a):
    places = lines(shape, a["sizes"], a["scales"], a["coordinate_mode"], a["roi"])
    names = ("mode", "nearest_mode", "cubic_coeff", "exclude_outside")
    filters = _filters(places, shape, a["sizes"], a["scales"], a["mode"], a["antialias"])
    return {
        axis: axis_matrix(
            shape[axis], a["sizes"][axis], abc, **{k: a[k] for k in names}, antialias=filters[axis]
        )
        for axis, abc in places.items()
    }


def _filters(places, shape, sizes, scales, mode, antialias) -> dict:
    """The antialiasing filter of each axis in `places`; None where there is none."""
    return {
        axis: stretched(mode, shape[axis], sizes[axis], scales[axis] if scales else None)
        if antialias and mode != "nearest"
        else None
        for axis in places
    }


def _outside(shape, a) -> np.ndarray:
    """Where tf_crop_and_resize looks outside of x: true there."""
    result = np.zeros(a["sizes"], bool)
    if a["coordinate_mode"] != "tf_crop_and_resize":
        return result
    places = lines(shape, a["sizes"], a["scales"], a["coordinate_mode"], a["roi"])
    for axis, (slope, offset, c) in places.items():
        number = slope * np.arange(a["sizes"][axis]) + offset
        out = (number < 0) | (number > (shape[axis] - 1) * c)
        result |= out.reshape(-1, *[1] * (len(shape) - 1 - axis))
    return result


def resize_ref(x, **a):
    y = x
    for axis, weights in _matrices(x.shape, a).items():
        if a["mode"] == "nearest":
            y = np.take(y, weights.argmax(1) if weights.size else np.arange(0), axis)
        else:
            y = np.moveaxis(np.tensordot(y.astype(np.float64), weights, (axis, 1)), -1, axis)
    y = np.where(_outside(x.shape, a), a["extrapolation_value"], y)
    if x.dtype.kind in "iu" and a["mode"] != "nearest":
        limits = np.iinfo(x.dtype)
        y = np.clip(np.round(y), limits.min, limits.max)
    return y.astype(x.dtype)


def resize_grad(c, dy):
    """Each axis is a constant matrix; the gradient multiplies with its transpose."""
    x, a, b = c.inputs[0], c.attrs, c.b
    if not all(isinstance(d, int) for d in (*x.shape[1:], *a["sizes"][1:])):
        raise TypeMismatch(
            "the gradient of resize needs static sizes, the first axis excepted",
            received=x.type,
            fix="give the dims sizes with shapes=",
        )
    if isinstance(x.shape[0], int):
        shape, sizes = x.shape, a["sizes"]
    elif x.shape[0] == a["sizes"][0]:
        shape, sizes = (1, *x.shape[1:]), (1, *a["sizes"][1:])
    else:
        raise TypeMismatch("the gradient of resize along a symbolic axis", received=x.type)
    filled = a | {"sizes": sizes}
    outside = _outside(shape, filled)
    if outside.any():
        dy = b.mul(dy, b.constant((~outside).astype(dy.dtype.numpy)))
    for axis, weights in _matrices(shape, filled).items():
        order = [*range(axis), *range(axis + 1, x.rank), axis]
        dy = dy.transpose(order) @ b.constant(weights.astype(dy.dtype.numpy))
        dy = dy.transpose(*np.argsort(order).tolist())
    return [dy]


# -- loops ---------------------------------------------------------------------------------


def _taps(i, size, abc, acc, mode, nearest_mode, cubic_coeff, exclude_outside):
    """[(index, weight or None)] of one axis at output index i."""
    a, b, c = abc
    number = i * a + b

    def inside(place):
        return s.minimum(s.maximum(place, 0), size - 1)

    if mode == "nearest":
        return [(inside(nearest(number, c, nearest_mode)), None)]
    low = number // c
    t = s.cast(number % c, acc) / s.const(c, acc)
    if mode == "linear":
        places, weights = [low, low + 1], [1.0 - t, t]
    else:
        places = [low - 1, low, low + 1, low + 2]
        weights = cubic_weights(t, cubic_coeff)
    if exclude_outside:
        zero = s.const(0, acc)
        weights = [s.select((p >= 0) & (p < size), w, zero) for p, w in zip(places, weights)]
        total = sum(weights[1:], weights[0])
        weights = [w / total for w in weights]
    return [(inside(p), w) for p, w in zip(places, weights)]


def _filtered(x, i, places, filters, acc, mode, cubic_coeff, exclude_outside):
    """The sum over the taps of antialiasing filters, divided by that of their weights."""

    def weight(d, k):
        a, b, c = places[d]
        scale, steps = filters[d]
        number = i[d] * a + b
        t = s.cast(number % c, acc) / s.const(c, acc)
        distance = s.abs(s.cast(k + steps.start, acc) - t) * float(scale)
        w = filter_weight(Expressions, mode, distance, cubic_coeff)
        if exclude_outside:
            at = number // c + k + steps.start
            w = s.select((at >= 0) & (at < x.shape[d]), w, s.const(0, acc))
        return w

    def term(*k):
        at, product = list(i), None
        for d, tap in zip(places, k):
            a, b, c = places[d]
            place = (i[d] * a + b) // c + tap + filters[d][1].start
            at[d] = s.minimum(s.maximum(place, 0), x.shape[d] - 1)
            w = weight(d, tap)
            product = w if product is None else product * w
        return s.cast(x[tuple(at)], acc) * product

    total = s.reduce_sum([len(filters[d][1]) for d in places], term)
    for d in places:
        total = total / s.reduce_sum([len(filters[d][1])], lambda k, d=d: weight(d, k))
    return total


def _resize(
    out,
    x,
    *,
    sizes,
    mode,
    coordinate_mode,
    nearest_mode,
    scales,
    roi,
    cubic_coeff,
    exclude_outside,
    extrapolation_value,
    antialias,
):
    places = lines(x.shape, sizes, scales, coordinate_mode, roi)
    filters = _filters(places, x.shape, sizes, scales, mode, antialias)
    whole = x.dtype.is_int and mode != "nearest"
    wide = F64 if x.dtype.bits > 16 else F32
    acc = x.dtype if mode == "nearest" else wide if whole else accumulator(x.dtype)

    def interpolated(*i):
        if places and antialias and mode != "nearest":
            return _filtered(x, i, places, filters, acc, mode, cubic_coeff, exclude_outside)
        taps = [
            _taps(
                i[d], x.shape[d], places[d], acc, mode, nearest_mode, cubic_coeff, exclude_outside
            )
            if d in places
            else [(i[d], None)]
            for d in range(len(i))
        ]
        total = None
        for combination in itertools.product(*taps):
            value = s.cast(x[tuple(p for p, _ in combination)], acc)
            for _, weight in combination:
                value = value if weight is None else value * weight
            total = value if total is None else total + value
        return total

    def at(*i):
        total = interpolated(*i)
        if coordinate_mode == "tf_crop_and_resize":
            inside = s.const(True, "bool")
            for d, (a, b, c) in places.items():
                number = i[d] * a + b
                inside = inside & (number >= 0) & (number <= (x.shape[d] - 1) * c)
            total = s.select(inside, total, s.const(extrapolation_value, acc))
        return _nearest_int(total, x.dtype) if whole else total

    return at


def _nearest_int(value, dtype):
    """Rounded, within the limits of an integer type."""
    low = -(1 << dtype.bits - 1) if dtype.kind == "i" else 0
    high = low + (1 << dtype.bits) - 1
    return s.minimum(s.maximum(s.round(value), float(low)), float(high))


def _samples():
    for coordinate_mode in COORDINATES[:5]:
        for mode in MODES:
            for sizes in ((1, 2, 7, 3), (1, 2, 4, 1)):
                yield case(
                    floats((1, 2, 3, 5)), sizes=sizes, mode=mode, coordinate_mode=coordinate_mode
                )
    for nearest_mode in ROUNDING:
        yield case(
            floats((1, 1, 4, 6)),
            sizes=(1, 1, 6, 4),
            nearest_mode=nearest_mode,
            coordinate_mode="asymmetric",
        )
    yield case(floats((1, 1, 2, 2)), sizes=(1, 1, 5, 5), mode="linear", scales=(1, 1, 2.5, 2.6))
    yield case(floats((1, 4, 4)), sizes=(1, 7, 4), mode="cubic", exclude_outside=True)
    yield case(
        floats((1, 1, 4, 4)),
        sizes=(1, 1, 3, 3),
        mode="linear",
        coordinate_mode="tf_crop_and_resize",
        roi=(0, 0, 0.4, 0.6, 1, 1, 1.2, 0.9),
        extrapolation_value=10.0,
    )
    yield case(floats((1, 4, 4)), sizes=(1, 7, 6), mode="linear", exclude_outside=True)
    yield case(ints((1, 1, 3), dtype="u8"), sizes=(1, 1, 6))
    yield case(ints((1, 1, 5), 1, 0, 255, dtype="u8"), sizes=(1, 1, 7), mode="cubic")
    yield case(ints((1, 1, 4)), sizes=(1, 1, 9), mode="linear")
    yield case(
        floats((1, 1, 5, 5)),
        sizes=(1, 1, 3, 4),
        scales=(1, 1, 0.7, 0.9),
        mode="linear",
        coordinate_mode="align_corners",
    )
    for mode in ("linear", "cubic"):
        for sizes in ((1, 2, 3, 2), (1, 2, 9, 3)):
            yield case(floats((1, 2, 7, 8)), sizes=sizes, mode=mode, antialias=True)
        yield case(
            floats((1, 1, 9)),
            sizes=(1, 1, 4),
            scales=(1, 1, 0.5),
            mode=mode,
            antialias=True,
            exclude_outside=True,
        )
    yield case(
        ints((1, 1, 9), 1, 0, 255, dtype="u8"), sizes=(1, 1, 4), mode="linear", antialias=True
    )
    yield case(floats((1, 1, 3), dtype="f16"), sizes=(1, 1, 6), mode="linear")


register(
    "resize",
    "x: T -> T",
    """x interpolated to `sizes`.

    `scales` (one per axis, or none) are used for the coordinates in place of size ratios. Integers
    are interpolated in floats and rounded.
    """,
    attrs={
        "sizes": Attr("dims"),
        "mode": Attr("str", "nearest", "|".join(MODES)),
        "coordinate_mode": Attr("str", "half_pixel", "|".join(COORDINATES)),
        "nearest_mode": Attr("str", "round_prefer_floor", "|".join(ROUNDING)),
        "scales": Attr("floats", ()),
        "roi": Attr("floats", (), "start…, end… of tf_crop_and_resize"),
        "cubic_coeff": Attr("float", -0.75),
        "exclude_outside": Attr("bool", False),
        "extrapolation_value": Attr("float", 0.0),
        "antialias": Attr("bool", False, "stretch the filters of axes that shrink"),
    },
    shape=resize_shape,
    ref=reference(resize_ref),
    grad=resize_grad,
    loops=Pull(_resize),
    samples=_samples,
    group="move",
    T=NUMERIC | {BOOL},
)
