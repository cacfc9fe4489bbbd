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
(2008). Where vectors are narrow, k is cut into blocks (`k_blocks.py`).
"""

from itertools import chain

import llvmlite.ir as ir

from .....kernels.kernel import Kernel
from .....kernels.machine import LINE
from ...base.types import I8, I64, i64, register_type, vector
from ...emit.emitter import Emitter
from ...emit.lanes import maximum, minimum
from ...emit.reduction import identity
from ...emit.scalar import prefetch
from .epilogue import Epilogue, columns_left
from .k_blocks import Block, cut, each_block
from .panels import Panels, Part
from .rows import Rows
from .tile import PanelPrefetch, Sum, TileLoop
from .tiling import Tiling

AHEAD = 4096  # bytes of the next panel that are fetched while sums are made use of


class ContractEmitter:
    """Writes one contraction. `packed` is the pointer to the packed constant, if there is one."""

    def __init__(self, e: Emitter, kernel: Kernel, plan: Tiling, packed, scratch):
        self.e, self.kernel, self.plan = e, kernel, plan
        self.scratch = scratch
        self.dtype = plan.contraction.reduce.dtype
        self.type = register_type(self.dtype)
        self.vector = vector(self.type, plan.lanes)
        self.panels = Panels(e, plan, packed, scratch)
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
            self.panels.go(p, column)
            panel = self.panels.at(i64(0))

            def tile(slot: ir.Value) -> None:
                prefetched = None
                if plan.reuses_panels:
                    loops = self.rows.loops()
                    prefetched = self.panels.prefetched(i64(plan.steps), plan.steps, slot, loops)
                self._tile(panel, column, slot, prefetched)

            self._tiles(first, stop, tile)

    def _column(self, panel: ir.Value) -> ir.Value:
        """Where a panel begins."""
        e, plan = self.e, self.plan
        column = e.b.mul(panel, i64(plan.columns))
        if not plan.ragged and plan.n.extent % plan.columns:
            column = minimum(e, column, e.size(plan.n.extent - plan.columns))
        return column

    def _blocks(self, first, stop, low, high) -> None:
        """The same in blocks of k, for a block of panels at a time."""
        e, plan = self.e, self.plan
        blocks = cut(self.rows.loops(), plan.k_block)
        with e.loop(low, high, plan.panel_block, name="bunch") as begin:
            end = minimum(e, e.b.add(begin, i64(plan.panel_block)), high)
            if plan.b == "pack":  # bunches of one
                self.panels.go(begin, self._column(begin))

            def block(here: Block) -> None:
                with e.loop(begin, end, name="panel") as p:
                    column = self._column(p)
                    if plan.b != "pack":
                        self.panels.go(p, column)
                    next_panel = self._next_panel(begin, end, p, here)
                    self._block(column, e.b.sub(p, begin), here, next_panel, first, stop)

            each_block(e, blocks, block)

    def _next_panel(self, begin, end, panel, block: Block) -> ir.Value:
        """What is multiplied after a block of a panel: the next panel of its block, or the
        next block of its first one, or the next panel block. In steps from where the panel
        begins."""
        e, whole = self.e, i64(self.plan.steps)
        back = e.b.mul(e.b.sub(begin, panel), whole)
        further = e.b.add(block.b, i64(block.steps))
        turn = e.b.select(block.last, whole, e.b.add(back, further))
        more = e.b.icmp_signed("<", e.b.add(panel, i64(1)), end)
        return e.b.select(more, e.b.add(whole, block.b), turn)

    def _block(self, column, number, block: Block, next_panel, first, stop) -> None:
        """All tiles of the group for one block of a panel; meanwhile `next_panel` is fetched."""
        e, plan = self.e, self.plan
        panel = self.panels.at(block.b)

        def tile(slot: ir.Value) -> None:
            prefetched = None
            if plan.b == "constant":
                prefetched = self.panels.prefetched(next_panel, block.steps, slot, block.loops)
            place = e.b.add(e.b.mul(number, e.size(plan.group)), slot)
            self._tile(panel, column, slot, prefetched, block, self._partial(place))

        self._tiles(first, stop, tile)

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

    # -- tiles ----------------------------------------------------------------------------

    def _tile(
        self,
        panel: Part,
        column: ir.Value,
        slot: ir.Value,
        prefetched: PanelPrefetch | None,
        block: Block | None = None,
        partial: ir.Value | None = None,
    ) -> None:
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
        fetch = plan.b == "constant" and plan.tile.rows > 1 and not plan.reuses_panels
        loop = TileLoop(
            e, self.dtype, plan.lanes, plan.tile, places, sums, fetch, plan.pairs, plan.unroll
        )
        if plan.b == "direct":
            lanes = [e.plus(column, v * plan.lanes) for v in range(plan.tile.vectors)]
            loop.read_in_place(plan.line_distance, [columns_left(e, plan, x) for x in lanes])
        loop.next_columns = self.panels.next_columns(slot)
        if plan.gates and plan.m is not None and block is None:
            self.after.fetch(column)
        if block is None:
            self._multiply(loop, self.rows.loops(), start, panel, slot, prefetched)
            if plan.gates and plan.tile.rows == 1:
                self._fetch_next(panel)
            self.after.run(column, sums)
            return
        waiting = [
            e.b.gep(partial, [i64(i * plan.lanes)], source_etype=self.type)
            for i in range(plan.tile.rows * plan.tile.vectors)
        ]
        with e.b.if_then(e.b.not_(block.first)):
            for acc, place in zip(chain(*sums), waiting):
                e.b.store(e.b.load(place, typ=self.vector, align=self.dtype.bytes), acc)
        if plan.gates and plan.m is not None:
            with e.b.if_then(block.last):
                self.after.fetch(column)
        here = e.b.gep(start, [block.a], source_etype=self.type)
        self._multiply(loop, block.loops, here, panel, slot, prefetched)
        with e.b.if_else(block.last) as (then, otherwise):
            with then, e.scope():
                self.after.run(column, sums)
            with otherwise:
                for acc, place in zip(chain(*sums), waiting):
                    e.b.store(e.b.load(acc), place, align=self.dtype.bytes)

    def _fetch_next(self, panel: Part) -> None:
        """Where one row streams the weights: the beginning of the next panel, which comes meanwhile
        if what follows the sums is long."""
        e, plan = self.e, self.plan
        after = e.size(plan.steps * plan.width * plan.dtype.bytes)
        start = e.b.gep(panel.place, [after], source_etype=I8)
        for i in range(AHEAD // LINE):
            prefetch(e.b, e.b.gep(start, [i64(i * LINE)], source_etype=I8), 1)

    def _multiply(
        self, loop: TileLoop, loops, a, panel: Part, slot, prefetched: PanelPrefetch | None
    ) -> None:
        """A tile's rows by a part of a panel, of which the first tile of a group takes the sums."""
        e = self.e
        if panel.is_sum is None:
            loop.run(loops, a, panel.place, prefetched)
            return
        takes = e.b.and_(panel.is_sum, e.b.icmp_signed("==", slot, i64(0)))
        with e.b.if_else(takes, likely=False) as (then, otherwise):
            with then, e.scope():
                other, start = panel.terms
                terms = Sum(*(self._distance(start, p) for p in (other, panel.place)))
                loop.run(loops, a, start, prefetched, terms)
            with otherwise, e.scope():
                loop.run(loops, a, panel.place, prefetched)

    def _distance(self, start: ir.Value, end: ir.Value) -> ir.Value:
        """In bytes."""
        b = self.e.b
        return b.sub(b.ptrtoint(end, I64), b.ptrtoint(start, I64))
