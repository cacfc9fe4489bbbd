"""What a nest should take: cycles of each expression, as often as its loops come to it."""

from math import ceil
from typing import TYPE_CHECKING

from ....expr import expr as s
from ....expr.expr import Axis, Expr
from ....kernels.kernel import Kernel
from ....kernels.tiling import vector_axis_cost
from ....kernels.work import data_of, extent_of, store_axes
from .cost_model import LOAD, UNIT, cycles_of, place_cycles

if TYPE_CHECKING:
    from .nest import NestSchedule


def nest_cycles(kernel: Kernel, plan: "NestSchedule") -> float:
    """Cycles of a nest's arithmetic, with its loads and stores."""
    roots, lanes = kernel.roots(), plan.lanes
    own, data = _own_lanes(kernel, plan), data_of(roots)
    # A product that is summed at once is part of the multiply-add.
    fused = {
        e.args[0]
        for e in s.walk(*roots)
        if e.op == "reduce" and e.data[0] == "sum" and e.args[0].op == "mul"
    }
    total = UNIT * plan.units
    for e in s.walk(*roots):
        if e.op in ("const", "axis") or e in fused:
            continue
        axes = e.free | frozenset(e.data[1]) if e.op == "reduce" else e.free
        vector_axis = own.get(e, plan.vector_axis)
        vector_axis = vector_axis if vector_axis in axes else None
        total += _repeats(axes, vector_axis, lanes) * cycles_of(e, vector_axis, lanes, data)
    for st in kernel.stores:
        axes, each = store_axes(st), LOAD
        vector_axis = plan.vector_axis if plan.vector_axis in axes else None
        if vector_axis is not None and plan.interleave is None:
            each += place_cycles(st.index[0], vector_axis, lanes, st.buffer.type, loads=False)
        total += _repeats(axes, vector_axis, lanes) * each * (1 if st.mode == "set" else 3)
    return total


def _own_lanes(kernel: Kernel, plan: "NestSchedule") -> dict[Expr, Axis | None]:
    """The axis that reductions, and what is in them, are vectorised along, if not the nest's."""
    found: dict[Expr, Axis | None] = {}
    for r in s.walk(*kernel.roots()):
        if r.op != "reduce" or (plan.vector_axis is not None and plan.vector_axis in r.free):
            continue
        loads = [x.args[0] for x in s.walk(r.args[0]) if x.op == "load"]
        wide = [a for a in r.data[1] if a.extent >= max(4, plan.lanes // 2)]
        own = min(wide, key=lambda a: vector_axis_cost(loads, a, plan.lanes), default=None)
        if own is not None and vector_axis_cost(loads, own, plan.lanes) >= 0.75 * max(
            1, len(loads)
        ):
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
