"""Panels of B: where they lie packed, how they are packed while a kernel runs, and panels that are
sums of two others.

Weights of Strassen's products (`ops/strassen.py`) are sums of two stored ones for three of the
seven: B[p] is W[p] for p < 4, else W[0] + W[p - 3]. Only W is packed. The sums are taken as panels
are needed, a block of k at a time, for all tiles of a group.
"""

from math import ceil

import llvmlite.ir as ir

from ...loops import expr as s
from ...loops.schedule import linear_load
from .contract_plan import turns_columns
from .contract_schedule import LINE, ContractSchedule
from .contract_store import columns_left
from .contract_turn import Turn
from .emit import Emitter, minimum
from .reduction import identity
from .scalar import prefetch
from .types import I8, i64, memory_type, register_type


class Panels:
    """B's panels: `go` to one, then ask for its `steps`."""

    def __init__(self, e: Emitter, plan: ContractSchedule, packed: ir.Value, scratch: ir.Value):
        self.e, self.plan, self.packed, self.scratch = e, plan, packed, scratch
        self.dtype = plan.dtype
        self.type = register_type(self.dtype)
        self.start: ir.Value | None = None  # of the panel, or of the second one of a sum
        self.first: ir.Value | None = None  # of the first one of a sum
        self.summed: ir.Value | None = None  # whether the panel is a sum

    def go(self, index: ir.Value, column: ir.Value) -> None:
        """To a panel, which begins with a column. It is packed first, if it must be."""
        plan = self.plan
        if plan.b == "pack":
            self._pack(column)
            self.start = self.scratch
        elif plan.stored:
            (axis,) = plan.outer
            p, last = self.e.where[axis], i64(plan.stored)
            self.summed = self.e.b.icmp_signed(">=", p, last)
            place = self.e.b.select(self.summed, self.e.b.sub(p, i64(plan.stored - 1)), p)
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
        offset = e.b.mul(index, e.size(plan.steps * plan.width))
        return e.b.gep(self.packed, [offset], source_etype=self.type)

    def at(self, step: ir.Value, steps: int) -> ir.Value:
        """Pointer to `steps` steps of k from `step` on: rows of `width` elements."""
        if not self.plan.stored:
            return self._step(self.start, step)
        return self._sum(step, steps)

    def _step(self, panel: ir.Value, step: ir.Value) -> ir.Value:
        offset = self.e.b.mul(step, i64(self.plan.width))
        return self.e.b.gep(panel, [offset], source_etype=self.type)

    # -- sums ---------------------------------------------------------------------------------

    def _sum(self, step: ir.Value, steps: int) -> ir.Value:
        """The stored panel itself, or the sum of two in scratch memory."""
        e, plan = self.e, self.plan
        vector = ir.VectorType(self.type, plan.lanes)
        x, y = self._step(self.first, step), self._step(self.start, step)
        rounds = e.b.select(self.summed, i64(steps * plan.width), i64(0))
        with e.loop(i64(0), rounds, plan.width, name="sum") as i:
            for v in range(plan.tile.vectors):
                at = e.b.add(i, i64(v * plan.lanes))
                terms = [
                    e.b.load(
                        e.b.gep(p, [at], source_etype=self.type), typ=vector, align=self.dtype.bytes
                    )
                    for p in (x, y)
                ]
                place = e.b.gep(self.scratch, [at], source_etype=self.type)
                e.b.store(e.b.fadd(*terms), place, align=self.dtype.bytes)
        return e.b.select(self.summed, self.scratch, y)

    # -- fetching -----------------------------------------------------------------------------

    def fetch(self, step: ir.Value, steps: int, slot: ir.Value) -> None:
        """A tile's share of bringing the `steps` steps from `step` on, which may be those of the
        panels that follow, into the second-level cache."""
        plan = self.plan
        lines = ceil(steps * plan.width * plan.dtype.bytes / LINE)
        size = i64(ceil(lines / plan.group) * LINE)
        self._fetch(self.start, step, size, slot)
        if plan.stored:
            size = self.e.b.select(self.summed, size, i64(0))
            self._fetch(self.first, step, size, slot)

    def _fetch(self, panel: ir.Value, step: ir.Value, size: ir.Value, slot: ir.Value) -> None:
        e = self.e
        start = e.b.gep(self._step(panel, step), [e.b.mul(slot, size)], source_etype=I8)
        with e.loop(i64(0), size, LINE, name="fetch") as i:
            prefetch(e.b, e.b.gep(start, [i], source_etype=I8), 2)

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
        columns = [e.b.add(column, i64(r)) for r in range(plan.lanes)]
        places = [e.b.mul(minimum(e, j, last), step) for j in columns]
        Turn(e, self.dtype, plan.lanes, places).run(c.k, strides, start, self.scratch)
