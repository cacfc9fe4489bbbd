"""Convolutions of 3 x 3 taps and stride 1 by Winograd's minimal filtering, where that is less work.

    %y = conv(%x, %w) {pads=[1,1,1,1]}   =>   %p = pad(%x)                       whole blocks
                                              %v = winograd_input(%p) {tile=t}   [a,a,N,H',W',C]
                                              %m = %v @ %u                       [a·a, blocks, O]
                                              %y = winograd_output(%m)           u = G w Gᵗ

F(4, 3) needs a quarter of the products and F(2, 3) four ninths, but a² / 9 of the weights, and
its blocks are moved through memory. The largest rounding error of a sum grows about ten- and
threefold (`ops/internal/winograd.py`). For CPUs, after the layout is channels last; `strict` keeps
convolutions as they are.
"""

from math import ceil
from typing import ClassVar

import numpy as np

from ...analysis.core_model import CORES, Core, core_of
from ...classes import dataclass
from ...ir.bounds import size_hint
from ...ir.builder import Builder
from ...ir.dims import is_static
from ...ir.graph import Graph, Node, Value
from ...ir.types import F32
from ...ops.contraction.windows import window_attrs
from ...ops.internal.winograd import POINTS, TAPS, weights
from ..base import Pass, Report

GAIN = 0.85  # share of the direct convolution's time below which it pays
WEIGHTS = 5.0  # bytes per cycle from memory, of weights that no cache holds
CACHED = 1 << 20  # bytes of weights that stay in a cache


@dataclass(frozen=True)
class Winograd(Pass):
    """conv(x, w) => winograd_output(winograd_input(x) @ u), for vectors of so many bytes"""

    name: ClassVar[str] = "winograd"
    vector_bytes: int = 64
    cpu: str = ""

    def run(self, graph: Graph, report: Report) -> bool:
        def tiled(b: Builder, node: Node) -> Value | None:
            tile = choose_tile(node, core_of(self.vector_bytes, self.cpu))
            if tile is None:
                return None
            report.apply(f"conv(x, w) => Winograd F({tile}, {TAPS})", node.where)
            return _convert(b, node, tile).value

        return self.exchange(graph, report, tiled)


def choose_tile(node: Node, core: Core = CORES[64]) -> int | None:
    """Outputs per block and axis that make the convolution cheapest, None where it is best as it
    is, or is no convolution that this pass knows."""
    if not _is_candidate(node):
        return None
    n, height, width, outputs = node.output.shape
    return least_cycles(size_hint(n), height, width, node.inputs[0].shape[-1], outputs, core)[0]


def least_cycles(
    n: int, height: int, width: int, channels: int, outputs: int, core: Core
) -> tuple[int | None, float]:
    """The tile that makes a 3 x 3 convolution of so many outputs cheapest, None if none does; and
    about how many cycles it takes then."""

    def cycles(products: float, rows: int, taps: int) -> float:
        nbytes = taps * channels * outputs * 4
        stream = nbytes / WEIGHTS if nbytes > CACHED else 0.0
        return max(core.product_cycles(products * channels * outputs, rows), stream)

    direct = cycles(n * height * width * TAPS**2, n * height * width, TAPS**2)
    best, least, taken = None, GAIN * direct, direct
    for tile in POINTS:
        a = tile + TAPS - 1
        blocks = n * ceil(height / tile) * ceil(width / tile)
        moved = core.moved * a * a * blocks * (channels + outputs)
        total = cycles(a * a * blocks, blocks, a * a) + moved
        if total < least:
            best, least, taken = tile, total, total
    return best, taken


def _is_candidate(node: Node) -> bool:
    if node.op.name != "conv" or not node.attrs["channels_last"] or node.attrs["group"] != 1:
        return False
    x, w = node.inputs[:2]
    known = x.rank == 4 and is_static(x.shape[1:]) and w.constant is not None and x.dtype == F32
    if not known or w.shape[:2] != (TAPS, TAPS) or w.shape[2] < 16 or w.shape[3] < 16:
        return False
    strides, pads, dilations = window_attrs(
        2, w.shape[:2], node.attrs["strides"], node.attrs["pads"], node.attrs["dilations"]
    )
    plain = set(strides) == set(dilations) == {1} and all(p >= 0 for p in pads)
    return plain and 0 not in node.output.shape


def _convert(b: Builder, node: Node, tile: int):
    x, w, *bias = node.inputs
    n, height, width, outputs = node.output.shape
    a = tile + TAPS - 1
    _, pads, _ = window_attrs(2, w.shape[:2], (), node.attrs["pads"], ())
    blocks = ceil(height / tile), ceil(width / tile)
    more = [k * tile + TAPS - 1 - d - low for k, d, low in zip(blocks, x.shape[1:3], pads)]
    padded = b.tensor(x)
    if any((*pads[:2], *more)):
        padded = b.pad(x, pads=(0, *pads[:2], 0, 0, *more, 0), mode="constant")
    v = b.winograd_input(padded, tile=tile)
    u = b.constant(weights(w.constant, tile).astype(np.float32))
    m = v.reshape(a * a, n * blocks[0] * blocks[1], x.shape[-1]) @ u
    y = b.winograd_output(m.reshape(a, a, n, *blocks, outputs), tile=tile, sizes=(height, width))
    return y if not bias or bias[0] is None else y + b.tensor(bias[0])
