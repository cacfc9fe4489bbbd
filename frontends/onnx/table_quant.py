"""Quantised operators."""

from ...compiler.types import DTYPES, F32, normalize_axis
from .call import Call
from .proto import dtype_of_element
from .table_window import window


def quantize(c: Call):
    x, scale, zero = c.x(0), c.x(1), c[2]
    c.ignore("saturate", "precision")
    dtype = DTYPES["u8"] if zero is None else zero.dtype
    if c.attr("output_dtype", 0):
        dtype = dtype_of_element(c.attr("output_dtype"), c.where)
    if scale.rank == 1 and scale.shape == (1,) and x.shape[_axis(c, x) :][:1] != (1,):
        scale, zero = scale.reshape(()), None if zero is None else zero.reshape(())
    _no_blocks(c)
    return c.b.emit("quantize_linear", x, scale, zero, axis=_axis(c, x), dtype=dtype)


def dequantize(c: Call):
    x, scale, zero = c.x(0), c.x(1), c[2]
    dtype = scale.dtype
    if c.attr("output_dtype", 0):
        dtype = dtype_of_element(c.attr("output_dtype"), c.where)
    if scale.rank == 1 and scale.shape == (1,) and x.shape[_axis(c, x) :][:1] != (1,):
        scale, zero = scale.reshape(()), None if zero is None else zero.reshape(())
    _no_blocks(c)
    return c.b.emit("dequantize_linear", x, scale, zero, axis=_axis(c, x), dtype=dtype)


def _axis(c: Call, x) -> int:
    axis = c.attr("axis", 1)
    if c.x(1).rank == 0 or x.rank == 0 or (x.rank == 1 and axis == 1):
        return 0
    return normalize_axis(axis, x.rank)


def _no_blocks(c: Call) -> None:
    if c.attr("block_size", 0):
        raise c.unsupported("blocked quantisation (block_size)")


def qlinear_conv(c: Call):
    x, w = c.x(0), c.x(3)
    kernel = c.attr("kernel_shape", list(w.shape[2:]))
    inputs = [c[i] for i in range(9)]
    return c.b.emit("qlinear_conv", *inputs, group=c.attr("group", 1), **window(c, x, kernel))


def qlinear_matmul(c: Call):
    return c.b.emit("qlinear_matmul", *[c[i] for i in range(8)])


def matmul_integer(c: Call):
    return c.b.emit("matmul_integer", *[c[i] for i in range(4)])


def conv_integer(c: Call):
    x, w = c.x(0), c.x(1)
    kernel = c.attr("kernel_shape", list(w.shape[2:]))
    inputs = [c[i] for i in range(4)]
    return c.b.emit("conv_integer", *inputs, group=c.attr("group", 1), **window(c, x, kernel))


TABLE = {
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "MatMulInteger": matmul_integer,
    "ConvInteger": conv_integer,
}
__all__ = ["F32", "TABLE"]
