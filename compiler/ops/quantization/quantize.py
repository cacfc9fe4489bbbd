"""quantize_linear, dequantize_linear: narrow numbers q that stand for scale * (q - zero).

    quantize      q = saturate(round_half_even(x / scale) + zero)
    dequantize    x = scale * (q - zero)

Scales and zero points are scalars, one per index of `axis` (per channel), or one per element (what
blocks of elements share is repeated before).
"""

import ml_dtypes
import numpy as np

from ...errors import TypeMismatch
from ...ir.bounds import assume_equal, assume_equal_shapes
from ...ir.op import Attr, Expand, register
from ...ir.types import (
    DTYPES,
    F32,
    F64,
    FLOATS,
    I8,
    I16,
    I32,
    U8,
    U16,
    DType,
    dtype_of,
    normalize_axis,
)
from ..common import STEP, array, case, floats, ints, require_shape, through_expansion

POWER = DTYPES["f8e8m0"]  # a scale's dtype, never a quantized one
NARROW = frozenset(d for d in FLOATS if d.bits <= 8 and d != POWER)
QUANTIZED = NARROW | {I8, U8, I16, U16} | {DTYPES[n] for n in ("i4", "u4", "i2", "u2")}


def limits(dtype: DType) -> tuple[float, float]:
    """The least and largest value of a quantized type."""
    if dtype.is_float:
        top = float(ml_dtypes.finfo(dtype.numpy).max)
        return -top, top
    if dtype.kind == "u":
        return 0, 2**dtype.bits - 1
    return -(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1


def _channel_shape(shape, rank: int, axis: int) -> tuple | None:
    """The shape in which [C] broadcasts along `axis`; None where nothing has to be done."""
    if len(shape) != 1:
        return None
    if isinstance(shape[0], int) and shape[0] == 1:
        return ()
    after = rank - 1 - normalize_axis(axis, rank)
    return (shape[0], *[1] * after)


def channel(t, rank: int, axis: int):
    shape = None if t is None else _channel_shape(t.shape, rank, axis)
    return t if shape is None else t.reshape(shape)


def _check_scale(x, scale, axis):
    if scale.rank > 1:
        if not assume_equal_shapes(scale.shape, x.shape):
            raise TypeMismatch(
                "a scale is a scalar, a vector along one axis, or as large as x",
                expected=x,
                received=scale,
            )
        return
    if scale.rank == 1 and scale.shape != (1,):
        size = x.shape[normalize_axis(axis, x.rank)]
        if not assume_equal(size, scale.shape[0]):
            raise TypeMismatch(
                "the scale does not fit its axis",
                expected=f"{size} on axis {axis} of {x}",
                received=scale,
            )


def _check_zero(op: str, x, scale, zero, axis):
    """A zero point is as its scale is, or one number."""
    if zero is not None and zero.shape != (1,) and zero.rank:
        _check_scale(x, zero, axis)
        require_shape(op, "the zero point", zero, scale.shape, *([x.shape] if x.rank > 1 else []))


def requantize(b, x, zero, dtype, saturate=True):
    """f32 to a quantized type: round half to even, shift, saturate."""
    if not dtype.is_float:
        x = b.round(x)
    if zero is not None:
        x = x + zero.cast(F32)
    if not saturate and dtype.is_float:
        return x.cast(dtype, saturate=False)
    low, high = limits(dtype)
    return b.clip(x, b.scalar(low, F32), b.scalar(high, F32)).cast(dtype)


def requantize_ref(x: np.ndarray, zero, dtype: DType, saturate=True) -> np.ndarray:
    if not dtype.is_float:
        x = np.rint(x)
    if zero is not None:
        x = x + np.asarray(zero).astype(np.float32)
    if saturate or not dtype.is_float:
        low, high = limits(dtype)
        x = np.clip(x, np.float32(low), np.float32(high))
    return x.astype(np.float32 if dtype.is_float else np.int32).astype(dtype.numpy)


def quotient_dtype(scale: DType, precision: DType | None) -> DType:
    """What x / scale is computed in: `precision`, else the scale's type unless that is narrow."""
    if precision is not None:
        return precision
    return F32 if scale.is_int or scale.bits < 16 else scale


def quantize_shape(x, scale, zero=None, *, axis, dtype, saturate, precision):
    _check_scale(x, scale, axis)
    _check_zero("quantize_linear", x, scale, zero, axis)
    if dtype not in QUANTIZED or (zero is not None and zero.dtype != dtype):
        raise TypeMismatch(
            "quantize_linear to a wrong type",
            expected=f"the zero point's type {zero.dtype}" if zero is not None else "8-bit ints",
            received=dtype,
        )
    return x.shape


def quantize_ref(x, scale, zero=None, *, axis, dtype, saturate=True, precision=None):
    kind = quotient_dtype(dtype_of(scale), precision)
    x, scale = (np.asarray(t).astype(kind.numpy) for t in (x, scale))
    wide = kind.compute.numpy
    quotient = x.astype(wide) / channel(scale, x.ndim, axis).astype(wide)
    quotient = np.asarray(quotient).astype(kind.numpy).astype(np.float32)
    zero = channel(None if zero is None else np.asarray(zero), x.ndim, axis)
    return np.asarray(requantize_ref(quotient, zero, dtype, saturate))


def _halves(x):
    return x.b.bit_cast(x.b.bit_cast(x, dtype=U16), dtype=x.dtype)


def _quantize(b, x, scale, zero=None, *, axis, dtype, saturate, precision):
    kind = quotient_dtype(scale.dtype, precision)
    scale, zero = channel(scale, x.rank, axis), channel(zero, x.rank, axis)
    if precision is None or kind.bits > 16:
        quotient = x.cast(kind) / scale.cast(kind)
    else:  # halves as such: looked at as bits, kernels do not keep them in f32
        x, scale = (_halves(t.cast(kind)) for t in (x, scale))
        quotient = _halves(x / scale)
    quotient = quotient.cast(F32)
    return requantize(b, quotient, zero, dtype, saturate)


register(
    "quantize_linear",
    "x: T, scale: S, zero_point: Z? -> @dtype",
    """saturate(round_half_even(x / scale) + zero_point), in `dtype`; float8 need not saturate.

    The quotient is computed in `precision`, by default the scale's dtype (f32 for narrow ones).
    """,
    attrs={
        "axis": Attr("int", 1),
        "dtype": Attr("dtype", U8),
        "saturate": Attr("bool", True),
        "precision": Attr("dtype", None),
    },
    shape=quantize_shape,
    ref=quantize_ref,
    grad=STEP,
    loops=Expand(_quantize),
    samples=lambda: [
        case(floats((3, 4)), array(0.02), array(128, "u8")),
        case(floats((2, 3, 2)), array([0.01, 0.1, 1.0]), array([0, 3, -3], "i8"), dtype="i8"),
        case(floats((2, 3)), array([0.1]), dtype="u8"),
        case(array([0.5, 1.5, 2.5, -0.5, -1.5]), array(1.0), array(0, "i8"), dtype="i8"),
        case(floats((2, 3), low=-1e4, high=1e4), array(0.3), array(-7, "i16"), dtype="i16"),
        case(floats((3, 2)), array([1.0, 0.5, 0.25]), axis=0, dtype="f8e4m3fn", atol=0.3),
        case(floats((4,)), array(0.3), array(1, "i4"), axis=0, dtype="i4"),
        case(floats((9,)), array(0.7), array(-1, "i2"), axis=0, dtype="i2"),
        case(floats((9,)), array(0.7), array(1, "u2"), axis=0, dtype="u2"),
        case(floats((9,), low=-9, high=9), array(1.0), axis=0, dtype="f4e2m1"),
        case(floats((9,), low=-9, high=9), array(1.0), axis=0, dtype="f6e2m3"),
        case(array([1.0, 500.0, -500.0]), array(1.0), axis=0, dtype="f8e4m3fn", saturate=False),
        case(floats((2, 4)), floats((2, 4), 1, 0.01, 0.1), dtype="i8"),
        case(floats((2, 2)), array(0.125, "f8e8m0"), dtype="i8"),
        case(floats((5, 5), low=-9, high=9), array(0.3), dtype="i8", precision="f16"),
        case(ints((5,), low=-900, high=900, dtype="i32"), array(7, "i32"), axis=0, dtype="i8"),
        case(floats((2, 2), dtype="f16"), array(0.1, "f16"), array(9, "u8")),
    ],
    group="quant",
    T=FLOATS | {I32},
    S=FLOATS | {I32},
    Z=QUANTIZED,
)


def product_dtype(dtype: DType) -> DType:
    """What (x - zero) * scale is computed in."""
    return F64 if dtype == F64 else F32


def dequantize_shape(x, scale, zero=None, *, axis, dtype):
    _check_scale(x, scale, axis)
    _check_zero("dequantize_linear", x, scale, zero, axis)
    return x.shape


def dequantize_ref(x, scale, zero=None, *, axis, dtype):
    whole, wide = dtype_of(x).is_int, product_dtype(dtype).numpy
    scale = channel(np.asarray(scale), x.ndim, axis).astype(wide)
    x = x.astype(np.int32 if whole else np.float32)
    if zero is not None:
        x = x - channel(np.asarray(zero), x.ndim, axis).astype(x.dtype)
    return np.asarray(x.astype(wide) * scale).astype(dtype.numpy)


def _dequantize(b, x, scale, zero=None, *, axis, dtype):
    wide = I32 if x.dtype.is_int else F32
    scale, zero = channel(scale, x.rank, axis), channel(zero, x.rank, axis)
    x = x.cast(wide)
    if zero is not None:
        x = x - zero.cast(wide)
    product = product_dtype(dtype)
    return (x.cast(product) * scale.cast(product)).cast(dtype)


register(
    "dequantize_linear",
    "x: T, scale: S, zero_point: T? -> @dtype",
    "(x - zero_point) * scale, in `dtype`.",
    attrs={"axis": Attr("int", 1), "dtype": Attr("dtype", F32)},
    shape=dequantize_shape,
    ref=dequantize_ref,
    grad=through_expansion,
    loops=Expand(_dequantize),
    samples=lambda: [
        case(ints((3, 4), high=255, dtype="u8"), array(0.02), array(128, "u8"), grad=False),
        case(
            ints((2, 3, 2), low=-128, high=127, dtype="i8"),
            array([0.01, 0.1, 1.0]),
            array([0, 3, -3], "i8"),
            grad=False,
        ),
        case(ints((2, 2), low=-(10**6), high=10**6, dtype="i32"), array(0.001), grad=False),
        case(
            ints((3, 2), dtype="i8"), array([1.0, 2.0, 3.0], "f16"), axis=0, dtype="f16", grad=False
        ),
        case(floats((3,), dtype="f8e5m2"), array(0.5), axis=0, grad=False),
        case(array([-2, -1, 0, 1], "i2"), array(0.5), array(1, "i2"), axis=0, grad=False),
        case(array([0, 1, 2, 3], "u2"), array(0.5), array(1, "u2"), axis=0, grad=False),
        case(floats((5,), dtype="f4e2m1"), array(0.5), array(1, "f4e2m1"), axis=0, grad=False),
        case(ints((3, 2), dtype="i8"), array([0.5, 2.0, 4.0], "f8e8m0"), axis=0, grad=False),
        case(ints((3, 2), dtype="i8"), floats((3, 2), 1, 0.1, 1.0), grad=False),
    ],
    group="quant",
    T=QUANTIZED | {I32},
    S="float",
)
