"""Writes a sliding window (`schedule.py` has its loops)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING

import llvmlite.ir as ir

from .....expr import expr as s
from .....expr.expr import Axis, Buffer, Expr
from .....ir.types import I32 as INT
from .....ir.types import TensorType
from .....kernels.kernel import Kernel
from ...base.types import I64 as WORD
from ...base.types import i64, register_type, vector
from ...emit.emitter import Emitter
from ...emit.lanes import maximum, minimum
from ...emit.reduction import identity
from ...emit.scalar import PRIMITIVE, multiply_add
from ..serial import outer_axes
from .form import Slide
from .lines import Lines

if TYPE_CHECKING:
    from .schedule import SlidingSchedule

PLANES = 4  # of a window, up to which there is no loop over them
Cell = tuple[int, int]  # an output of a tile: its row, its vector


class SlidingEmitter:
    """Code of one kernel."""

    def __init__(self, e: Emitter, kernel: Kernel, plan: "SlidingSchedule"):
        self.e, self.plan, self.form = e, plan, plan.form
        self.type = vector(register_type(self.form.reduce.dtype), plan.lanes)
        self.lines = Lines(e, plan.form, plan.lanes)
        (self.store,) = kernel.stores
        # Where tiles have their own axes, this stands for what is combined.
        self.sum = Buffer("sum", TensorType(self.form.reduce.dtype, (plan.lanes,)))
        self.epilogues: dict[tuple[bool, int | None], tuple] = {}

    # -- loops ----------------------------------------------------------------------------

    def emit(self, begin: ir.Value, end: ir.Value) -> None:
        """Units `begin` to `end`."""
        e, plan, rows = self.e, self.plan, self.form.rows
        with e.loop(begin, end, name="unit") as unit:
            start, rest = i64(0), unit
            stop = e.size(1 if rows is None else rows.axis.extent)
            if plan.blocks != 1:
                start = e.b.mul(e.b.urem(unit, e.size(plan.blocks)), i64(plan.block))
                rest = e.b.udiv(unit, e.size(plan.blocks))
                stop = minimum(e, e.b.add(start, i64(plan.block)), stop)
            with outer_axes(e, list(self.form.outer), rest):
                self._rows(start, stop)

    def _rows(self, start: ir.Value, stop: ir.Value) -> None:
        """Tiles where all of their windows are inside, single rows elsewhere."""
        e, rows, height = self.e, self.form.rows, self.plan.height
        if rows is None:
            self._row(1, inside=True)
            return
        if height == 1 and not rows.conditions:
            with e.loop(start, stop, name="row") as r, e.at(rows.axis, r):
                self._row(1, inside=True)
            return
        low, high = rows.inside()
        last = minimum(e, stop, e.size(high))
        with _steps(e, start, stop) as (r, advance), e.at(rows.axis, r):
            tile = e.b.icmp_signed("<=", e.b.add(r, i64(height)), last)
            if low > 0:
                tile = e.b.and_(tile, e.b.icmp_signed(">=", r, i64(low)))
            with e.b.if_else(tile) as (yes, no):
                with yes, e.scope():
                    self._row(height, inside=True)
                    advance(height)
                with no, e.scope():
                    self._row(1, inside=not rows.conditions)
                    advance(1)

    def _row(self, height: int, inside: bool) -> None:
        e, axis, cut = self.e, self.form.vector_axis, self.plan.segments
        for edge in cut.edges:
            with e.scope(), e.at(axis, i64(edge)):
                self._tile(height, 1, inside, edge)
        if cut.first is None:
            return
        size = self.plan.width * cut.lanes
        last = cut.last + cut.lanes - size
        with e.loop(i64(cut.first), i64(cut.last + cut.lanes), size, name="vector") as v:
            base = minimum(e, v, i64(last)) if cut.inner % size else v
            with e.at(axis, base):
                self._tile(height, self.plan.width, inside, None)

    # -- tiles ----------------------------------------------------------------------------

    def _tile(self, height: int, width: int, inside: bool, edge: int | None) -> None:
        """`height` rows of `width` vectors. Where they are not `inside`, a row's taps are those
        that are; `edge` is where a vector begins that may not be."""
        e, form = self.e, self.form
        cells = [(r, v) for v in range(width) for r in range(height)]
        around = [*form.rest] if inside or form.rows is None else [*form.rest, form.rows]
        if all(not x.conditions for x in around) and prod(x.tap.extent for x in around) <= PLANES:
            sums: dict[Cell, ir.Value | None] = dict.fromkeys(cells)
            taps = [x.tap for x in around]
            self.e.loops(taps, lambda: self._lines(sums, height, edge, form.rows), PLANES)
            self._epilogue(sums, height, inside, edge)
            return
        slots = {cell: e.variable(self.type, "acc") for cell in cells}
        for slot in slots.values():
            e.b.store(identity(form.combiner, form.reduce.dtype, self.plan.lanes), slot)

        def run() -> None:
            sums = {cell: e.b.load(slot) for cell, slot in slots.items()}
            self._lines(sums, height, edge, form.rows if inside else None)
            for cell, slot in slots.items():
                e.b.store(sums[cell], slot)

        self._around(around, run)
        self._epilogue({c: e.b.load(x) for c, x in slots.items()}, height, inside, edge)

    def _around(self, slides: list[Slide], run: Callable[[], None]) -> None:
        """Loops over the taps of these axes that count."""
        if not slides:
            run()
            return
        slide, e = slides[0], self.e
        low, high = self._taps(slide)
        with e.loop(low, high, name="k") as k, e.at(slide.tap, k):
            self._around(slides[1:], run)

    def _taps(self, slide: Slide) -> tuple[ir.Value, ir.Value]:
        """From which tap on, up to which, the present output's conditions hold."""
        e, zero = self.e, i64(0)
        low, high = zero, i64(slide.tap.extent)
        for a, t, c in slide.conditions:
            place = e.b.add(e.b.mul(e.where[slide.axis], i64(a)), i64(c))
            if t > 0:  # t * tap >= -place, rounded up
                least = maximum(e, e.b.sub(zero, place), zero)
                if t > 1:
                    least = e.b.udiv(e.b.add(least, i64(t - 1)), i64(t))
                low = maximum(e, low, least)
            else:  # -t * tap <= place, rounded down
                most = maximum(e, e.b.add(place, i64(-t)), zero)
                high = minimum(e, high, most if t == -1 else e.b.udiv(most, i64(-t)))
        return low, high

    def _lines(self, sums: dict, height: int, edge: int | None, rows: Slide | None) -> None:
        """Combine with `sums` what each line of the input gives to the rows that see it."""
        if self.form.weight is None:
            for users, v in self._places(sums, height, rows):
                line = None
                for x in self.lines(edge, self._line_taps()):
                    line = self._combine(line, x)
                for r, _ in users:
                    sums[r, v] = self._combine(sums[r, v], line)
            return
        taps = self._line_taps()
        shared = self.lines.apart_loads()
        for group in [taps] if shared else [[j] for j in taps]:
            weights = self._weights(group, rows)
            for users, v in self._places(sums, height, rows):
                line = self.lines(edge, group)
                for r, k in users:
                    for j, x in zip(group, line):
                        sums[r, v] = self._multiply_add(x, weights(k, j), sums[r, v])

    def _places(self, sums: dict, height: int, rows: Slide | None) -> Iterator[tuple[list, int]]:
        """The (row, tap) that see each line, and the vector, with the axes at the line."""
        e, axis = self.e, self.form.vector_axis
        places = {0: [(0, None)]} if rows is None else rows.places(height)
        base = e.where[axis]
        for users in places.values():
            for v in sorted({v for _, v in sums}):
                with e.scope(), e.at(axis, e.plus(base, v * self.plan.lanes)):
                    if rows is None:
                        yield users, v
                        continue
                    r, k = users[0]
                    with e.at(rows.axis, e.plus(e.where[rows.axis], r)), e.at(rows.tap, i64(k)):
                        yield users, v

    def _line_taps(self) -> list[int]:
        columns = self.form.columns
        return [0] if columns is None else list(range(columns.tap.extent))

    def _weights(self, group: list[int], rows: Slide | None) -> Callable:
        """Weights by their taps (row, column), loaded where they are first needed."""
        e, form, known = self.e, self.form, {}

        def weight(k: int | None, j: int) -> ir.Value:
            if (k, j) not in known:
                with e.scope(), e.vectorised(form.vector_axis, self.plan.lanes):
                    known[k, j] = self._at_taps(rows, k, j, lambda: e.vector(form.weight))
            return known[k, j]

        return weight

    def _at_taps(self, rows: Slide | None, k: int | None, j: int, run: Callable[[], ir.Value]):
        """What `run` gives where the taps are these."""
        if k is not None:
            with self.e.at(rows.tap, i64(k)):
                return self._at_taps(None, None, j, run)
        if self.form.columns is None:
            return run()
        with self.e.at(self.form.columns.tap, i64(j)):
            return run()

    def _combine(self, x: ir.Value | None, y: ir.Value) -> ir.Value:
        if x is None:
            return y
        return PRIMITIVE[s.COMBINERS[self.form.combiner]](self.e.b, self.form.reduce.dtype, x, y)

    def _multiply_add(self, x: ir.Value, y: ir.Value, total: ir.Value | None) -> ir.Value:
        b, floats = self.e.b, self.form.reduce.dtype.is_float
        if floats and total is not None:
            return multiply_add(b, x, y, total)
        product = b.fmul(x, y) if floats else b.mul(x, y)
        return product if total is None else b.add(product, total)

    # -- what follows ---------------------------------------------------------------------

    def _epilogue(self, sums: dict, height: int, inside: bool, edge: int | None) -> None:
        e, form = self.e, self.form
        key = inside, edge
        if key not in self.epilogues:
            self.epilogues[key] = self._placed(inside, edge)
        index, value, axis, start, row, low = self.epilogues[key]
        first = (
            e.b.sub(e.where[form.vector_axis], i64(start)) if start else e.where[form.vector_axis]
        )
        for (r, v), total in sums.items():
            with e.scope(), e.at(axis, e.plus(first, v * self.plan.lanes)):
                if row is None:
                    self._put(index, value, axis, total)
                    continue
                place = e.where[form.rows.axis]
                place = e.b.sub(place, i64(low)) if low else place
                with e.at(row, e.plus(place, r)):
                    self._put(index, value, axis, total)

    def _put(self, index: Expr, value: Expr, axis: Axis, total: ir.Value) -> None:
        e = self.e
        with e.vectorised(axis, self.plan.lanes):
            e.remember(s.make("load", (s.axis(axis),), self.sum, self.sum.dtype), total)
            e.store(self.store.buffer, index, e.vector(value), None)

    def _placed(self, inside: bool, edge: int | None) -> tuple:
        """What is stored and where, with axes that only go where such a tile is, so that their
        ranges decide what can be decided: (index, value, vector axis, where it begins, row axis,
        where it begins)."""
        form, cut = self.form, self.plan.segments
        start, extent = (edge, cut.lanes) if edge is not None else (cut.first, cut.inner)
        axis = Axis("v", extent)
        binding = {form.vector_axis: s.axis(axis) + start}
        row, low = None, 0
        if form.rows is not None:
            low, high = form.rows.inside() if inside else (0, form.rows.axis.extent)
            row = Axis("r", high - low)
            binding[form.rows.axis] = s.axis(row) + low

        def visit(x: Expr) -> Expr | None:
            if x is form.reduce:
                return s.make("load", (s.axis(axis),), self.sum, x.dtype)
            if x.op == "axis":
                return binding.get(x.data)
            if x.op == "cast" and x.args[0].dtype == s.I64 and x.dtype.is_float:
                return _through_i32(s.transform(x.args[0], visit), x)
            return None

        index, value = (s.transform(x, visit) for x in (self.store.index[0], self.store.value))
        return index, value, axis, start, row, low


def _through_i32(place: Expr, cast: Expr) -> Expr:
    """A place as a float: what fits 32 bits is converted as such, of which vectors are short."""
    low, high = s.bounds(place)
    if place.op != "const" and low >= -(2**31) and high < 2**31:
        place = s.cast(place, INT)
    return s.cast(place, cast.dtype)


@contextmanager
def _steps(e: Emitter, start: ir.Value, stop: ir.Value) -> Iterator[tuple]:
    """for (i = start; i < stop; i += whatever the body says): i, and how it says so."""
    place = e.variable(WORD, "row")
    e.b.store(start, place)
    head, body, done = (
        e.function.append_basic_block(f"rows.{x}") for x in ("head", "body", "done")
    )
    e.b.branch(head)
    e.b.position_at_end(head)
    i = e.b.load(place)
    e.b.cbranch(e.b.icmp_signed("<", i, stop), body, done)
    e.b.position_at_end(body)
    with e.scope():
        yield i, lambda step: e.b.store(e.b.add(i, i64(step)), place)
    e.b.branch(head)
    e.b.position_at_end(done)
