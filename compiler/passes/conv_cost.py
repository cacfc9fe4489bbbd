"""What a convolution costs in either layout, before there are kernels: cycles by the tiles that it
would get (`kernels/tiling.py`).

    channels last    rows are places of the image, columns are output channels
    channels first   rows are output channels, columns are places of a line

Where each channel is by itself there is no product: vectors are channels, or places of a line.

A product wastes what its columns leave of a vector and what its rows leave of a tile: few channels
are wasted by the one layout, short lines by the other.
"""

from math import ceil, prod

from ..analysis.core_model import CORES
from ..classes import dataclass
from ..ir.bounds import size_hint
from ..ir.dims import is_static
from ..ir.graph import Node
from ..kernels.tiling import choose_tile, is_short_stride, step_cycles
from ..ops.contraction.windows import window_attrs

# Cycles.
MOVED = 1.0  # per element that a transpose moves
PICKED = 1.2  # per element of a window that is copied one by one, since windows move by several
SHUFFLED = 0.5  # the same, where they move by so few that vectors hold them
COPIED = 1.5  # per vector of a window that is copied
FEW = 16  # outputs that read windows where they lie
TILE = 30.0  # around a tile
WITHOUT_TILES = 1.0  # per product where columns are too few for tiles
TAP_LAST, TAP_FIRST = 0.9, 1.1  # per vector and tap where each channel is by itself
APART = 0.8  # more of these where a line's places are `step` apart
LONGEST_STEP = 4  # that vectors along a line are made for
TRANSFORMED = 1.5  # per element of a block of Winograd's, before and after products
FAR = 3.5  # the same, where no cache holds all blocks
CACHED = 16 << 20  # bytes of blocks that a cache holds


@dataclass(frozen=True)
class Convolution:
    """A convolution's sizes: images, channels and outputs of a group, lines and places of a line of
    the result, taps, the step from a place to the next, whether neighbours share what they read,
    whether lines are as long as is expected only (then windows are copied)."""

    images: int
    groups: int
    channels: int
    outputs: int
    lines: int
    width: int
    taps: int
    step: int
    slides: bool
    element_bytes: int
    is_winograd: bool
    is_open: bool = False

    @classmethod
    def of(cls, node: Node) -> "Convolution | None":
        """Of a convolution with channels first; None where its channels are open, or its lines
        while each channel is by itself."""
        (x, w, *_), out, attrs = node.inputs, node.output, node.attrs
        if x is None or w is None or not is_static((x.shape[1], *w.shape)) or 0 in out.shape:
            return None
        is_open = not is_static(x.shape[2:])
        if is_open and w.shape[1] == 1 == w.shape[0] // attrs["group"]:
            return None
        kernel, groups = w.shape[2:], attrs["group"]
        strides, pads, dilations = window_attrs(
            x.rank - 2, kernel, attrs["strides"], attrs["pads"], attrs["dilations"]
        )
        *lines, width = map(size_hint, out.shape[2:])
        if set(kernel) == set(strides) == {1} and not any(pads):
            lines, width = [], prod(map(size_hint, out.shape[2:]))
        plain = x.rank == 4 and kernel == (3, 3) and {*strides, *dilations} == {1}
        return cls(
            images=size_hint(out.shape[0]),
            groups=groups,
            channels=w.shape[1],
            outputs=w.shape[0] // groups,
            lines=prod(lines),
            width=width,
            taps=prod(kernel),
            step=strides[-1],
            slides=strides[-1] == 1 and kernel[-1] > 1,
            element_bytes=x.dtype.bytes,
            is_winograd=plain and groups == 1 and min(w.shape[:2]) >= 16,
            is_open=is_open,
        )

    @property
    def places(self) -> int:
        """Places of all results."""
        return self.images * self.lines * self.width

    @property
    def depth(self) -> int:
        return self.channels * self.taps

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel is by itself."""
        return self.channels == 1 == self.outputs

    @property
    def is_window(self) -> bool:
        """Whether vectors may run along its lines where each channel is by itself."""
        return self.is_depthwise and self.width >= 4 and self.step <= LONGEST_STEP

    def has_tiles(self, vector_bytes: int) -> bool:
        """Whether its outputs are columns enough for tiles."""
        return self.outputs >= max(4, self._lanes(vector_bytes) // 4)

    def channels_last(self, vector_bytes: int) -> float:
        """Cycles with channels last."""
        lanes, core = self._lanes(vector_bytes), CORES[vector_bytes]
        if self.is_depthwise:
            return self.places * ceil(self.groups / lanes) * self.taps * TAP_LAST
        if not self.has_tiles(vector_bytes):
            return WITHOUT_TILES * self.places * self.groups * self.outputs * self.depth
        rows, lines = self.width, self.images * self.lines
        if rows < core.rows:  # tiles of several lines
            rows, lines = rows * lines, 1
        direct = self.groups * lines * self._product(rows, self.outputs, vector_bytes)
        if not self.is_winograd:
            return direct
        blocks = self.places / 16
        products = core.product_cycles(36 * blocks * self.channels * self.outputs)
        elements = 36 * blocks * (self.channels + self.outputs)
        moved = elements * (FAR if elements * self.element_bytes > CACHED else TRANSFORMED)
        return min(direct, products + moved)

    def channels_first(self, vector_bytes: int) -> float:
        """Cycles with channels first."""
        lines = self.images * self.groups * self.lines
        windows = self.depth * self.width
        lanes = self._lanes(vector_bytes)
        if self.is_depthwise:
            while lanes > max(4, self.width):
                lanes //= 2
            each = TAP_FIRST + (APART if self.step > 1 else 0)
            return lines * ceil(self.width / lanes) * self.taps * each
        copies = COPIED * windows / lanes
        if self.slides and self.outputs <= FEW and not self.is_open:
            copies = 0
        if self.step > 1:
            copies = windows * (SHUFFLED if is_short_stride(self.step, lanes) else PICKED)
        return lines * (self._product(self.outputs, self.width, vector_bytes) + copies)

    def _lanes(self, vector_bytes: int) -> int:
        return vector_bytes // max(4, self.element_bytes)

    def _product(self, m: int, n: int, vector_bytes: int) -> float:
        """Cycles of an m × n product."""
        lanes = self._lanes(vector_bytes)
        registers, embedded = 16 if vector_bytes == 32 else 32, vector_bytes == 64
        tile = choose_tile(m, n, lanes, registers, embedded=embedded)
        step = step_cycles(tile.rows, tile.vectors, embedded=embedded)
        tiles = ceil(m / tile.rows) * ceil(n / (tile.vectors * lanes))
        return tiles * (self.depth * step + TILE)
