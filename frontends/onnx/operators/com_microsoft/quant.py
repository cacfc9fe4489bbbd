"""com.microsoft: 8-bit operators, integers in and out, after ONNX Runtime's arithmetic.

    x = scale · (q - zero)      dequantise
    q = saturate(round(x / scale) + zero)

Most compute on floats in between and quantise once. Where ONNX Runtime rounds after it has added
the zero point (QLinearMul, QLinearAdd, QLinearAveragePool), or sums integers (other pools,
products), so do these: ties to even fall on other numbers otherwise.
"""

import numpy as np

from .....compiler.ir.types import F32, I32, normalize_axis
from ...read.call import Call
from ..ai_onnx.quant import dequantize, quantize
from ..ai_onnx.window import average_pool, kernel_of, window


def scalar(t):
    """A scale or zero point of one element as a scalar; None stays None."""
    return None if t is None else t.reshape(())


def dequantized(c: Call, q, scale, zero):
    return c.b.emit("dequantize_linear", q, scalar(scale), scalar(zero), axis=0)


def quantized(c: Call, x, scale, zero, dtype):
    return c.b.emit("quantize_linear", x, scalar(scale), scalar(zero), axis=0, dtype=dtype)


def requantized(c: Call, total, factor, zero, dtype, *, zero_first=False):
    """total · factor, rounded to `dtype` and shifted by zero: before rounding, or after."""
    b = c.b
    x = total.cast(F32)
    if factor is not None:
        x = x * factor
    zero = None if zero is None else scalar(zero).cast(F32)
    if zero_first and zero is not None:
        x = x + zero
    x = b.emit("round", x)
    if not zero_first and zero is not None:
        x = x + zero
    info = np.iinfo(dtype.numpy)
    return b.emit("clip", x, b.scalar(info.min, F32), b.scalar(info.max, F32)).cast(dtype)


def centred(c: Call, i: int):
    """Operand i less the zero point of the operand after it, in i32."""
    x = c.x(i).cast(I32)
    return x if c[i + 2] is None else x - scalar(c[i + 2]).cast(I32)


def qlinear_add(c: Call):
    inputs = [c[0], *(scalar(c[i]) for i in (1, 2)), c[3], *(scalar(c[i]) for i in (4, 5, 6, 7))]
    return c.b.emit("qlinear_add", *inputs)


def qlinear_mul(c: Call):
    factor = scalar(c.x(1)) * scalar(c.x(4)) / scalar(c.x(6))
    product = centred(c, 0) * centred(c, 3)
    return requantized(c, product, factor, c[7], c.x(0).dtype, zero_first=True)


def mul_integer(c: Call):
    """(a - a0)(b - b0) in i32."""
    a, b = (
        c.x(i).cast(I32) if c[i + 1] is None else c.x(i).cast(I32) - scalar(c.x(i + 1)).cast(I32)
        for i in (0, 2)
    )
    return a * b


def reduce_sum_integer(c: Call):
    axes = tuple(c.attr("axes"))
    return c.x(0).cast(I32).sum(axes, keepdims=bool(c.attr("keepdims", 1)))


def elementwise(op: str, **defaults):
    """quantise(op(dequantise(x)))"""

    def entry(c: Call):
        attrs = {name: c.attr(name, value) for name, value in defaults.items()}
        y = c.b.emit(op, dequantized(c, c.x(0), c.x(1), c[2]), **attrs)
        return quantized(c, y, c.x(3), c[4], c.x(0).dtype)

    return entry


def qlinear_softmax(c: Call):
    """round(e^(x - max) · ⌊1 / scale⌋ / sum) + zero, over all axes from `axis` before opset 13."""
    b, x = c.b, c.x(0)
    old = c.attr("opset") < 13
    axis = normalize_axis(c.attr("axis", 1 if old else -1), x.rank)
    axes = tuple(range(axis, x.rank)) if old else (axis,)
    q = x.cast(I32)
    e = b.emit("exp", (q - q.max(axes, keepdims=True)).cast(F32) * scalar(c.x(1)))
    factor = b.emit("floor", b.scalar(1, F32) / scalar(c.x(3)))
    share = e * factor / e.sum(axes, keepdims=True)
    return requantized(c, share, None, c[4], x.dtype)


def qlinear_concat(c: Call):
    """Each operand in the result's scale, one after the other."""
    scale, zero = c.x(0), c.x(1)
    parts = [
        quantized(c, dequantized(c, c.x(i), c.x(i + 1), c[i + 2]), scale, zero, zero.dtype)
        for i in range(2, len(c.inputs), 3)
    ]
    return parts[0] if len(parts) == 1 else c.b.emit("concat", *parts, axis=c.attr("axis"))


def qlinear_where(c: Call):
    """x or y in the result's scale, by the condition."""
    x, y = (
        quantized(c, dequantized(c, c.x(i), c.x(i + 1), c[i + 2]), c.x(7), c[8], c.x(1).dtype)
        for i in (1, 4)
    )
    return c.b.emit("where", c.x(0), x, y)


def qlinear_reduce_mean(c: Call):
    x = dequantized(c, c.x(0), c.x(1), c[2])
    y = x.mean(tuple(c.attr("axes")), keepdims=bool(c.attr("keepdims")))
    return quantized(c, y, c.x(3), c[4], c.x(0).dtype)


# -- windows -------------------------------------------------------------------------------


def channels_first(x):
    """[N, *S, C] → [N, C, *S]."""
    return x.transpose((0, x.rank - 1, *range(1, x.rank - 1)))


def channels_last(x):
    """[N, C, *S] → [N, *S, C]."""
    return x.transpose((0, *range(2, x.rank), 1))


def qlinear_global_average_pool(c: Call):
    """Sums of integers; their number and all scales are one factor."""
    last = c.attr("channels_last", 0)
    x = c.x(0)
    axes = tuple(range(1, x.rank - 1)) if last else tuple(range(2, x.rank))
    count = c.b.dims([d for i, d in enumerate(x.shape) if i in axes])
    count = c.b.emit("reduce_prod", count, axes=(0,), keepdims=False).cast(F32)
    total = centred(c, 0).sum(axes, keepdims=True)
    factor = scalar(c.x(1)) / (scalar(c.x(3)) * count)
    return requantized(c, total, factor, c[4], x.dtype)


def qlinear_average_pool(c: Call):
    """The average of floats, rounded after the zero point is added."""
    dtype, last = c.x(0).dtype, c.attr("channels_last", 0)
    x = dequantized(c, c.x(0), c.x(1), c[2])
    scale, zero = c.x(3), c[4]
    c.inputs = [channels_first(x) if last else x]
    y = average_pool(c) / scalar(scale)
    y = requantized(c, y, None, zero, dtype, zero_first=True)
    return channels_last(y) if last else y


def nhwc_max_pool(c: Call):
    x = channels_first(c.x(0))
    kernel = c.attr("kernel_shape")
    ceil = bool(c.attr("ceil_mode", 0))
    attrs = window(c, x, kernel)
    return channels_last(c.b.emit("max_pool", x, kernel=tuple(kernel), ceil_mode=ceil, **attrs))


def qlinear_conv(c: Call):
    """QLinearConv with data channels first or last; the weights are channels first."""
    last = c.attr("channels_last", 0)
    x, w = channels_first(c.x(0)) if last else c.x(0), c.x(3)
    kernel = kernel_of(c, w)
    inputs = [
        x,
        scalar(c.x(1)),
        scalar(c.x(2)),
        w,
        c.x(4),
        c.x(5),
        *map(scalar, (c[6], c[7])),
        c[8],
    ]
    y = c.b.emit("qlinear_conv", *inputs, group=c.attr("group", 1), **window(c, x, kernel))
    return channels_last(y) if last else y


TABLE = {
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "QLinearAdd": qlinear_add,
    "QLinearMul": qlinear_mul,
    "QLinearSigmoid": elementwise("sigmoid"),
    "QLinearLeakyRelu": elementwise("leaky_relu", alpha=0.01),
    "QLinearSoftmax": qlinear_softmax,
    "QLinearConcat": qlinear_concat,
    "QLinearWhere": qlinear_where,
    "QLinearReduceMean": qlinear_reduce_mean,
    "QLinearGlobalAveragePool": qlinear_global_average_pool,
    "QLinearAveragePool": qlinear_average_pool,
    "QLinearConv": qlinear_conv,
    "NhwcMaxPool": nhwc_max_pool,
    "MulInteger": mul_integer,
    "ReduceSumInteger": reduce_sum_integer,
}
