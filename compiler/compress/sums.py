"""Sums of what each weight meets, and the mean error of outputs that follows from them.

    S[t, c] = Σ x[c, place · stride + t · dilation − pad]     over runs, samples and output places
    shift   = −(w' − w) · S / places                          takes back what rounding w to w' adds

A product is linear in its weights, so the mean error of every output is known from S, whatever the
weights are rounded to in the end: one statistic, counted with all others in the same pass (Nagel et
al. 2019, arXiv:1906.04721, section 4.2, with the true inputs' means, borders included).

Which elements a tap meets is said axis by axis: x times a matrix of zeros and ones [taps, size].
"""

from collections.abc import Sequence

import numpy as np

from ..ir.builder import Builder, Tensor
from ..ir.dims import Dim
from ..ir.graph import Node
from ..ir.types import F32, I64
from .candidates import Product
from .statistics import Statistic


def sums_of(p: Product) -> Statistic:
    """[S …, places] of a product, f32; equal for products that read a value alike."""
    w = p.w.constant
    assert w is not None
    if p.node.op.name != "conv":
        return Statistic("sums", lambda _: np.zeros(w.shape[0] + 1, np.float32), _of_rows)
    window = _Window(p.node, w)
    size = window.channels * int(np.prod(window.taps)) + 1
    return Statistic(f"sums {window}", lambda _: np.zeros(size, np.float32), window.update)


def shift_of(p: Product, counted: np.ndarray, rounded: np.ndarray) -> np.ndarray:
    """What to add to each output of a product, f32, for weights that are `rounded` so."""
    w = p.w.constant
    assert w is not None and p.axis is not None
    sums, places = counted[:-1].astype(np.float64), max(float(counted[-1]), 1)
    off = rounded.astype(np.float64) - w
    if p.node.op.name != "conv":
        return (-(sums @ off) / places).astype(np.float32)
    if not p.node.attrs["channels_last"]:  # [taps …, channels of a group, outputs]
        off = np.moveaxis(off, (0, 1), (-1, -2))
    groups = p.node.attrs["group"]
    off = off.reshape(-1, off.shape[-2], groups, off.shape[-1] // groups)
    shift = np.einsum("tigo,tgi->go", off, sums.reshape(len(off), groups, -1))
    return (-shift.ravel() / places).astype(np.float32)


def _of_rows(b: Builder, old: Tensor, x: Tensor) -> Tensor:
    """Of a matmul: sums over all rows."""
    before = tuple(range(x.rank - 1))
    return old + b.concat(x.sum(axes=before), _count(b, x.shape[:-1]), axis=0)


def _count(b: Builder, shape: Sequence[Dim]) -> Tensor:
    """f32[1] with the number of elements of a shape, whose dims may be open."""
    if all(isinstance(d, int) for d in shape):
        return b.constant(np.float32([np.prod(shape)]))
    return b.scalar(1, F32).expand(tuple(shape)).sum(axes=tuple(range(len(shape)))).reshape(1)


class _Window:
    """Which elements of its data the taps of a convolution meet."""

    def __init__(self, node: Node, w: np.ndarray):
        last, attrs = node.attrs["channels_last"], node.attrs
        self.node, self.last = node, last
        self.taps = w.shape[:-2] if last else w.shape[2:]
        rank = len(self.taps)
        self.channels = (w.shape[-2] if last else w.shape[1]) * attrs["group"]
        self.strides = attrs["strides"] or (1,) * rank
        self.dilations = attrs["dilations"] or (1,) * rank
        self.pads = (attrs["pads"] or (0,) * 2 * rank)[:rank]
        out = node.outputs[0].shape
        self.out = out[1:-1] if last else out[2:]

    def __str__(self) -> str:
        ends = self.node.attrs["pads"] or ()
        return f"{self.taps} {self.strides} {self.dilations} {tuple(ends)} {self.last}"

    def update(self, b: Builder, old: Tensor, x: Tensor) -> Tensor:
        rank, count = len(self.taps), _count(b, (x.shape[0], *self.out))
        spatial = tuple(range(1, 1 + rank) if self.last else range(2, 2 + rank))
        if self._reads_each_once():
            return old + b.concat(x.sum(axes=(0, *spatial)), count, axis=0)
        # Channels last, as they lie in memory mostly: [*S, C], then axis by axis [*taps, C].
        y = x if self.last else x.transpose(0, *spatial, 1)
        y = y.sum(axes=(0,))
        for i in reversed(range(rank)):
            later = y.shape[i + 1 :]
            meets = self._meets(b, i, y.shape[i])
            y = y.reshape(*y.shape[:i], 1, *y.shape[i:])
            y = (y * meets.reshape(*meets.shape, *[1] * len(later))).sum(axes=(i + 1,))
        return old + b.concat(y.reshape(-1), count, axis=0)

    def _reads_each_once(self) -> bool:
        return not any(self.node.attrs["pads"] or ()) and all(
            n == 1 for n in (*self.taps, *self.strides)
        )

    def _meets(self, b: Builder, axis: int, size: Dim) -> Tensor:
        """f32[taps, size]: 1 where one of the output's places reads an element by a tap."""
        taps, stride = np.arange(self.taps[axis], dtype=np.int64), self.strides[axis]
        before = self.pads[axis] - self.dilations[axis] * taps[:, None]
        at = b.iota(shape=(1, size), axis=1, dtype=I64) + b.constant(before)
        last = b.iota(shape=(self.out[axis], 1), axis=0, dtype=I64).max(axes=(0,)) * stride
        inside = b.greater_equal(at, b.scalar(0, I64)) & b.less_equal(at, last)
        return (inside & b.equal(b.mod(at, b.scalar(stride, I64)), b.scalar(0, I64))).cast(F32)
