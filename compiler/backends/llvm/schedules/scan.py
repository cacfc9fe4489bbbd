"""The scan schedule: running sums and the like, of which each element follows from the one before.

    y[i, k, j] = f(y[i, k - 1, j], …), y[i, 0, j] = g(…)

    for unit in begin … end:                # the other axes, the vectors of j
      state = g(…), stored
      for k in 1 … n:
        state = f(state, …), stored

What was stored last stays in a register. Rows that know nothing of each other go side by side,
since each has to wait for its own sums: several vectors of them, or, where no axis fills a vector
(a scan along the rows of a matrix), several rows one element at a time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil, prod
from typing import ClassVar

import llvmlite.ir as ir

from ....classes import dataclass
from ....expr import expr as s
from ....expr.expr import Axis, Expr
from ....kernels.kernel import Kernel, Store
from ....kernels.machine import Machine
from ..base.types import i64, register_type, vector
from ..emit.emitter import Emitter
from ..emit.lanes import minimum
from .base import Arguments, Given, Refusal, Schedule
from .cost_model import LATENCY, LOAD, UNIT, cycles_of, data_of
from .lane_steps import lane_steps, side_by_side, stride_along
from .serial import outer_axes

ROWS = 4  # that go side by side without a vector
BLOCK = 128  # elements of the vector axis in a unit


@dataclass(frozen=True)
class ScanSchedule(Schedule):
    """Along `along`; `outer` are all other axes but the one that is vectorised, or of which `rows`
    go side by side."""

    name: ClassVar[str] = "scan"
    spends: ClassVar[str] = "each element waits for the one before"
    meaning: ClassVar[str] = "what each element hands on to the next stays in registers"
    words: ClassVar[tuple[tuple[str, str], ...]] = (("lanes", "numbers in a vector"),)

    along: Axis
    outer: tuple[Axis, ...]
    vector_axis: Axis | None
    lanes: int
    vectors: int
    block: int
    side: Axis | None
    rows: int

    @classmethod
    def propose(cls, given: Given) -> "ScanSchedule | Refusal":
        kernel = given.kernel
        if not kernel.serial or len(kernel.stores) != 1:
            return Refusal("it is not one store that sees those before it")
        (store,) = kernel.stores
        if store.mode != "set" or store.where is not None or store.buffer.dtype.bits < 8:
            return Refusal("it adds to what is there, or stores under a condition")
        along = next((a for a in kernel.axes if _steps(store, a) is not None), None)
        if along is None:
            return Refusal("what it reads of its own is not the element before")
        others = tuple(a for a in kernel.axes if a is not along)
        if not _apart(store, kernel.axes):
            return Refusal("it may store twice to a place")
        if given.in_place and not _reads_where_it_stores(store, along):
            return Refusal("it reads elsewhere in the memory that it writes")
        return cls._of(store, along, others, given)

    @classmethod
    def _of(cls, store: Store, along: Axis, others: tuple[Axis, ...], given: Given):
        lanes, exact = given.target.lanes(store.buffer.dtype.bits), given.in_place
        wide = [a for a in others if a.extent >= 4 and _is_contiguous(store, a)]
        if wide:
            (axis, *_) = wide
            vectors = side_by_side(axis.extent, lanes, exact)
            block = min(axis.extent, ceil(BLOCK / (lanes * vectors)) * lanes * vectors)
            outer = tuple(a for a in others if a is not axis)
            return cls(along, outer, axis, lanes, vectors, block, None, 1)
        stride = lambda a: abs(stride_along(store.index[0], a) or 0)
        side = min(others, key=stride, default=None)
        rows = 1 if side is None else min(ROWS, side.extent)
        if exact and side is not None and side.extent % rows:
            rows = 1
        outer = tuple(a for a in others if a is not side)
        return cls(along, outer, None, 1, 1, 1, side, rows)

    @property
    def pieces(self) -> int:
        """Units along the axis that is vectorised, or whose rows go side by side."""
        if self.vector_axis is not None:
            return ceil(self.vector_axis.extent / self.block)
        return 1 if self.side is None else ceil(self.side.extent / self.rows)

    @property
    def units(self) -> int:
        return self.pieces * prod(a.extent for a in self.outer)

    def cycles(self, kernel: Kernel, target: Machine) -> float:
        (store,) = kernel.stores
        data = data_of([store.value])
        each = LOAD + sum(
            cycles_of(x, self.vector_axis, self.lanes, data)
            for x in s.walk(store.value)
            if x in data and x.op != "select" and x.data is not store.buffer
        )
        if self.vector_axis is None:
            return self.units * (UNIT + self.along.extent * max(LATENCY, self.rows * each))
        steps = ceil(self.vector_axis.extent / (self.lanes * self.vectors)) * self.along.extent
        outer = prod(a.extent for a in self.outer)
        return self.units * UNIT + outer * steps * max(LATENCY, self.vectors * each)

    def emit(self, e: Emitter, kernel: Kernel, given: Arguments, in_place: bool) -> None:
        (store,) = kernel.stores
        steps = _steps(store, self.along)
        assert steps is not None
        with self._unit(e, given) as piece:
            if self.vector_axis is not None:
                start = e.b.mul(piece, i64(self.block))
                end = i64(self.vector_axis.extent)
                stop = minimum(e, e.b.add(start, i64(self.block)), end)
                lane_steps(e, self, start, stop, in_place, lambda: _scan(e, store, steps))
            elif self.side is None:
                _scan(e, store, steps)
            else:
                last = i64(self.side.extent - self.rows)
                row = minimum(e, e.b.mul(piece, i64(self.rows)), last)
                _scan(e, store, steps, self.side, [e.plus(row, r) for r in range(self.rows)])

    @contextmanager
    def _unit(self, e: Emitter, given: Arguments) -> Iterator[ir.Value]:
        with e.loop(given.begin, given.end, name="unit") as unit:
            piece = e.b.urem(unit, i64(self.pieces))
            with outer_axes(e, self.outer, e.b.udiv(unit, i64(self.pieces))):
                yield piece

    def __str__(self) -> str:
        if self.vector_axis is None:
            return f"{self.rows} rows"
        return f"lanes {self.lanes}" + (f" x {self.vectors}" if self.vectors > 1 else "")


# -- what a scan is ------------------------------------------------------------------------


@dataclass(frozen=True)
class Steps:
    """The first value and its place; those of the others, at `after` + 1; `own` is the load of the
    one before."""

    first: Expr
    first_place: Expr
    after: Axis
    value: Expr
    place: Expr
    own: Expr | None


def _steps(store: Store, along: Axis) -> Steps | None:
    """None where what is read of the store's own buffer is not the element before."""
    if not isinstance(along.extent, int) or along.extent < 2:
        return None
    after = Axis(along.name, along.extent - 1)
    at = lambda e, place: s.substitute(e, {along: place})
    (index,) = store.index
    value, before = at(store.value, s.axis(after) + 1), at(index, s.axis(after))
    first = at(store.value, s.const(0))
    own = {x for x in s.walk(value) if x.op == "load" and x.data is store.buffer}
    if len(own) != 1 or any(x.args[0] is not before for x in own):
        return None
    if any(x.op == "reduce" for x in s.walk(value)):
        return None
    if any(x.op == "load" and x.data is store.buffer for x in s.walk(first)):
        return None
    place = at(index, s.axis(after) + 1)
    return Steps(first, at(index, s.const(0)), after, value, place, next(iter(own)))


def _apart(store: Store, axes: tuple[Axis, ...]) -> bool:
    """Whether no two rounds store to one place: each stride is beyond what lies inside of it."""
    terms, _ = s.linear(store.index[0])
    strides = {t.data: abs(c) for t, c in terms.items() if t.op == "axis"}
    if len(strides) != len(terms) or set(strides) != {a for a in axes if a.extent > 1}:
        return False
    reach = 0
    for a in sorted(strides, key=lambda a: strides[a]):
        if strides[a] <= reach:
            return False
        reach += strides[a] * (a.extent - 1)
    return True


def _reads_where_it_stores(store: Store, along: Axis) -> bool:
    loads = [x for x in s.walk(store.value) if x.op == "load" and x.data is not store.buffer]
    return all(x.args[0] is store.index[0] for x in loads)


def _is_contiguous(store: Store, axis: Axis) -> bool:
    """Whether an axis runs along what is stored, and evenly through what is read."""
    if stride_along(store.index[0], axis) != 1:
        return False
    loads = [x for x in s.walk(store.value) if x.op == "load"]
    return all(x.data is store.buffer or stride_along(x.args[0], axis) in (0, 1) for x in loads)


# -- code ----------------------------------------------------------------------------------


def _scan(
    e: Emitter,
    store: Store,
    steps: Steps,
    side: Axis | None = None,
    rows: list[ir.Value] | None = None,
) -> None:
    """The elements in order, of one row (or vector of rows), or of several side by side."""
    dtype = store.buffer.dtype
    many = [None] if rows is None else rows
    states = [e.variable(vector(register_type(dtype), e.lanes), "state") for _ in many]

    def each(step: Callable[[ir.Value], None]) -> None:
        for row, state in zip(many, states):
            with e.scope():
                if row is None:
                    step(state)
                else:
                    assert side is not None
                    with e.at(side, row):
                        step(state)

    def put(value: Expr, place: Expr, state: ir.Value) -> None:
        made = e.vector(value)
        e.store(store.buffer, place, made, None)
        e.b.store(made, state)

    each(lambda state: put(steps.first, steps.first_place, state))

    def go_on(state: ir.Value) -> None:
        e.remember(steps.own, e.b.load(state))
        put(steps.value, steps.place, state)

    with e.loop(i64(0), i64(steps.after.extent), name="k") as k, e.at(steps.after, k):
        each(go_on)
