"""Tiles of bytes that are read where they lie, four steps of k at a time (`quads.py`)."""

import llvmlite.ir as ir

from .....expr import expr as s
from .....kernels.machine import LINE
from ...base.types import I8, I32, I64, i64, vector
from ...emit.byte_products import BYTES, byte_pairs, dots, short_pairs, shuffled_bytes
from ...emit.opaque import hidden, opaque
from ...emit.scalar import prefetch, splat
from .emitter import ContractEmitter
from .panels import Part
from .quads import ENDS, bytes_factor

AHEAD = 1024
HIGHER = 128  # than signed bytes are unsigned ones of the same order


class QuadEmitter(ContractEmitter):
    """Writes a contraction of bytes."""

    def _tile(self, panel: Part, column, slot, prefetched, block=None, partial=None) -> None:
        """A tile's sums over all of k, with what follows them."""
        e, plan = self.e, self.plan
        tile = plan.tile
        self.table = panel.place
        self.quads = self._word(panel.place, i64(plan.quad_table))
        self.sums = [
            [e.variable(self.vector, f"acc.{r}.{v}") for v in range(tile.vectors)]
            for r in range(tile.rows)
        ]
        for v, begin in enumerate(self._begin()):
            for row in self.sums:
                e.b.store(begin, row[v])
        start, strides = self.rows.direct()
        self.places = self.rows.places(strides)
        if plan.quads.way == "dots":
            self._quads(start, i64(0), i64(plan.quads.steps))
        else:
            self._classes(start)
        self.after.run(column, self.sums)

    def _begin(self) -> list[ir.Value]:
        """What the sums of each vector of columns begin with."""
        e, plan = self.e, self.plan
        _, zero = bytes_factor(plan.contraction)
        parts = ([] if zero is None else [zero]) + ([s.const(HIGHER)] if plan.quads.signed else [])
        if not parts:
            return [ir.Constant(self.vector, None)] * plan.tile.vectors
        less = ir.Constant(I32, 0)
        for part in parts:
            value = ir.Constant(I32, part.data) if part.op == "const" else e.emit(part)
            less = e.b.sub(less, value)
        less = splat(e.b, less, plan.lanes)
        columns = [
            self._load(self._word(self.table, i64(ENDS + v * plan.lanes)), self.vector)
            for v in range(plan.tile.vectors)
        ]
        return [e.b.mul(x, less) for x in columns]

    def _classes(self, start: ir.Value) -> None:
        """The quads of each class: as they lie, shuffled, widened."""
        e = self.e
        ends = [e.b.sext(self._load(self._word(self.table, i64(n)), I32), I64) for n in range(3)]
        self._quads(start, i64(0), ends[0])
        self._quads(start, ends[0], ends[1], shuffled=True)
        with e.loop(ends[1], ends[2], name="wide") as i:
            behind = e.b.add(i, e.b.sub(i, ends[1]))
            self._widened(self._row(start, i), self._word(self.quads, self._times_width(behind)))

    def _quads(self, start, begin, end, shuffled: bool = False) -> None:
        """Quads whose products fit, from `begin` to `end`."""
        e, plan = self.e, self.plan
        with e.loop(begin, end, name="quad") as i:
            row = self._row(start, i)
            panel = self._word(self.quads, self._times_width(i))
            columns = self._columns(panel)
            for n in range(0, plan.width * BYTES, LINE):
                prefetch(e.b, e.b.gep(panel, [i64(AHEAD + n)], source_etype=I8), 1)
            order = None
            if shuffled:
                place = self._entry(i, plan.quads.steps)
                order = splat(e.b, self._load(place, I32), plan.lanes)
            for r, sums in enumerate(self.sums):
                x = self._broadcast(row, r, order)
                for y, acc in zip(columns, sums):
                    e.b.store(self._added(e.b.load(acc), x, y), acc)

    def _added(self, total: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
        b = self.e.b
        if self.plan.quads.way == "dots":
            return dots(b, self.e.target, total, x, y)
        ones = ir.Constant(vector(ir.IntType(16), 2 * self.plan.lanes), [1] * 2 * self.plan.lanes)
        # Else LLVM adds products first, for which there are no registers.
        return opaque(b, b.add(total, short_pairs(b, byte_pairs(b, x, y), ones)))

    def _widened(self, row: ir.Value, panel: ir.Value) -> None:
        """A quad as two pairs of 16 bits: its bytes at even places, then those at odd ones."""
        e, plan = self.e, self.plan
        shorts = vector(ir.IntType(16), 2 * plan.lanes)
        for odd in range(2):
            columns = self._columns(self._word(panel, i64(odd * plan.width)))
            # Else LLVM keeps what was broadcast before, for which there are no registers.
            row = hidden(e.b, row) if odd else row
            for r, sums in enumerate(self.sums):
                x = e.b.bitcast(self._broadcast(row, r), shorts)
                number = 8 if odd else 255
                constant = ir.Constant(shorts, [number] * shorts.count)
                x = e.b.lshr(x, constant) if odd else e.b.and_(x, constant)
                for y, acc in zip(columns, sums):
                    total = e.b.add(e.b.load(acc), short_pairs(e.b, x, y))
                    e.b.store(opaque(e.b, total), acc)

    # -- places -----------------------------------------------------------------------------

    def _word(self, pointer: ir.Value, words: ir.Value) -> ir.Value:
        return self.e.b.gep(pointer, [words], source_etype=I32)

    def _times_width(self, steps: ir.Value) -> ir.Value:
        return self.e.b.mul(steps, i64(self.plan.width))

    def _load(self, place: ir.Value, type: ir.Type) -> ir.Value:
        return self.e.b.load(place, typ=type, align=4)

    def _entry(self, number: ir.Value, further: int = 0) -> ir.Value:
        """A number of the table that belongs to a quad."""
        at = self.e.b.add(number, i64(ENDS + self.plan.width + further))
        return self._word(self.table, at)

    def _row(self, start: ir.Value, number: ir.Value) -> ir.Value:
        """Where a quad of the tile's first row lies."""
        b = self.e.b
        offset = b.sext(self._load(self._entry(number), I32), I64)
        return b.gep(start, [offset], source_etype=I8)

    def _columns(self, place: ir.Value) -> list[ir.Value]:
        lanes = self.plan.lanes
        return [
            self._load(self._word(place, i64(v * lanes)), self.vector)
            for v in range(self.plan.tile.vectors)
        ]

    def _broadcast(self, row: ir.Value, number: int, order: ir.Value | None = None) -> ir.Value:
        """A row's quad in all lanes, as unsigned bytes; of eight bytes those that `order` says."""
        e, b, place, lanes = self.e, self.e.b, self.places[number], self.plan.lanes
        place = place if isinstance(place, ir.Value) else e.size(place)
        place = b.gep(row, [place], source_etype=I8)
        if order is None:
            x = splat(b, b.load(place, typ=I32, align=1), lanes)
        else:
            x = splat(b, b.load(place, typ=I64, align=1), lanes // 2)
            x = shuffled_bytes(b, x, order)
        if self.plan.quads.signed:
            x = b.xor(x, ir.Constant(x.type, [-0x7F7F7F80] * x.type.count))
        return x
