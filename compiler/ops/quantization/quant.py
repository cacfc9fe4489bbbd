"""Quantized ops: 8-bit integers q that stand for scale * (q - zero).

    qlinear_*     integers in, sums in i32, one float factor, integers out

Scales and zero points are scalars or one per index of an axis (per channel); `quantize.py` has the
ops that make such integers.
"""

import numpy as np

from ...errors import TypeMismatch
from ...ir.bounds import assume_equal
from ...ir.op import Expand, NotDifferentiable, register
from ...ir.types import F32, I8, U8, broadcast, dtype_of
from ..common import array, case, floats, ints, require_shape
from ..contraction.conv import CONV_ATTRS, conv_integer_ref, conv_shape
from ..contraction.matrix import matmul_integer_ref, matmul_integer_shape, matmul_shape
from .quantize import channel as _channel
from .quantize import requantize as _requantize
from .quantize import requantize_ref as _requantize_ref

BYTES = {I8, U8}
NO_GRADIENT = NotDifferentiable("integers have no gradient: train in floats, then quantize")


def _one_or(d, outputs) -> bool:
    return d == 1 or assume_equal(d, outputs)


def qlinear_conv_shape(x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b=None, **attrs):
    shape = conv_shape(x, w, b, **attrs)
    for label, t in (
        ("x_scale", x_scale),
        ("x_zero", x_zero),
        ("y_scale", y_scale),
        ("y_zero", y_zero),
    ):
        require_shape("qlinear_conv", label, t, (), (1,))
    outputs = w.shape[-1] if attrs["channels_last"] else w.shape[0]
    for t in (w_scale, w_zero):
        if t.rank > 1 or (t.rank == 1 and not _one_or(t.shape[0], outputs)):
            raise TypeMismatch(
                "qlinear_conv: w_scale and w_zero are scalars or one per output channel",
                expected=f"[] or [{outputs}]",
                received=t,
            )
    return shape


def qlinear_conv_ref(x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b=None, **attrs):
    total = conv_integer_ref(x, w, x_zero, w_zero, **attrs)
    axis = -1 if attrs["channels_last"] else 1
    if b is not None:
        total = total + _channel(b, total.ndim, axis)
    factor = x_scale.reshape(()) * w_scale / y_scale.reshape(())
    factor = _channel(np.asarray(factor), total.ndim, axis)
    return _requantize_ref(total.astype(np.float32) * factor, y_zero.reshape(()), dtype_of(y_zero))


def _qlinear_conv(b, x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias=None, **attrs):
    total = b.conv_integer(x, w, x_zero, w_zero, **attrs)
    axis = -1 if attrs["channels_last"] else 1
    if bias is not None:
        total = total + _channel(bias, total.rank, axis)
    factor = x_scale.reshape(()) * w_scale / y_scale.reshape(())
    factor = _channel(factor, total.rank, axis)
    return _requantize(b, total.cast(F32) * factor, y_zero.reshape(()), y_zero.dtype)


def _qlinear_conv_samples():
    x, w = ints((1, 4, 5, 5), high=256, dtype="u8"), ints((6, 4, 3, 3), low=-128, high=128, seed=1)
    one = array(0.02), array(120, "u8")
    bias = ints((6,), low=-2000, high=2000, dtype="i32")
    yield case(
        x, *one, w.astype(np.int8), array(0.01), array(0, "i8"), array(0.5), array(128, "u8")
    )
    yield case(
        x,
        *one,
        w.astype(np.int8),
        array([0.01, 0.02, 0.03, 0.01, 0.02, 0.03]),
        np.zeros(6, np.int8),
        array(0.5),
        array(-3, "i8"),
        bias,
        pads=(1, 1, 1, 1),
        strides=(2, 2),
    )
    yield case(
        x,
        *one,
        w[:4, :1].astype(np.int8),
        array([0.01]),
        array([2], "i8"),
        array(0.1),
        array(3, "u8"),
        bias[:4],
        group=4,
        pads=(1, 1, 1, 1),
    )
    yield case(
        x.transpose(0, 2, 3, 1),
        *one,
        w.transpose(2, 3, 1, 0).astype(np.int8),
        floats((6,), low=0.01, high=0.02),
        np.zeros(6, np.int8),
        array(0.5),
        array(9, "u8"),
        bias,
        channels_last=True,
        pads=(1, 0, 1, 0),
    )


register(
    "qlinear_conv",
    """x: A, x_scale: f32, x_zero: A, w: B, w_scale: f32, w_zero: B, y_scale: f32, y_zero: C,
    b: i32? -> C""",
    """Quantized convolution; padding stands for zero (it is x_zero in x).

    q = saturate(round(conv(x - x_zero, w - w_zero) + b) * (x_scale * w_scale / y_scale)) + y_zero)
    """,
    attrs=CONV_ATTRS,
    shape=qlinear_conv_shape,
    ref=qlinear_conv_ref,
    grad=NO_GRADIENT,
    loops=Expand(_qlinear_conv),
    samples=_qlinear_conv_samples,
    group="contract",
    A=BYTES,
    B=BYTES,
    C=BYTES,
)


def qlinear_matmul_shape(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero):
    matmul_integer_shape(a, b, a_scale, b_scale)
    matmul_integer_shape(a, b, a_zero, b_zero)
    return matmul_shape(a, b)


def _rows(t):
    """One per row, [M], as a column [M, 1]."""
    return t.reshape(t.shape[0], 1) if len(t.shape) == 1 and t.shape[0] != 1 else t


def qlinear_matmul_ref(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero):
    total = matmul_integer_ref(a, b, a_zero, b_zero)
    factor = _rows(a_scale) * b_scale / y_scale
    return _requantize_ref(total.astype(np.float32) * factor, y_zero, dtype_of(y_zero))


def _qlinear_matmul(b, x, a_scale, a_zero, y, b_scale, b_zero, y_scale, y_zero):
    total = b.matmul_integer(x, y, a_zero, b_zero)
    factor = _rows(a_scale) * b_scale / y_scale
    return _requantize(b, total.cast(F32) * factor, y_zero, y_zero.dtype)


register(
    "qlinear_matmul",
    """a: A, a_scale: f32, a_zero: A, b: B, b_scale: f32, b_zero: B, y_scale: f32,
    y_zero: C -> C""",
    "Quantized matrix product; scales and zeros are scalars, per row of a or per column of b.",
    shape=qlinear_matmul_shape,
    ref=qlinear_matmul_ref,
    grad=NO_GRADIENT,
    loops=Expand(_qlinear_matmul),
    samples=lambda: [
        case(
            ints((3, 4), high=255, dtype="u8"),
            array(0.02),
            array(120, "u8"),
            ints((4, 5), low=-128, high=127, seed=1, dtype="i8"),
            array(0.01),
            array(0, "i8"),
            array(0.05),
            array(128, "u8"),
        ),
        case(
            ints((2, 3, 4), low=-128, dtype="i8"),
            array([0.01, 0.02, 0.03]),
            array([1, 2, 3], "i8"),
            ints((4, 2), seed=1, dtype="i8"),
            array([0.5, 0.25]),
            array([0, -1], "i8"),
            array(0.2),
            array(-1, "i8"),
        ),
    ],
    group="contract",
    A=BYTES,
    B=BYTES,
    C=BYTES,
)


def qlinear_add_shape(a, a_scale, a_zero, b, *_):
    return broadcast(a.shape, b.shape)


def qlinear_add_ref(a, a_scale, a_zero, b, b_scale, b_zero, c_scale, c_zero=None):
    def value(q, scale, zero):
        q = q.astype(np.int32)
        return (q if zero is None else q - zero.astype(np.int32)).astype(np.float32) * scale

    total = (value(a, a_scale, a_zero) + value(b, b_scale, b_zero)) / c_scale
    if c_zero is not None:
        total = total + c_zero.astype(np.float32)
    return _requantize_ref(total, None, dtype_of(a))


def _qlinear_add(b, x, a_scale, a_zero, y, b_scale, b_zero, c_scale, c_zero=None):
    total = b.dequantize_linear(x, a_scale, a_zero) + b.dequantize_linear(y, b_scale, b_zero)
    total = total / c_scale if c_zero is None else total / c_scale + c_zero.cast(F32)
    return _requantize(b, total, None, x.dtype)


register(
    "qlinear_add",
    """a: T, a_scale: f32, a_zero: T?, b: T, b_scale: f32, b_zero: T?, c_scale: f32,
    c_zero: T? -> T""",
    """The sum of two quantized tensors, quantized (com.microsoft.QLinearAdd): rounded after the
    zero point is added, as ONNX Runtime does it, so that ties fall alike.""",
    shape=qlinear_add_shape,
    ref=qlinear_add_ref,
    grad=NO_GRADIENT,
    loops=Expand(_qlinear_add),
    samples=lambda: [
        case(
            ints((3, 4), high=255, dtype="u8"),
            array(0.02),
            array(120, "u8"),
            ints((3, 4), high=255, seed=1, dtype="u8"),
            array(0.03),
            array(100, "u8"),
            array(0.04),
            array(128, "u8"),
        ),
        case(
            ints((2, 3), dtype="i8"),
            array(0.2),
            None,
            ints((3,), seed=1, dtype="i8"),
            array(0.3),
            array(1, "i8"),
            array(0.4),
        ),
    ],
    group="quant",
    T=BYTES,
)
