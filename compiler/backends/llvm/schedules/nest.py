"""The nest schedule: parallel loops, one vectorised axis, reductions where free axes are known.

for unit in begin … end:                 # outer axes, flattened; cut into blocks of the vector
  reductions of the row                  # once per unit (softmax, layer norm)
  for the row's axes: stores             # vectorised along the vector axis
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from math import prod
from typing import ClassVar

import llvmlite.ir as ir

from ....classes import dataclass
from ....expr import expr as s
from ....expr.expr import Axis, Expr
from ....ir.bounds import DynamicSize
from ....ir.dims import Sym, ceil_div
from ....kernels.contraction import contiguous_axis
from ....kernels.kernel import Kernel
from ....kernels.machine import Machine
from ....kernels.tiling import vector_axis_cost
from ....kernels.work import extent_of
from ..base.types import i64
from ..emit.emitter import Emitter
from ..emit.lanes import minimum
from ..emit.shuffles import interleaved
from ..emit.store import emit_store
from .base import Arguments, Dim, Given, HintSpecialized, Schedule
from .cached_rows import keep_rows, row_bytes
from .known_rows import keep_known
from .lane_steps import lane_steps, lanes_taken, wide_vectors
from .nest_axes import copied_axes, filled_axes, interleaved_axis, repeated_axes
from .nest_cost import nest_cycles, nest_parts
from .runs import run_steps, runs_pay
from .serial import emit_serial, first_axes, outer_axes
from .shared_rows import Shared, shared_axis

BLOCK = 1024  # elements of the vector axis that a parallel unit handles, where it is cut
LEAST = 64  # elements of those with the longest reductions


@dataclass(frozen=True)
class NestSchedule(Schedule):
    """How a kernel's axes run. `vector_axis` is vectorised by `lanes`; `block` cuts it into units.

    `outer` are the parallel axes, `row` those that are walked inside a unit. `interleave` is a
    short axis along which the output is contiguous while the vector axis strides over it: vectors
    for each of its places are interleaved and stored as one. `vectors` are computed side by side
    (`lane_steps.py`). `again` is walked inside of the vector axis' blocks, which have what does not
    depend on it computed before (`shared_rows.py`). `runs`: run by run (`runs.py`).
    """

    name: ClassVar[str] = "nest"
    meaning: ClassVar[str] = "plain loops, of which one may be a vector's"
    words: ClassVar[tuple[tuple[str, str], ...]] = (("lanes", "numbers in a vector"),)
    opens: ClassVar[bool] = True

    outer: tuple[Axis, ...]
    row: tuple[Axis, ...]
    vector_axis: Axis | None
    lanes: int
    block: int
    interleave: Axis | None = None
    vectors: int = 1
    again: Axis | None = None
    runs: bool = False

    @classmethod
    def propose(cls, given: Given) -> "NestSchedule":
        plan = schedule_nest(given.kernel, given.target, given.in_place, given.is_specialized)
        return plan if given.is_specialized else plan.in_runs(given.kernel)

    def in_runs(self, kernel: Kernel) -> "NestSchedule":
        """The same with places that are walked run by run, where that is better."""
        plain = self.interleave is self.again is None and self.vectors == 1
        return replace(self, runs=plain and runs_pay(kernel, self.vector_axis, self.lanes))

    @property
    def units(self) -> Dim:
        pieces = prod(a.extent for a in self.outer if a is not self.vector_axis)
        if self.vector_axis is not None and self.vector_axis in self.outer:
            pieces *= self.blocks
        return pieces

    @property
    def blocks(self) -> Dim:
        """Pieces of the vector axis."""
        extent = self.vector_axis.extent
        return 1 if extent == self.block else ceil_div(extent, self.block)

    def over(self, axes: Mapping[Axis, Axis]) -> "NestSchedule":
        """The schedule for other axes in place of its own, whose sizes may be open."""
        vector_axis = axes.get(self.vector_axis)
        block = self.block
        if vector_axis is not None and isinstance(vector_axis.extent, Sym):
            step = self.lanes * self.vectors
            block = max(block, BLOCK) // step * step
            if vector_axis not in [axes[a] for a in self.outer]:
                block = vector_axis.extent
        interleave = axes.get(self.interleave)
        if interleave is not None and isinstance(interleave.extent, Sym):
            raise DynamicSize("an axis that is interleaved")
        outer, row = (tuple(axes[a] for a in own) for own in (self.outer, self.row))
        again = axes.get(self.again)
        return NestSchedule(
            outer, row, vector_axis, self.lanes, block, interleave, self.vectors, again
        )

    def opened(self, specialized: HintSpecialized) -> list[tuple[Schedule, float]]:
        kernel, plan = specialized.given.kernel, self.over(specialized.axes)
        if plan.interleave not in filled_axes(kernel.stores[0], plan.vector_axis):
            plan = replace(plan, interleave=None)  # it is one for the sizes to expect alone
        return [(plan.beside(kernel).in_runs(kernel), specialized.ns)]

    def beside(self, kernel: Kernel) -> "NestSchedule":
        """The same with several vectors side by side, where open sums were expected to be short."""
        axis, plain = self.vector_axis, self.interleave is None and self.again is None
        if axis is None or isinstance(axis.extent, Sym) or self.vectors > 1 or not plain:
            return self
        vectors = wide_vectors(kernel, axis, self.lanes, self.block, _accumulates(kernel))
        step = self.lanes * vectors
        block = min(axis.extent, -(-self.block // step) * step)
        return self if vectors == 1 else replace(self, vectors=vectors, block=block)

    def scratch_bytes(self, kernel: Kernel) -> Dim:
        if self.again is not None:
            return self.shared(kernel).bytes
        return row_bytes(kernel, self.vector_axis) if self.vector_axis in self.row else 0

    def shared(self, kernel: Kernel) -> Shared:
        return Shared(kernel, self.vector_axis, self.again, self.block, self.lanes)

    def cycles(self, kernel: Kernel, target: Machine) -> float:
        return nest_cycles(kernel, self, target)

    def parts(self, kernel: Kernel, target: Machine) -> Iterator[tuple[str, float]]:
        return nest_parts(kernel, self, target)

    def emit(self, e: Emitter, kernel: Kernel, given: Arguments, in_place: bool) -> None:
        emit_nest(e, kernel, self, given.begin, given.end, in_place, given.scratch)

    def __str__(self) -> str:
        side = f" x {self.vectors}" if self.vectors > 1 else ""
        return "scalar" if self.vector_axis is None else f"lanes {self.lanes}{side}"


def schedule_nest(
    kernel: Kernel, target: Machine, in_place: bool = False, is_specialized: bool = False
) -> NestSchedule:
    """Choose the vector axis and which axes are parallel. `is_specialized`: sizes are open, so that
    nothing can be computed of them while compiling."""
    axes = kernel.axes
    if kernel.serial or not axes:
        return NestSchedule(axes[: kernel.apart], axes[kernel.apart :], None, 1, 1)
    reduces = [e for e in s.walk(*kernel.roots()) if e.op == "reduce"]
    bound = frozenset(a for e in reduces for a in e.data[1])
    hoisted = [e.free - bound for e in reduces if e.free - bound != frozenset(axes)]
    outer = frozenset().union(*hoisted) if hoisted else frozenset(axes)
    lanes = lanes_of_stores(kernel, target)
    offsets = [e.args[0] for e in s.walk(*kernel.roots()) if e.op == "load"]
    stores = [st.index[0] for st in kernel.stores]

    def score(a: Axis) -> float:
        waste = -(-a.extent // lanes) * lanes / a.extent
        row_reduce = 0.0
        if a in outer and hoisted:
            row_reduce = 0.05
        return (vector_axis_cost(offsets, a, lanes, stores) + row_reduce) * waste

    if not in_place and not hoisted:
        found = _shared(kernel, lanes, is_specialized)
        if found is not None:
            return found
    copied = frozenset() if in_place or reduces else copied_axes(kernel)
    repeated = repeated_axes(kernel, copied, lanes)
    vector_axis = min([a for a in axes if a not in repeated] or axes, key=score)
    if not hoisted and reduces and _reduces_contiguously(reduces, vector_axis, lanes):
        vector_axis = None
    elif vector_axis.extent < 4 or (
        score(vector_axis) >= 0.9 * len(offsets + stores) and not _has_math(kernel)
    ):
        vector_axis = None if vector_axis.extent < 4 else vector_axis
    interleave = None if in_place or reduces else interleaved_axis(kernel, vector_axis, lanes)
    outer = outer - {interleave}
    if vector_axis is not None and interleave is None:
        outer = outer - (copied - {vector_axis})
    if vector_axis is None and not reduces:
        outer = frozenset(first_axes(axes))
    row = tuple(a for a in axes if a not in outer)
    parallel = tuple(a for a in axes if a in outer)
    pieces = prod(a.extent for a in parallel if a is not vector_axis)
    block = vector_axis.extent if vector_axis is not None else 1
    if vector_axis is not None and vector_axis in outer and pieces < 64:
        wanted = -(-vector_axis.extent * pieces // 64)
        block = min(vector_axis.extent, max(_block(reduces), -(-wanted // lanes) * lanes))
    vectors = 1
    if vector_axis is not None and interleave is None:
        exact = in_place or _accumulates(kernel)
        vectors = wide_vectors(kernel, vector_axis, lanes, block, exact)
        block = min(vector_axis.extent, -(-block // (lanes * vectors)) * lanes * vectors)
    return NestSchedule(parallel, row, vector_axis, lanes, block, interleave, vectors)


def _shared(kernel: Kernel, lanes: int, is_open: bool) -> NestSchedule | None:
    """The schedule of a kernel that computes places and weights again and again along an axis."""
    contiguous = contiguous_axis(kernel)
    if contiguous is None or contiguous.extent < 4:
        return None
    again = shared_axis(kernel, contiguous, lanes, is_open)
    if again is None:
        return None
    outer = tuple(a for a in kernel.axes if a is not again)
    block = min(contiguous.extent, BLOCK)
    return NestSchedule(outer, (again,), contiguous, lanes, block, again=again)


def lanes_of_stores(kernel: Kernel, target: Machine) -> int:
    """Elements of a vector of the widest that the stores compute with."""
    bits = max(st.value.dtype.bits for st in kernel.stores)
    widest = max(
        [
            e.dtype.bits
            for e in s.walk(*(st.value for st in kernel.stores))
            if e.op not in ("const", "axis") and e.dtype.is_float
        ],
        default=bits,
    )
    return target.lanes(max(8, min(widest, 64)))


def _block(reduces: list[Expr]) -> int:
    """Elements of a unit: the fewer, the longer the reductions for each are."""
    steps = max((extent_of(e.data[1]) for e in reduces), default=1)
    return max(BLOCK // steps, LEAST)


def _has_math(kernel: Kernel) -> bool:
    return sum(1 for e in s.walk(*kernel.roots()) if e.op not in ("const", "axis", "load")) > 4


def _reduces_contiguously(reduces: list[Expr], vector_axis: Axis, lanes: int) -> bool:
    """Whether the reductions would rather be vectorised along their own axis."""
    own = [a for e in reduces for a in e.data[1]]
    loads = [
        x.args[0]
        for e in reduces
        for x in s.walk(e.args[0])
        if x.op == "load" and x.free & set(own)
    ]
    best = min(own, key=lambda a: vector_axis_cost(loads, a, lanes), default=None)
    if best is None or best.extent < lanes // 2:
        return False
    return vector_axis_cost(loads, best, lanes) < 0.9 * vector_axis_cost(loads, vector_axis, lanes)


def emit_nest(
    e: Emitter,
    kernel: Kernel,
    plan: NestSchedule,
    begin: ir.Value,
    end: ir.Value,
    in_place: bool,
    scratch: ir.Value | None = None,
) -> None:
    """The body of a kernel function: units `begin` to `end`."""
    if kernel.serial or not kernel.axes:
        emit_serial(e, kernel, plan.outer, plan.row, begin, end)
        return
    split = plan.vector_axis is not None and plan.vector_axis in plan.outer
    if plan.vector_axis in plan.row:
        alone = not in_place and plan.row == (plan.vector_axis,)
        outer = frozenset(plan.outer) if alone else None
        kernel = keep_rows(e, kernel, plan.vector_axis, scratch, outer)
        in_place = in_place or kernel.reads_outputs
    exact = in_place or _accumulates(kernel)
    if plan.again is not None:
        shared = plan.shared(kernel)
        stores = lambda: _stores(e, shared.kernel)
        run = lambda start, stop: shared.emit(e, plan, start, stop, scratch, stores)
    else:
        if not plan.runs and not e.kept:  # which holds the reductions as they are
            taken = lanes_taken(plan, exact)
            kernel = keep_known(e, kernel, plan.vector_axis, taken, exact)
        run = lambda start, stop: _unit(e, kernel, plan, start, stop, in_place)
    _hoist(e, kernel, frozenset())
    outer = [a for a in plan.outer if a is not plan.vector_axis]
    is_one = not outer and plan.again is None
    if is_one and split and plan.block % (plan.lanes * plan.vectors) == 0:
        # One long axis: the units of this call are one contiguous range of it.
        start = e.b.mul(begin, i64(plan.block))
        stop = minimum(e, e.b.mul(end, i64(plan.block)), e.size(plan.vector_axis.extent))
        with e.b.if_then(e.b.icmp_signed("<", start, stop)):
            run(start, stop)
        return
    with e.loop(begin, end, name="unit") as unit:
        rest = unit
        blocks = plan.blocks if split else 1
        start, stop = i64(0), e.size(plan.vector_axis.extent if plan.vector_axis is not None else 0)
        if blocks != 1:
            piece = e.b.urem(rest, e.size(blocks))
            rest = e.b.udiv(rest, e.size(blocks))
            start = e.b.mul(piece, i64(plan.block))
            stop = minimum(e, e.b.add(start, i64(plan.block)), stop)
        with outer_axes(e, outer, rest):
            run(start, stop)


def _unit(e: Emitter, kernel: Kernel, plan: NestSchedule, start, stop, in_place) -> None:
    vector_axis = plan.vector_axis
    if vector_axis is not None and vector_axis in plan.outer:
        _hoist(e, kernel, frozenset(plan.outer) - {vector_axis})
        row = [a for a in plan.row if a is not vector_axis]
        in_place = in_place or _accumulates(kernel)
        if plan.runs:
            body = lambda own: _row(e, own, plan, row)
            run_steps(e, kernel, vector_axis, plan.lanes, (start, stop), in_place, body)
            return
        lane_steps(e, plan, start, stop, in_place, lambda: _row(e, kernel, plan, row))
        return
    _hoist(e, kernel, frozenset(plan.outer))
    others = [a for a in plan.row if a is not vector_axis]
    if vector_axis is None:
        _row(e, kernel, plan, others)
        return
    e.loops(
        others,
        lambda: lane_steps(
            e,
            plan,
            i64(0),
            e.size(vector_axis.extent),
            in_place or _accumulates(kernel),
            lambda: _stores(e, kernel),
        ),
    )


def _accumulates(kernel: Kernel) -> bool:
    return any(st.mode != "set" for st in kernel.stores)


def _row(e: Emitter, kernel: Kernel, plan: NestSchedule, axes: list[Axis]) -> None:
    if plan.interleave is not None:
        axes = [a for a in axes if a is not plan.interleave]
        e.loops(axes, lambda: _interleaved(e, kernel, plan.interleave))
        return
    _hoist(e, kernel, frozenset(plan.outer))
    for st in kernel.stores:
        if st.where is None and not st.value.free & frozenset(axes):
            e.emit(st.value)  # once for all that is stored of it
    e.loops(axes, lambda: _stores(e, kernel))


def _hoist(e: Emitter, kernel: Kernel, known: frozenset) -> None:
    """Compute the reductions that depend on known axes only, before the row's loops."""
    for x in s.walk(*kernel.roots()):
        if x.op == "reduce" and x.free <= known:
            e.emit(x)


def _stores(e: Emitter, kernel: Kernel) -> None:
    """All stores. What is stored under a condition is computed only where it holds, since elsewhere
    it may read past a buffer's end: behind a branch where all lanes agree, as masks cost more, else
    in the lanes of a mask."""
    for where, stores in groupby(kernel.stores, lambda st: st.where):
        if where is None:
            for st in stores:
                emit_store(e, st)
            continue
        if e.is_vector(where):
            inside = e.emit(where)
            mask = inside if e.mask is None else e.b.and_(e.mask, inside)
            with e.scope(), e.vectorised(e.vector_axis, e.lanes, mask):
                for st in stores:
                    emit_store(e, st, inside)
            continue
        with e.b.if_then(e.emit(where)), e.scope():
            for st in stores:
                emit_store(e, st)


def _interleaved(e: Emitter, kernel: Kernel, interleave: Axis) -> None:
    """x0 y0 x1 y1 … from the vectors x, y, … of the places along `interleave`."""
    (store,) = kernel.stores
    if e.mask is not None:
        e.loops([interleave], lambda: _stores(e, kernel))
        return
    vectors = []
    for j in range(interleave.extent):
        with e.scope(), e.at(interleave, i64(j)):
            vectors.append(e.vector(store.value))
    place = store.index[0]
    for x in interleaved(e.b, vectors):
        with e.scope(), e.at(interleave, i64(0)):
            e.store_contiguous(store.buffer, place, x)
        place = s.add(place, s.const(x.type.count))
