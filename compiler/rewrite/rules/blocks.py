"""Products with weights of few bits, dequantized by blocks: they stay packed.

    x @ dq(w, t, u)             => matmul_blocks(x, w, t, u)
    x @ transpose(dq(w, t, u))  => matmul_blocks(x, w, t, u)

Scales t and zero points u are per block of k and per column (DequantizeLinear of opset 21 with
`block_size`, repeated for each element by then), or per column alone. Numbers of a narrow float
type are codes, too: a table has their values.
"""

import math

import numpy as np

from ...ir.builder import Builder, Tensor
from ...ir.types import F32, DType, normalize_axis
from ...ops.quantization.blocks import pack_codes
from ..engine import Rule, rule
from ..pattern import Match, constants, op, optional, variables

(x,) = variables("x")
w, t, u = constants("w t u")
DW = op.dequantize_linear(w, t, optional(u))
PRODUCT = x @ DW
TURNED = x @ op.transpose(DW)
LEAST = 1 << 12  # weights, fewer than which are as fast as floats
SHORTEST = 8  # block that is worth a scale


def _columns(m: Match) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(weights [k, n], scales, zero points), all of them for each weight or broadcast to that."""
    weights, scale = m.w.constant, m.t.constant
    zero = None if m.u is None else m.u.constant
    axis = normalize_axis(m[DW].attrs["axis"], 2)
    spread = lambda a: a if a.ndim != 1 or a.size == 1 else np.expand_dims(a, 1 - axis)
    scale = np.broadcast_to(spread(scale), weights.shape)
    zero = None if zero is None else np.broadcast_to(spread(zero), weights.shape)
    if m.root.inputs[1].node.op.name == "transpose":
        return weights.T, scale.T, None if zero is None else zero.T
    return weights, scale, zero


def block_of(*numbers: np.ndarray | None) -> int:
    """How many rows after each other have the same numbers, which divides all of them."""
    k = next(len(a) for a in numbers if a is not None)
    block = k
    for a in numbers:
        if a is not None and a.strides[0] != 0:
            starts = np.flatnonzero((a[1:] != a[:-1]).any(axis=1)) + 1
            block = math.gcd(block, *starts.tolist())
    return block


def _refusal(m: Match) -> str | None:
    if m.x.dtype != F32 or m[DW].attrs["dtype"] != F32 or m.w.rank != 2 or m.x.rank < 1:
        return "it is no product of f32 with a matrix"
    if not isinstance(m.x.shape[-1], int) or m.w.constant.size < LEAST:
        return "the weights are few"
    if m.w.dtype.bits > 8 or m.t.rank > 2:
        return f"{m.w.dtype} is no type of few bits"
    producer = m.x.value.node
    if producer is not None and producer.op.name == "dequantize_linear":
        return "both factors are quantized"
    if m.w.dtype.is_float and m.u is not None and np.any(m.u.constant.astype(np.float32)):
        return "floats with zero points"
    weights, scale, zero = _columns(m)
    if block_of(scale, zero) < min(SHORTEST, len(weights)):
        return "scales change within a block of k"
    return None


def _codes(values: np.ndarray, dtype: DType) -> tuple[np.ndarray, int, np.ndarray | None]:
    """(codes, the number that code 0 stands for, the values of all codes where they are floats)."""
    if dtype.is_float:
        every = np.arange(1 << dtype.bits, dtype=np.uint8)
        table = every.view(dtype.numpy).astype(np.float32)
        return values.view(np.uint8) & ((1 << dtype.bits) - 1), 0, table
    least = -(1 << dtype.bits - 1) if dtype.kind == "i" else 0
    return (values.astype(np.int16) - least).astype(np.uint8), least, None


def _matmul_blocks(b: Builder, m: Match) -> Tensor:
    values, scale, zero = _columns(m)
    k, n = values.shape
    block = block_of(scale, zero)
    bits = m.w.dtype.bits
    codes, least, table = _codes(np.ascontiguousarray(values.T), m.w.dtype)
    packed = pack_codes(codes.reshape(n, k // block, block), bits)
    first = slice(None, None, block)
    zeros = None
    if table is None:
        zeros = np.uint8(-least)
        if zero is not None:
            zeros = np.ascontiguousarray(zero[first].T.astype(np.int16) - least).astype(np.uint8)
            zeros = zeros.flat[0] if (zeros == zeros.flat[0]).all() else zeros
    scales = np.ascontiguousarray(scale[first].T)
    if m.t.dtype.bits < 16:  # powers of two
        scales = scales.astype(np.float32)
    parts = [None if a is None else b.constant(np.asarray(a)) for a in (zeros, table)]
    return b.matmul_blocks(
        m.x, b.constant(packed), b.constant(scales), *parts, bits=bits, block=block
    )


BLOCKS: tuple[Rule, ...] = tuple(
    rule(name, pattern, _matmul_blocks, _refusal, shared=True)
    for name, pattern in (
        ("x @ dq(w, t, u) => matmul_blocks(x, w, t, u)", PRODUCT),
        ("x @ transpose(dq(w, t, u)) => matmul_blocks(x, w, t, u)", TURNED),
    )
)
