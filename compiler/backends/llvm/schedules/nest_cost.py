"""What a nest should take: cycles of each expression, as often as its loops come to it."""

from collections.abc import Iterator
from math import ceil
from typing import TYPE_CHECKING

from ....expr import expr as s
from ....expr.expr import Axis, Expr
from ....ir.bounds import size_hint
from ....kernels.kernel import Kernel
from ....kernels.machine import Machine
from ....kernels.tiling import vector_axis_cost
from ....kernels.work import data_of, extent_of, store_axes
from .cost_model import LOAD, SIMPLE, UNIT, cycles_of, place_cycles
from .known_rows import Known

SIDE = 4  # sums of a reduction along its own axis (`emit/reduction.py`)
ROW = 2.0  # cycles around a loop along the vector axis
PLACED = 3.0  # cycles of a vector that is shuffled out of a window, with its rows of places

if TYPE_CHECKING:
    from .nest import NestSchedule


# What cycles are spent on, if not on what has to be done.
SCALAR = "one number at a time: no axis fills vectors"
APART = "elements of a vector lie apart, and are moved one by one"
WAITS = "each step of a reduction waits for the one before"
DIVIDES = "places are found by divisions"
PIECES = "many small pieces of work"


def nest_cycles(kernel: Kernel, plan: "NestSchedule", target: Machine) -> float:
    """Cycles of a nest's arithmetic, with its loads and stores."""
    return sum(cycles for _, cycles in nest_parts(kernel, plan, target))


def nest_parts(
    kernel: Kernel, plan: "NestSchedule", target: Machine
) -> Iterator[tuple[str, float]]:
    """The same in parts, as `Schedule.parts` gives them."""
    roots = kernel.roots()
    own, data = _own_lanes(kernel, plan, target), data_of(roots)
    # A product that is summed at once is part of the multiply-add.
    fused = {
        e.args[0]
        for e in s.walk(*roots)
        if e.op == "reduce" and e.data[0] == "sum" and e.args[0].op == "mul"
    }
    yield PIECES, UNIT * plan.units + ROW * _rows(kernel, plan)
    known = Known(kernel, plan.vector_axis)
    has_rows = bool(known)
    for e in s.walk(*roots):
        if e.op in ("const", "axis") or e in fused:
            continue
        if (has_rows or plan.runs) and _is_place(e, known, plan):
            continue
        axes = e.free | frozenset(e.data[1]) if e.op == "reduce" else e.free
        vector_axis = own.get(e, plan.vector_axis)
        vector_axis = vector_axis if vector_axis in axes else None
        lanes = (
            plan.lanes if vector_axis is plan.vector_axis else target.lanes(max(8, e.dtype.bits))
        )
        times = _repeats(axes, vector_axis, lanes)
        side = plan.vectors
        if e.op == "reduce" and vector_axis is not None and vector_axis in e.data[1]:
            side = SIDE if vector_axis.extent >= 2 * SIDE * lanes else 1
        cycles = cycles_of(e, vector_axis, lanes, data, side)
        if has_rows and e.op == "load" and known.place(e.args[0]) is not None:
            cycles = min(cycles, PLACED)
        if plan.runs and e.op == "load":
            cycles = min(cycles, 2 * LOAD)
        yield from _parts_of(e, times, cycles, vector_axis, data)
    for st in kernel.stores:
        axes, each, lanes = store_axes(st), LOAD, plan.lanes
        vector_axis = plan.vector_axis if plan.vector_axis in axes else None
        if vector_axis is not None and plan.interleave is None:
            each += place_cycles(st.index[0], vector_axis, lanes, st.buffer.type, loads=False)
        times = _repeats(axes, vector_axis, lanes) * (1 if st.mode == "set" else 3)
        if vector_axis is None:
            yield SCALAR, times * each
        else:
            yield "", times * min(each, 2 * LOAD)
            yield APART, times * max(0.0, each - 2 * LOAD)


def _rows(kernel: Kernel, plan: "NestSchedule") -> int:
    """How often the loop along the vector axis begins, or that of the last axis, beside units."""
    inner = plan.vector_axis if plan.vector_axis is not None else next(iter(plan.row[-1:]), None)
    return extent_of(set(plan.row) - {inner, plan.interleave}) * size_hint(plan.units)


def _is_place(e: Expr, known: Known, plan: "NestSchedule") -> bool:
    """Whether it is found while compiling, or once for each run."""
    return known.has(e) or (plan.runs and e.dtype in (s.I64, s.BOOL) and e.op != "load")


def _parts_of(
    e: Expr, times: int, each: float, vector_axis: Axis | None, data: set[Expr]
) -> Iterator[tuple[str, float]]:
    """An expression that takes `each` cycles `times` times."""
    if e.op == "load":
        if vector_axis is None:
            yield SCALAR, times * each
        else:
            yield "", times * min(each, LOAD)
            yield APART, times * max(0.0, each - LOAD)
    elif e.op == "reduce":
        yield "", times * min(each, SIMPLE)
        yield WAITS, times * max(0.0, each - SIMPLE)
    elif e not in data and e.op in ("floordiv", "mod"):
        yield DIVIDES, times * each
    else:
        yield (SCALAR if vector_axis is None and e in data else ""), times * each


def _own_lanes(kernel: Kernel, plan: "NestSchedule", target: Machine) -> dict[Expr, Axis | None]:
    """The axis that reductions, and what is in them, are vectorised along, if not the nest's."""
    found: dict[Expr, Axis | None] = {}
    for r in s.walk(*kernel.roots()):
        if r.op != "reduce" or (plan.vector_axis is not None and plan.vector_axis in r.free):
            continue
        loads = [x.args[0] for x in s.walk(r.args[0]) if x.op == "load"]
        lanes = target.lanes(max(8, r.dtype.bits))
        wide = [a for a in r.data[1] if a.extent >= max(4, lanes // 2)]
        own = min(wide, key=lambda a, n=lanes: vector_axis_cost(loads, a, n), default=None)
        if own is not None and vector_axis_cost(loads, own, lanes) >= 0.75 * max(1, len(loads)):
            own = None
        for x in s.walk(r):
            if x is r or x.free & set(r.data[1]):
                found[x] = own
    return found


def _repeats(axes: frozenset[Axis], vector_axis: Axis | None, lanes: int) -> int:
    """How many vectors (without a vector axis: values) there are."""
    if vector_axis is None:
        return extent_of(axes)
    return extent_of(axes - {vector_axis}) * ceil(vector_axis.extent / lanes)
