"""resize: nearest, linear and cubic interpolation with ONNX's coordinate modes.

Output index i of an axis lies at source = (a*i + b) / c in the input, with ints a, b, c: every
coordinate mode is such a line. So places and weights are exact integer arithmetic, which the
index simplifier understands, and ties round the same way everywhere.

    half_pixel            (i + 1/2) / scale - 1/2
    pytorch_half_pixel    the same, but 0 where the output has one element
    half_pixel_symmetric  half_pixel, centred when the output size was rounded
    asymmetric            i / scale
    align_corners         i * (size - 1) / (out - 1)
    tf_crop_and_resize    align_corners inside the region `roi` (relative: start…, end…)
"""

import itertools
import math
from fractions import Fraction

import numpy as np

from ..errors import TypeMismatch
from ..loops import expr as s
from ..types import F32, FLOATS, I8, I32, U8
from .common import case, floats, ints, reference
from .registry import Attr, Pull, register
from .windows import accumulator

MODES = ("nearest", "linear", "cubic")
COORDINATES = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "asymmetric",
               "align_corners", "tf_crop_and_resize")  # fmt: skip
ROUNDING = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def fraction(x: float) -> Fraction:
    """The simple fraction that a scale such as f32 0.33333334 was meant to be."""
    simple = Fraction(x).limit_denominator(10_000)
    return simple if abs(float(simple) - x) <= 1e-6 * abs(x) else Fraction(x)


def line(size: int, out: int, scale, mode: str, start=0.0, end=1.0) -> tuple[int, int, int]:
    """(a, b, c): output i reads the source at (a*i + b) / c."""
    scale = fraction(scale) if scale is not None else Fraction(out, max(size, 1))
    slope, offset = 1 / scale if scale else Fraction(0), Fraction(0)
    half = Fraction(1, 2)
    match mode:
        case "half_pixel":
            offset = half * slope - half
        case "pytorch_half_pixel":
            offset = half * slope - half
            if out == 1:
                slope = offset = Fraction(0)
        case "half_pixel_symmetric":
            centre = Fraction(size, 2) * (1 - Fraction(out) / (scale * size))
            offset = centre + half * slope - half
        case "align_corners":
            slope = Fraction(size - 1, out - 1) if out > 1 else Fraction(0)
        case "tf_crop_and_resize":
            first, last = fraction(start) * (size - 1), fraction(end) * (size - 1)
            slope = (last - first) / (out - 1) if out > 1 else Fraction(0)
            offset = first if out > 1 else (first + last) / 2
    c = math.lcm(slope.denominator, offset.denominator)
    return int(slope * c), int(offset * c), c


def lines(shape, sizes, scales, coordinate_mode, roi) -> dict[int, tuple[int, int, int]]:
    """The line of each axis that changes."""
    n, result = len(shape), {}
    for axis, (size, out) in enumerate(zip(shape, sizes)):
        scale = scales[axis] if scales else None
        start, end = (roi[axis], roi[n + axis]) if roi else (0.0, 1.0)
        a, b, c = line(size, out, scale, coordinate_mode, start, end)
        if (a, b) != (c, 0) or size != out:
            result[axis] = (a, b, c)
    return result


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
    return sizes


# -- taps: for numpy ints and for Expr alike -------------------------------------------------


def nearest(number, c: int, nearest_mode: str):
    """The index next to number / c."""
    match nearest_mode:
        case "floor":
            return number // c
        case "ceil":
            return (number + (c - 1)) // c
        case "round_prefer_ceil":
            return (number * 2 + c) // (2 * c)
    return (number * 2 + (c - 1)) // (2 * c)  # ceil(source - 1/2)


def cubic_weights(t, a: float) -> list:
    """Keys' cubic at the four taps around a point `t` after the second."""

    def near(d):
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d):
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


# -- numpy ---------------------------------------------------------------------------------


def axis_matrix(size, out, abc, mode, nearest_mode, cubic_coeff, exclude_outside) -> np.ndarray:
    """[out, size]: the weight of each input element in each output element (f64)."""
    a, b, c = abc
    weights = np.zeros((out, size))
    for i in range(out):
        number = a * i + b
        low, t = number // c, (number % c) / c
        if mode == "nearest":
            taps = [(nearest(number, c, nearest_mode), 1.0)]
        elif mode == "linear":
            taps = [(low, 1 - t), (low + 1, t)]
        else:
            taps = list(zip(range(low - 1, low + 3), cubic_weights(t, cubic_coeff)))
            if exclude_outside:
                taps = [(p, w) for p, w in taps if 0 <= p < size]
                total = sum(w for _, w in taps)
                taps = [(p, w / total) for p, w in taps]
        for place, weight in taps:
            weights[i, min(max(place, 0), size - 1)] += weight
    return weights


def _matrices(shape, a):
    places = lines(shape, a["sizes"], a["scales"], a["coordinate_mode"], a["roi"])
    names = ("mode", "nearest_mode", "cubic_coeff", "exclude_outside")
    return {
        axis: axis_matrix(shape[axis], a["sizes"][axis], abc, **{k: a[k] for k in names})
        for axis, abc in places.items()
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
            y = np.take(y, weights.argmax(1), axis)
        else:
            y = np.moveaxis(np.tensordot(y.astype(np.float64), weights, (axis, 1)), -1, axis)
    y = np.where(_outside(x.shape, a), a["extrapolation_value"], y)
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
    t = s.cast(number % c, acc) / float(c)
    if mode == "linear":
        return [(inside(low), 1.0 - t), (inside(low + 1), t)]
    places = [low - 1, low, low + 1, low + 2]
    weights = cubic_weights(t, cubic_coeff)
    if exclude_outside:
        zero = s.const(0, acc)
        weights = [s.select((p >= 0) & (p < size), w, zero) for p, w in zip(places, weights)]
        total = weights[0] + weights[1] + weights[2] + weights[3]
        weights = [w / total for w in weights]
    return [(inside(p), w) for p, w in zip(places, weights)]


def _resize(out, x, *, sizes, mode, coordinate_mode, nearest_mode, scales, roi, cubic_coeff,
            exclude_outside, extrapolation_value):  # fmt: skip
    places = lines(x.shape, sizes, scales, coordinate_mode, roi)
    acc = x.dtype if mode == "nearest" else (
        accumulator(x.dtype) if x.dtype.is_float else F32
    )  # fmt: skip

    def at(*i):
        taps = [
            _taps(i[d], x.shape[d], places[d], acc, mode, nearest_mode, cubic_coeff,
                  exclude_outside)
            if d in places else [(i[d], None)]
            for d in range(len(i))
        ]  # fmt: skip
        total = None
        for combination in itertools.product(*taps):
            value = s.cast(x[tuple(p for p, _ in combination)], acc)
            for _, weight in combination:
                value = value if weight is None else value * weight
            total = value if total is None else total + value
        if coordinate_mode == "tf_crop_and_resize":
            inside = s.const(True, "bool")
            for d, (a, b, c) in places.items():
                number = i[d] * a + b
                inside = inside & (number >= 0) & (number <= (x.shape[d] - 1) * c)
            total = s.select(inside, total, s.const(extrapolation_value, acc))
        return total

    return at


def _samples():
    for coordinate_mode in COORDINATES[:5]:
        for mode in MODES:
            for sizes in ((1, 2, 7, 3), (1, 2, 4, 1)):
                yield case(
                    floats((1, 2, 3, 5)), sizes=sizes, mode=mode, coordinate_mode=coordinate_mode
                )
    for nearest_mode in ROUNDING:
        yield case(
            floats((1, 1, 4, 6)), sizes=(1, 1, 6, 4), nearest_mode=nearest_mode,
            coordinate_mode="asymmetric",
        )  # fmt: skip
    yield case(floats((1, 1, 2, 2)), sizes=(1, 1, 5, 5), mode="linear", scales=(1, 1, 2.5, 2.6))
    yield case(floats((1, 4, 4)), sizes=(1, 7, 4), mode="cubic", exclude_outside=True)
    yield case(floats((1, 1, 4, 4)), sizes=(1, 1, 3, 3), mode="linear",
               coordinate_mode="tf_crop_and_resize", roi=(0, 0, 0.4, 0.6, 1, 1, 1.2, 0.9),
               extrapolation_value=10.0)  # fmt: skip
    yield case(ints((1, 1, 3), dtype="u8"), sizes=(1, 1, 6))
    yield case(floats((1, 1, 3), dtype="f16"), sizes=(1, 1, 6), mode="linear")


register(
    "resize",
    "x: T -> T",
    """x interpolated to `sizes`.

    `scales` (one per axis, or none) are used for the coordinates in place of size ratios.
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
    },
    shape=resize_shape,
    ref=reference(resize_ref),
    grad=resize_grad,
    loops=Pull(_resize),
    samples=_samples,
    family="move",
    T=FLOATS | {U8, I8, I32},
)
