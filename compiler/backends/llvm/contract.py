"""The contraction schedule: register tiles over packed panels, with any prologue and epilogue.

    for batch, group of tiles of m:       the group's rows of A are packed, if they must be
      for panel of n:                     B[:, panel]: k rows of `vectors` vectors
        for tile of the group:            rows x vectors accumulators, all of k in registers
          for k: acc[r][v] += A[r, k] * B[k, v]
          epilogue: out[r, v] = f(acc[r][v], …)

Constant B (weights) is packed while compiling; other B is packed per panel into scratch memory. A
is read in place where its index is linear and its rows do not collide in the cache; otherwise
(padding, dequantization, half types, strides of whole pages) a group's tiles are packed first.
Register blocking after Goto & van de Geijn, "Anatomy of High-Performance Matrix Multiplication"
(2008); k is not blocked: the panels of real layers fit the L2 cache.
"""

import llvmlite.ir as ir

from ...dims import Sym
from ...loops import expr as s
from ...loops.expr import Axis, Buffer, Expr
from ...loops.nest import Kernel
from ...loops.schedule import linear_load
from ...sizes import typical
from ...types import I16, TensorType
from .contract_plan import ContractSchedule, merged, row_places, turns_columns
from .contract_tile import TileLoop
from .contract_turn import Turn
from .emit import Emitter, lanes_below, maximum, minimum
from .reduction import identity
from .types import PTR, constant, i64, memory_type, register_type

INLINE_EPILOGUE = 12  # operations up to which an epilogue is written out per register


class ContractEmitter:
    """Writes one contraction. `packed` is the pointer to the packed constant, if there is one."""

    def __init__(self, e: Emitter, kernel: Kernel, plan: ContractSchedule, packed, scratch):
        self.e, self.kernel, self.plan = e, kernel, plan
        self.packed, self.scratch = packed, scratch
        self.dtype = plan.contraction.reduce.dtype
        self.type = register_type(self.dtype)
        self.vector = ir.VectorType(self.type, plan.lanes)
        self.first: ir.Value | None = None  # row of a flat tile

    def emit(self, begin: ir.Value, end: ir.Value) -> None:
        """Units `begin` to `end`: the panels of one group, then those of the next."""
        e, plan = self.e, self.plan
        panels = e.size(plan.panels)
        last = e.b.sdiv(e.b.add(end, e.size(plan.panels - 1)), panels)
        with e.loop(e.b.sdiv(begin, panels), last, name="block") as block:
            start = e.b.mul(block, panels)
            low = maximum(e, e.b.sub(begin, start), i64(0))
            high = minimum(e, e.b.sub(end, start), panels)
            rest = e.b.udiv(block, e.size(plan.groups))
            first = e.b.mul(e.b.urem(block, e.size(plan.groups)), e.size(plan.group))
            stop = minimum(e, e.b.add(first, e.size(plan.group)), e.size(plan.tiles))
            for a in reversed(plan.outer):
                e.where[a] = e.b.urem(rest, e.size(a.extent))
                rest = e.b.udiv(rest, e.size(a.extent))
            self._group(first, stop, low, high)
            for a in plan.outer:
                del e.where[a]

    def _group(self, first, stop, low, high) -> None:
        """Panels `low` to `high` for the tiles `first` to `stop`."""
        e, plan = self.e, self.plan
        if plan.a != "direct":
            self._tiles(first, stop, self._pack_a)
        with e.loop(low, high, name="panel") as p:
            column = e.b.mul(p, i64(plan.width))
            if not plan.ragged and plan.n.extent % plan.width:
                column = minimum(e, column, e.size(plan.n.extent - plan.width))
            panel = self._panel(p, column)
            self._tiles(first, stop, lambda slot: self._tile(panel, column, slot))

    def _tiles(self, first: ir.Value, stop: ir.Value, run) -> None:
        """`run(slot)` for each tile, with the m axes in place; `slot` counts within the group. The
        last tile of a line overlaps the one before it, rather than being smaller."""
        e, plan = self.e, self.plan
        extent, size = (1 if plan.m is None else plan.m.extent), plan.tile.rows
        if plan.tile.flat:
            extent *= plan.line.extent
        elif plan.line is not None:
            extent, size = plan.line.extent, plan.tile.spread
        with e.loop(first, stop, name="tile") as t:
            slot, rest = e.b.sub(t, first), t
            if plan.m is None:
                run(slot)
                return
            if plan.outer_m:
                rest = e.b.udiv(t, e.size(plan.line_tiles))
                t = e.b.urem(t, e.size(plan.line_tiles))
            for a in reversed(plan.outer_m):
                e.where[a] = e.b.urem(rest, e.size(a.extent))
                rest = e.b.udiv(rest, e.size(a.extent))
            row = e.b.mul(t, i64(size))
            if extent % size:
                row = minimum(e, row, e.size(extent - size))
                row = maximum(e, row, i64(0)) if plan.short else row
            if plan.tile.flat:
                self.first = row
                e.where |= self._place(row)
            elif plan.line is not None:
                e.where |= {plan.line: row, plan.m: i64(0)}
            else:
                e.where[plan.m] = row
            run(slot)
            for a in plan.contraction.m:
                del e.where[a]

    def _place(self, row: ir.Value) -> dict[Axis, ir.Value]:
        """Where a row lies, counted through all lines."""
        plan, width = self.plan, i64(self.plan.m.extent)
        return {plan.line: self.e.b.udiv(row, width), plan.m: self.e.b.urem(row, width)}

    # -- B --------------------------------------------------------------------------------

    def _panel(self, index: ir.Value, column: ir.Value) -> ir.Value:
        """Pointer to the panel: k rows of `width` elements."""
        e, plan, c = self.e, self.plan, self.plan.contraction
        if plan.b == "pack":
            self._pack_b(column)
            return self.scratch
        place = None
        for a in plan.outer:
            if a in c.b.free:
                here = e.where[a]
                place = here if place is None else e.b.add(e.b.mul(place, e.size(a.extent)), here)
        if place is not None:
            index = e.b.add(e.b.mul(place, e.size(plan.panels)), index)
        offset = e.b.mul(index, e.size(plan.steps * plan.width))
        return e.b.gep(self.packed, [offset], source_etype=self.type)

    def _pack_b(self, column: ir.Value) -> None:
        """Write B[k, column …] to scratch, lanes past the end zero (or anything, if turned)."""
        e, plan, c = self.e, self.plan, self.plan.contraction
        if turns_columns(plan):
            self._turn_b(column)
            return
        row = e.variable(ir.IntType(64), "row")
        e.b.store(i64(0), row)

        def one():
            at = e.b.load(row)
            for v in range(plan.tile.vectors):
                base = e.b.add(column, i64(v * plan.lanes))
                mask = self._columns_left(base)
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

    def _turn_b(self, column: ir.Value) -> None:
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

    # -- A --------------------------------------------------------------------------------

    def _packed_a(self, slot: ir.Value) -> ir.Value:
        """Where a tile of A is packed."""
        plan = self.plan
        e, start = self.e, plan.room * plan.width if plan.b == "pack" else 0
        offset = e.b.add(e.b.mul(slot, e.size(plan.packed_tile)), e.size(start))
        return self.e.b.gep(self.scratch, [offset], source_etype=self.type)

    def _k_strides(self) -> dict:
        """Strides of k in packed A, in elements (not pairs)."""
        k = self.plan.contraction.k
        step = self.plan.tile.rows if self.plan.a == "turn" else 1
        return {a: n * step for a, n in zip(k, s.strides_of([a.extent for a in k]))}

    def _direct_a(self) -> tuple[ir.Value, dict]:
        """Where the present tile begins in A itself, and the strides of all axes there."""
        e, c = self.e, self.plan.contraction
        strides, base = linear_load(c.a)
        terms = {s.axis(a): k for a, k in strides.items() if a not in c.k and a.extent != 1}
        type = memory_type(c.a.dtype)
        start = e.b.gep(e.pointers[c.a.data], [e.offset(terms, base)], source_etype=type)
        return start, strides

    def _pack_a(self, slot: ir.Value) -> None:
        """A's tile is evaluated into scratch, then walked like a plain matrix."""
        e, plan, c = self.e, self.plan, self.plan.contraction
        if plan.a == "turn":
            start, strides = self._direct_a()
            places = self._places(strides)
            turn = Turn(e, self.dtype, plan.tile.rows, places)
            turn.run(c.k, strides, start, self._packed_a(slot))
            return
        strides = self._k_strides()
        row = Axis("r", plan.tile.rows)
        pitch, dtype = (2 * plan.pitch, I16) if plan.pairs else (plan.pitch, self.dtype)
        start = s.mul(s.axis(row), pitch)
        index = s.add(start, _sum(strides))
        out = Buffer("tile", TensorType(dtype, (pitch * plan.tile.rows,)))
        e.pointers[out] = self._packed_a(slot)
        value = s.cast(c.a, dtype)
        if plan.m is not None and plan.tile.rows > 1:
            value = s.substitute(value, self._row_axes(row))
        lane = max(c.k, key=lambda a: (strides[a] == 1, typical(a.extent)), default=None)
        axes = [a for a in (row, *c.k) if a is not lane and a.extent != 1]

        def put():
            if lane is None or strides[lane] != 1 or typical(lane.extent) < 4:
                one = lambda: e.store(out, index, e.emit(value), None)
                e.loops([] if lane is None else [lane], one)
                return
            lanes = plan.lanes
            while lanes > typical(lane.extent):
                lanes //= 2
            if isinstance(lane.extent, Sym):
                self._pack_open(lane, lanes, lambda: e.store(out, index, e.vector(value), None))
                return
            with e.loop(i64(0), i64(lane.extent), lanes, name="k") as k:
                base = minimum(e, k, i64(lane.extent - lanes)) if lane.extent % lanes else k
                with e.at(lane, base), e.vectorised(lane, lanes):
                    e.store(out, index, e.vector(value), None)

        with e.scope():
            e.loops(axes, put)
        if plan.pairs and plan.depth % 2:
            last = s.add(start, s.const(plan.depth))
            with e.scope():
                zero = constant(0, I16)
                e.loops([row], lambda: e.store(out, last, zero, None))

    def _pack_open(self, lane: Axis, lanes: int, put) -> None:
        """`put` for all of k, of which the last vector is masked."""
        e = self.e
        with e.loop(i64(0), e.size(lane.extent), lanes, name="k") as k:
            mask = lanes_below(e, k, e.size(lane.extent), lanes)
            with e.at(lane, k), e.vectorised(lane, lanes, mask):
                put()

    def _columns_left(self, base: ir.Value) -> ir.Value | None:
        """The mask of the columns that there are, where there may be fewer than a panel's."""
        e, plan = self.e, self.plan
        if not plan.ragged:
            return None
        return lanes_below(e, base, e.size(plan.n.extent), plan.lanes)

    def _places(self, strides: dict) -> list:
        """Where the rows of a tile begin in A, from its first one."""
        e, plan = self.e, self.plan
        if plan.tile.flat:
            return self._flat_places(strides)
        if not plan.short:
            return row_places(plan, strides)
        first, step = e.where[plan.m], e.size(strides.get(plan.m, 0))
        rows = [e.b.add(first, i64(r)) for r in range(plan.tile.rows)]
        last = e.size(plan.m.extent - 1)
        return [e.b.mul(e.b.sub(minimum(e, row, last), first), step) for row in rows]

    def _flat_places(self, strides: dict[Axis, int]) -> list[ir.Value]:
        """Where the rows of a flat tile begin in A, from its first one."""
        e, plan = self.e, self.plan

        def offset(place: dict[Axis, ir.Value]) -> ir.Value:
            return e.b.add(*(e.b.mul(x, e.size(strides.get(a, 0))) for a, x in place.items()))

        start = offset({a: e.where[a] for a in (plan.line, plan.m)})
        rows = [e.b.add(self.first, i64(r)) for r in range(plan.tile.rows)]
        return [e.b.sub(offset(self._place(row)), start) for row in rows]

    def _row_axes(self, row: Axis) -> dict[Axis, Expr]:
        """The m axes of a tile's row, from those of its first one."""
        e, plan = self.e, self.plan

        def moved(axis: Axis, by: Expr) -> Expr:
            first = Axis("m", axis.extent)
            e.where[first] = e.where[axis]
            return s.add(s.make("axis", (), first, s.I64), by)

        if plan.short:
            here = moved(plan.m, s.axis(row))
            last = s.const(plan.m.extent - 1)
            return {plan.m: s.make("min", (here, last), None, s.I64)}
        if plan.line is None:
            return {plan.m: moved(plan.m, s.axis(row))}
        width = s.const(plan.m.extent)
        return {
            plan.line: moved(plan.line, s.axis(row) // width),
            plan.m: s.axis(row) % width,
        }

    # -- tiles ----------------------------------------------------------------------------

    def _tile(self, panel: ir.Value, column: ir.Value, slot: ir.Value) -> None:
        e, plan, c = self.e, self.plan, self.plan.contraction
        zero = identity("sum", self.dtype, plan.lanes)
        sums = [
            [e.variable(self.vector, f"acc.{r}.{v}") for v in range(plan.tile.vectors)]
            for r in range(plan.tile.rows)
        ]
        for line in sums:
            for acc in line:
                e.b.store(zero, acc)
        if plan.a == "direct":
            start, strides = self._direct_a()
            places = row_places(plan, strides)
        else:
            strides, start = self._k_strides(), self._packed_a(slot)
            pitch = 1 if plan.a == "turn" else plan.pitch
            places = [r * pitch for r in range(plan.tile.rows)]
        loops = [(plan.steps, 1)] if plan.pairs else merged(c.k, strides)
        # One row of A streams B once; the hardware foresees that better.
        fetch = plan.b == "constant" and plan.tile.rows > 1
        loop = TileLoop(e, self.dtype, plan.lanes, plan.tile, places, sums, fetch, plan.pairs)
        loop.run(loops, start, panel)
        self._epilogue(column, sums)

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
        if plan.short:
            there = e.b.icmp_signed("<", e.b.add(e.where[plan.m], row), e.size(plan.m.extent))
            with e.b.if_then(there), e.scope():
                self._store_line(row, column, values)
            return
        self._store_line(row, column, values)

    def _store_line(self, row: ir.Value, column: ir.Value, values: list[ir.Value]) -> None:
        e, plan = self.e, self.plan
        store = self.kernel.stores[0]
        saved = dict(e.where)
        if plan.tile.flat:
            e.where |= self._place(e.b.add(self.first, row))
        elif plan.line is not None:
            width = i64(plan.m.extent)
            e.where[plan.line] = e.b.add(saved[plan.line], e.b.udiv(row, width))
            e.where[plan.m] = e.b.urem(row, width)
        elif plan.m is not None:
            e.where[plan.m] = e.b.add(saved[plan.m], row)
        for v, acc in enumerate(values):
            base = e.b.add(column, i64(v * plan.lanes))
            mask = self._columns_left(base)
            with e.scope(), e.at(plan.n, base), e.vectorised(plan.n, plan.lanes, mask):
                e.remember(plan.contraction.reduce, acc)
                e.store(store.buffer, store.index[0], e.vector(store.value), None)
        e.where.clear()
        e.where.update(saved)


def _sum(strides: dict) -> Expr:
    total = s.const(0)
    for a, k in strides.items():
        total = s.add(total, s.mul(s.axis(a), k))
    return total
