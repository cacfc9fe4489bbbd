"""Where a resized axis reads its input, and with what weights: what `resize.py` is made of."""

import math
from fractions import Fraction

import numpy as np

from ...expr import expr as s
from ...ir.bounds import DynamicSize, larger, smaller
from ...ir.dims import Sym

MODES = ("nearest", "linear", "cubic")
COORDINATES = (
    "half_pixel",
    "pytorch_half_pixel",
    "half_pixel_symmetric",
    "asymmetric",
    "align_corners",
    "tf_crop_and_resize",
)
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
    whole = scale * size  # what `out` would be as a fraction
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
            slope = (size - 1) / (whole - 1) if whole != 1 else Fraction(0)
        case "tf_crop_and_resize":
            first, last = fraction(start) * (size - 1), fraction(end) * (size - 1)
            slope = (last - first) / (whole - 1) if whole != 1 else Fraction(0)
            offset = first if whole != 1 else (first + last) / 2
    c = math.lcm(slope.denominator, offset.denominator)
    return int(slope * c), int(offset * c), c


def open_line(size, out, scale, mode: str, start=0.0, end=1.0) -> tuple:
    """The same where `size` or `out` are open: a, b, c are dims, and c is at least 1.

    The scale is p / q: out / size where none is given. `steps` is what lies between the corners,
    (scale · size - 1) · q, and several(n) is 0 where n is 0, else 1.
    """
    p, q = (larger(out, 1), size) if scale is None else fraction(scale).as_integer_ratio()
    steps, unit = (out - 1, 1) if scale is None else (p * size - q, q)
    match mode:
        case "half_pixel":
            return 2 * q, q - p, 2 * p
        case "pytorch_half_pixel":
            return 2 * q, (q - p) * _several(out - 1), 2 * p
        case "half_pixel_symmetric":
            return 2 * q, p * size - q * out + q - p, 2 * p
        case "asymmetric":
            return q, 0, p
        case "align_corners":
            return unit * (size - 1), 0, larger(steps, 1)
    first, last = fraction(start), fraction(end)
    d = 2 * math.lcm(first.denominator, last.denominator)
    first, last, c = int(first * d), int(last * d), larger(steps, 1)
    middle = (1 - _several(steps)) * ((last - first) // 2)  # of the region: where there is no step
    return (last - first) * unit * (size - 1), (first + middle) * (size - 1) * c, d * c


def _several(n):
    return smaller(n, 1)


def lines(shape, sizes, scales, coordinate_mode, roi) -> dict[int, tuple]:
    """The line of each axis that changes."""
    n, result = len(shape), {}
    for axis, (size, out) in enumerate(zip(shape, sizes)):
        scale = scales[axis] if scales else None
        start, end = (roi[axis], roi[n + axis]) if roi else (0.0, 1.0)
        is_whole = (start, end) == (0.0, 1.0) or coordinate_mode != "tf_crop_and_resize"
        if size == out and is_whole and (scale is None or fraction(scale) == 1):
            continue
        known = not isinstance(size, Sym) and not isinstance(out, Sym)
        a, b, c = (line if known else open_line)(size, out, scale, coordinate_mode, start, end)
        if (a, b) != (c, 0) or size != out:
            result[axis] = (a, b, c)
    return result


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


def stretched(mode: str, size: int, out: int, scale) -> tuple[Fraction, range]:
    """(scale, taps) of an antialiasing filter: the taps around the element below the source."""
    if scale is None and (isinstance(size, Sym) or isinstance(out, Sym)):
        raise DynamicSize(f"an antialiasing filter is as wide as the sizes {size} and {out} say")
    scale = min(fraction(scale) if scale is not None else Fraction(out, max(size, 1)), Fraction(1))
    scale = scale or Fraction(1)  # of an axis without results
    first = math.floor(-(1 if mode == "linear" else 2) / scale) + 1
    return scale, range(first, 2 - first)


def filter_weight(h, mode: str, d, a: float):
    """The filter at a distance d >= 0, by `h.where` and `h.maximum` of numpy or expressions."""
    if mode == "linear":
        return h.maximum(1.0 - d, 0.0)
    near = ((a + 2) * d - (a + 3)) * d * d + 1.0
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return h.where(d <= 1.0, near, h.where(d < 2.0, far, 0.0))


class Expressions:
    """What `filter_weight` asks for, of expressions."""

    maximum, where = staticmethod(s.maximum), staticmethod(s.select)


# -- numpy ---------------------------------------------------------------------------------


def axis_matrix(
    size, out, abc, mode, nearest_mode, cubic_coeff, exclude_outside, antialias=None
) -> np.ndarray:
    """[out, size]: the weight of each input element in each output element (f64).

    `antialias` is what `stretched` gives, or None.
    """
    a, b, c = abc
    weights = np.zeros((out, size))
    for i in range(out):
        number = a * i + b
        low, t = number // c, (number % c) / c
        if antialias is not None:
            scale, steps = antialias
            distance = np.abs(np.array(steps) - t) * float(scale)
            values = filter_weight(np, mode, distance, cubic_coeff)
            taps = list(zip([low + k for k in steps], values / values.sum()))
        elif mode == "nearest":
            taps = [(nearest(number, c, nearest_mode), 1.0)]
        elif mode == "linear":
            taps = [(low, 1 - t), (low + 1, t)]
        else:
            taps = list(zip(range(low - 1, low + 3), cubic_weights(t, cubic_coeff)))
        if exclude_outside and mode != "nearest":
            taps = [(p, w) for p, w in taps if 0 <= p < size]
            total = sum(w for _, w in taps)
            taps = [(p, w / total) for p, w in taps]
        for place, weight in taps:
            weights[i, min(max(place, 0), size - 1)] += weight
    return weights
