"""The contraction schedule: register tiles over packed panels, with any prologue and epilogue.

    for panel of n:                       B[:, panel] is packed: k rows of `vectors` vectors
      for batch, outer m:
        for tile of m:                    rows x vectors accumulators, all of k in registers
          for k: acc[r][v] += A[r, k] * B[k, v]
          epilogue: out[r, v] = f(acc[r][v], …)

Constant B (weights) is packed while compiling; other B is packed per panel into scratch memory. A
is read in place where its index is linear: its rows are constant distances apart, so they are
displacements of one pointer; otherwise (padding, dequantization, half types) a tile of it is packed
first. Register blocking after Goto & van de Geijn, "Anatomy of High-Performance Matrix
Multiplication" (2008); whole-k panels fit the L2 cache for the k of real layers.
"""

from math import prod

import llvmlite.ir as ir

from ...loops import expr as s
from ...loops.expr import Axis, Buffer, Expr
from ...loops.nest import Kernel
from ...loops.schedule import Tile, linear_load
from ...types import TensorType
from .contract_plan import ContractSchedule
from .emit import Emitter, lanes_below
from .nest import _minimum
from .reduction import identity
from .scalar import intrinsic, multiply_add, splat
from .types import I8, I32, PTR, VOID, i64, memory_type, register_type

PREFETCH = 2048  # bytes that packed weights are fetched ahead
INLINE_EPILOGUE = 12  # operations up to which an epilogue is written out per register


class ContractEmitter:
    """Writes one contraction. `packed` is the pointer to the packed constant, if there is one."""

    def __init__(self, e: Emitter, kernel: Kernel, plan: ContractSchedule, packed, scratch):
        self.e, self.kernel, self.plan = e, kernel, plan
        self.packed, self.scratch = packed, scratch
        self.dtype = plan.contraction.reduce.dtype
        self.type = register_type(self.dtype)
        self.vector = ir.VectorType(self.type, plan.lanes)
        self.prefetch = intrinsic(e.b.module, "llvm.prefetch.p0", VOID, [PTR, I32, I32, I32])

    def emit(self, begin: ir.Value, end: ir.Value) -> None:
        """Units `begin` to `end`."""
        e, plan, c = self.e, self.plan, self.plan.contraction
        with e.loop(begin, end, name="unit") as unit:
            outer = (*c.n[:-1], *c.batch) if plan.b == "pack" else plan.outer
            rest, first, last = unit, i64(0), i64(plan.tiles)
            if plan.b != "pack" and plan.chunks > 1:
                chunk = e.b.urem(rest, i64(plan.chunks))
                rest = e.b.udiv(rest, i64(plan.chunks))
                first = e.b.mul(chunk, i64(plan.chunk))
                last = _minimum(e, e.b.add(first, i64(plan.chunk)), last)
            for a in reversed(outer):
                e.where[a] = e.b.urem(rest, i64(a.extent))
                rest = e.b.udiv(rest, i64(a.extent))
            if plan.order == "rows":
                self._tiles(first, last, self._panels)
            else:
                column = e.b.mul(rest, i64(plan.width))
                panel = self._panel(rest, column)
                inner = list(plan.outer_m) if plan.b == "pack" else []
                run = lambda tile: self._tile(panel, column, tile)
                e.loops(inner, lambda: self._tiles(first, last, run))
            for a in outer:
                del e.where[a]

    def _panels(self, tile) -> None:
        """One tile of A against every panel."""
        e, plan = self.e, self.plan
        if plan.a == "pack":
            self._pack_a()
        with e.loop(i64(0), i64(plan.panels), name="panel") as p:
            column = e.b.mul(p, i64(plan.width))
            self._tile(self._panel(p, column), column, tile, packed=True)

    # -- B --------------------------------------------------------------------------------

    def _panel(self, index: ir.Value, column: ir.Value) -> ir.Value:
        """Pointer to the panel: k rows of `width` elements."""
        e, plan, c = self.e, self.plan, self.plan.contraction
        if plan.b == "pack":
            self._pack_b(column)
            return self.scratch
        place = None
        for a in (*c.n[:-1], *c.batch):
            if a in c.b.free:
                here = e.where[a]
                place = here if place is None else e.b.add(e.b.mul(place, i64(a.extent)), here)
        if place is not None:
            index = e.b.add(e.b.mul(place, i64(plan.panels)), index)
        offset = e.b.mul(index, i64(plan.depth * plan.width))
        return e.b.gep(self.packed, [offset], source_etype=self.type)

    def _pack_b(self, column: ir.Value) -> None:
        """Write B[k, column …] to scratch, lanes past the end zero."""
        e, plan, c = self.e, self.plan, self.plan.contraction
        row = e.variable(ir.IntType(64), "row")
        e.b.store(i64(0), row)
        ragged = plan.n.extent % plan.width != 0

        def one():
            at = e.b.load(row)
            for v in range(plan.tile.vectors):
                base = e.b.add(column, i64(v * plan.lanes))
                mask = lanes_below(e, base, i64(plan.n.extent), plan.lanes) if ragged else None
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

    # -- tiles ----------------------------------------------------------------------------

    def _tiles(self, first: ir.Value, last: ir.Value, run) -> None:
        """Tiles `first` to `last` of m; the last one overlaps the one before it, rather than
        being smaller."""
        e, plan = self.e, self.plan
        if plan.m is None:
            run(None)
            return
        axis = plan.m if plan.line is None else plan.line
        size = plan.tile.rows if plan.line is None else plan.tile.spread
        with e.loop(first, last, name="tile") as t:
            row = e.b.mul(t, i64(size))
            if axis.extent % size:
                row = _minimum(e, row, i64(axis.extent - size))
            with e.at(axis, row):
                if plan.line is None:
                    run(row)
                else:
                    with e.at(plan.m, i64(0)):
                        run(row)

    def _tile(self, panel: ir.Value, column: ir.Value, tile, packed: bool = False) -> None:
        e, plan = self.e, self.plan
        rows, vectors = plan.tile.rows, plan.tile.vectors
        zero = identity("sum", self.dtype, plan.lanes)
        sums = [
            [e.variable(self.vector, f"acc.{r}.{v}") for v in range(vectors)] for r in range(rows)
        ]
        for line in sums:
            for acc in line:
                e.b.store(zero, acc)
        if plan.a == "pack":
            if not packed:
                self._pack_a()
            self._multiply_packed(panel, sums)
        else:
            self._multiply_direct(panel, sums)
        self._epilogue(column, sums)

    def _multiply_direct(self, panel, sums) -> None:
        """All of k, A read in place."""
        e, plan, c = self.e, self.plan, self.plan.contraction
        strides, base = linear_load(c.a)
        terms = {s.axis(a): k for a, k in strides.items() if a not in c.k and a.extent > 1}
        type = memory_type(c.a.dtype)
        start = e.b.gep(e.pointers[c.a.data], [e.offset(terms, base)], source_etype=type)
        step = strides.get(plan.m, 0) if plan.m is not None else 0
        places = [r * step for r in range(plan.tile.rows)]
        if plan.line is not None:
            width, jump = plan.m.extent, strides.get(plan.line, 0)
            places = [r // width * jump + r % width * step for r in range(plan.tile.rows)]
        self._k_loops(list(c.k), strides, start, panel, places, sums)

    def _k_loops(self, axes, strides, a_pointer, b_pointer, places, sums) -> None:
        """Nested loops over k; both pointers move by constants."""
        e, plan = self.e, self.plan
        if not axes:
            self._steps([(a_pointer, b_pointer)], places, sums)
            return
        axis, inner = axes[0], axes[1:]
        a_step = strides.get(axis, 0)
        b_step = prod(a.extent for a in inner) * plan.width
        unroll = 1 if inner else _unroll(axis.extent, plan.tile)
        if inner and axis.extent * prod(a.extent for a in inner) <= 4:
            unroll = axis.extent

        def body(k: ir.Value) -> None:
            a = e.b.gep(a_pointer, [e.b.mul(k, i64(a_step))], source_etype=self.type)
            b = e.b.gep(b_pointer, [e.b.mul(k, i64(b_step))], source_etype=self.type)
            pointers = []
            for u in range(unroll):
                au = e.b.gep(a, [i64(u * a_step)], source_etype=self.type) if u else a
                bu = e.b.gep(b, [i64(u * b_step)], source_etype=self.type) if u else b
                pointers.append((au, bu))
            if not inner:
                self._steps(pointers, places, sums)
                return
            for au, bu in pointers:
                self._k_loops(inner, strides, au, bu, places, sums)

        if axis.extent == unroll:
            body(i64(0))
            return
        with e.loop(i64(0), i64(axis.extent), unroll, name="k") as k:
            body(k)

    def _steps(self, pointers, places, sums) -> None:
        """Several k: each a row of B against a column of A."""
        e, plan = self.e, self.plan
        values = [[e.b.load(acc) for acc in line] for line in sums]
        for a_pointer, b_pointer in pointers:
            columns = []
            for v in range(plan.tile.vectors):
                place = e.b.gep(b_pointer, [i64(v * plan.lanes)], source_etype=self.type)
                columns.append(e.b.load(place, typ=self.vector, align=self.dtype.bytes))
                if plan.b == "constant":
                    ahead = e.b.gep(place, [i64(PREFETCH)], source_etype=I8)
                    e.b.call(self.prefetch, [ahead, *(ir.Constant(I32, x) for x in (0, 3, 1))])
            for r, line in enumerate(values):
                place = e.b.gep(a_pointer, [i64(places[r])], source_etype=self.type)
                x = splat(e.b, e.b.load(place, typ=self.type, align=self.dtype.bytes), plan.lanes)
                values[r] = [self._multiply_add(x, y, acc) for y, acc in zip(columns, line)]
        for line, new in zip(sums, values):
            for acc, value in zip(line, new):
                e.b.store(value, acc)

    def _multiply_add(self, x, y, acc):
        if self.dtype.is_float:
            return multiply_add(self.e.b, x, y, acc)
        return self.e.b.add(acc, self.e.b.mul(x, y))

    def _packed_a(self) -> tuple[ir.Value, dict[Axis, int]]:
        """Where A's tile is packed, and the strides of k in it."""
        plan, c = self.plan, self.plan.contraction
        offset = plan.depth * plan.width if plan.b == "pack" else 0
        place = self.e.b.gep(self.scratch, [i64(offset)], source_etype=self.type)
        return place, dict(zip(c.k, s.strides_of([a.extent for a in c.k])))

    def _multiply_packed(self, panel, sums) -> None:
        place, strides = self._packed_a()
        places = [r * self.plan.depth for r in range(self.plan.tile.rows)]
        self._k_loops(list(self.plan.contraction.k), strides, place, panel, places, sums)

    def _pack_a(self) -> None:
        """A's tile is evaluated into scratch, [row][k], then walked like a plain matrix."""
        e, plan, c = self.e, self.plan, self.plan.contraction
        place, strides = self._packed_a()
        row = Axis("r", plan.tile.rows)
        index = s.add(s.mul(s.axis(row), plan.depth), _sum(strides))
        out = Buffer("tile", TensorType(self.dtype, (plan.depth * plan.tile.rows,)))
        e.pointers[out] = place
        value = c.a
        if plan.m is not None and plan.tile.rows > 1:
            first = Axis("m", plan.m.extent)
            moved = s.add(s.make("axis", (), first, s.I64), s.axis(row))
            value = s.substitute(c.a, {plan.m: moved})
            e.where[first] = e.where[plan.m]
        lane = max(c.k, key=lambda a: (strides[a] == 1, a.extent), default=None)
        axes = [a for a in (row, *c.k) if a is not lane and a.extent > 1]

        def put():
            if lane is None or strides[lane] != 1 or lane.extent < 4:
                one = lambda: e.store(out, index, e.emit(value), None)
                e.loops([] if lane is None else [lane], one)
                return
            lanes = plan.lanes
            while lanes > lane.extent:
                lanes //= 2
            with e.loop(i64(0), i64(lane.extent), lanes, name="k") as k:
                base = _minimum(e, k, i64(lane.extent - lanes)) if lane.extent % lanes else k
                with e.at(lane, base), e.vectorised(lane, lanes):
                    e.store(out, index, e.vector(value), None)

        with e.scope():
            e.loops(axes, put)

    # -- epilogue -------------------------------------------------------------------------

    def _epilogue(self, column: ir.Value, sums) -> None:
        """Store f(acc): written out per register where f is small, else a loop over rows."""
        e, plan = self.e, self.plan
        value = self.kernel.stores[0].value
        size = sum(1 for x in s.walk(value) if x.op not in ("const", "axis")
                   and x not in set(s.walk(plan.contraction.reduce)))  # fmt: skip
        if size <= INLINE_EPILOGUE or plan.tile.rows == 1:
            for r in range(plan.tile.rows):
                self._store_row(i64(r), column, [e.b.load(acc) for acc in sums[r]])
            return
        flat = e.variable(ir.ArrayType(self.vector, plan.tile.rows * plan.tile.vectors), "tile")
        flat.align = 64
        flat.type = PTR
        for r, line in enumerate(sums):
            for v, acc in enumerate(line):
                place = e.b.gep(flat, [i64(r * plan.tile.vectors + v)], source_etype=self.vector)
                e.b.store(e.b.load(acc), place)
        with e.loop(i64(0), i64(plan.tile.rows), name="row") as r:
            base = e.b.mul(r, i64(plan.tile.vectors))
            values = [
                e.b.load(
                    e.b.gep(flat, [e.b.add(base, i64(v))], source_etype=self.vector),
                    typ=self.vector,
                )
                for v in range(plan.tile.vectors)
            ]
            self._store_row(r, column, values)

    def _store_row(self, row: ir.Value, column: ir.Value, values: list[ir.Value]) -> None:
        e, plan = self.e, self.plan
        store = self.kernel.stores[0]
        ragged = plan.n.extent % plan.width != 0
        saved = dict(e.where)
        if plan.line is not None:
            width = i64(plan.m.extent)
            e.where[plan.line] = e.b.add(saved[plan.line], e.b.udiv(row, width))
            e.where[plan.m] = e.b.urem(row, width)
        elif plan.m is not None:
            e.where[plan.m] = e.b.add(saved[plan.m], row)
        for v, acc in enumerate(values):
            base = e.b.add(column, i64(v * plan.lanes))
            mask = lanes_below(e, base, i64(plan.n.extent), plan.lanes) if ragged else None
            with e.scope(), e.at(plan.n, base), e.vectorised(plan.n, plan.lanes, mask):
                e.remember(plan.contraction.reduce, acc)
                e.store(store.buffer, store.index[0], e.vector(store.value), None)
        e.where.clear()
        e.where.update(saved)


def _sum(strides: dict[Axis, int]) -> Expr:
    total = s.const(0)
    for a, k in strides.items():
        total = s.add(total, s.mul(s.axis(a), k))
    return total


def _unroll(extent: int, tile: Tile) -> int:
    """Steps of k per round: the largest divisor that keeps the loop's body moderate."""
    limit = max(1, min(8, 128 // (tile.rows * tile.vectors)))
    return max(u for u in range(1, limit + 1) if extent % u == 0)
