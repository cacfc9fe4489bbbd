"""Quantised operators."""

from .....compiler.ir.types import DTYPES, F32, normalize_axis
from ...file.proto import dtype_of_element
from ...read.call import Call
from .window import kernel_of, window


def quantize(c: Call):
    x, scale, zero = c.x(0), c.x(1), c[2]
    saturate, precision = bool(c.attr("saturate", 1)), c.attr("precision", 0)
    precision = dtype_of_element(precision, c.where) if precision else None
    dtype = DTYPES["u8"] if zero is None else zero.dtype
    if c.attr("output_dtype", 0):
        dtype = dtype_of_element(c.attr("output_dtype"), c.where)
    scale, zero, axis = _parameters(c, x, scale, zero)
    return c.b.emit(
        "quantize_linear",
        x,
        scale,
        zero,
        axis=axis,
        dtype=dtype,
        saturate=saturate,
        precision=precision,
    )


def dequantize(c: Call):
    x, scale, zero = c.x(0), c.x(1), c[2]
    dtype = scale.dtype
    if c.attr("output_dtype", 0):
        dtype = dtype_of_element(c.attr("output_dtype"), c.where)
    elif dtype.bits < 16:
        raise c.unsupported(
            "DequantizeLinear needs output_dtype where the scale is no type of its results",
            expected="FLOAT, FLOAT16 or BFLOAT16",
            received=dtype,
        )
    scale, zero, axis = _parameters(c, x, scale, zero)
    return c.b.emit("dequantize_linear", x, scale, zero, axis=axis, dtype=dtype)


def _parameters(c: Call, x, scale, zero):
    """(scale, zero point, axis); a vector of one element is a scalar, blocks are repeated."""
    axis = c.attr("axis", 1)
    block = c.attr("block_size", 0)
    if block:
        axis = normalize_axis(axis, x.rank)
        zero = None if zero is None else _repeat(zero, axis, block, x.shape[axis])
        return _repeat(scale, axis, block, x.shape[axis]), zero, axis
    if scale.rank == 0 or x.rank == 0 or (x.rank == 1 and axis == 1):
        axis = 0
    axis = normalize_axis(axis, x.rank) if x.rank else 0
    if scale.shape == (1,) and (x.rank == 0 or x.shape[axis] != 1):
        scale, zero = scale.reshape(()), None if zero is None else zero.reshape(())
    return scale, zero, axis


def _repeat(t, axis: int, block: int, size):
    """Each element `block` times along the axis, cut to `size`."""
    before, n, after = t.shape[:axis], t.shape[axis], t.shape[axis + 1 :]
    t = t.reshape((*before, n, 1, *after)).expand((*before, n, block, *after))
    t = t.reshape((*before, n * block, *after))
    if t.shape[axis] == size:
        return t
    return t.b.emit("slice", t, axes=(axis,), starts=(0,), steps=(1,), sizes=(size,))


def qlinear_conv(c: Call):
    x, w = c.x(0), c.x(3)
    kernel = kernel_of(c, w)
    inputs = [c[i] for i in range(9)]
    return c.b.emit("qlinear_conv", *inputs, group=c.attr("group", 1), **window(c, x, kernel))


def qlinear_matmul(c: Call):
    """Scales of other floats become f32, which holds them exactly."""
    inputs = [c[i] for i in range(8)]
    for i in (1, 4, 6):
        inputs[i] = inputs[i].cast(F32)
    return c.b.emit("qlinear_matmul", *inputs)


def matmul_integer(c: Call):
    return c.b.emit("matmul_integer", *[c[i] for i in range(4)])


def conv_integer(c: Call):
    x, w = c.x(0), c.x(1)
    kernel = kernel_of(c, w)
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
