"""Vector steps along an axis: whole vectors, several side by side, and what is left at the end.

    wide_vectors    how many vectors a nest takes at once
    side_by_side    how many fit a number of elements
    lane_steps      the loop over them

Several vectors side by side are one value of LLVM, which it takes apart: their instructions come by
turns, so that a core need not look far ahead for some that do not wait for each other. Sums that
are taken lane by lane then have as many accumulators, and read whole lines of memory.
"""

from collections.abc import Callable
from typing import Protocol

import llvmlite.ir as ir

from ....expr import expr as s
from ....expr.expr import Axis, Expr
from ....ir.bounds import maybe_below
from ....ir.dims import Sym
from ....kernels.kernel import Kernel
from ....kernels.work import extent_of
from ..base.types import i64
from ..emit.emitter import UNROLL, Emitter
from ..emit.lanes import first_lanes, lanes_below, minimum
from ..vmath.formulas import FORMULAS

SIDE_BY_SIDE = 4  # vectors: about the latency of an instruction times how many begin in a cycle
FAR_APART = 8  # vectors where each row that is summed lies in a page of its own
PAGE = 4096  # bytes; beyond it a core reads nothing ahead
WASTE = 1.13  # how much more may be computed where the last vectors overlap those before them


class Lanes(Protocol):
    """What a schedule says of its vectors: `block` are the elements between two breaks."""

    @property
    def vector_axis(self) -> Axis | None: ...

    @property
    def lanes(self) -> int: ...

    @property
    def vectors(self) -> int: ...

    @property
    def block(self) -> int: ...


def wide_vectors(
    kernel: Kernel, vector_axis: Axis, lanes: int, extent: int | Sym, exact: bool
) -> int:
    """How many vectors of `lanes` a step should take. `extent` are the elements of the axis that
    are walked without a break, `exact` says that each must be computed once."""
    worth = _waits(kernel, vector_axis) or _narrows(kernel, vector_axis)
    if not worth or not _contiguous(kernel, vector_axis):
        return 1
    most = FAR_APART if _sums_pages(kernel, vector_axis) else SIDE_BY_SIDE
    return side_by_side(extent, lanes, exact, most)


def side_by_side(extent: int | Sym, lanes: int, exact: bool, most: int = SIDE_BY_SIDE) -> int:
    """How many vectors of `lanes` fit `extent` elements without much that is computed twice."""
    if isinstance(extent, Sym):
        return SIDE_BY_SIDE
    least = -(-extent // lanes) * lanes * WASTE
    vectors = most
    while vectors > 1:
        wide = lanes * vectors
        if extent % wide == 0 or (extent > wide and (exact or -(-extent // wide) * wide <= least)):
            return vectors
        vectors //= 2
    return 1


def _waits(kernel: Kernel, vector_axis: Axis) -> bool:
    """Whether an element is a long chain of instructions: a formula, or a long reduction."""
    chains = (x for x in s.walk(*kernel.roots()) if vector_axis in x.free)
    return any(x.op in FORMULAS or (x.op == "reduce" and _is_long(x)) for x in chains)


def _is_long(reduce: Expr) -> bool:
    """Whether a reduction has many steps; one of an open number is taken to have."""
    steps = extent_of(reduce.data[1])
    return isinstance(steps, Sym) or steps > UNROLL


def _sums_pages(kernel: Kernel, vector_axis: Axis) -> bool:
    """Whether all that is done is to sum (or the like) elements at steps of a page and more."""
    parts = list(s.walk(*kernel.roots()))
    reduces = [x for x in parts if x.op == "reduce" and _is_long(x)]
    if not reduces or any(x.op in FORMULAS for x in parts):
        return False
    loads = [x for e in reduces for x in s.walk(e.args[0]) if x.op == "load"]
    steps = [
        (stride_along(x.args[0], a) or 0) * x.dtype.bytes
        for x in loads
        for e in reduces
        for a in e.data[1]
        if vector_axis in x.free and a in x.free
    ]
    return any(not isinstance(k, Sym) and abs(k) >= PAGE for k in steps)


def _narrows(kernel: Kernel, vector_axis: Axis) -> bool:
    """Whether what is stored is narrower than what it is made of, so that several vectors fill one
    that is stored."""
    loads = [x for x in s.walk(*kernel.roots()) if x.op == "load" and vector_axis in x.free]
    widest = max((x.dtype.bits for x in loads), default=0)
    return all(st.buffer.dtype.bits < widest for st in kernel.stores)


def _contiguous(kernel: Kernel, vector_axis: Axis) -> bool:
    """Whether what the axis runs along is read and stored as whole vectors."""
    places = [x.args[0] for x in s.walk(*kernel.roots()) if x.op == "load"]
    places += [st.index[0] for st in kernel.stores]
    return all(stride_along(e, vector_axis) in (0, 1) for e in places)


def stride_along(index: Expr, axis: Axis) -> int | None:
    """How far an index moves with an axis; None if not evenly."""
    if axis not in index.free:
        return 0
    terms, _ = s.linear(index)
    if any(t.op != "axis" and axis in t.free for t in terms):
        return None
    return next((c for t, c in terms.items() if t.op == "axis" and t.data is axis), 0)


def lane_steps(
    e: Emitter, plan: Lanes, start: ir.Value, stop: ir.Value, exact: bool, body: Callable
) -> None:
    """Vector steps from start to stop. The last one overlaps the one before it, which costs no
    extra code, unless every element must be visited exactly once (then it is masked)."""
    vector_axis, lanes, wide = plan.vector_axis, lanes_taken(plan, exact), plan.lanes * plan.vectors
    if isinstance(vector_axis.extent, Sym):
        _open_lanes(e, plan, start, stop, exact, body)
        return
    whole = vector_axis.extent % wide == 0 and plan.block % wide == 0
    if vector_axis.extent < lanes:
        with (
            e.scope(),
            e.at(vector_axis, start),
            e.vectorised(vector_axis, lanes, first_lanes(lanes, vector_axis.extent)),
        ):
            body()
        return
    short = (
        plan.block < vector_axis.extent
        and vector_axis.extent % plan.block < wide
        and (vector_axis.extent % plan.block != 0)
    )
    masked = not whole and (exact or short)
    if plan.vectors > 1 and masked:
        _wide_lanes(e, plan, start, stop, body)
        return
    step = lanes if plan.vectors == 1 else wide
    with e.loop(start, stop, step, name="v") as v:
        mask, base = None, v
        if masked:
            mask = lanes_below(e, v, stop, step)
        elif not whole:
            base = minimum(e, v, e.b.sub(stop, i64(step)))
        with e.at(vector_axis, base), e.vectorised(vector_axis, step, mask):
            body()


def lanes_taken(plan: Lanes, exact: bool) -> int:
    """Lanes of a vector: fewer where the axis is shorter."""
    lanes = plan.lanes
    if exact or plan.vector_axis is None or isinstance(plan.vector_axis.extent, Sym):
        return lanes
    while lanes > 4 and lanes // 2 >= plan.vector_axis.extent:
        lanes //= 2
    return lanes


def _wide_lanes(e: Emitter, plan: Lanes, start, stop, body) -> None:
    """Several vectors at once as long as there are so many, then one by one, masked."""
    vector_axis, lanes, wide = plan.vector_axis, plan.lanes, plan.lanes * plan.vectors
    whole = e.b.sub(stop, e.b.srem(e.b.sub(stop, start), i64(wide)))
    with (
        e.loop(start, whole, wide, name="v") as v,
        e.at(vector_axis, v),
        e.vectorised(vector_axis, wide),
    ):
        body()
    with e.loop(whole, stop, lanes, name="v") as v:
        mask = lanes_below(e, v, stop, lanes)
        with e.at(vector_axis, v), e.vectorised(vector_axis, lanes, mask):
            body()


def _open_lanes(e: Emitter, plan: Lanes, start, stop, exact: bool, body) -> None:
    """The same for an axis of any size: whole vectors, then one that is masked.

    Where there are more elements than a vector has, the last vector may begin earlier instead; but
    that they are more must be known.
    """
    vector_axis, lanes = plan.vector_axis, plan.lanes
    if plan.vectors > 1:
        _wide_lanes(e, plan, start, stop, body)
        return
    if (
        not exact
        and not maybe_below(vector_axis.extent, lanes)
        and plan.block is vector_axis.extent
    ):
        with e.loop(start, stop, lanes, name="v") as v:
            base = minimum(e, v, e.b.sub(stop, i64(lanes)))
            with e.at(vector_axis, base), e.vectorised(vector_axis, lanes):
                body()
        return
    whole = e.b.sub(stop, e.b.srem(e.b.sub(stop, start), i64(lanes)))
    with (
        e.loop(start, whole, lanes, name="v") as v,
        e.at(vector_axis, v),
        e.vectorised(vector_axis, lanes),
    ):
        body()
    with e.b.if_then(e.b.icmp_signed("<", whole, stop)), e.scope():
        mask = lanes_below(e, whole, stop, lanes)
        with e.at(vector_axis, whole), e.vectorised(vector_axis, lanes, mask):
            body()
