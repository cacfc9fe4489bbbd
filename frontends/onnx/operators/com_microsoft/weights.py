"""com.microsoft: products with quantised weights of 8 bits, tables and recurrent layers of such."""

from .....compiler.ir.types import DTYPES, F32, normalize_axis
from .....compiler.ops.common import dynamic_quantize
from ...read.call import Call
from ..ai_onnx.recurrent import lstm_attributes
from .norm import embed_layer_norm, wide
from .quant import requantized, scalar

U8 = DTYPES["u8"]


# -- 8 bits --------------------------------------------------------------------------------


def flat(t):
    """A vector of one element as a scalar; None stays None."""
    return t.reshape(()) if t is not None and t.shape == (1,) else t


def dynamic_quantize_matmul(c: Call):
    """a is quantised as a whole; the product of integers is scaled."""
    a, scale, zero = dynamic_quantize(c.x(0))
    total = c.b.emit("matmul_integer", a, c.x(1), zero, flat(c[3])).cast(F32)
    y = total * (scale * flat(c.x(2)))
    return y if c[4] is None else y + c.x(4)


def matmul_integer_to_float(c: Call):
    """(a - a0)(b - b0) · a_scale · b_scale + bias."""
    total = c.b.emit("matmul_integer", c.x(0), c.x(1), flat(c[4]), flat(c[5])).cast(F32)
    y = (total * (flat(wide(c.x(2))) * flat(wide(c.x(3))))).cast(c.x(2).dtype)
    return y if c[6] is None else y + c.x(6)


def qgemm(c: Call):
    """alpha · a' b' + c of integers, to floats, or to integers in the scale of operand 7."""
    a, b = c.x(0), c.x(3)
    if c.attr("transA", 0):
        a = a.transpose()
    if c.attr("transB", 0):
        b = b.transpose()
    total = c.b.emit("matmul_integer", a, b, scalar(c.x(2)), flat(c.x(5)))
    if c[6] is not None:
        total = total + c.x(6)
    factor = scalar(c.x(1)) * flat(c.x(4)) * c.attr("alpha", 1.0)
    if c[7] is None:
        return total.cast(F32) * factor
    return requantized(c, total, factor / scalar(c.x(7)), c.x(8), c.x(8).dtype)


def qembed_layer_norm(c: Call):
    """EmbedLayerNormalization of dequantised tables."""

    def table(i: int, scale: int, zero: int):
        if c[i] is None:
            return None
        return c.b.emit("dequantize_linear", c.x(i), scalar(c.x(scale)), scalar(c.x(zero)), axis=0)

    tables = [table(i, 8 + n, 13 + n) for n, i in enumerate((2, 3, 4, 5, 6))]
    c.inputs = [c[0], c[1], *tables, c[7]]
    return embed_layer_norm(c)[:2]


# -- fewer bits ----------------------------------------------------------------------------


def unpacked(packed, bits: int, *, high_first: bool = False):
    """Bytes [..., n] as [..., n · 8 / bits] numbers of `bits` bits, the low ones first."""
    b, each = packed.b, 8 // bits
    if each == 1:
        return packed
    mask = b.scalar((1 << bits) - 1, U8)
    parts = [
        b.emit("bitwise_and", b.emit("shift_right", packed, b.scalar(bits * i, U8)), mask)
        for i in range(each)
    ]
    if high_first:
        parts = parts[::-1]
    parts = [p.reshape((*p.shape, 1)) for p in parts]
    return b.emit("concat", *parts, axis=-1).reshape((*packed.shape[:-1], -1))


def first(t, axis: int, size):
    """The first `size` elements along an axis."""
    if t.shape[axis] == size:
        return t
    return t.b.emit("slice", t, axes=(axis,), starts=(0,), steps=(1,), sizes=(size,))


def gather_block_quantized(c: Call):
    """Rows of a table in blocks of integers, dequantised after they are gathered.

    An index out of range gives zeros.
    """
    b, data, indices = c.b, c.x(0), c.x(1)
    block, bits = c.attr("block_size", 128), c.attr("bits", 4)
    if data.dtype.is_float:
        raise c.unsupported("GatherBlockQuantized of floats", received=data.type)
    default = 0
    if data.dtype == U8:
        default = 1 << bits - 1
        data = unpacked(data, bits)
    axis = normalize_axis(c.attr("gather_axis", 0), data.rank)
    along = normalize_axis(c.attr("quantize_axis", 1), data.rank)
    zero = c[3]
    if zero is not None and zero.dtype == U8:
        zero = first(unpacked(zero, bits), along, c.x(2).shape[along])

    size = data.shape[axis]
    inside = b.emit(
        "and",
        b.emit("less", indices, b.scalar(size, indices.dtype)),
        b.emit("greater_equal", indices, b.scalar(-size, indices.dtype)),
    )
    safe = b.emit("where", inside, indices, b.scalar(0, indices.dtype))

    def taken(t):
        return b.emit("gather", t, safe, axis=axis)

    moved = along if along < axis else along + indices.rank - 1
    q = taken(data).cast(F32)
    if zero is not None:
        q = q - repeated(taken(zero).cast(F32), moved, block, q.shape[moved])
    elif default:
        q = q - float(default)
    scale = wide(taken(c.x(2)))
    y = q * repeated(scale, moved, block, q.shape[moved])
    inside = inside.reshape((*inside.shape, *(1,) * (data.rank - 1 - axis)))
    return b.emit("where", inside, y, b.scalar(0, F32)).cast(c.x(2).dtype)


def repeated(t, axis: int, block: int, size):
    """Each element `block` times along the axis, cut to `size`."""
    before, n, after = t.shape[:axis], t.shape[axis], t.shape[axis + 1 :]
    t = t.reshape((*before, n, 1, *after)).expand((*before, n, block, *after))
    return first(t.reshape((*before, n * block, *after)), axis, size)


# -- recurrent -----------------------------------------------------------------------------


def dynamic_quantize_lstm(c: Call):
    """LSTM of integer weights that quantises its inputs and states as it goes."""
    return c.b.emit(
        "dynamic_quantize_lstm",
        *(c.x(i) for i in range(3)),
        *(c.x(i) for i in range(8, 12)),
        *(c[i] for i in range(3, 8)),
        **lstm_attributes(c, c.x(2).shape[1]),
    )


TABLE = {
    "DynamicQuantizeMatMul": dynamic_quantize_matmul,
    "MatMulIntegerToFloat": matmul_integer_to_float,
    "QGemm": qgemm,
    "QEmbedLayerNormalization": qembed_layer_norm,
    "GatherBlockQuantized": gather_block_quantized,
    "DynamicQuantizeLSTM": dynamic_quantize_lstm,
}
