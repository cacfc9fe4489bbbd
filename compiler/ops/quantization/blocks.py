"""matmul_blocks: products with weights that stay packed, a scale for each block of each column.

    w[n, k] = (code[n, k] - zero[n, k / block]) * scale[n, k / block]
    y[…, n] = sum_k x[…, k] * w[n, k]

Codes are integers of `bits` bits, in bytes one after the other, the low bits first, each block in
bytes of its own: what MatMulNBits of ONNX Runtime stores, and for 4 and 8 bits DequantizeLinear of
opset 21. With `codes`, a code is the number of an entry of this table: NF4 and FP4 (Dettmers et
al., QLoRA, 2023) have 16 of them, 8-bit floats 256.

`activations` decides what is multiplied. f32: floats. int8: each block of a row of x is rounded to
integers of -127 … 127 times a scale of its own; products of a block are summed as integers,
exactly, and one float is added per block.
"""

import math

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.dims import Sym
from ...ir.op import Attr, Expand, NotDifferentiable, Pull, register
from ...ir.types import F32, FLOATS, I8, I32, U8
from ...kernels.codes import pack_codes, packed_bytes, unpack_codes
from ..common import array, case, floats, ints, require_shape

ACTIVATIONS = ("f32", "int8")
LEVELS = 127  # of a sign, in activations of int8
SCALES = frozenset(d for d in FLOATS if d.name in ("f32", "f16", "bf16"))
FROZEN = NotDifferentiable("packed weights are constants: train in floats, then compress")


def dequantized_blocks(w, scale, zero=None, codes=None, *, bits, block, depth) -> np.ndarray:
    """The weights [N, depth] in f32."""
    q = unpack_codes(w, bits, block)
    values = q.astype(np.float32) if codes is None else codes.astype(np.float32)[q]
    if zero is not None:
        values = values - np.asarray(zero).astype(np.float32)[..., None]
    values = values * scale.astype(np.float32)[..., None]
    return values.reshape(len(w), -1)[:, :depth]


def quantize_rows_ref(x: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """x [..., K] as (integers [..., blocks, block] of i8, scales [..., blocks])."""
    blocks = -(-x.shape[-1] // block)
    pads = [(0, 0)] * (x.ndim - 1) + [(0, blocks * block - x.shape[-1])]
    x = np.pad(x, pads).reshape(*x.shape[:-1], blocks, block)
    top = np.abs(x).max(-1, keepdims=True) if x.size else x[..., :1]
    with np.errstate(all="ignore"):
        inverse = np.where(top > 0, np.float32(LEVELS) / top, np.float32(0))
        q = np.rint(x * inverse)
    q = np.clip(np.where(np.isnan(q), 0, q), -LEVELS, LEVELS)
    return q.astype(np.int8), (top * np.float32(1 / LEVELS))[..., 0]


def quantized_rows(b, x, block: int):
    """The same in ops."""
    k = x.shape[-1]
    blocks = -(-k // block)
    if blocks * block != k:
        x = b.pad(x, pads=(*(0,) * (2 * x.rank - 1), blocks * block - k))
    x = x.reshape(*x.shape[:-1], blocks, block)
    top = b.reduce_max(b.abs(x), axes=(x.rank - 1,), keepdims=True)
    nothing = b.scalar(0, F32)
    inverse = b.where(b.greater(top, nothing), b.scalar(LEVELS, F32) / top, nothing)
    low, high = b.scalar(-LEVELS, F32), b.scalar(LEVELS, F32)
    q = b.clip(b.round(x * inverse), low, high).cast(I8)
    return q, (top * b.scalar(1 / LEVELS, F32)).reshape(*x.shape[:-1])


def matmul_blocks_shape(x, w, scale, zero=None, codes=None, *, bits, block, activations):
    if activations not in ACTIVATIONS:
        raise TypeMismatch(
            "matmul_blocks: no such activations",
            expected=" or ".join(ACTIVATIONS),
            received=activations,
        )
    if activations == "int8" and (codes is not None or (zero is not None and zero.dtype != U8)):
        raise TypeMismatch(
            "matmul_blocks: integer activations need integer weights",
            expected="integer zero points and no table of codes",
            received=codes if codes is not None else zero,
        )
    if not 1 <= bits <= 8:
        raise TypeMismatch("matmul_blocks: codes of so many bits", expected="1 to 8", received=bits)
    if x.rank < 1 or w.rank != 3 or isinstance(x.shape[-1], Sym):
        raise TypeMismatch(
            "matmul_blocks multiplies rows of a known length by packed blocks",
            expected="x [..., K] and w [N, blocks, bytes]",
            received=f"{x} and {w}",
        )
    n, blocks = w.shape[0], -(-x.shape[-1] // block)
    require_shape("matmul_blocks", "w", w, (n, blocks, packed_bytes(block, bits)))
    require_shape("matmul_blocks", "scale", scale, (n, blocks))
    if zero is not None:
        require_shape("matmul_blocks", "zero", zero, (n, blocks), ())
    if codes is not None:
        require_shape("matmul_blocks", "codes", codes, (1 << bits,))
    return (*x.shape[:-1], n)


def matmul_blocks_ref(x, w, scale, zero=None, codes=None, *, bits, block, activations):
    depth = x.shape[-1]
    if activations == "f32":
        weights = dequantized_blocks(w, scale, zero, codes, bits=bits, block=block, depth=depth)
        return np.asarray(np.matmul(x, weights.T))
    q, x_scale = quantize_rows_ref(x, block)
    return sum_blocks_ref(q, w, scale, zero, x_scale=x_scale, bits=bits, block=block)


def sum_blocks_ref(q, w, scale, zero=None, codes=None, x_scale=None, *, bits, block):
    """The sum over blocks of x_scale · scale · (what the block's products sum to)."""
    values = unpack_codes(w, bits, block)
    wide = np.int64 if q.dtype == np.int8 else np.float32
    values = values.astype(wide) if codes is None else codes.astype(np.float32)[values]
    if zero is not None:
        values = values - np.asarray(zero).astype(wide)[..., None]
    total = np.einsum("...bk,nbk->...nb", q.astype(wide), values).astype(np.float32)
    total = total * scale.astype(np.float32)
    if x_scale is not None:
        total = total * x_scale[..., None, :]
    return np.asarray(total.sum(-1, dtype=np.float32))


def _code(w, n, block_index, group, place, bits: int):
    """Code `place` of group `group` of a block: groups are the fewest codes that fill bytes."""
    each, size = 8 // math.gcd(bits, 8), bits // math.gcd(bits, 8)
    if each == 1:
        return s.cast(w[n, block_index, group], I32)
    first, byte = place * bits, group * size
    at = byte if size == 1 else byte + first // 8
    value = s.cast(w[n, block_index, s.minimum(at, w.shape[-1] - 1)], I32)
    shift = first
    if size > 1:  # a code may go on in the next byte
        after = s.minimum(at + 1, w.shape[-1] - 1)
        value = value + s.cast(w[n, block_index, after], I32) * 256
        shift = first % 8
    return s.apply("bitand", s.apply("shr", value, s.cast(shift, I32)), (1 << bits) - 1)


def _sum_blocks(out, x, w, scale, zero=None, codes=None, x_scale=None, *, bits, block):
    """Sums of a block's products, within the sum over blocks."""
    wide = I32 if x.dtype == I8 else F32
    each = 8 // math.gcd(bits, 8)
    groups = -(-block // each)
    flat = x.dtype != I8  # x [..., K]; of integers [..., blocks, block]
    depth = x.shape[-1]
    blocks = w.shape[1]
    whole = block % each == 0 and (not flat or depth == blocks * block)

    def at(*index):
        *lead, n = index

        def read(b, j):
            if not flat:
                if whole:
                    return s.cast(x[(*lead, b, j)], wide)
                value = s.cast(x[(*lead, b, s.minimum(j, block - 1))], wide)
                return s.select(j < block, value, s.const(0, wide))
            k = b * block + j
            if whole:
                return s.cast(x[(*lead, k)], wide)
            value = s.cast(x[(*lead, s.minimum(k, depth - 1))], wide)
            return s.select(s.logical_and(j < block, k < depth), value, s.const(0, wide))

        def one_block(b):
            def product(group, place):
                code = _code(w, n, b, group, place, bits)
                if codes is not None:
                    value = s.cast(codes[s.inside(s.cast(code, s.I64), 1 << bits)], wide)
                else:
                    value = s.cast(code, wide)
                if zero is not None:
                    own = zero[n, b] if zero.shape else zero[()]
                    value = value - s.cast(own, wide)
                return read(b, group * each + place) * value

            total = s.reduce("sum", [groups, each], product, wide)
            factor = s.cast(scale[n, b], F32)
            if x_scale is not None:
                factor = x_scale[(*lead, b)] * factor
            return s.cast(total, F32) * factor

        return s.reduce("sum", [blocks], one_block, F32)

    return at


def _matmul_blocks(b, x, w, scale, zero=None, codes=None, *, bits, block, activations):
    x_scale = None
    if activations == "int8":
        x, x_scale = quantized_rows(b, x, block)
    return b.sum_blocks(x, w, scale, zero, codes, x_scale, bits=bits, block=block)


def _sum_blocks_shape(x, w, scale, zero=None, codes=None, x_scale=None, *, bits, block):
    lead = x.shape[:-2] if x.dtype == I8 else x.shape[:-1]
    return (*lead, w.shape[0])


def packed(n, blocks, block, bits, seed=1):
    """Random codes, packed, with scales: samples."""
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (n, blocks, block))
    return pack_codes(codes, bits), floats((n, blocks), seed=seed + 1, low=0.01, high=0.1)


def _zeros(n, blocks, bits, seed=5):
    return ints((n, blocks), seed=seed, high=1 << bits, dtype="u8")


def _samples():
    table = floats((16,), seed=9)
    for activations in ACTIVATIONS:
        # The same sums in other orders; what is rounded to int8 is rounded alike.
        options = {"activations": activations, "rtol": 1e-4, "atol": 1e-4, "grad": False}
        x = floats((3, 64))
        weights = packed(5, 2, 32, 4), packed(7, 3, 32, 3), packed(33, 4, 16, 2)
        yield case(x, *weights[0], _zeros(5, 2, 4), bits=4, block=32, **options)
        yield case(floats((2, 2, 96)), *weights[1], _zeros(7, 3, 3), bits=3, block=32, **options)
        yield case(floats((1, 64)), *weights[2], bits=2, block=16, **options)
        yield case(
            floats((64,)), *packed(40, 1, 64, 8), _zeros(40, 1, 8), bits=8, block=64, **options
        )
        yield case(
            floats((20, 40)), *packed(19, 3, 16, 4), array(8, "u8"), bits=4, block=16, **options
        )
    floating = {"rtol": 1e-4, "atol": 1e-4, "grad": False}
    yield case(x, *packed(18, 2, 32, 4), None, table, bits=4, block=32, **floating)
    halves = packed(9, 2, 32, 4)[0], floats((9, 2), low=0.01, high=0.1, dtype="f16")
    yield case(x, *halves, floats((9, 2), seed=4), bits=4, block=32, **floating)
    yield case(floats((0, 64)), *packed(5, 2, 32, 4), bits=4, block=32, grad=False)


register(
    "matmul_blocks",
    "x: f32, w: u8, scale: S, zero: Z?, codes: f32? -> f32",
    """x @ w.T, of weights in blocks along K: w = (code - zero) * scale, zero and scale per block.

    w [N, blocks, bytes] holds `block` codes of `bits` bits each, the low bits first; scale and zero
    are [N, blocks], zero may be one number. With `codes`, a code is an index of this table (NF4,
    FP4, 8-bit floats). With `activations` "int8", each block of a row of x is rounded to integers
    of a scale of its own.
    """,
    attrs={
        "bits": Attr("int", 4, "bits of a code, 1 to 8", low=1),
        "block": Attr("int", 32, "codes that share a scale, along K", low=1),
        "activations": Attr("str", "f32", "f32, or int8: what is multiplied"),
    },
    shape=matmul_blocks_shape,
    ref=matmul_blocks_ref,
    grad=FROZEN,
    loops=Expand(_matmul_blocks),
    samples=_samples,
    group="contract",
    S=SCALES,
    Z=SCALES | {U8},
)

register(
    "sum_blocks",
    "x: X, w: u8, scale: S, zero: Z?, codes: f32?, x_scale: f32? -> f32",
    """What matmul_blocks is made of: the sum over blocks of scale · (the block's products, summed).

    x is [..., K] in f32, or [..., blocks, block] in i8 with a scale for each block of a row.
    """,
    attrs={"bits": Attr("int", 4, low=1), "block": Attr("int", 32, low=1)},
    shape=_sum_blocks_shape,
    ref=lambda x, w, scale, zero=None, codes=None, x_scale=None, *, bits, block: (
        sum_blocks_ref(x, w, scale, zero, codes, x_scale, bits=bits, block=block)
        if x.dtype == np.int8
        else matmul_blocks_ref(x, w, scale, zero, codes, bits=bits, block=block, activations="f32")
    ),
    grad=FROZEN,
    loops=Pull(_sum_blocks),
    samples=lambda: [
        case(
            floats((3, 64)),
            *packed(5, 2, 32, 4),
            bits=4,
            block=32,
            rtol=1e-4,
            atol=1e-4,
            grad=False,
        ),
        case(
            ints((3, 2, 32), low=-127, high=128, dtype="i8"),
            *packed(20, 2, 32, 4),
            _zeros(20, 2, 4),
            None,
            floats((3, 2), low=0.01, high=0.1),
            bits=4,
            block=32,
            rtol=1e-4,
            atol=1e-4,
            grad=False,
        ),
    ],
    group="contract",
    X={F32, I8},
    S=SCALES,
    Z=SCALES | {U8},
)
