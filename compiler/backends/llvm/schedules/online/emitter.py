"""The code of a product with a softmax's weights: blocks of rows, and of keys within.

    for block of rows:                       queries are copied
      for block of keys:
        for panel of keys:                   k[panel, :] is turned
          for tile of rows:                  z = g(q @ kᵀ), kept; the greatest of each row
        for row:                             p = exp(z - greatest), and their sum
        for panel of columns:                v[block, panel] is copied
          for tile of rows:                  sums = sums * exp(greatest before - greatest) + p @ v
      out = f(sums / sum of p)

After Dao, "FlashAttention-2" (2023, arXiv:2307.08691), and Rabe & Staats, "Self-attention does not
need O(n²) memory" (2021, arXiv:2112.05682); but the scores of a block lie in the second-level
cache, so that a panel stays in the first-level one for all rows of the block. Threads share blocks
of rows; keys come in one order, so that results do not depend on threads.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import llvmlite.ir as ir

from .....expr import expr as s
from .....expr.expr import Axis
from .....ir.dims import Sym
from .....kernels.kernel import Kernel
from .....kernels.tiling import Tile, linear_load
from ...base.types import I1, PTR, i64
from ...emit.emitter import Emitter
from ...emit.lanes import lanes_below, maximum, minimum
from ...emit.reduction import identity
from ...emit.scalar import splat
from ..contraction.tile import TileLoop
from ..contraction.transpose import TransposePack
from .form import Blocks
from .scratch import Scratch
from .weights import Weights

INLINE = 10  # operations up to which what follows a score is written out per register


class OnlineEmitter:
    """Writes one kernel."""

    def __init__(self, e: Emitter, kernel: Kernel, plan: Blocks, scratch: ir.Value):
        self.e, self.kernel, self.plan, self.online = e, kernel, plan, plan.online
        self.s = Scratch(e, plan, scratch)
        self.weights = Weights(self.s, plan.online.guarded)

    # -- blocks ---------------------------------------------------------------------------

    def emit(self, begin: ir.Value, end: ir.Value) -> None:
        e, plan, online = self.e, self.plan, self.online
        rows = e.size(online.row.extent)
        with e.loop(begin, end, name="unit") as unit:
            blocks = e.size(plan.row_blocks)
            self.first = e.b.mul(e.b.urem(unit, blocks), i64(plan.rows))
            rest = e.b.udiv(unit, blocks)
            for a in reversed(online.outer):
                e.where[a] = e.b.urem(rest, e.size(a.extent))
                rest = e.b.udiv(rest, e.size(a.extent))
            left = minimum(e, e.b.sub(rows, self.first), i64(plan.rows))
            height = i64(plan.tile.rows)
            self.tiles = e.b.udiv(e.b.add(left, i64(plan.tile.rows - 1)), height)
            self.last_row = e.b.sub(rows, i64(1))
            self._copy_queries()
            self._each_block(left)
            for a in online.outer:
                del e.where[a]

    def _each_block(self, left: ir.Value) -> None:
        """All keys that some row of the block sees; at least one, so that there is a result."""
        e, plan, online = self.e, self.plan, self.online
        stop: int | ir.Value = e.size(online.key.extent)
        if online.limit is not None:
            below = e.b.sub(e.b.add(self.first, left), i64(1))
            with e.scope(), e.at(online.row, below):
                stop = minimum(e, stop, maximum(e, e.emit(online.limit), i64(1)))
        always = ir.Constant(I1, 1)
        if plan.is_single:
            count = online.key.extent if online.limit is None else stop
            self._block(i64(0), count, always, always)
            return
        with e.loop(i64(0), stop, plan.keys, name="keys") as start:
            next_block = e.b.add(start, i64(plan.keys))
            last = e.b.icmp_signed(">=", next_block, stop)
            count = minimum(e, e.b.sub(stop, start), i64(plan.keys))
            self._block(start, count, e.b.icmp_signed("==", start, i64(0)), last)

    def _block(
        self, start: ir.Value, count: int | ir.Value, first: ir.Value, last: ir.Value
    ) -> None:
        e, plan = self.e, self.plan
        number = i64(count) if isinstance(count, int) else count
        self.weights.begin()
        panels = e.b.udiv(e.b.add(number, i64(plan.width - 1)), i64(plan.width))
        with e.loop(i64(0), panels, name="panel") as p:
            column = e.b.mul(p, i64(plan.width))
            self._score_panel(e.b.add(start, column), column)
        self._each_group(lambda row: self.weights.greatest(row, first))
        rows = e.b.mul(self.tiles, i64(plan.tile.rows))
        with e.loop(i64(0), rows, name="row") as row:
            self.weights.weigh(row, panels)
        self._each_group(lambda row: self.weights.totals(row, first))
        with e.loop(i64(0), i64(plan.columns), plan.value_width, name="panel") as column:
            self._value_panel(start, count, column, first, last)

    def _each_group(self, body: Callable[[ir.Value], None]) -> None:
        """For vectors of rows."""
        rows = self.e.b.mul(self.tiles, i64(self.plan.tile.rows))
        with self.e.loop(i64(0), rows, self.plan.lanes, name="rows") as row:
            body(row)

    def _each_tile(self, body: Callable[[ir.Value], None]) -> None:
        with self.e.loop(i64(0), self.tiles, name="tile") as t:
            body(self.e.b.mul(t, i64(self.plan.tile.rows)))

    # -- scores -----------------------------------------------------------------------------

    def _copy_queries(self) -> None:
        """Rows past the end are the last one again."""
        e, plan, online = self.e, self.plan, self.online
        (depth,) = online.depth
        rows = e.b.mul(self.tiles, i64(plan.tile.rows))
        with e.loop(i64(0), rows, name="row") as r:
            here = minimum(e, e.b.add(self.first, r), self.last_row)
            place = e.b.mul(r, i64(plan.query_pitch))
            with e.at(online.row, here), e.loop(i64(0), i64(plan.depth), plan.lanes) as d:
                mask = self._mask(d, i64(plan.depth), plan.depth % plan.lanes != 0)
                with self._across(depth, d, mask):
                    self.s.store(e.vector(online.query), "query", e.b.add(place, d))

    def _score_panel(self, key: ir.Value, column: ir.Value) -> None:
        """Scores of the keys from `key` on, into columns from `column` on."""
        e, plan = self.e, self.plan
        self._copy_keys(key)
        panel = self.s.at("panel")

        def tile(row: ir.Value) -> None:
            sums = self._sums(plan.tile.vectors)
            query = self.s.at("query", e.b.mul(row, i64(plan.query_pitch)))
            self._multiply(sums, plan.query_pitch, plan.depth, query, panel)
            values = [[e.b.load(x) for x in line] for line in sums]
            extent = self.online.key.extent
            if not isinstance(extent, Sym) and extent % plan.width == 0:
                self._scores(row, key, column, values, False)
                return
            whole = e.b.icmp_signed("<=", e.b.add(key, i64(plan.width)), e.size(extent))
            with e.b.if_else(whole, likely=True) as (then, otherwise):
                with then, e.scope():
                    self._scores(row, key, column, values, False)
                with otherwise, e.scope():
                    self._scores(row, key, column, values, True)

        self._each_tile(tile)

    def _copy_keys(self, key: ir.Value) -> None:
        """The panel of keys from `key` on, as [depth][key]; past the end, anything."""
        e, plan, online = self.e, self.plan, self.online
        (depth,) = online.depth
        panel = self.s.at("panel")
        if plan.turns_keys:
            strides, base = linear_load(online.keys)
            inner = (depth, online.key)
            rest = {s.axis(a): n for a, n in strides.items() if a not in inner and a.extent != 1}
            pointer = e.pointers[online.keys.data]
            start = e.b.gep(pointer, [e.offset(rest, base)], source_etype=self.s.type)
            step, last = e.size(strides.get(online.key, 0)), e.size(online.key.extent - 1)
            keys = [minimum(e, e.b.add(key, i64(n)), last) for n in range(plan.width)]
            places = [e.b.mul(k, step) for k in keys]
            turn = TransposePack(e, self.s.dtype, plan.width, places)
            turn.run((depth,), {depth: 1}, start, panel)
            return
        with e.loop(i64(0), i64(plan.depth), name="depth") as d, e.at(depth, d):
            place = e.b.mul(d, i64(plan.width))
            for v in range(plan.tile.vectors):
                here = e.plus(key, v * plan.lanes)
                mask = self._key_mask(here)
                with e.scope(), self._across(online.key, here, mask):
                    value = e.vector(online.keys)
                self.s.store(value, "panel", e.plus(place, v * plan.lanes))

    def _scores(
        self,
        row: ir.Value,
        key: ir.Value,
        column: ir.Value,
        values: Sequence[Sequence[ir.Value]],
        masked: bool,
    ) -> None:
        """g of a tile's sums, [row][vector]: kept, and compared with the greatest of each lane."""
        e, plan, online = self.e, self.plan, self.online
        inside = set(s.walk(online.product))
        after = [x for x in s.walk(online.scores) if x not in inside and x.op != "const"]

        def line(r: ir.Value, values: Sequence[ir.Value]) -> None:
            most = self.s.load("partial", e.b.mul(r, i64(plan.lanes)))
            place = e.b.add(e.b.mul(r, i64(plan.score_pitch)), column)
            here = minimum(e, e.b.add(self.first, r), self.last_row)
            with e.scope(), e.at(online.row, here):
                for v, total in enumerate(values):
                    lanes = e.plus(key, v * plan.lanes)
                    mask = self._key_mask(lanes) if masked else None
                    with e.scope(), self._across(online.key, lanes, mask):
                        e.remember(online.product, total)
                        score = e.vector(online.scores)
                    if mask is not None:
                        score = e.b.select(mask, score, self.s.low)
                    self.s.store(score, "scores", e.plus(place, v * plan.lanes))
                    most = self.weights.greater(score, most)
            self.s.store(most, "partial", e.b.mul(r, i64(plan.lanes)))

        if len(after) <= INLINE:
            for r, sums in enumerate(values):
                line(e.plus(row, r), sums)
            return
        held = e.variable(ir.ArrayType(self.s.vector, plan.tile.rows * plan.tile.vectors), "tile")
        held.type = PTR
        for n, total in enumerate(x for sums in values for x in sums):
            e.b.store(total, e.b.gep(held, [i64(n)], source_etype=self.s.vector))
        with e.loop(i64(0), i64(plan.tile.rows), name="row") as r:
            first = e.b.mul(r, i64(plan.tile.vectors))
            places = [e.plus(first, v) for v in range(plan.tile.vectors)]
            pointers = [e.b.gep(held, [p], source_etype=self.s.vector) for p in places]
            line(e.b.add(row, r), [e.b.load(p, typ=self.s.vector) for p in pointers])

    # -- what is weighed --------------------------------------------------------------------

    def _value_panel(
        self, start: ir.Value, count: int | ir.Value, column: ir.Value, first, last
    ) -> None:
        """Columns from `column` on: the sums of a block of keys, or their results."""
        e, plan = self.e, self.plan
        self._copy_values(start, count, column)
        panel = self.s.at("panel")

        def tile(row: ir.Value) -> None:
            sums = self._sums(plan.vectors)
            waiting = self._waiting(row, column)
            if not plan.is_single:
                with e.b.if_then(e.b.not_(first)):
                    for r, (line, places) in enumerate(zip(sums, waiting)):
                        factor = self.s.number("shrunk", e.plus(row, r))
                        factor = splat(e.b, factor, plan.lanes)
                        for total, place in zip(line, places):
                            before = e.b.load(place, typ=self.s.vector, align=plan.size)
                            e.b.store(e.b.fmul(before, factor), total)
            weights = self.s.at("scores", e.b.mul(row, i64(plan.score_pitch)))
            self._multiply(sums, plan.score_pitch, count, weights, panel)
            if plan.is_single:
                self._results(row, column, sums)
                return
            with e.b.if_else(last) as (then, otherwise):
                with then, e.scope():
                    self._results(row, column, sums)
                with otherwise:
                    for line, places in zip(sums, waiting):
                        for total, place in zip(line, places):
                            e.b.store(e.b.load(total), place, align=plan.size)

        self._each_tile(tile)

    def _waiting(self, row: ir.Value, column: ir.Value) -> list[list[ir.Value]]:
        """Where a tile's sums wait for the next block of keys."""
        e, plan = self.e, self.plan
        if plan.is_single:
            return []
        start = e.b.add(e.b.mul(row, i64(plan.sum_pitch)), column)
        return [
            [
                self.s.at("sums", e.plus(start, r * plan.sum_pitch + v * plan.lanes))
                for v in range(plan.vectors)
            ]
            for r in range(plan.tile.rows)
        ]

    def _copy_values(self, start: ir.Value, count: int | ir.Value, column: ir.Value) -> None:
        e, plan, online = self.e, self.plan, self.online
        stop = i64(count) if isinstance(count, int) else count
        lanes = [e.plus(column, v * plan.lanes) for v in range(plan.vectors)]
        masks = [self._column_mask(x) for x in lanes]
        with e.loop(i64(0), stop, name="key") as k, e.at(online.key, e.b.add(start, k)):
            place = e.b.mul(k, i64(plan.value_width))
            for v, (here, mask) in enumerate(zip(lanes, masks)):
                with e.scope(), self._across(online.column, here, mask):
                    value = e.vector(online.value)
                self.s.store(value, "panel", e.plus(place, v * plan.lanes))

    def _results(self, row: ir.Value, column: ir.Value, sums: list[list[ir.Value]]) -> None:
        """f of the sums by the sum of their weights."""
        e, plan, online = self.e, self.plan, self.online
        extent = online.row.extent
        always = not isinstance(extent, Sym) and extent % plan.tile.rows == 0

        def line(r: int) -> None:
            here = e.plus(row, r)
            inverse = splat(e.b, self.s.number("inverse", here), plan.lanes)
            with e.scope(), e.at(online.row, e.b.add(self.first, here)):
                for v, total in enumerate(sums[r]):
                    lanes = e.plus(column, v * plan.lanes)
                    result = e.b.fmul(e.b.load(total), inverse)
                    if online.guarded:
                        there = e.b.fcmp_ordered(">", inverse, self.s.zero)
                        result = e.b.select(there, result, self.s.zero)
                    mask = self._column_mask(lanes)
                    with e.scope(), self._across(online.column, lanes, mask):
                        self._put(result)

        for r in range(plan.tile.rows):
            if always:
                line(r)
                continue
            here = e.b.add(self.first, e.plus(row, r))
            with e.b.if_then(e.b.icmp_signed("<=", here, self.last_row)), e.scope():
                line(r)

    def _put(self, result: ir.Value) -> None:
        (store,) = self.kernel.stores
        self.e.remember(self.online.reduce, result)
        self.e.store(store.buffer, store.index[0], self.e.vector(store.value), None)

    # -- parts ------------------------------------------------------------------------------

    def _sums(self, vectors: int) -> list[list[ir.Value]]:
        """A tile's sums, zero."""
        rows = range(self.plan.tile.rows)
        name = "acc.{}.{}".format
        sums = [[self.e.variable(self.s.vector, name(r, v)) for v in range(vectors)] for r in rows]
        for total in (x for line in sums for x in line):
            self.e.b.store(identity("sum", self.s.dtype, self.plan.lanes), total)
        return sums

    def _multiply(
        self, sums: list, pitch: int, steps: int | ir.Value, a: ir.Value, b: ir.Value
    ) -> None:
        """Add a tile's products: rows of `a`, `pitch` apart, by a panel."""
        plan = self.plan
        places = [r * pitch for r in range(plan.tile.rows)]
        tile = Tile(plan.tile.rows, len(sums[0]))
        TileLoop(self.e, self.s.dtype, plan.lanes, tile, places, sums, False).run(
            [(steps, 1)], a, b
        )

    @contextmanager
    def _across(self, axis: Axis, base: ir.Value, mask: ir.Value | None) -> Iterator[None]:
        """The axis runs along lanes, from `base` on."""
        with self.e.at(axis, base), self.e.vectorised(axis, self.plan.lanes, mask):
            yield

    def _mask(self, base: ir.Value, end: ir.Value, needed: bool) -> ir.Value | None:
        return lanes_below(self.e, base, end, self.plan.lanes) if needed else None

    def _key_mask(self, base: ir.Value) -> ir.Value | None:
        return self._end_mask(self.online.key, base, self.plan.width)

    def _column_mask(self, base: ir.Value) -> ir.Value | None:
        return self._end_mask(self.online.column, base, self.plan.value_width)

    def _end_mask(self, axis: Axis, base: ir.Value, width: int) -> ir.Value | None:
        """Of the places of an axis that there are, where panels go past its end."""
        uneven = isinstance(axis.extent, Sym) or axis.extent % width != 0
        return self._mask(base, self.e.size(axis.extent), uneven)
