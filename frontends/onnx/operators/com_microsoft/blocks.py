"""com.microsoft: products with weights of few bits, a scale for each block of a column."""

import numpy as np

from .....compiler.ir.types import I32, U8
from ...read.call import Call
from .norm import wide
from .weights import first, unpacked

INTEGERS = 4  # the accuracy level at which bytes may be multiplied


def matmul_nbits(c: Call):
    """a [..., K] · wᵀ + bias, where w [N, K] is scale · (q - zero) in blocks along K.

    q is packed in bytes [N, K / block, block · bits / 8]; zero points are packed alike along their
    rows, or floats. At accuracy level 4 blocks of a are rounded to bytes, unless zero points are
    floats.
    """
    level = c.attr("accuracy_level", 0)
    c.only("weight_prepacked", 0)
    if c[4] is not None:
        raise c.unsupported("MatMulNBits with g_idx", fix="quantise without act_order")
    k, n, bits, block = c.attr("K"), c.attr("N"), c.attr("bits", 4), c.attr("block_size")
    if bits not in (2, 4, 8):
        raise c.unsupported("MatMulNBits of these bits", expected="2, 4 or 8", received=bits)
    a, blocks = c.x(0), -(-k // block)
    zero = _zero_points(c, n, blocks, bits)
    y = c.b.emit(
        "matmul_blocks",
        wide(a),
        c.x(1).reshape((n, blocks, block * bits // 8)),
        c.x(2).reshape((n, blocks)),
        zero,
        bits=bits,
        block=block,
        activations="int8" if level == INTEGERS and zero.dtype == U8 else "f32",
    )
    return (y if c[5] is None else y + wide(c.x(5))).cast(a.dtype)


def _zero_points(c: Call, n: int, blocks: int, bits: int):
    """Zero points [N, blocks]; one number, the middle of the range, where none are given."""
    zero = c[3]
    if zero is None:
        return c.b.scalar(1 << bits - 1, U8)
    if zero.dtype == U8:
        zero = first(unpacked(zero.reshape((n, -1)), bits), 1, blocks)
    return zero.reshape((n, blocks))


# 4-bit floats of one sign bit, and the quantiles of a normal distribution (Dettmers et al., QLoRA).
_FP4 = (0.0, 0.0052083333, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25)
_NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
_CODES = {0: (*_FP4, *(-v for v in _FP4)), 1: _NF4}


def matmul_bnb4(c: Call):
    """a · wᵀ (transB) or a · w, where w [N, K] are codes of 4 bits times the maximum of a block.

    Blocks go through all of w; those that end where its rows do stay packed.
    """
    c.ignore("training_mode")
    k, n, block = c.attr("K"), c.attr("N"), c.attr("block_size")
    a, b = c.x(0), c.b
    codes = b.constant(np.array(_CODES[c.attr("quant_type")], np.float32))
    if c.attr("transB", 1) and k % block == 0 and block % 2 == 0:
        q = _low_first(c.x(1).reshape((-1,))).reshape((n, k // block, block // 2))
        scale = c.x(2).reshape((n, k // block))
        y = b.emit("matmul_blocks", wide(a), q, scale, None, codes, bits=4, block=block)
        return y.cast(a.dtype)
    q = first(unpacked(c.x(1).reshape((-1,)), 4, high_first=True), 0, n * k)
    values = b.emit("gather", codes, q.cast(I32), axis=0)
    top = wide(c.x(2)).reshape((-1, 1)).expand((c.x(2).shape[0], block))
    top = first(top.reshape((-1,)), 0, n * k)
    w = (values * top).reshape((n, k))
    y = b.emit("matmul", wide(a), w.transpose() if c.attr("transB", 1) else w)
    return y.cast(a.dtype)


def _low_first(packed):
    """Bytes with their halves exchanged."""
    b, four = packed.b, packed.b.scalar(4, U8)
    high, low = b.emit("shift_right", packed, four), b.emit("shift_left", packed, four)
    return b.emit("bitwise_or", high, low)


TABLE = {
    "MatMulNBits": matmul_nbits,
    "MatMulBnb4": matmul_bnb4,
}
