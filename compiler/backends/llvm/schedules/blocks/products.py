"""The sums of one block, for a tile of rows: from packed words to products, in registers."""

import llvmlite.ir as ir

from .....ir.types import F32
from .....kernels.machine import LINE
from ...base.types import I8, I32, i64, register_type, vector
from ...emit.emitter import Emitter
from ...emit.opaque import hidden
from ...emit.scalar import multiply_add, prefetch, splat
from .dots import Dots, in_order
from .fields import Fields, looked_up
from .planes import WORD, Layout
from .rows import RowPlan

FLOAT = register_type(F32)
FEW = 4  # rows up to which codes are unpacked in registers, for each tile
AHEAD = 8192  # bytes that few rows fetch packed weights ahead
UNROLL = 512  # products of vectors that are written out
SUMS = 8  # of floats, that are added up side by side where a tile has fewer


def moved(b: ir.IRBuilder, place: ir.Value, number: int) -> ir.Value:
    """`number` bytes further on."""
    return b.gep(place, [i64(number)], source_etype=I8) if number else place


class BlockProducts:
    """Writes them; `packed` is where the table of codes lies, if there is one."""

    def __init__(self, e: Emitter, layout: Layout, packed: ir.Value):
        self.e, self.layout, self.form, self.packed = e, layout, layout.form, packed
        self.plan, self.lanes = RowPlan(layout), layout.lanes
        self.words, self.floats = vector(I32, self.lanes), vector(FLOAT, self.lanes)
        self.sum_type = vector(register_type(self.plan.dtype), self.lanes)
        self.streams = layout.bytes > e.target.l2

    def block(self, rows: int, panel: ir.Value, a: ir.Value) -> list[list[ir.Value]]:
        """The sums of a block, [row][vector]."""
        e, layout = self.e, self.layout
        chunks, limit = layout.chunks, max(1, UNROLL // (rows * layout.vectors * layout.chunk))
        some = max(u for u in range(1, min(limit, chunks) + 1) if chunks % u == 0)
        if some == chunks:
            return self._chunks(rows, panel, a, chunks, None)
        slots = [
            [e.variable(self.sum_type, "acc") for _ in range(layout.vectors)] for _ in range(rows)
        ]
        for line in slots:
            for acc in line:
                e.b.store(ir.Constant(self.sum_type, None), acc)
        with e.loop(i64(0), i64(chunks), some, name="chunk") as c:
            p = e.b.gep(panel, [e.b.mul(c, i64(layout.chunk_bytes))], source_etype=I8)
            x = e.b.gep(a, [e.b.mul(c, i64(layout.chunk * self.plan.each))], source_etype=I8)
            before = [[e.b.load(acc) for acc in line] for line in slots]
            after = self._chunks(rows, hidden(e.b, p), hidden(e.b, x), some, before)
            for line, values in zip(slots, after):
                for acc, value in zip(line, values):
                    e.b.store(value, acc)
        return [[e.b.load(acc) for acc in line] for line in slots]

    def _chunks(self, rows: int, panel, a, count: int, before) -> list[list[ir.Value]]:
        """The sums of `count` chunks, and what was summed before."""
        multiply = self._integers if self.form.is_integer else self._products
        return multiply(rows, panel, a, count, before)

    def fields(self, panel: ir.Value, chunk: int, vector_number: int) -> Fields:
        layout = self.layout
        size = layout.lanes * WORD
        at = chunk * layout.chunk_bytes + vector_number * layout.chunk_vectors * size
        words = [
            self.e.b.load(moved(self.e.b, panel, at + i * size), typ=self.words, align=4)
            for i in range(layout.chunk_vectors)
        ]
        return Fields(self.e, layout, words)

    def _fetch(self, rows: int, panel: ir.Value, chunk: int) -> None:
        """What few rows will read, a chunk's lines at a time: many at once would hold up loads."""
        b, size = self.e.b, self.layout.chunk_bytes
        if self.streams and rows < FEW:
            for at in range(-(-chunk * size // LINE) * LINE, (chunk + 1) * size, LINE):
                prefetch(b, moved(b, panel, AHEAD + at), 1)

    def _integers(self, rows: int, panel, a, count: int, before) -> list[list[ir.Value]]:
        e, layout = self.e, self.layout
        sums = [
            [
                Dots(e.b, e.target, self.lanes, self.form.bits, before and before[r][v])
                for v in range(layout.vectors)
            ]
            for r in range(rows)
        ]
        for chunk in range(count):
            self._fetch(rows, panel, chunk)
            fields = [self.fields(panel, chunk, v) for v in range(layout.vectors)]
            for group in range(layout.chunk // WORD):
                columns = [f.bytes_of(group) for f in fields]
                for r in range(rows):
                    at = r * self.plan.pitch + chunk * layout.chunk + group * WORD
                    row = e.b.load(moved(e.b, a, at), typ=I32, align=1)
                    for dots, column in zip(sums[r], columns):
                        dots.add(column, row)
                if rows > 1:
                    panel, a = in_order([d for line in sums for d in line], panel, a)
        return [[dots.total() for dots in line] for line in sums]

    def _products(self, rows: int, panel, a, count: int, before) -> list[list[ir.Value]]:
        e, layout = self.e, self.layout
        side = max(1, SUMS // (rows * layout.vectors))
        nothing = ir.Constant(self.floats, None)
        sums = [[[nothing] * side for _ in range(layout.vectors)] for _ in range(rows)]
        for r, line in enumerate(before or ()):
            for v, value in enumerate(line):
                sums[r][v][0] = value
        for chunk in range(count):
            self._fetch(rows, panel, chunk)
            fields = [self.fields(panel, chunk, v) for v in range(layout.vectors)]
            for step in range(layout.chunk):
                columns = [self.column(f, step) for f in fields]
                for r in range(rows):
                    at = r * self.plan.pitch + (chunk * layout.chunk + step) * 4
                    x = splat(e.b, e.b.load(moved(e.b, a, at), typ=FLOAT, align=4), self.lanes)
                    for v, column in enumerate(columns):
                        own = sums[r][v]
                        own[step % side] = multiply_add(e.b, x, column, own[step % side])
        return [[self._added(parts) for parts in line] for line in sums]

    def column(self, fields: Fields, step: int) -> ir.Value:
        number = fields.number(step)
        if self.form.table is not None:
            entries = 1 << self.form.bits
            return looked_up(self.e, self.packed, number, entries, self.lanes)
        return self.e.b.sitofp(number, self.floats)

    def _added(self, parts: list[ir.Value]) -> ir.Value:
        while len(parts) > 1:
            half = len(parts) // 2
            pairs = [self.e.b.fadd(x, y) for x, y in zip(parts[:half], parts[half:])]
            parts = pairs + parts[2 * half :]
        return parts[0]
