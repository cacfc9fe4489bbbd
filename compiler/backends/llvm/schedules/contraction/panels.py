"""Panels of B: where they lie packed, how they are packed while a kernel runs, and panels that are
sums of two others.

Weights of Strassen's products (`internal/strassen.py`) are sums of two stored ones for three of the
seven: B[p] is W[p] for p < 4, else W[0] + W[p - 3]. Only W is packed. The first tile of a group
takes the sums, of which its multiply-adds hide a part, and leaves them in scratch for the others.
"""

from math import ceil

import llvmlite.ir as ir

from .....classes import dataclass
from .....expr import expr as s
from .....ir.bounds import size_hint
from .....kernels.machine import LINE
from .....kernels.tiling import linear_load
from ...base.types import I8, i64, memory_type, register_type
from ...emit.emitter import Emitter
from ...emit.lanes import minimum
from ...emit.reduction import identity
from .choose import turns_columns
from .epilogue import columns_left
from .tile import NextColumns, PanelPrefetch, rounds_of
from .tiling import Tiling
from .transpose import TransposePack


@dataclass(frozen=True)
class Part:
    """Steps of a panel, as pointers to rows of `width` elements: where all tiles find them, or all
    but the first one, which has to write them there where the panel `is_sum`, from `terms`."""

    place: ir.Value
    is_sum: ir.Value | None = None
    terms: tuple[ir.Value, ...] = ()


class Panels:
    """B's panels: `go` to one, then ask for a part of it."""

    def __init__(self, e: Emitter, plan: Tiling, packed: ir.Value, scratch: ir.Value):
        self.e, self.plan, self.packed, self.scratch = e, plan, packed, scratch
        self.dtype = plan.dtype
        self.type = register_type(self.dtype)
        self.start: ir.Value | None = None  # of the panel, or of the second one of a sum
        self.first: ir.Value | None = None  # of the first one of a sum
        self.is_sum: ir.Value | None = None  # whether the panel is a sum

    def go(self, index: ir.Value, column: ir.Value) -> None:
        """To a panel, which begins with a column. It is packed first, if it must be."""
        plan = self.plan
        if plan.b == "pack":
            self._pack(column)
            self.start = self.scratch
        elif plan.b in ("direct", "slide"):
            self.start = self._in_place(column)
        elif plan.stored:
            (axis,) = plan.outer
            p, last = self.e.where[axis], i64(plan.stored)
            self.is_sum = self.e.b.icmp_signed(">=", p, last)
            place = self.e.b.select(self.is_sum, self.e.b.sub(p, i64(plan.stored - 1)), p)
            self.first, self.start = self._packed(i64(0), index), self._packed(place, index)
        else:
            place = None
            for a in plan.outer:
                if a in plan.contraction.b.free:
                    here = self.e.where[a]
                    if place is not None:
                        here = self.e.b.add(self.e.b.mul(place, self.e.size(a.extent)), here)
                    place = here
            self.start = self._packed(place, index)

    def _packed(self, place: ir.Value | None, index: ir.Value) -> ir.Value:
        """Where the panel `index` of the outer `place` is packed."""
        e, plan = self.e, self.plan
        if place is not None:
            index = e.b.add(e.b.mul(place, e.size(plan.panels)), index)
        offset = e.b.mul(index, e.size(plan.panel_pitch))
        return e.b.gep(self.packed, [offset], source_etype=self.type)

    def _in_place(self, column: ir.Value) -> ir.Value:
        """Where B itself has the first row of the panel."""
        e, plan, c = self.e, self.plan, self.plan.contraction
        strides, base = linear_load(c.b)
        terms = {s.axis(a): n for a, n in strides.items() if a not in c.k and a.extent != 1}
        with e.at(plan.n, column):
            offset = e.offset(terms, base)
        return e.b.gep(e.pointers[c.b.data], [offset], source_etype=self.type)

    def at(self, step: ir.Value) -> Part:
        """The steps of k from `step` on."""
        place = self._step(self.start, step)
        if not self.plan.stored:
            return Part(place)
        left = self.e.b.select(self.is_sum, self.scratch, place)
        return Part(left, self.is_sum, (self._step(self.first, step), place))

    def _step(self, panel: ir.Value, step: ir.Value) -> ir.Value:
        offset = self.e.b.mul(step, self.e.size(self.plan.line_distance))
        return self.e.b.gep(panel, [offset], source_etype=self.type)

    # -- fetching -----------------------------------------------------------------------------

    def prefetched(self, step: ir.Value, steps: int, slot: ir.Value, loops: list) -> PanelPrefetch:
        """A tile's share of fetching the `steps` steps from `step` on, which may be those of the
        panels that follow, as its own loops go round. Where a panel is a sum, the tiles of the
        first half of a group fetch one of its terms, the others the other one."""
        b, plan = self.e.b, self.plan
        rounds = rounds_of(loops, plan.tile, plan.unroll)
        size = steps * plan.width * plan.dtype.bytes
        pace = most = ceil(size / (plan.group * rounds))
        start, moved = self.start, i64(pace)
        if plan.stored:
            half = plan.group // 2
            most = ceil(size / (half * rounds))
            moved = b.select(self.is_sum, i64(most), moved)
            other = b.and_(self.is_sum, b.icmp_signed(">=", slot, i64(half)))
            start = b.select(other, self.first, start)
            slot = b.sub(slot, b.select(other, i64(half), i64(0)))
        share = b.mul(slot, b.mul(moved, i64(rounds)))
        place = b.gep(self._step(start, step), [share], source_etype=I8)
        return PanelPrefetch(place, moved, ceil(most / LINE))

    def next_columns(self, slot: ir.Value) -> NextColumns | None:
        """A tile's share of fetching what the next panel reads of a B that is read in place and
        that no near cache holds: the lines of each row, one tile after the other."""
        e, plan = self.e, self.plan
        if plan.b != "slide" or size_hint(plan.contraction.b.data.type.nbytes) <= e.target.l2 // 2:
            return None
        nbytes = plan.width * plan.dtype.bytes
        lines = ceil(ceil(nbytes / LINE) / size_hint(plan.line_tiles))
        distance = e.b.add(e.b.mul(slot, i64(lines * LINE)), i64(nbytes))
        return NextColumns(distance, lines)

    # -- packing ------------------------------------------------------------------------------

    def _pack(self, column: ir.Value) -> None:
        """Write B[k, column …] to scratch, lanes past the end zero (or anything, if turned)."""
        e, plan, c = self.e, self.plan, self.plan.contraction
        if turns_columns(plan):
            self._turn(column)
            return
        row = e.variable(ir.IntType(64), "row")
        e.b.store(i64(0), row)

        def one():
            at = e.b.load(row)
            for v in range(plan.tile.vectors):
                base = e.b.add(column, i64(v * plan.lanes))
                mask = columns_left(e, plan, base)
                with e.scope(), e.at(plan.n, base), e.vectorised(plan.n, plan.lanes, mask):
                    value = e.vector(c.b)
                    if mask is not None:
                        value = e.b.select(mask, value, identity("sum", self.dtype, plan.lanes))
                place = e.b.gep(
                    self.scratch, [e.b.add(at, i64(v * plan.lanes))], source_etype=self.type
                )
                e.b.store(value, place, align=self.dtype.bytes)
            e.b.store(e.b.add(at, i64(plan.width)), row)

        e.loops(list(c.k), one)

    def _turn(self, column: ir.Value) -> None:
        """Columns that are rows in memory. Past the end, the last one is read again."""
        e, plan, c = self.e, self.plan, self.plan.contraction
        strides, base = linear_load(c.b)
        step = e.size(strides[plan.n])
        inner = {*c.k, plan.n}
        rest = {s.axis(a): n for a, n in strides.items() if a not in inner and a.extent != 1}
        start = e.b.gep(
            e.pointers[c.b.data], [e.offset(rest, base)], source_etype=memory_type(c.b.dtype)
        )
        last = e.size(plan.n.extent - 1)
        columns = [e.b.add(column, i64(r)) for r in range(plan.width)]
        places = [e.b.mul(minimum(e, j, last), step) for j in columns]
        TransposePack(e, self.dtype, plan.width, places).run(c.k, strides, start, self.scratch)
