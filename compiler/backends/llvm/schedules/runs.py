"""Runs: pieces of the vector axis along which a place moves by one from lane to lane.

    y[v] = x[min(t, 2n - 2 - t)],  t = (v - 3) mod (2n - 2)       a reflected border

    v = start
    while v < stop:
      run = how long t, and which of the two is less, go on as they do at v
      if the place grows by one:  vectors of x as they lie in memory
      else:                       element by element

A place is walked where it is made of sums, quotients, remainders, minima, maxima and choices
between them. Nothing of it has to be known while compiling: sizes may be open, and other axes may
take part. Where all is known of a short axis, rows of places are better (`known_rows.py`).
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import reduce

import llvmlite.ir as ir
import numpy as np

from ....classes import dataclass
from ....expr import expr as s
from ....expr.expr import Axis, Expr
from ....expr.index import NUMBERS
from ....ir.bounds import size_hint
from ....ir.dims import Sym
from ....ir.types import BOOL, I64
from ....kernels.kernel import Kernel
from ....kernels.simplify import map_kernel
from ....kernels.tiling import lane_stride
from ...numpy import evaluate
from ..base.types import I64 as WORD
from ..base.types import i64
from ..emit.emitter import Emitter
from ..emit.lanes import lanes_below, minimum
from ..emit.scalar import PRIMITIVE
from .known_rows import LONGEST, Known

ENDLESS = 1 << 40
OFTEN = 4  # vectors that a run should have on average
LARGEST = 1 << 21  # elements of an axis that is looked at while compiling
COMPARED = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
DIVIDED = ("floordiv", "mod")
FLAGS = ("and", "or", "not")


def moving_place(index: Expr, axis: Axis) -> Expr | None:
    """The part of an index that moves with an axis, if it does not do so evenly."""
    if lane_stride(index, axis) is not None:
        return None
    terms, _ = s.linear(index)
    return s.from_linear({t: c for t, c in terms.items() if axis in t.free}, 0)


def places_of(kernel: Kernel, axis: Axis) -> list[Expr]:
    """The moving places of what a kernel loads."""
    loads = [e.args[0] for e in s.walk(*kernel.roots()) if e.op == "load" and axis in e.free]
    return list(dict.fromkeys(p for p in (moving_place(i, axis) for i in loads) if p is not None))


def has_runs(kernel: Kernel, axis: Axis) -> bool:
    """Whether every place of a kernel is even, or can be walked, and some have to be."""
    if kernel.serial or any(e.op == "reduce" for e in s.walk(*kernel.roots())):
        return False
    if any(st.where is not None or lane_stride(st.index[0], axis) != 1 for st in kernel.stores):
        return False
    places = places_of(kernel, axis)
    return bool(places) and all(_is_walked(p, axis) for p in places)


def runs_pay(kernel: Kernel, axis: Axis | None, lanes: int) -> bool:
    """Whether runs are long. Of a dynamic dim it is taken to be so unless a quotient changes every
    few elements."""
    if axis is None or not has_runs(kernel, axis):
        return False
    if isinstance(axis.extent, Sym):
        divided = [x for p in places_of(kernel, axis) for x in s.walk(p) if x.op in DIVIDED]
        divisors = [x.args[1].data for x in divided if axis in x.free]
        return all(isinstance(d, Sym) or d >= OFTEN * lanes for d in divisors)
    if axis.extent > LARGEST:
        return False
    if axis.extent <= LONGEST:
        known = Known(kernel, axis)
        loads = (e.args[0] for e in s.walk(*kernel.roots()) if e.op == "load")
        if all(known.place(i) is not None for i in loads if moving_place(i, axis) is not None):
            return False
    for place in places_of(kernel, axis):
        still = {a: s.const(size_hint(a.extent) // 2) for a in place.free if a is not axis}
        expected = s.transform(s.substitute(place, still), _at_hint)
        values = evaluate(expected, [axis], {}).reshape(-1)
        steps = np.diff(values)
        breaks = np.count_nonzero(np.diff(steps))
        if breaks * OFTEN * lanes > axis.extent or 2 * np.count_nonzero(steps == 1) < len(steps):
            return False
    return True


def _at_hint(x: Expr) -> Expr | None:
    """A dynamic dim as the number to expect."""
    return s.const(size_hint(x.data)) if x.op == "size" else None


def _is_walked(x: Expr, axis: Axis) -> bool:
    if axis not in x.free:
        return x.dtype in (I64, BOOL)
    if x.op == "axis":
        return True
    if x.op in ("mul", *DIVIDED) and x.args[1].op not in NUMBERS:
        return False
    if x.op not in ("add", "mul", *DIVIDED, "min", "max", "select", *COMPARED, *FLAGS):
        return False
    return all(a.dtype in (I64, BOOL) and _is_walked(a, axis) for a in x.args)


@dataclass(frozen=True)
class Walk:
    """An expression from some element of the vector axis on: its value there, what is added to it
    from element to element, and for how many elements that is so, this one among them."""

    value: ir.Value
    slope: ir.Value
    run: ir.Value


class Walker:
    """Writes walks, from where the axis has its value."""

    def __init__(self, e: Emitter, axis: Axis):
        self.e, self.b, self.axis = e, e.b, axis
        self.known: dict[Expr, Walk] = {}

    def walk(self, x: Expr) -> Walk:
        if x not in self.known:
            self.known[x] = self._walk(x)
        return self.known[x]

    def _walk(self, x: Expr) -> Walk:
        if x.op == "axis" and x.data is self.axis:
            return Walk(self.e.where[self.axis], i64(1), i64(ENDLESS))
        if self.axis not in x.free:
            return Walk(self.e.emit(x), i64(0), i64(ENDLESS))
        args = [self.walk(a) for a in x.args]
        match x.op:
            case "add":
                return self._sum(*args)
            case "mul":
                value, slope = (
                    self.b.mul(v, args[1].value) for v in (args[0].value, args[0].slope)
                )
                return Walk(value, slope, args[0].run)
            case "floordiv" | "mod":
                return self._divided(x.op, *args)
            case "min" | "max":
                return self._lesser(*args, least=x.op == "min")
            case "select":
                c, a, b = args
                value, slope, run = (
                    self.b.select(c.value, getattr(a, part), getattr(b, part))
                    for part in ("value", "slope", "run")
                )
                return Walk(value, slope, self._least(c.run, run))
            case "and" | "or":
                join = self.b.and_ if x.op == "and" else self.b.or_
                a, b = args
                return Walk(join(a.value, b.value), i64(0), self._least(a.run, b.run))
            case "not":
                return Walk(self.b.not_(args[0].value), i64(0), args[0].run)
        return self._compared(x.op, *args)

    def _sum(self, a: Walk, b: Walk) -> Walk:
        value, slope = self.b.add(a.value, b.value), self.b.add(a.slope, b.slope)
        return Walk(value, slope, self._least(a.run, b.run))

    def _divided(self, op: str, a: Walk, by: Walk) -> Walk:
        """a // m and a mod m go on until the remainder would leave 0 … m - 1."""
        b, m = self.b, by.value
        rest = PRIMITIVE["mod"](b, I64, a.value, m)
        forward = b.icmp_signed("==", a.slope, i64(1))
        backward = b.icmp_signed("==", a.slope, i64(-1))
        run = b.select(b.icmp_signed("==", a.slope, i64(0)), i64(ENDLESS), i64(1))
        run = b.select(backward, b.add(rest, i64(1)), run)
        run = self._least(a.run, b.select(forward, b.sub(m, rest), run))
        if op == "mod":
            return Walk(rest, a.slope, run)
        return Walk(PRIMITIVE["floordiv"](b, I64, a.value, m), i64(0), run)

    def _lesser(self, x: Walk, y: Walk, least: bool) -> Walk:
        """Of two, that which is less (or more) from here on, until the other one is."""
        b = self.b
        gap, growth = self._gap(x, y)
        if not least:
            gap, growth = b.neg(gap), b.neg(growth)
        tie = b.and_(b.icmp_signed("==", gap, i64(0)), b.icmp_signed("<=", growth, i64(0)))
        first = b.or_(b.icmp_signed("<", gap, i64(0)), tie)
        gap, growth = (b.select(first, v, b.neg(v)) for v in (gap, growth))
        value, slope = (
            b.select(first, getattr(x, part), getattr(y, part)) for part in ("value", "slope")
        )
        run = self._until(b.add(b.neg(gap), i64(1)), growth)
        return Walk(value, slope, self._least(self._least(x.run, y.run), run))

    def _compared(self, op: str, x: Walk, y: Walk) -> Walk:
        """x - y goes on without leaving 0, or the side of it that it is on."""
        b = self.b
        gap, growth = self._gap(x, y)
        value = b.icmp_signed(COMPARED[op], gap, i64(0))
        below = b.icmp_signed("<", gap, i64(0))
        far = b.select(below, b.neg(gap), gap)
        run = self._until(far, b.select(below, growth, b.neg(growth)))
        still = b.select(b.icmp_signed("==", growth, i64(0)), i64(ENDLESS), i64(1))
        run = b.select(b.icmp_signed("==", gap, i64(0)), still, run)
        return Walk(value, i64(0), self._least(self._least(x.run, y.run), run))

    def _gap(self, x: Walk, y: Walk) -> tuple[ir.Value, ir.Value]:
        return self.b.sub(x.value, y.value), self.b.sub(x.slope, y.slope)

    def _until(self, distance: ir.Value, step: ir.Value) -> ir.Value:
        """Elements until steps have gone a distance of at least one; ENDLESS if they go back."""
        b = self.b
        nears = b.icmp_signed(">", step, i64(0))
        whole = b.select(nears, step, i64(1))
        count = b.sdiv(b.add(distance, b.sub(whole, i64(1))), whole)
        return b.select(nears, count, i64(ENDLESS))

    def _least(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return minimum(self.e, x, y)


def run_steps(
    e: Emitter,
    kernel: Kernel,
    axis: Axis,
    lanes: int,
    span: tuple[ir.Value, ir.Value],
    exact: bool,
    body: Callable[[Kernel], None],
) -> None:
    """Vector steps over a span of the axis, run by run; the last vector of a run overlaps the one
    before it, unless every element must be visited once."""
    b, (start, stop) = e.b, span
    places = places_of(kernel, axis)
    lines = {p: (Axis("shift", ENDLESS), Axis("slope", ENDLESS)) for p in places}
    even = map_kernel(kernel, kernel.axes, kernel.apart, lambda x: _along(x, axis, lines, False))
    sloped = map_kernel(kernel, kernel.axes, kernel.apart, lambda x: _along(x, axis, lines, True))
    head, step, done = (e.function.append_basic_block(f"run.{n}") for n in ("head", "body", "done"))
    before = b.block
    b.branch(head)
    b.position_at_end(head)
    v = b.phi(WORD, "run")
    v.add_incoming(start, before)
    b.cbranch(b.icmp_signed("<", v, stop), step, done)
    b.position_at_end(step)
    with e.scope(), e.at(axis, v):
        walker = Walker(e, axis)
        walks = [walker.walk(p) for p in places]
        run = reduce(lambda x, y: minimum(e, x, y), [w.run for w in walks], b.sub(stop, v))
        grows = [b.icmp_signed("==", w.slope, i64(1)) for w in walks]
        fast = reduce(b.and_, grows, b.icmp_signed(">=", run, i64(lanes)))
        first = [b.sub(w.value, b.mul(w.slope, v)) for w in walks]
    if exact:
        run = b.select(fast, b.sub(run, b.urem(run, i64(lanes))), run)
    end = b.add(v, run)
    with ExitStack() as line:
        for (shift, slope), value, w in zip(lines.values(), first, walks):
            line.enter_context(e.at(shift, value))
            line.enter_context(e.at(slope, w.slope))
        with b.if_else(fast) as (yes, no):
            with yes, e.loop(v, end, lanes, name="v") as w:
                base = w if exact else minimum(e, w, b.sub(end, i64(lanes)))
                with e.at(axis, base), e.vectorised(axis, lanes):
                    body(even)
            with no:
                _rest(e, axis, lanes, (v, end), lambda: body(sloped), _moves_only(kernel))
    v.add_incoming(end, b.block)
    b.branch(head)
    b.position_at_end(done)


def _rest(
    e: Emitter,
    axis: Axis,
    lanes: int,
    span: tuple[ir.Value, ir.Value],
    body: Callable[[], None],
    scalar: bool,
) -> None:
    """What is no row of memory: one by one, or in the lanes of masks where there is more to do than
    to move it, so that results do not depend on where a run begins."""
    start, stop = span
    with e.loop(start, stop, 1 if scalar else lanes, name="v") as w, e.at(axis, w):
        mask = None if scalar else lanes_below(e, w, stop, lanes)
        with e.vectorised(*((None, None) if scalar else (axis, lanes)), mask):
            body()


def _moves_only(kernel: Kernel) -> bool:
    values = (x for st in kernel.stores for x in s.walk(st.value) if x.dtype != I64)
    return all(x.op in ("load", "const", "select", *COMPARED, *FLAGS) for x in values)


def _along(x: Expr, axis: Axis, lines: dict[Expr, tuple[Axis, Axis]], slopes: bool) -> Expr | None:
    """A load on a line: at the place where the axis is, by a slope of one or any, and so much
    further on."""
    place = moving_place(x.args[0], axis) if x.op == "load" else None
    if place is None:
        return None
    shift, slope = map(s.axis, lines[place])
    here = s.mul(s.axis(axis), slope) if slopes else s.axis(axis)
    index = s.add(s.sub(x.args[0], place), s.add(here, shift))
    return s.make("load", (index,), x.data, x.dtype)
