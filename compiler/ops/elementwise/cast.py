"""Conversions: `cast` to another dtype's nearest value, `bit_cast` of the same bits.

Float8 saturates, or does not: then what is too large becomes infinity, or NaN where there is none.
f8e8m0 holds powers of two only (a scale of OCP's microscaling formats), so how it rounds matters:
`up`, `down`, or to the `nearest` with ties up. It has no zero: where it saturates, its least value
stands for that. Negative numbers, of which ONNX says nothing, become NaN.
"""

import math

import ml_dtypes
import numpy as np

from ...errors import InputError, TypeMismatch
from ...expr import expr as s
from ...ir.op import Attr, Elementwise, NotDifferentiable, Pull, Sample, register
from ...ir.types import ANY, BOOL, DTYPES, F32, I32, STR, U8, U32, DType, dtype_of, view_bits
from ..common import array, bools, case, floats, ints

POWER = DTYPES["f8e8m0"]
_ROUND = {"up": (1 << 23) - 1, "down": 0, "nearest": 1 << 22}  # added to an f32's fraction
_NORMAL, _LEAST_BITS = 1 << 23, 1 << 22  # bits of 2^-126 and 2^-127, its least value
_LEAST, _MOST = 2.0**-127, 2.0**127


def _cast_shape(x, *, dtype, saturate, round_mode):
    if round_mode not in _ROUND:
        raise TypeMismatch("unknown round_mode", expected=", ".join(_ROUND), received=round_mode)
    return x.shape


def _cast_ref(x, dtype, saturate=True, round_mode="up"):
    x = np.asarray(x)
    if x.dtype == object:
        return _parse_strings(x, dtype)
    if dtype == STR:
        return _each(_text, x)
    source = dtype_of(x)
    if source.is_float and source.bits < 32:
        x = x.astype(np.float32)
    elif source.is_int and source.bits < 8:  # ml_dtypes converts these to bytes and floats only
        x = x.astype(np.int8)
    with np.errstate(all="ignore"):
        if dtype == BOOL:
            return np.asarray(x != 0)
        if dtype == POWER:
            return _powers_ref(np.asarray(x).astype(np.float32), saturate, round_mode)
        if _clips(dtype, saturate):
            x = np.clip(x, -_largest(dtype), _largest(dtype))
        return np.asarray(x).astype(dtype.numpy)


def _clips(dtype: DType, saturate: bool) -> bool:
    return saturate and dtype.is_float and dtype.bits == 8


def _powers_ref(x, saturate, round_mode):
    inside = x >= 0 if saturate else (x >= _LEAST) & (x <= _MOST)
    bits = np.clip(x, np.float32(_LEAST), np.float32(_MOST)).view(np.uint32)
    place = np.where(bits < _NORMAL, (bits - np.uint32(_LEAST_BITS)) * 2, bits)
    code = (place + np.uint32(_ROUND[round_mode])) >> 23
    return np.where(inside, code, 255).astype(np.uint8).view(POWER.numpy)


def _powers_body(s, x, saturate, round_mode):
    """The exponent of x's bits after what rounds them. Below 2^-126 f32 is subnormal: there the
    bits after those of 2^-127, doubled, are where a fraction's are."""

    def word(op, a, b):
        return s.apply(op, a, s.const(b, U32))

    inside = x >= 0 if saturate else s.logical_and(x >= _LEAST, x <= _MOST)
    bits = s.bitcast(s.minimum(s.maximum(x, _LEAST), _MOST), U32)
    below = word("mul", word("sub", bits, _LEAST_BITS), 2)
    place = s.select(bits < _NORMAL, below, bits)
    code = word("shr", word("add", place, _ROUND[round_mode]), 23)
    code = s.select(inside, code, s.const(255, U32))
    return s.bitcast(s.cast(code, U8), POWER)


def _each(f, x):
    out = np.empty(x.size, object)
    out[:] = [f(v) for v in x.flat]
    return out.reshape(x.shape)


def _parse_strings(x, dtype):
    if dtype == STR:
        return x
    if dtype.is_int:
        values = np.array([_whole(v, dtype) for v in x.flat], np.int64)
        return values.reshape(x.shape).astype(dtype.numpy)
    return _cast_ref(np.array([_number(v) for v in x.flat]).reshape(x.shape), dtype)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(
            "a string is not a number", expected="a number, INF or NaN", received=repr(text)
        ) from None


def _whole(text: str, dtype: DType) -> int:
    """An integer's low bits, as an i64; of numbers with a fraction the whole part."""
    try:
        value = int(text)
    except ValueError:
        number = _number(text)
        value = int(number) if math.isfinite(number) else 0
    bits = max(dtype.bits, 64)
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _text(v) -> str:
    if isinstance(v, (float, np.floating)) and not math.isfinite(v):
        return "NaN" if math.isnan(v) else ("INF" if v > 0 else "-INF")
    return str(v)


def _largest(dtype) -> float:
    return float(ml_dtypes.finfo(dtype.numpy).max)


def _cast_body(s, x, dtype, saturate, round_mode):
    if dtype == POWER:
        return _powers_body(s, s.cast(x, F32), saturate, round_mode)
    if _clips(dtype, saturate):
        x = s.cast(x, x.dtype if x.dtype.is_float else F32)
        x = s.minimum(s.maximum(x, -_largest(dtype)), _largest(dtype))
    elif dtype.is_int and dtype.bits < 8 and x.dtype.is_float:  # wraps, as ONNX's Cast does
        x = s.cast(x, I32)
    return s.cast(x, dtype)


def _cast_gradient(c, g):
    (x,) = c.inputs
    return (g.cast(x.dtype) if x.dtype.is_float and c.attrs["dtype"].is_float else None,)


def _cast_samples():
    x = floats((3, 4), 1, 0, 9)
    for dtype in ("f64", "f16", "bf16", "i64", "i32", "i8", "u8", "bool", "f32"):
        yield case(x, dtype=dtype, grad=dtype == "f64", rtol=1e-7)
    for dtype in ("f16", "bf16"):
        yield case(x.astype(DTYPES[dtype].numpy), dtype="f32")
        yield case(x.astype(DTYPES[dtype].numpy), dtype="i32")
    yield Sample((array([-2.7, -0.5, 0.0, 0.5, 2.7]),), {"dtype": "i32"}, grad=False)
    yield Sample((array([math.nan, 0.0, -0.0, 1e-30, 3.0]),), {"dtype": "bool"}, grad=False)
    yield Sample((array([300, -1, 127, 128], "i64"),), {"dtype": "u8"})
    yield Sample((array([300, -1, 127, 128], "i64"),), {"dtype": "i8"})
    for dtype in ("i4", "u4", "i2", "u2"):
        yield Sample((array([-9.5, -1, 0.9, 7.9, 8, 15, 100]),), {"dtype": dtype}, grad=False)
    yield Sample((array([-8, -1, 7], "i4"),), {"dtype": "i2"})
    yield Sample((array([-2, -1, 0, 1], "i2"),), {"dtype": "f16"})
    yield Sample((array([0, 1, 2, 3], "u2"),), {"dtype": "i4"})
    yield Sample((bools((5,)),), {"dtype": "f32"})
    yield Sample((bools((5,)),), {"dtype": "i64"})
    yield Sample((ints((0, 3)),), {"dtype": "f32"})
    beyond = array([1e9, -1e9, 0.3, 448.0, 480.0, math.inf, -math.inf, math.nan])
    for dtype in ("f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz"):
        for saturate in (True, False):
            yield Sample((beyond,), {"dtype": dtype, "saturate": saturate}, grad=False)
    quarter = array([-9.0, -0.25, 0.25, 0.75, 1.25, 2.5, 5.0, math.inf, math.nan])
    yield Sample((quarter,), {"dtype": "f4e2m1"}, grad=False)
    yield Sample((array([-6.0, 0.5, 1.5, 4.0], "f4e2m1"),), {"dtype": "f32"}, grad=False)
    for dtype in ("f6e2m3", "f6e3m2"):
        yield Sample((quarter * 3,), {"dtype": dtype}, grad=False)
        yield Sample((array([-6.0, 0.25, 1.5, 4.0], dtype),), {"dtype": "f16"}, grad=False)
    powers = array(
        [
            0.0,
            1e-45,
            2.0**-127,
            2.0**-126,
            1.5 * 2.0**-127,
            0.124,
            1.0,
            1.5,
            6.1,
            2.0**127,
            3e38,
            math.inf,
            math.nan,
        ]
    )
    for mode in _ROUND:
        for saturate in (True, False):
            attrs = {"dtype": "f8e8m0", "saturate": saturate, "round_mode": mode}
            yield Sample((powers,), attrs, grad=False)
    yield Sample((array([0.125, 1.0, 2.0**100], "f8e8m0"),), {"dtype": "f32"}, grad=False)


register(
    "cast",
    "x: S -> @dtype",
    """Converted to another dtype: float to int truncates towards zero (to 2 and 4 bits it wraps),
    int to int wraps, anything but zero is true. Float8 saturates if `saturate`; `round_mode` is
    f8e8m0's: up, down or nearest. Strings are numbers as Python writes them, NaN, INF and -INF.
    """,
    S="any",
    shape=_cast_shape,
    attrs={
        "dtype": Attr("dtype"),
        "saturate": Attr("bool", True),
        "round_mode": Attr("str", "up", "up, down or nearest"),
    },
    ref=_cast_ref,
    grad=_cast_gradient,
    loops=Elementwise(_cast_body),
    samples=_cast_samples,
    group="elementwise",
)


def _width(dtype: DType) -> int:
    return 8 if dtype == BOOL else dtype.bits


def _bit_cast_shape(x, *, dtype):
    if dtype == STR or _width(x.dtype) != _width(dtype):
        raise TypeMismatch(
            "bit_cast keeps the width of an element",
            expected=f"a dtype of {_width(x.dtype)} bits, as {x.dtype} has",
            received=dtype,
        )
    return x.shape


register(
    "bit_cast",
    "x: S -> @dtype",
    "The same bits, read as another dtype of as many. A bool is a byte, true if it is not zero.",
    S=ANY - {STR},
    shape=_bit_cast_shape,
    attrs={"dtype": Attr("dtype")},
    ref=lambda x, *, dtype: view_bits(x, dtype),
    grad=NotDifferentiable("bits have no gradient"),
    loops=Pull(lambda out, x, *, dtype: lambda *i: s.bitcast(x[i], dtype)),
    samples=lambda: [
        case(floats((2, 3)), dtype="i32"),
        case(ints((5,), low=-(2**40), high=2**40), dtype="f64"),
        case(floats((7,), dtype="f16"), dtype="i16"),
        case(floats((7,), dtype="bf16"), dtype="u16"),
        case(ints((), dtype="i8"), dtype="u8"),
        case(floats((9,), dtype="f8e4m3fn"), dtype="u8"),
        case(bools((4,)), dtype="u8"),
        case(array([0, 1, 3], "u8"), dtype="bool"),
        case(array([-8, -1, 7], "i4"), dtype="u4"),
        case(array([0, 7, 15], "u4"), dtype="f4e2m1"),
        case(array([0, 1, 2, 3], "u2"), dtype="i2"),
        case(ints((0, 2), dtype="u32"), dtype="f32"),
    ],
    group="elementwise",
)
