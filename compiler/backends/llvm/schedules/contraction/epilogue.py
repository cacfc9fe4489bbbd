"""What follows a contraction's sums: f(acc), stored row by row."""

import llvmlite.ir as ir

from .....classes import dataclass
from .....expr import expr as s
from .....expr.expr import Axis
from .....kernels.kernel import Kernel
from .....kernels.tiling import lane_stride
from ...base.types import PTR, i64, vector
from ...emit.emitter import Emitter
from ...emit.lanes import lanes_below
from ...emit.scalar import prefetch
from .rows import Rows
from .tiling import Tiling

INLINE = 12  # operations up to which an epilogue is written out per register


@dataclass
class Epilogue:
    """Stores tiles of sums."""

    e: Emitter
    kernel: Kernel
    plan: Tiling
    rows: Rows

    def __post_init__(self):
        values = [st.value for st in self.kernel.stores]
        self.sums = self.plan.gates or (self.plan.contraction.reduce,)
        inside = set(s.walk(*self.sums))
        known = lambda x: x.op in ("const", "axis") or (x.op == "load" and x.args[0].op == "const")
        rest = [x for x in s.walk(*values) if not known(x) and x not in inside]
        self.small = len(rest) <= INLINE or self.plan.tile.rows == 1

    def fetch(self, column: ir.Value) -> None:
        """Bring what follows the sums of a tile near while these are made: a few columns of each
        row, of several arrays, lie in lines that nothing else announces."""
        e, plan = self.e, self.plan
        inside = set(s.walk(*self.sums))
        loads = dict.fromkeys(
            x
            for x in s.walk(*(st.value for st in self.kernel.stores))
            if x.op == "load" and x not in inside and plan.m in x.free
        )
        with e.scope(), e.at(plan.n, column):
            for row in range(plan.tile.rows):
                with e.scope(), e.at(plan.m, self._moved(plan.m, row)):
                    for x in loads:
                        if lane_stride(x.args[0], plan.n) == 1:
                            prefetch(e.b, e.address(x.data, x.args[0]), 1)

    def run(self, column: ir.Value, sums: list[list[ir.Value]]) -> None:
        """f(acc) of the stack slots `sums` [row][vector], from `column` on: written out per
        register where f is small, else a loop over rows."""
        e, tile = self.e, self.plan.tile
        if self.small:
            for r, line in enumerate(sums):
                self._row(r, column, [e.b.load(acc) for acc in line])
            return
        vector = sums[0][0].allocated_type
        flat = e.variable(ir.ArrayType(vector, tile.rows * tile.vectors), "tile")
        flat.align = 64
        flat.type = PTR
        for r, line in enumerate(sums):
            for v, acc in enumerate(line):
                place = e.b.gep(flat, [i64(r * tile.vectors + v)], source_etype=vector)
                e.b.store(e.b.load(acc), place)
        with e.loop(i64(0), i64(tile.rows), name="row") as r:
            base = e.b.mul(r, i64(tile.vectors))
            values = []
            for v in range(tile.vectors):
                place = e.b.gep(flat, [e.b.add(base, i64(v))], source_etype=vector)
                values.append(e.b.load(place, typ=vector))
            self._row(r, column, values)

    def _row(self, row: int | ir.Value, column: ir.Value, values: list[ir.Value]) -> None:
        e, plan = self.e, self.plan
        if plan.short:
            there = e.b.icmp_signed("<", self._moved(plan.m, row), e.size(plan.m.extent))
            with e.b.if_then(there), e.scope():
                self._line(row, column, values)
            return
        self._line(row, column, values)

    def _moved(self, axis: Axis, rows: int | ir.Value) -> ir.Value:
        """An axis so many rows further on."""
        e = self.e
        here = e.where[axis]
        return e.plus(here, rows) if isinstance(rows, int) else e.b.add(here, rows)

    def _line(self, row: int | ir.Value, column: ir.Value, values: list[ir.Value]) -> None:
        e, plan = self.e, self.plan
        saved = dict(e.where)
        if plan.tile.flat:
            number = i64(row) if isinstance(row, int) else row
            e.where |= self.rows.place(e.b.add(self.rows.first, number))
        elif plan.line is not None and isinstance(row, int):
            lines, row = divmod(row, plan.m.extent)
            e.where[plan.line] = self._moved(plan.line, lines)
            e.where[plan.m] = i64(row)
        elif plan.line is not None:
            width = i64(plan.m.extent)
            e.where[plan.line] = self._moved(plan.line, e.b.udiv(row, width))
            e.where[plan.m] = e.b.urem(row, width)
        elif plan.m is not None:
            e.where[plan.m] = self._moved(plan.m, row)
        if plan.gates:
            self._together(column, values)
        else:
            self._one_by_one(column, values)
        e.where.clear()
        e.where.update(saved)

    def _together(self, column: ir.Value, values: list[ir.Value]) -> None:
        """All stores of the columns whose sums, one vector of each, are known."""
        e, plan = self.e, self.plan
        count = len(values) // len(self.sums)
        for v in range(count):
            base = e.plus(column, v * plan.lanes)
            mask = columns_left(e, plan, base)
            with e.scope(), e.at(plan.n, base), e.vectorised(plan.n, plan.lanes, mask):
                for reduce, acc in zip(self.sums, values[v::count]):
                    e.remember(reduce, acc)
                for store in self.kernel.stores:
                    e.store(store.buffer, store.index[0], e.vector(store.value), None)

    def _one_by_one(self, column: ir.Value, values: list[ir.Value]) -> None:
        e, plan, store = self.e, self.plan, self.kernel.stores[0]
        first = 0
        for acc in self._joined(values):
            base, lanes = e.plus(column, first), acc.type.count
            mask = columns_left(e, plan, base)
            with e.scope(), e.at(plan.n, base), e.vectorised(plan.n, lanes, mask):
                e.remember(plan.contraction.reduce, acc)
                e.store(store.buffer, store.index[0], e.vector(store.value), None)
            first += lanes

    def _joined(self, values: list[ir.Value]) -> list[ir.Value]:
        """Neighbours as one, where what is stored is narrower than sums: as many as give a vector
        of bytes, so that they are narrowed together."""
        plan, dtype = self.plan, self.kernel.stores[0].buffer.dtype
        if plan.ragged or dtype.bits < 8:
            return values
        joined, rest = [], list(values)
        while rest:
            count = plan.dtype.bytes // dtype.bytes
            while count > max(1, len(rest)):
                count //= 2
            joined.append(concat(self.e.b, rest[: max(1, count)]))
            del rest[: max(1, count)]
        return joined


def concat(b: ir.IRBuilder, values: list[ir.Value]) -> ir.Value:
    """Vectors one after the other, a power of two of them."""
    while len(values) > 1:
        lanes = 2 * values[0].type.count
        order = ir.Constant(vector(ir.IntType(32), lanes), list(range(lanes)))
        values = [b.shuffle_vector(x, y, order) for x, y in zip(values[::2], values[1::2])]
    return values[0]


def columns_left(e: Emitter, plan: Tiling, base: ir.Value) -> ir.Value | None:
    """The mask of the columns that there are, where there may be fewer than a panel's."""
    if not plan.ragged:
        return None
    return lanes_below(e, base, e.size(plan.n.extent), plan.lanes)
