"""Packing rows of A, or columns of B, for a register tile: [row][k] in memory becomes [k][row].

Then the inner loop reads one stream of memory rather than one per row. Blocks of rows x k, square
with as many of each as a vector has lanes, are transposed in registers: log2(lanes) rounds, each of
which exchanges halves, quarters, … between pairs of vectors.
"""

from collections.abc import Sequence

import llvmlite.ir as ir

from .....classes import dataclass
from .....expr.expr import Axis
from .....ir.dims import Sym
from .....ir.types import DType
from ...base.types import I32, i64, register_type, vector
from ...emit.emitter import Emitter
from ...emit.lanes import lanes_below, minimum
from .tiling import merged


@dataclass
class TransposePack:
    """Turns a tile of `rows` rows, `places` apart in A; there are at least `lanes` of them."""

    e: Emitter
    dtype: DType
    rows: int
    places: Sequence[int | Sym | ir.Value]

    def __post_init__(self):
        self.type = register_type(self.dtype)
        self.lanes = self.e.target.lanes(self.dtype.bits)
        self.vector = vector(self.type, self.lanes)

    def run(self, axes: Sequence[Axis], strides: dict[Axis, int], a: ir.Value, out) -> None:
        """All of k, which is contiguous along the last of `axes`."""
        loops = merged(axes, strides)
        outer, (extent, _) = loops[:-1], loops[-1]
        self._outer(outer, extent, a, out)

    def _outer(self, loops: list[tuple[int, int]], extent: int, a, out) -> None:
        e = self.e
        if not loops:
            self._blocks(extent, a, out)
            return
        (count, stride), *inner = loops
        size = extent * self.rows
        for n, _ in inner:
            size *= n
        with e.loop(i64(0), e.size(count), name="turn") as i:
            source = self._moved(a, e.b.mul(i, e.size(stride)))
            self._outer(inner, extent, source, self._moved(out, e.b.mul(i, e.size(size))))

    def _blocks(self, extent: int, a, out) -> None:
        """Blocks along k; the last one, and the last of the rows, overlap those before them."""
        e, lanes = self.e, self.lanes
        if isinstance(extent, Sym):
            stop = e.size(extent)
            whole = e.b.sub(stop, e.b.urem(stop, i64(lanes)))
            with e.loop(i64(0), whole, lanes, name="turn") as k:
                self._block(k, a, out)
            with e.b.if_then(e.b.icmp_signed("<", whole, stop)):
                self._block(whole, a, out, lanes_below(e, whole, stop, lanes))
            return
        with e.loop(i64(0), i64(extent), lanes, name="turn") as k:
            if extent % lanes:
                k = minimum(e, k, i64(extent - lanes))
            self._block(k, a, out)

    def _block(self, k: ir.Value, a, out, mask: ir.Value | None = None) -> None:
        """Columns k to k + lanes of all rows; where there is a mask, those past the end become
        zero."""
        e = self.e
        firsts = [*range(0, self.rows - self.lanes, self.lanes), self.rows - self.lanes]
        source, target = self._moved(a, k), self._moved(out, e.b.mul(k, i64(self.rows)))
        for first in firsts:
            block = [
                self._load(self._moved(source, self._place(first + r)), mask)
                for r in range(self.lanes)
            ]
            for j, column in enumerate(self._transposed(block)):
                place = self._moved(target, i64(j * self.rows + first))
                e.b.store(column, place, align=self.dtype.bytes)

    def _load(self, place: ir.Value, mask: ir.Value | None) -> ir.Value:
        if mask is None:
            return self.e.b.load(place, typ=self.vector, align=self.dtype.bytes)
        return self.e.load_masked(place, self.vector, self.dtype.bytes, mask)

    def _place(self, row: int) -> ir.Value:
        place = self.places[row]
        return place if isinstance(place, ir.Value) else self.e.size(place)

    def _transposed(self, block: list[ir.Value]) -> list[ir.Value]:
        half = self.lanes // 2
        while half:
            low, high = self._masks(half)
            new = list(block)
            for i in range(self.lanes):
                if not i & half:
                    x, y = block[i], block[i + half]
                    new[i] = self.e.b.shuffle_vector(x, y, low)
                    new[i + half] = self.e.b.shuffle_vector(x, y, high)
            block, half = new, half // 2
        return block

    def _masks(self, half: int) -> tuple[ir.Constant, ir.Constant]:
        """Lanes of (x, y) whose index lacks the bit `half` (low) or has it (high), x's before y's
        in each pair of groups."""
        type = vector(I32, self.lanes)
        low = [i if not i & half else self.lanes + i - half for i in range(self.lanes)]
        high = [i + half if not i & half else self.lanes + i for i in range(self.lanes)]
        return ir.Constant(type, low), ir.Constant(type, high)

    def _moved(self, pointer: ir.Value, elements: ir.Value) -> ir.Value:
        return self.e.b.gep(pointer, [elements], source_etype=self.type)
