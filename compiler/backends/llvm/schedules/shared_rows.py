"""Rows that are shared: what does not depend on one of the axes is computed before its loop.

    y[c, i] = x[c, place(i)] * weight(i)    =>    for i in a block:
                                                      at[i] = place(i), w[i] = weight(i)
                                                  for c, and for i in the block:
                                                      y[c, i] = x[c, at[i]] * w[i]

So an image that is read at places which are data (a grid, regions of interest) has each place and
weight computed once for all of its channels, which are then walked one after the other: what is
read of one lies together. The rows are in the thread's scratch memory.
"""

from collections.abc import Callable
from functools import partial, reduce
from math import prod

import llvmlite.ir as ir

from ....expr import expr as s
from ....expr.expr import Axis, Buffer, Expr
from ....ir.bounds import size_hint
from ....ir.dims import Sym
from ....ir.types import I32, I64, TensorType
from ....kernels.kernel import Kernel
from ....kernels.machine import ALIGNMENT
from ....kernels.simplify import map_kernel
from ....kernels.work import data_of
from ..base.types import I8, i64, intrinsic, suffix
from ..base.types import I64 as WORD
from ..emit.emitter import Emitter
from ..emit.lanes import maximum, minimum
from ..emit.windows import FoundWindow, Shuffle, shuffle_for
from .cost_model import cycles_of
from .lane_steps import Lanes, lane_steps, lanes_taken

LONGEST = 8192  # elements of a row
MOST = 1 << 18  # bytes of all rows
LEAST = 8.0  # cycles of a vector of what is shared
FAR = 1 << 62  # beyond all places
COMPUTED = ("load", "floordiv", "mod")  # what an index holds that is no sum of axes


def shared_axis(kernel: Kernel, vector_axis: Axis, lanes: int, is_open: bool) -> Axis | None:
    """The axis that most of the work does not depend on, where data or dynamic dims say what is
    read along it."""
    if any(st.mode != "set" or st.where is not None for st in kernel.stores):
        return None
    exprs = [x for x in s.walk(*kernel.roots()) if vector_axis in x.free]
    reads = [x for x in exprs if x.op == "load" and (is_open or _is_data(x.args[0], vector_axis))]
    data = data_of(kernel.roots())
    best, most = None, 0.0
    for a in kernel.axes:
        if a is vector_axis or size_hint(a.extent) < 4:
            continue
        if not any(a in x.free and _place(x.args[0], vector_axis, a) for x in reads):
            continue
        own = (x for x in exprs if a not in x.free and x.op not in ("const", "axis"))
        cycles = sum(cycles_of(x, vector_axis, lanes, data) for x in own)
        saved = cycles - cycles / a.extent
        if cycles > LEAST and saved > most:
            best, most = a, saved
    return best


def _is_data(index: Expr, vector_axis: Axis) -> bool:
    terms, _ = s.linear(index)
    moving = [t for t in terms if vector_axis in t.free]
    return any(x.op == "load" for x in s.walk(*moving))


def _place(index: Expr, vector_axis: Axis, again: Axis) -> tuple[Expr, Expr] | None:
    """(rest, place): what of an index moves along the vector axis, if that is no sum of axes and
    the same all along `again`."""
    terms, base = s.linear(index)
    own = {t: c for t, c in terms.items() if vector_axis in t.free}
    if all(t.op == "axis" for t in own) or any(again in t.free for t in own):
        return None
    rest = {t: c for t, c in terms.items() if t not in own}
    return s.from_linear(rest, base), s.from_linear(own, 0)


class Shared:
    """The rows of a kernel for blocks of the vector axis, and the kernel that reads them."""

    def __init__(self, kernel: Kernel, vector_axis: Axis, again: Axis, block: int, lanes: int):
        self.axis, self.again, self.width = vector_axis, again, block + lanes
        self.bound = {a for x in s.walk(*kernel.roots()) if x.op == "reduce" for a in x.data[1]}
        self.rows: dict[tuple, tuple[Expr, Buffer, bool]] = {}
        self.starts: dict[Buffer, Buffer] = {}  # of places that windows may hold
        self.bytes = 0
        self.memo: dict[Expr, Expr] = {}
        self.kernel = map_kernel(kernel, kernel.axes, kernel.apart, self._visit)

    def _visit(self, x: Expr) -> Expr | None:
        if self.axis not in x.free:
            return x if x.op == "load" and self.again not in x.free else None
        if x.op == "load" and self.again not in x.free:
            return x
        if x.op == "load":
            found = _place(x.args[0], self.axis, self.again)
            is_short = not isinstance(x.data.type.size, Sym) and x.data.type.size < 1 << 31
            if found is None:
                return None
            row = self._row(s.cast(found[1], I32) if is_short else found[1], True)
            if row is None:
                return None
            self._may_hold(row.data, found[1], x.data.dtype.bytes)
            rest = s.transform(found[0], self._visit, self.memo)
            return s.make("load", (s.add(rest, s.cast(row, I64)),), x.data, x.dtype)
        if x.op in ("axis", "const") or self.again in x.free or 1 < x.dtype.bits < 8:
            return None
        if x.dtype == I64 and not any(y.op in COMPUTED for y in s.walk(x)):
            return x
        return self._row(x, False)

    def _may_hold(self, row: Buffer, place: Expr, size: int) -> None:
        """Have room for where windows begin, if neighbours may read near each other."""
        of_data = any(y.op == "load" for y in s.walk(place))
        if row in self.starts or of_data or size != 4 or row.shape != (self.width,):
            return
        self.starts[row] = Buffer("starts", TensorType(I64, (self.width,)))
        self.bytes += _bytes(self.starts[row])

    def _others(self, x: Expr) -> list[Axis] | None:
        """The axes of reductions that a row has besides."""
        others = sorted(x.free & self.bound, key=lambda a: s.axis(a).serial)
        if any(isinstance(a.extent, Sym) for a in others):
            return None
        return others if prod(a.extent for a in others) * self.width <= LONGEST else None

    def _row(self, x: Expr, is_place: bool) -> Expr | None:
        key, others = (x, is_place), self._others(x)
        if others is None:
            return None
        if key not in self.rows:
            count = prod(a.extent for a in others) * self.width
            new = Buffer("row", TensorType(x.dtype, (count,)))
            if self.bytes + _bytes(new) > MOST:
                return None
            self.bytes += _bytes(new)
            self.rows[key] = x, new, is_place
        row = self.rows[key][1]
        return s.make("load", (self._index(others),), row, x.dtype)

    def _index(self, others: list[Axis]) -> Expr:
        place = s.const(0)
        for a in others:
            place = s.add(s.mul(place, s.const(a.extent)), s.axis(a))
        return s.add(s.mul(place, s.const(self.width)), s.axis(self.axis))

    # -- code -----------------------------------------------------------------------------

    def emit(
        self, e: Emitter, plan: Lanes, start: ir.Value, stop: ir.Value, scratch, stores: Callable
    ) -> None:
        """The rows of a block, and then all that is stored of them: by windows, if they hold what
        vectors read."""
        self._place(e, scratch, start)
        spans = self._spans(e, plan)
        with e.scope():
            lane_steps(e, plan, start, stop, False, lambda: self._emit_rows(e, spans))
        steps = lambda: lane_steps(e, plan, start, stop, False, stores)
        if not spans:
            e.loops([self.again], steps, unroll=1)
            return
        found = {row: span.window(e, self.starts[row]) for row, span in spans.items()}
        holds = reduce(e.b.and_, (span.holds(e) for span in spans.values()))
        with e.b.if_else(holds) as (then, otherwise):
            with then, e.scope():
                e.windows |= found
                e.loops([self.again], steps, unroll=1)
            with otherwise, e.scope():
                e.windows |= dict.fromkeys(found)
                e.loops([self.again], steps, unroll=1)

    def _place(self, e: Emitter, scratch: ir.Value, start: ir.Value) -> None:
        """Say where the rows of the block from `start` on are."""
        offset = 0
        for row in (*(row for _, row, _ in self.rows.values()), *self.starts.values()):
            first = e.b.sub(i64(offset), e.b.mul(start, i64(max(1, row.dtype.bytes))))
            e.pointers[row] = e.b.gep(scratch, [first], source_etype=I8)
            offset += _bytes(row)
        e.windows |= {row: None for _, row, is_place in self.rows.values() if is_place}

    def _spans(self, e: Emitter, plan: Lanes) -> dict[Buffer, "_Span"]:
        """What is found of the places of each row."""
        shuffle = shuffle_for(e.target, 32, plan.lanes)
        if shuffle != Shuffle(4, 4 * plan.lanes) or lanes_taken(plan, False) != plan.lanes:
            return {}
        return {row: _Span(e, shuffle) for row in self.starts}

    def _emit_rows(self, e: Emitter, spans: "dict[Buffer, _Span]") -> None:
        """One vector of each row."""
        for x, row, _ in self.rows.values():
            others = self._others(x)
            put = partial(self._put, e, x, row, self._index(others))
            e.loops(others, put)
            if row in spans and e.mask is None:
                least = spans[row].add(e, e.vector(x))
                pointer = e.address(self.starts[row], s.axis(self.axis))
                e.b.store(least, pointer, align=8)

    def _put(self, e: Emitter, x: Expr, row: Buffer, index: Expr) -> None:
        e.store(row, index, e.vector(x), None)


class _Span:
    """How far apart the places of a block are, and those of its vectors."""

    def __init__(self, e: Emitter, shuffle: Shuffle):
        self.shuffle, self.held = shuffle, shuffle.width // shuffle.unit
        self.least, self.most, self.widest = (e.variable(WORD, "span") for _ in range(3))
        for variable, value in ((self.least, FAR), (self.most, -FAR), (self.widest, 0)):
            e.b.store(i64(value), variable)

    def add(self, e: Emitter, places: ir.Value) -> ir.Value:
        """The least of a vector's places."""
        least, most = (_across(e, name, places) for name in ("smin", "smax"))
        wide = e.b.sub(most, least)
        pairs = (
            (self.least, minimum, least),
            (self.most, maximum, most),
            (self.widest, maximum, wide),
        )
        for variable, better, value in pairs:
            e.b.store(better(e, e.b.load(variable, typ=WORD), value), variable)
        return least

    def holds(self, e: Emitter) -> ir.Value:
        """Whether there is room for a window, and windows hold what vectors read."""
        near = e.b.icmp_signed("<", e.b.load(self.widest, typ=WORD), i64(self.held))
        least = e.b.load(self.least, typ=WORD)
        return e.b.and_(near, e.b.icmp_signed("<=", least, self._last(e)))

    def window(self, e: Emitter, starts: Buffer) -> FoundWindow:
        return FoundWindow(self.shuffle, self.held, starts, self._last(e))

    def _last(self, e: Emitter) -> ir.Value:
        return e.b.sub(e.b.load(self.most, typ=WORD), i64(self.held - 1))


def _across(e: Emitter, name: str, x: ir.Value) -> ir.Value:
    """The smallest or the largest lane, as an index."""
    f = f"llvm.vector.reduce.{name}.{suffix(x.type)}"
    value = e.b.call(intrinsic(e.b.module, f, x.type.element, [x.type]), [x])
    return value if value.type == WORD else e.b.sext(value, WORD)


def _bytes(row: Buffer) -> int:
    (count,) = row.shape
    return -(-count * max(8, row.dtype.bits) // 8 // ALIGNMENT) * ALIGNMENT
