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
(2008). Where vectors are narrow, k is cut into blocks (`contract_blocks.py`).
"""

from itertools import chain
from math import ceil

import llvmlite.ir as ir

from ...loops import expr as s
from ...loops.nest import Kernel
from ...loops.schedule import linear_load
from .contract_blocks import Block, cut, each_block, fetch
from .contract_plan import turns_columns
from .contract_rows import Rows
from .contract_schedule import LINE, ContractSchedule
from .contract_store import Epilogue, columns_left
from .contract_tile import TileLoop
from .contract_turn import Turn
from .emit import Emitter, maximum, minimum
from .reduction import identity
from .types import I8, i64, memory_type, register_type


class ContractEmitter:
    """Writes one contraction. `packed` is the pointer to the packed constant, if there is one."""

    def __init__(self, e: Emitter, kernel: Kernel, plan: ContractSchedule, packed, scratch):
        self.e, self.kernel, self.plan = e, kernel, plan
        self.packed, self.scratch = packed, scratch
        self.dtype = plan.contraction.reduce.dtype
        self.type = register_type(self.dtype)
        self.vector = ir.VectorType(self.type, plan.lanes)
        self.rows = Rows(e, plan, scratch)
        self.after = Epilogue(e, kernel, plan, self.rows)

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
            self._tiles(first, stop, self.rows.pack)
        if plan.cut:
            self._blocks(first, stop, low, high)
            return
        with e.loop(low, high, name="panel") as p:
            column = self._column(p)
            panel = self._panel(p, column)

            def tile(slot: ir.Value) -> None:
                if plan.passes_by:
                    self._fetch(self._step_of(panel, e.size(plan.steps)), plan.steps, slot)
                self._tile(panel, column, slot)

            self._tiles(first, stop, tile)

    def _column(self, panel: ir.Value) -> ir.Value:
        """Where a panel begins."""
        e, plan = self.e, self.plan
        column = e.b.mul(panel, i64(plan.width))
        if not plan.ragged and plan.n.extent % plan.width:
            column = minimum(e, column, e.size(plan.n.extent - plan.width))
        return column

    def _blocks(self, first, stop, low, high) -> None:
        """The same in blocks of k, for a bunch of panels at a time."""
        e, plan = self.e, self.plan
        blocks = cut(self.rows.loops(), plan.limit)
        with e.loop(low, high, plan.bunch, name="bunch") as begin:
            end = minimum(e, e.b.add(begin, i64(plan.bunch)), high)
            if plan.b == "pack":  # bunches of one
                packed = self._panel(begin, self._column(begin))

            def block(here: Block) -> None:
                with e.loop(begin, end, name="panel") as p:
                    column = self._column(p)
                    panel = packed if plan.b == "pack" else self._panel(p, column)
                    number = e.b.sub(p, begin)
                    self._block(panel, column, number, here, first, stop)

            each_block(e, blocks, block)

    def _block(self, panel, column, number, block: Block, first, stop) -> None:
        """All tiles of the group for one block of a panel."""
        e, plan = self.e, self.plan
        panel = self._step_of(panel, block.b)
        following = self._step_of(panel, i64(block.steps if plan.bunch == 1 else plan.steps))

        def tile(slot: ir.Value) -> None:
            if plan.b == "constant":
                self._fetch(following, block.steps, slot)
            place = e.b.add(e.b.mul(number, e.size(plan.group)), slot)
            self._tile(panel, column, slot, block, self._partial(place))

        self._tiles(first, stop, tile)

    def _fetch(self, following: ir.Value, steps: int, slot: ir.Value) -> None:
        """A tile's share of fetching what comes after the panel that its group reads now."""
        plan = self.plan
        lines = ceil(steps * plan.width * plan.dtype.bytes / LINE)
        each = ceil(lines / plan.group)
        offset = self.e.b.mul(slot, i64(each * LINE))
        fetch(self.e, self.e.b.gep(following, [offset], source_etype=I8), each)

    def _step_of(self, panel: ir.Value, step: ir.Value) -> ir.Value:
        offset = self.e.b.mul(step, i64(self.plan.width))
        return self.e.b.gep(panel, [offset], source_etype=self.type)

    def _partial(self, place: ir.Value) -> ir.Value:
        """Where sums wait for the next block."""
        e, plan = self.e, self.plan
        start = e.size(plan.scratch_elements - plan.partial)
        offset = e.b.add(e.b.mul(place, i64(plan.tile.rows * plan.width)), start)
        return e.b.gep(self.scratch, [offset], source_etype=self.type)

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
                self.rows.first = row
                e.where |= self.rows.place(row)
            elif plan.line is not None:
                e.where |= {plan.line: row, plan.m: i64(0)}
            else:
                e.where[plan.m] = row
            run(slot)
            for a in plan.contraction.m:
                del e.where[a]

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

    # -- tiles ----------------------------------------------------------------------------

    def _tile(
        self, panel: ir.Value, column: ir.Value, slot: ir.Value, block: Block | None = None,
        partial: ir.Value | None = None,
    ) -> None:  # fmt: skip
        """A tile's sums over all of k, or over a block of it, with what follows them."""
        e, plan = self.e, self.plan
        sums = [
            [e.variable(self.vector, f"acc.{r}.{v}") for v in range(plan.tile.vectors)]
            for r in range(plan.tile.rows)
        ]
        zero = identity("sum", self.dtype, plan.lanes)
        for acc in chain(*sums):
            e.b.store(zero, acc)
        if plan.a == "direct":
            start, strides = self.rows.direct()
            places = self.rows.places(strides)
        else:
            start = self.rows.packed(slot)
            pitch = 1 if plan.a == "turn" else plan.pitch
            places = [r * pitch for r in range(plan.tile.rows)]
        # One row of A streams B once; the hardware foresees that better.
        fetch = plan.b == "constant" and plan.tile.rows > 1 and not plan.passes_by
        loop = TileLoop(e, self.dtype, plan.lanes, plan.tile, places, sums, fetch, plan.pairs)
        if block is None:
            loop.run(self.rows.loops(), start, panel)
            self.after.run(column, sums)
            return
        waiting = [
            e.b.gep(partial, [i64(i * plan.lanes)], source_etype=self.type)
            for i in range(plan.tile.rows * plan.tile.vectors)
        ]
        with e.b.if_then(e.b.not_(block.first)):
            for acc, place in zip(chain(*sums), waiting):
                e.b.store(e.b.load(place, typ=self.vector, align=self.dtype.bytes), acc)
        loop.run(block.loops, e.b.gep(start, [block.a], source_etype=self.type), panel)
        with e.b.if_else(block.last) as (then, otherwise):
            with then, e.scope():
                self.after.run(column, sums)
            with otherwise:
                for acc, place in zip(chain(*sums), waiting):
                    e.b.store(e.b.load(acc), place, align=self.dtype.bytes)
