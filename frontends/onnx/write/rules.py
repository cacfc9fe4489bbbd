"""Ops that ONNX lacks, or lacks for some dtypes or attributes, said by other ops of ours."""

import itertools

import numpy as np

from ....compiler.ir.builder import Builder, Tensor
from ....compiler.ir.dims import Sym, prod
from ....compiler.ir.graph import Node
from ....compiler.ir.types import DTYPES, I32
from ....compiler.ops.contraction.windows import spatial_pads, window_attrs, window_sizes
from ....compiler.ops.internal import strassen, winograd
from .writer import Writer


def by_rule(rule):
    """An entry that writes what `rule(b, *operands, **attributes)` builds."""

    def entry(w: Writer, node: Node):
        w.inline(node, rule)

    return entry


def nothing(b: Builder, *, shape, dtype, reason: str):
    """What ONNX has no word for: its runs go on with NaN, or zeros, where ours fail."""
    return b.scalar(float("nan") if dtype.is_float else 0, dtype).expand(shape)


# -- elementwise --------------------------------------------------------------------------


def arithmetic_shift(b: Builder, x: Tensor, y: Tensor):
    """floor(x / 2^y) of signed x: the bits of negative x are turned, shifted and turned back."""
    if x.dtype.bits < 32:
        return arithmetic_shift(b, x.cast(I32), y.cast(I32)).cast(x.dtype)
    unsigned, zero = DTYPES[f"u{x.dtype.bits}"], b.scalar(0, x.dtype)
    sign = b.where(x < zero, b.scalar(-1, x.dtype), zero)
    bits = b.bitwise_xor(x, sign).cast(unsigned)
    shifted = b.shift_right(bits, y.cast(unsigned)).cast(x.dtype)
    return b.bitwise_xor(shifted, sign)


def float_mod(b: Builder, x: Tensor, y: Tensor, *, fmod: bool):
    """The remainder with the divisor's sign, from the one with the dividend's, which is exact."""
    zero = b.scalar(0, x.dtype)
    r = b.mod(x, y, fmod=True)
    other = b.where((r < zero) ^ (y < zero), r + y, r)
    return b.where(b.equal(r, zero), b.where(y < zero, b.scalar(-0.0, x.dtype), zero), other)


def celu(b: Builder, x: Tensor, *, alpha: float):
    """max(x, 0) + min(0, alpha * (e^(x / alpha) - 1))"""
    zero = b.scalar(0, x.dtype)
    low = (b.exp(b.minimum(x, zero) * (1 / alpha)) - 1) * alpha
    return b.where(x > zero, x, low)


# -- windows ------------------------------------------------------------------------------


def conv_by_products(
    b: Builder, x, w, bias=None, *, strides, pads, dilations, group, channels_last=False
):
    """y = sum over taps k of w[:, :, k] @ x[:, :, k + stride * p]: a matrix product for each."""
    rank = x.rank
    if channels_last:
        x = x.transpose(0, rank - 1, *range(1, rank - 1))
        w = w.transpose(rank - 1, rank - 2, *range(rank - 2))
    kernel, outputs = w.shape[2:], w.shape[0]
    strides, pads, dilations = window_attrs(rank - 2, kernel, strides, pads, dilations)
    sizes = window_sizes(x.shape[2:], kernel, strides, pads, dilations)
    w = w.reshape(group, outputs // group, *w.shape[1:])
    total = None
    for tap, seen in slices_of_taps(b, x, kernel, strides, pads, dilations, sizes):
        columns = seen.reshape(x.shape[0], group, x.shape[1] // group, prod(sizes))
        part = b.matmul(w[(..., *tap)], columns)
        total = part if total is None else total + part
    y = total.reshape(x.shape[0], outputs, *sizes)
    if bias is not None:
        y = y + bias.reshape(outputs, *[1] * (rank - 2))
    return y.transpose(0, *range(2, rank), 1) if channels_last else y


def slices_of_taps(b: Builder, x, kernel, strides, pads, dilations, sizes):
    """(tap, what it sees of x [N, C, *S] in all windows, [N, C, *sizes]) for each tap."""
    n = x.rank - 2
    if any(isinstance(p, Sym) or p for p in pads):
        x = b.pad(x, pads=(0, 0, *pads[:n], 0, 0, *pads[n:]))
    for tap in itertools.product(*map(range, kernel)):
        starts = tuple(k * d for k, d in zip(tap, dilations))
        axes = tuple(range(2, x.rank))
        yield (
            tap,
            b.slice(x, axes=axes, starts=starts, steps=tuple(strides), sizes=tuple(sizes)),
        )


def conv_transpose_beyond(b: Builder, x, w, bias=None, *, pads, channels_last, **attrs):
    """Negative pads: zeros around the result, the bias after them."""
    n = x.rank - 2
    attrs["channels_last"] = channels_last
    y = b.conv_transpose(x, w, pads=tuple(max(p, 0) for p in pads), **attrs)
    y = b.pad(y, pads=spatial_pads([max(-p, 0) for p in pads], n + 2, channels_last))
    return y if bias is None else y + bias.reshape(-1, *[1] * (0 if channels_last else n))


def unpool(b: Builder, y: Tensor, indices: Tensor, *, sizes, **_):
    """Every y is added at its index of the whole result."""
    shape = (*y.shape[:2], *sizes)
    zeros = b.expand(b.scalar(0, y.dtype), shape=(prod(shape),))
    total = prod(y.shape)
    flat = b.scatter_elements(
        zeros, indices.reshape(total), y.reshape(total), axis=0, reduction="add"
    )
    return flat.reshape(shape)


# -- Winograd's convolutions ----------------------------------------------------------------


def winograd_input(b: Builder, x: Tensor, *, tile: int):
    """Bᵗ d B: the a x a windows, a strided slice for each of their places, times B on both axes;
    of integers in 32 bits."""
    whole, dtype = x.dtype.is_int, x.dtype
    _, _, b_t = (winograd.whole_matrices if whole else winograd.matrices)(tile)
    x = x.cast(I32) if whole else x
    a = len(b_t)
    n, h, w, c = x.shape
    counts = ((h - 2) // tile, (w - 2) // tile)
    places = [
        b.slice(x, axes=(1, 2), starts=place, steps=(tile, tile), sizes=counts)
        for place in itertools.product(range(a), range(a))
    ]
    windows = b.concat(*[p.reshape(1, *p.shape) for p in places], axis=0)
    windows = windows.reshape(a, a, n, *counts, c)
    m = b.constant(b_t.astype(x.dtype.numpy))
    return b.einsum(m, m, windows, equation="pi,qj,ijnyxc->pqnyxc").cast(dtype)


def winograd_output(b: Builder, m: Tensor, *, tile: int, sizes):
    """Aᵗ m A of every block; blocks become rows and columns, of which `sizes` stay. What integers
    have to be divided by is an odd number, of which there is an inverse, times a power of two."""
    whole = m.dtype.is_int
    a_t, _, _ = (winograd.whole_matrices if whole else winograd.matrices)(tile)
    matrix = b.constant(a_t.astype(m.dtype.numpy))
    _, _, n, h, w, c = m.shape
    y = b.einsum(matrix, matrix, m, equation="ip,jq,pqnyxo->nyixjo")
    if whole:
        odd, shift = winograd.odd_and_shift(tile)
        y = y * b.constant(np.uint32(pow(odd, -1, 1 << 32)).view(np.int32))
        power = b.scalar(1 << shift, I32)
        y = (y - b.mod(y, power)) / power
    y = y.reshape(n, h * tile, w * tile, c)
    return b.slice(y, axes=(1, 2), starts=(0, 0), steps=(1, 1), sizes=tuple(sizes))


# -- Strassen's products --------------------------------------------------------------------


def mosaic(b: Builder, *xs: Tensor, shape, starts):
    """The sum of the pieces, each with zeros around it."""
    total, rank = None, len(shape)
    for k, x in enumerate(xs):
        begin = starts[k * rank :][:rank]
        end = [d - p - e for d, p, e in zip(shape, begin, x.shape)]
        piece = b.pad(x, pads=(*begin, *end), mode="constant")
        total = piece if total is None else total + piece
    return total


def strassen_input(b: Builder, x: Tensor):
    """Quarters of x, with a last row of zeros if it needs one, and their sums side by side."""
    rank, (m, k) = x.rank, x.shape[-2:]
    if m % 2:
        x = b.pad(x, pads=(*[0] * rank, *[0] * (rank - 2), 1, 0), mode="constant")
    quarter = {
        (r, c): b.slice(
            x,
            axes=(rank - 2, rank - 1),
            starts=(r, c * (k // 2)),
            steps=(2, 1),
            sizes=(-(-m // 2), k // 2),
        )
        for r, c in itertools.product((0, 1), (0, 1))
    }
    sums = [
        strassen.signed_sum([(sign, quarter[q]) for q, sign in f.items()]) for f in strassen.LEFT
    ]
    return b.concat(*[y.reshape(1, *y.shape) for y in sums], axis=0)


def strassen_product(b: Builder, a: Tensor, w: Tensor):
    """Products by the four stored factors, and by the sums of the first with the others."""
    rest = strassen.STORED - 1
    part = lambda start, size: b.slice(w, axes=(0,), starts=(start,), steps=(1,), sizes=(size,))
    factors = b.concat(w, part(0, 1) + part(1, rest), axis=0)
    return a @ factors.reshape(factors.shape[0], *[1] * (a.rank - 3), *w.shape[1:])


def strassen_output(b: Builder, p: Tensor, *, sizes):
    """Sums of products become quarters of rows and columns, of which `sizes` stay."""
    _, *outer, rows, columns = p.shape
    each = [
        b.slice(p, axes=(0,), starts=(i,), steps=(1,), sizes=(1,)).reshape(*p.shape[1:])
        for i in range(strassen.PRODUCTS)
    ]
    line = lambda r: b.concat(
        *[
            strassen.signed_sum([(sign, each[i]) for i, sign in strassen.SUMS[r, c].items()])
            for c in (0, 1)
        ],
        axis=p.rank - 2,
    )
    lines = [line(r).reshape(*outer, rows, 1, 2 * columns) for r in (0, 1)]
    y = b.concat(*lines, axis=p.rank - 2).reshape(*outer, 2 * rows, 2 * columns)
    return b.slice(
        y, axes=(y.rank - 2, y.rank - 1), starts=(0, 0), steps=(1, 1), sizes=tuple(sizes)
    )


# -- choices ------------------------------------------------------------------------------


def is_plain_unpool(node: Node) -> bool:
    """Whether MaxUnpool says it: windows do not overlap, and give the size by themselves."""
    a, rank = node.attrs, node.inputs[0].rank - 2
    strides = a["strides"] or (1,) * rank
    pads = a["pads"] or (0,) * 2 * rank
    dilations = a["dilations"] or (1,) * rank
    sizes = tuple(
        (d - 1) * s - low - high + k
        for d, s, low, high, k in zip(
            node.inputs[0].shape[2:], strides, pads, pads[rank:], a["kernel"]
        )
    )
    apart = all(s >= k and e == 1 for s, k, e in zip(strides, a["kernel"], dilations))
    return apart and sizes == tuple(a["sizes"])
