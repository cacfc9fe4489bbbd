"""Products with packed weights: MatMulNBits of ONNX Runtime where it has them, else floats.

MatMulNBits keeps the weights as they are packed. What it cannot say (tables of codes, other numbers
of bits, weights that are no constants) is written as the weights' arithmetic and a product.
"""

import math

import numpy as np

from ....compiler.ir.builder import Builder, Tensor
from ....compiler.ir.graph import Node
from ....compiler.ir.types import F16, F32, U8
from ....compiler.ops.quantization.blocks import pack_codes, quantized_rows
from ..file.proto import ELEMENT_TYPE_OF
from .common import results
from .writer import Writer

MICROSOFT = "com.microsoft"
BITS = (2, 4, 8)
SMALLEST = 16  # of its blocks, which are powers of two
INTEGERS = 4  # its accuracy level at which blocks of activations are rounded to bytes


def matmul_blocks(w: Writer, node: Node) -> None:
    if not _is_said_by_runtime(node):
        w.inline(node, dequantized)
        return
    x, packed, scale, zero, _ = (*node.inputs, None, None)[:5]
    bits, block = node.attrs["bits"], node.attrs["block"]
    n, blocks, _ = packed.shape
    scales = w.constant(scale.constant.reshape(-1))
    if scale.dtype != F32:  # the operator wants the type of x
        scales = w.op("Cast", [scales], to=ELEMENT_TYPE_OF[F32])
    operands = [w.name(x), w.name(packed), scales]
    zeros = np.broadcast_to(0 if zero is None else zero.constant, (n, blocks))
    if zeros.dtype.kind == "f":
        operands.append(w.constant(zeros.astype(np.float32).reshape(-1)))
    elif not (zeros == 1 << bits - 1).all():
        of_row = pack_codes(zeros.astype(np.uint8)[:, None], bits)
        operands.append(w.constant(of_row.reshape(-1)))
    level = INTEGERS if node.attrs["activations"] == "int8" else None
    sizes = {"K": x.shape[-1], "N": n, "bits": bits, "block_size": block}
    w.op("MatMulNBits", operands, results(w, node), domain=MICROSOFT, accuracy_level=level, **sizes)


def _is_said_by_runtime(node: Node) -> bool:
    x, packed, scale, zero, codes = (*node.inputs, None, None)[:5]
    block = node.attrs["block"]
    constant = all(v is None or v.constant is not None for v in (packed, scale, zero))
    fits = block >= SMALLEST and math.log2(block).is_integer() and node.attrs["bits"] in BITS
    return constant and fits and codes is None and x.rank >= 2 and scale.dtype in (F32, F16)


def dequantized(
    b: Builder,
    x: Tensor,
    packed: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    codes: Tensor | None,
    *,
    bits: int,
    block: int,
    activations: str,
) -> Tensor:
    """x @ w.T, with w (and x, where blocks of it are rounded) as floats."""
    depth, (n, blocks, _) = x.shape[-1], packed.shape
    if activations == "int8":
        q, x_scale = quantized_rows(b, x, block)
        x = q.cast(F32) * x_scale.reshape(*x_scale.shape, 1)
        x = x.reshape(*x.shape[:-2], blocks * block)
    values = _codes(packed, bits, block)
    if codes is not None:
        values = b.gather(codes, values.cast("i64"), axis=0)
    values = values.cast(F32)
    if zero is not None:
        values = values - _column(zero.cast(F32))
    values = values * _column(scale.cast(F32))
    values = values.reshape(n, blocks * block)
    if x.shape[-1] == depth != blocks * block:
        values = b.slice(values, axes=(1,), starts=(0,), steps=(1,), sizes=(depth,))
    return b.matmul(x, values.transpose(1, 0))


def _column(t: Tensor) -> Tensor:
    return t.reshape(*t.shape, 1) if t.rank else t


def _codes(packed: Tensor, bits: int, block: int) -> Tensor:
    """Bytes [n, blocks, bytes] as codes [n, blocks, block], bit by bit."""
    b, (n, blocks, size) = packed.b, packed.shape
    if bits == 8:
        return packed
    digits = b.shift_right(_column(packed), b.constant(np.arange(8, dtype=np.uint8)))
    digits = b.bitwise_and(digits, b.scalar(1, U8)).reshape(n, blocks, size * 8)
    if block * bits != size * 8:
        digits = b.slice(digits, axes=(2,), starts=(0,), steps=(1,), sizes=(block * bits,))
    weights = b.constant((1 << np.arange(bits)).astype(np.float32))
    digits = digits.reshape(n, blocks, block, bits).cast(F32) * weights
    return b.reduce_sum(digits, axes=(3,), keepdims=False)


def sum_blocks(b: Builder, x, packed, scale, zero, codes, x_scale, *, bits, block) -> Tensor:
    """What `matmul_blocks` is made of, whose integers come with their scales."""
    if x_scale is None and x.dtype != F32:
        x = x.cast(F32)
    elif x_scale is not None:
        x = x.cast(F32) * _column(x_scale)
    if x.rank and x.shape[-1] == block and x_scale is not None:
        x = x.reshape(*x.shape[:-2], packed.shape[1] * block)
    return dequantized(b, x, packed, scale, zero, codes, bits=bits, block=block, activations="f32")
