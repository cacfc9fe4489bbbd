"""Convolutions of bytes of 3 x 3 taps and stride 1 by Winograd's minimal filtering, exactly.

    %y = conv_integer(%x, %w, z, u)   =>   %p = pad(cast(%x) - z)                i16, whole blocks
                                           %v = winograd_input(%p) {tile=t}      i16 [a,a,N,H',W',C]
                                           %m = matmul_integer(%v, U)            [a·a, blocks, O]
                                           %y = winograd_output(%m)              U = G (w - u) Gᵗ

F(4, 3) needs a quarter of the products, F(2, 3) four ninths. No bit is lost
(`ops/internal/winograd.py`): transformed data are sums of at most 100 differences of bytes,
transformed weights are looked at, and so is what a channel's sums can be at most. For CPUs that
multiply pairs of 16 bits and have no products of bytes, after the layout is channels last.
"""

from math import ceil
from typing import ClassVar

import numpy as np

from ...analysis.core_model import Core, core_of
from ...classes import dataclass
from ...ir.bounds import size_hint
from ...ir.builder import Builder
from ...ir.dims import is_static
from ...ir.graph import Graph, Node, Value
from ...ir.types import I16
from ...ops.contraction.windows import window_attrs
from ...ops.internal.winograd import (
    TAPS,
    WHOLE_POINTS,
    whole_limit,
    whole_weights,
)
from ..base import Pass, Report
from .winograd import CACHED, GAIN, WEIGHTS

PAIRS = 1.3  # products of pairs by f32 products, per cycle
WIDE = (1 << 15) - 1


@dataclass(frozen=True)
class WinogradIntegers(Pass):
    """conv_integer(x, w) => winograd_output(winograd_input(x) @ U), for vectors of so many bytes

    `wide`: whether pairs of 16 bits are what the CPU multiplies; else nothing is done."""

    name: ClassVar[str] = "winograd_integers"
    vector_bytes: int = 64
    wide: bool = False
    cpu: str = ""

    def run(self, graph: Graph, report: Report) -> bool:
        def tiled(b: Builder, node: Node) -> Value | None:
            tile = choose_tile(node, core_of(self.vector_bytes, self.cpu))
            if tile is None:
                return None
            report.apply(f"conv_integer(x, w) => Winograd F({tile}, {TAPS})", node.where)
            return _convert(b, node, tile).value

        return self.wide and self.exchange(graph, report, tiled)


def choose_tile(node: Node, core: Core) -> int | None:
    """Outputs per block and axis that make the convolution cheapest, of those that keep every bit;
    None where it is best as it is, or is no convolution that this pass knows."""
    if not _is_candidate(node):
        return None
    n, height, width, outputs = node.output.shape
    n, channels = size_hint(n), node.inputs[0].shape[-1]

    def cycles(products: float, rows: int, nbytes: int) -> float:
        stream = nbytes / WEIGHTS if nbytes > CACHED else 0.0
        return max(core.product_cycles(products * channels * outputs, rows) / PAIRS, stream)

    places = n * height * width
    best, least = None, GAIN * cycles(places * TAPS**2, places, TAPS**2 * channels * outputs * 2)
    for tile in WHOLE_POINTS:
        a = tile + TAPS - 1
        blocks = n * ceil(height / tile) * ceil(width / tile)
        moved = core.moved * a * a * blocks * (channels / 2 + outputs)
        total = cycles(a * a * blocks, blocks, a * a * channels * outputs * 2) + moved
        if total < least and _is_exact(node, tile):
            best, least = tile, total
    return best


def _is_candidate(node: Node) -> bool:
    if node.op.name != "conv_integer" or not node.attrs["channels_last"]:
        return False
    x, w, *zeros = node.inputs
    if x.rank != 4 or x.dtype.bits != 8 or w.constant is None or node.attrs["group"] != 1:
        return False
    if not is_static(x.shape[1:]) or w.shape[:2] != (TAPS, TAPS) or min(w.shape[2:]) < 16:
        return False
    if w.shape[2] % 2 or any(z is not None and z.constant is None for z in zeros):
        return False
    strides, pads, dilations = window_attrs(
        2, w.shape[:2], node.attrs["strides"], node.attrs["pads"], node.attrs["dilations"]
    )
    plain = set(strides) == set(dilations) == {1} and all(p >= 0 for p in pads)
    return plain and 0 not in node.output.shape


def _zero(node: Node, position: int) -> np.ndarray:
    """A zero point, in i64."""
    value = node.inputs[position] if len(node.inputs) > position else None
    return np.zeros((), np.int64) if value is None else value.constant.astype(np.int64)


def _weights(node: Node) -> np.ndarray:
    """The weights less their zero points: [3, 3, C, O] in i64."""
    return node.inputs[1].constant.astype(np.int64) - _zero(node, 3)


def _is_exact(node: Node, tile: int) -> bool:
    """Whether transformed weights fit 16 bits, and every sum is within what comes out right."""
    limits, zero = np.iinfo(node.inputs[0].dtype.numpy), int(_zero(node, 2).reshape(()))
    most = max(limits.max - zero, zero - limits.min)
    w = _weights(node)
    sums = np.abs(w).sum((0, 1, 2)).max() * most
    return sums < whole_limit(tile) and np.abs(whole_weights(w, tile)).max() <= WIDE


def _convert(b: Builder, node: Node, tile: int):
    x, w = node.inputs[:2]
    n, height, width, outputs = node.output.shape
    a = tile + TAPS - 1
    _, pads, _ = window_attrs(2, w.shape[:2], (), node.attrs["pads"], ())
    blocks = ceil(height / tile), ceil(width / tile)
    more = [k * tile + TAPS - 1 - d - low for k, d, low in zip(blocks, x.shape[1:3], pads)]
    padded, zero = b.tensor(x).cast(I16), _zero(node, 2)
    if zero.any():
        padded = padded - b.constant(zero.reshape(()).astype(np.int16))
    if any((*pads[:2], *more)):
        padded = b.pad(padded, pads=(0, *pads[:2], 0, 0, *more, 0), mode="constant")
    v = b.winograd_input(padded, tile=tile)
    u = b.constant(whole_weights(_weights(node), tile).astype(np.int16))
    m = b.matmul_integer(v.reshape(a * a, n * blocks[0] * blocks[1], x.shape[-1]), u)
    return b.winograd_output(m.reshape(a, a, n, *blocks, outputs), tile=tile, sizes=(height, width))
