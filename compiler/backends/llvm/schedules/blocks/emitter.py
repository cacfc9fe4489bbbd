"""Code of products with packed weights.

    for group of rows:                    a, its sums and factors by blocks: into scratch memory
      for panel of columns:
        for tile of rows of the group:    of floats only few rows; many as in `unpacked.py`
          for block:                      in registers, from packed words as they are
            acc[r][v] = sum over steps of a[r, step] · code[step, v]
            total[r][v] += (acc[r][v] - zero[v] · sum a[r]) · scale[v] · factor[r]
          y[r, v] = f(total[r][v])

A total's sums are in the order of the blocks, whatever the vectors, tiles and threads are: where
blocks are of integers, results are the same bits on every CPU that multiplies and adds at once.
"""

from collections.abc import Callable, Iterator

import llvmlite.ir as ir

from .....ir.dims import Sym
from .....ir.types import F32
from .....kernels.kernel import Kernel
from .....kernels.tiling import Tile
from ...base.types import I8, I32, PTR, i64, memory_type, register_type, vector
from ...emit.emitter import Emitter
from ...emit.lanes import first_lanes, maximum, minimum
from ...emit.opaque import hidden
from ...emit.scalar import emit_cast, multiply_add, splat
from .planes import Tiled
from .products import FEW, BlockProducts, moved
from .rows import RowEmitter, RowPlan, at_places
from .unpacked import Parts, Unpacker, multiply

FLOAT = register_type(F32)
BUNCH = 8  # panels that meet a part of the rows, one after the other


class BlocksEmitter:
    """Writes one kernel."""

    def __init__(
        self, e: Emitter, kernel: Kernel, plan: Tiled, packed: ir.Value, scratch: ir.Value
    ):
        self.e, self.kernel, self.layout, self.form = e, kernel, plan, plan.form
        self.rows, self.group, self.unpacks = plan.rows, plan.group, plan.unpacks
        self.packed, self.scratch = packed, scratch
        self.plan = RowPlan(plan)
        self.filler = RowEmitter(e, self.plan, scratch)
        self.products = BlockProducts(e, plan, packed)
        self.lanes = plan.lanes
        self.words, self.floats = vector(I32, self.lanes), vector(FLOAT, self.lanes)
        self.sum_type = vector(register_type(self.plan.dtype), self.lanes)
        self.total_type = vector(register_type(self.form.total.dtype), self.lanes)

    # -- loops ----------------------------------------------------------------------------

    def emit(self, begin: ir.Value, end: ir.Value) -> None:
        """Units `begin` to `end`: the panels of one group, then those of the next."""
        e = self.e
        panels, count = i64(self.layout.panels), e.size(self.form.row_count)
        last = e.b.sdiv(e.b.add(end, i64(self.layout.panels - 1)), panels)
        of_group = self._rows_of_group(count)
        with e.loop(e.b.sdiv(begin, panels), last, name="group") as group:
            start = e.b.mul(group, panels)
            low = maximum(e, e.b.sub(begin, start), i64(0))
            high = minimum(e, e.b.sub(end, start), panels)
            first = e.b.mul(group, of_group)
            here = maximum(e, minimum(e, of_group, e.b.sub(count, first)), i64(0))
            with e.loop(i64(0), self._filled(here), name="row") as slot:
                row = minimum(e, e.b.add(first, slot), e.b.sub(count, i64(1)))
                with at_places(e, self.form.m, row):
                    self.filler.fill(slot)
            self._panels(low, high, first, here)

    def _rows_of_group(self, count: ir.Value) -> ir.Value:
        """Groups of about the same number of rows, which is a multiple of tiles'."""
        b = self.e.b
        if not isinstance(self.form.row_count, Sym):
            return i64(self.group)
        above = lambda x, size: b.udiv(b.add(x, b.sub(size, i64(1))), size)
        groups = maximum(self.e, above(count, i64(self.group)), i64(1))
        return b.mul(above(above(count, groups), i64(self.rows)), i64(self.rows))

    def _filled(self, here: ir.Value) -> ir.Value:
        """Rows that are prepared: whole tiles, filled up with the last row, where many rows share
        what is unpacked."""
        b, rows = self.e.b, i64(self.rows)
        if not self.unpacks:
            return here
        return b.mul(b.udiv(b.add(here, i64(self.rows - 1)), rows), rows)

    def _panels(self, low, high, first, here) -> None:
        e = self.e
        if not self.unpacks:
            self._in_registers(low, high, self.rows, first, here)
        elif isinstance(self.form.row_count, Sym):
            with e.b.if_else(e.b.icmp_signed(">", here, i64(FEW))) as (many, few):
                with many, e.scope():
                    self._unpacked(low, high, first, here)
                with few, e.scope():
                    self._in_registers(low, high, 1, first, here)
        else:
            self._unpacked(low, high, first, here)

    def _in_registers(self, low, high, rows: int, first, here) -> None:
        """Panels that are unpacked again for each tile, on the way into its products."""
        with self.e.loop(low, high, name="panel") as p:
            panel, column = self._panel(p), self._first_column(p)
            tile = lambda n, slot: self._tile(n, slot, panel, column, first)
            self._tiles(here, rows, tile)

    def _panel(self, p: ir.Value) -> ir.Value:
        b, layout = self.e.b, self.layout
        place = b.add(b.mul(p, i64(layout.panel_bytes)), i64(layout.table_bytes))
        return b.gep(self.packed, [place], source_etype=I8)

    def _first_column(self, p: ir.Value) -> ir.Value:
        e, layout, n = self.e, self.layout, self.form.count
        column = e.b.mul(p, i64(layout.width))
        if n > layout.width and n % layout.width:
            column = minimum(e, column, i64(n - layout.width))
        return column

    def _tiles(self, here: ir.Value, height: int, run: Callable[[int, ir.Value], None]) -> None:
        """`run(rows, slot)` for each tile of the group."""
        e = self.e
        tall = e.b.sub(here, e.b.urem(here, i64(height)))
        with e.loop(i64(0), tall, height, name="tile") as slot:
            run(height, slot)
        for rows in self._heights_of_rest():
            with e.loop(tall, here, rows, name="tile") as slot:
                run(rows, slot)

    def _unpacked(self, low, high, first, here) -> None:
        """All rows of a group with panels that are unpacked part by part, a bunch of panels for
        each part of the rows."""
        e, layout, parts = self.e, self.layout, Parts(self.layout)
        start = e.b.gep(self.scratch, [i64(self.group * self.plan.pitch)], source_etype=I8)
        of_panel = self.group * layout.width * 4
        place = e.b.gep(start, [i64(BUNCH * of_panel)], source_etype=I8)
        unpack = Unpacker(
            e,
            parts,
            self.products.fields,
            self._scales,
            self._zeros,
            self.products.column,
            self.plan.constant_zero,
        )
        with e.loop(low, high, BUNCH, name="bunch") as begin:
            end = minimum(e, e.b.add(begin, i64(BUNCH)), high)

            def totals_of(p: ir.Value) -> ir.Value:
                offset = e.b.mul(e.b.sub(p, begin), i64(of_panel))
                return e.b.gep(start, [offset], source_etype=I8)

            with e.loop(begin, end, name="panel") as p:
                totals = totals_of(p)
                with e.loop(
                    i64(0), e.b.mul(self._filled(here), i64(layout.vectors)), name="total"
                ) as i:
                    e.b.store(ir.Constant(self.floats, None), self._total(totals, i), align=4)
            with e.loop(i64(0), i64(parts.number), name="part") as part:
                step = e.b.mul(part, i64(parts.steps))
                with e.loop(begin, end, name="panel") as p:
                    unpack.part(self._panel(p), part, place)
                    totals = totals_of(p)
                    filled = self._filled(here)
                    with e.loop(i64(0), filled, self.rows, name="tile") as slot:
                        a = self.filler.place(slot, 0, step, 4)
                        own = self._total(totals, e.b.mul(slot, i64(layout.vectors)))
                        shape = Tile(self.rows, layout.vectors)
                        multiply(e, parts, shape, self.plan.pitch // 4, a, place, own)
            with e.loop(begin, end, name="panel") as p:
                self._finish(here, totals_of(p), i64(0), self._first_column(p), first)

    def _heights_of_rest(self) -> Iterator[int]:
        """Rows that are left behind whole tiles: one tile where they are known."""
        if self.rows == 1:
            return
        count = self.form.row_count
        if isinstance(count, Sym):
            yield 1
        elif count % self.group % self.rows:
            yield count % self.group % self.rows
        # A group is a multiple of tiles, so that only the last one has a rest.

    # -- a tile ---------------------------------------------------------------------------

    def _tile(self, rows: int, slot, panel, column, first) -> None:
        e, layout, form = self.e, self.layout, self.form
        totals = e.variable(ir.ArrayType(self.total_type, rows * layout.vectors), "totals")
        totals.align = 64
        totals.type = PTR
        for i in range(rows * layout.vectors):
            e.b.store(ir.Constant(self.total_type, None), self._total(totals, i64(i)))
        a = self.filler.place(slot, 0, i64(0), 1)
        with e.loop(i64(0), i64(form.number), name="block") as block:
            here = e.b.gep(panel, [e.b.mul(block, i64(layout.block_bytes))], source_etype=I8)
            step = e.b.mul(block, i64(self.plan.block_steps * self.plan.each))
            begin = e.b.gep(a, [step], source_etype=I8)
            sums = self.products.block(rows, hidden(e.b, here), hidden(e.b, begin))
            self._add(rows, sums, totals, here, slot, block)
        self._finish(i64(rows), totals, slot, column, first)

    def _total(self, totals: ir.Value, index: ir.Value) -> ir.Value:
        return self.e.b.gep(totals, [index], source_etype=self.total_type)

    # -- after a block --------------------------------------------------------------------

    def _add(self, rows: int, sums, totals, panel, slot, block) -> None:
        """total += (sum + correction) · scale · factor"""
        e, plan, layout = self.e, self.plan, self.layout
        a_float = self.form.total.dtype == F32
        scales, zeros = self._scales(panel), self._zeros(panel)
        row = e.b.gep(self.scratch, [e.b.mul(slot, i64(plan.pitch))], source_etype=I8)
        own = e.b.gep(row, [e.b.mul(block, i64(4))], source_etype=I8)
        for r in range(rows):
            correction, factor = self._of_row(own, r)
            for v in range(layout.vectors):
                value = sums[r][v]
                if correction is not None:
                    value = self._corrected(value, correction, zeros[v])
                if a_float and not plan.dtype.is_float:
                    value = e.b.sitofp(value, self.floats)
                place = self._total(totals, i64(r * layout.vectors + v))
                so_far = e.b.load(place, typ=self.total_type)
                scale = scales[v]
                if factor is not None:
                    scale = factor if scale is None else e.b.fmul(scale, factor)
                if not a_float:
                    value = e.b.add(so_far, value)
                elif scale is None:
                    value = e.b.fadd(so_far, value)
                else:
                    value = multiply_add(e.b, value, scale, so_far)
                e.b.store(value, place)

    def _of_row(self, own: ir.Value, r: int) -> tuple[ir.Value | None, ir.Value | None]:
        """The correction and the factor of a row's block, in all lanes."""
        e, plan = self.e, self.plan
        correction = factor = None
        if plan.corrects:
            place = moved(e.b, own, r * plan.pitch + plan.corrections_at)
            element = register_type(plan.dtype)
            correction = splat(e.b, e.b.load(place, typ=element, align=4), self.lanes)
        if self.form.rows:
            place = moved(e.b, own, r * plan.pitch + plan.factors_at)
            factor = splat(e.b, e.b.load(place, typ=FLOAT, align=4), self.lanes)
        return correction, factor

    def _corrected(self, value, correction, zero) -> ir.Value:
        b = self.e.b
        if self.plan.dtype.is_float:
            if zero is None:
                return b.fadd(value, correction)
            return multiply_add(b, zero, correction, value)
        return b.add(value, correction if zero is None else b.mul(zero, correction))

    def _scales(self, panel: ir.Value) -> list[ir.Value | None]:
        layout, dtype = self.layout, self.layout.scale_dtype
        if dtype is None:
            return [None] * layout.vectors
        return [
            emit_cast(self.e.b, x, dtype, F32)
            for x in self._numbers(panel, layout.scales_at, dtype)
        ]

    def _zeros(self, panel: ir.Value) -> list[ir.Value | None]:
        layout, dtype = self.layout, self.layout.zero_dtype
        if dtype is None:
            return [None] * layout.vectors
        return [
            emit_cast(self.e.b, x, dtype, self.plan.dtype)
            for x in self._numbers(panel, layout.zeros_at, dtype)
        ]

    def _numbers(self, panel: ir.Value, at: int, dtype) -> list[ir.Value]:
        e, lanes = self.e, self.lanes
        type = vector(memory_type(dtype, e.soft_half), lanes)
        places = [
            moved(e.b, panel, at + v * lanes * dtype.bytes) for v in range(self.layout.vectors)
        ]
        return [e.from_memory(e.b.load(p, typ=type, align=1), dtype) for p in places]

    # -- what follows ---------------------------------------------------------------------

    def _finish(self, rows: ir.Value, totals, slot, column, first) -> None:
        """f(total), row by row."""
        e, layout, n = self.e, self.layout, self.form.n
        (store,) = self.kernel.stores
        around = column
        if self.form.outer:
            around, column = e.b.udiv(column, i64(n.extent)), e.b.urem(column, i64(n.extent))
        with e.loop(i64(0), rows, name="line") as r, at_places(e, self.form.outer, around):
            row = e.b.add(e.b.add(first, slot), r)
            with at_places(e, self.form.m, row):
                for v in range(layout.vectors):
                    left = n.extent - v * self.lanes
                    narrow = n.extent < layout.width and left < self.lanes
                    mask = first_lanes(self.lanes, left) if narrow else None
                    index = e.b.add(e.b.mul(r, i64(layout.vectors)), i64(v))
                    here = e.at(n, e.plus(column, v * self.lanes))
                    with e.scope(), here, e.vectorised(n, self.lanes, mask):
                        place = self._total(totals, index)
                        value = e.b.load(place, typ=self.total_type, align=4)
                        e.remember(self.form.total, value)
                        e.store(store.buffer, store.index[0], e.vector(store.value), None)
