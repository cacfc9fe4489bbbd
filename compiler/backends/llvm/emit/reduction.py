"""Reductions as LLVM IR: lane by lane, or across the lanes.

A reduction that depends on the vector axis keeps one accumulator per lane. Any other is vectorised
along one of its own axes and folded over the lanes at the end. The order of the additions follows
from the extents and the vector width alone, never from the number of threads.
"""

import llvmlite.ir as ir

from ....expr import expr as s
from ....expr.expr import Axis, Expr
from ....ir.bounds import size_hint
from ....ir.dims import Sym
from ....ir.types import DType
from ....kernels.tiling import vector_axis_cost
from ....kernels.work import extent_of
from ..base.types import I32, constant, i64, register_type, vector
from ..vmath import formulas
from .emitter import UNROLL, Emitter
from .float_to_int import any_lane
from .lanes import first_lanes, lanes_below
from .scalar import PRIMITIVE, multiply_add

LINES = 1024  # expressions that a reduction may be written out to
FORMULA = 24  # expressions that a formula is as long as
PARTS = 4  # sums that are taken side by side where a step waits for the last one
LIGHT = 24  # expressions per step, fewer than which are done before a sum is


def emit_reduction(m: Emitter, e: Expr) -> ir.Value:
    _emit_inner(m, e)
    if m.is_vector(e):
        return _by_lane(m, e)
    axis = own_vector_axis(m, e)
    if axis is None:
        with m.vectorised(None, None):
            return _by_lane(m, e)
    return _across(m, e, axis)


def _emit_inner(m: Emitter, e: Expr) -> None:
    """Compute what the body of a reduction needs of others that do not run along its axes: once,
    before its loops. Inside of them, a row of n elements would take n * n steps."""
    for x in s.walk(e.args[0]):
        if x.op == "reduce" and not x.free & frozenset(e.data[1]) and x.free <= m.where.keys():
            m.emit(x)


def own_vector_axis(m: Emitter, e: Expr) -> Axis | None:
    """The reduction axis to vectorise: most of its loads walk memory in steps of 0 or 1."""
    lanes = m.target.lanes(max(e.dtype.bits, 8))
    candidates = [a for a in e.data[1] if size_hint(a.extent) >= max(4, lanes // 2)]
    inner = [x for x in s.walk(e.args[0]) if x.op == "reduce" and x.free & set(e.data[1])]
    if not candidates or lanes < 2 or inner:
        return None
    own = frozenset(e.data[1])
    loads = [x.args[0] for x in s.walk(e.args[0]) if x.op == "load" and x.free & own]
    best = min(candidates, key=lambda a: vector_axis_cost(loads, a, lanes))
    return best if vector_axis_cost(loads, best, lanes) < 0.75 * max(1, len(loads)) else None


def _by_lane(m: Emitter, e: Expr) -> ir.Value:
    """Lane by lane (or scalar): loops over all axes around one accumulator."""
    combiner, axes = e.data
    lanes = m.lanes if m.is_vector(e) else None
    total = m.variable(vector(register_type(e.dtype), lanes), "sum")
    m.b.store(identity(combiner, e.dtype, lanes), total)
    get = m.vector if lanes is not None else m.emit

    def add():
        value = _combine(m, e, m.b.load(total), e.args[0], get)
        m.b.store(value, total)

    def step():
        if not skips:
            add()
            return
        counts = m.vector(e.args[0].args[0])
        with m.b.if_then(any_lane(m.b, counts)), m.scope():
            add()

    skips = lanes is not None and _is_often_nothing(m, e)
    inner = [x for x in s.walk(e.args[0]) if x.free & set(axes)]
    own = sum(FORMULA if x.op in formulas.FORMULAS else 1 for x in inner)
    vectors = max(1, (lanes or 1) // m.target.lanes(max(e.dtype.bits, 8)))
    m.loops(list(axes), step, unroll=max(UNROLL, LINES // max(1, own)) // vectors)
    return m.b.load(total)


def _is_often_nothing(m: Emitter, e: Expr) -> bool:
    """Whether a step gathers what may count in none of the lanes, as it stands under a condition: a
    branch then costs less. Of short sums all steps may be expected to count."""
    (body,), (combiner, axes) = e.args, e.data
    if body.op != "select" or size_hint(extent_of(axes)) <= UNROLL:
        return False
    _, counted, other = body.args
    nothing = s.const(s.identity(combiner, e.dtype), e.dtype)
    places = [x.args[0] for x in s.walk(counted) if x.op == "load" and m.is_vector(x)]
    return other is nothing and any(m.lane_stride(place) is None for place in places)


def _combine(m: Emitter, e: Expr, total: ir.Value, body: Expr, get) -> ir.Value:
    """total (+) body; a sum of products in fused steps."""
    combiner = e.data[0]
    if combiner == "sum" and body.op == "mul" and e.dtype.is_float and e.dtype.bits >= 32:
        x, y = (get(a) for a in body.args)
        return multiply_add(m.b, x, y, total)
    return PRIMITIVE[s.COMBINERS[combiner]](m.b, e.dtype, total, get(body))


def _across(m: Emitter, e: Expr, axis: Axis) -> ir.Value:
    """Vectorised along one of the reduction's own axes, then folded over the lanes.

    The order of the additions follows from the extents and the vector width alone.
    """
    combiner, axes = e.data
    lanes = m.target.lanes(max(e.dtype.bits, 8))
    while lanes > size_hint(axis.extent) and lanes > 2:
        lanes //= 2
    type = vector(register_type(e.dtype), lanes)
    start = identity(combiner, e.dtype, lanes)
    long, light = size_hint(axis.extent) >= 2 * PARTS * lanes, _is_light(e.args[0], axis)
    parts = PARTS if long and light else 1
    totals = [m.variable(type, "sum") for _ in range(parts)]
    for t in totals:
        m.b.store(start, t)
    # Long chains of instructions come by turns in a vector that LLVM takes apart.
    side = PARTS if long and not light and not is_gathered(e.args[0], axis) else 1
    wide = totals[0]
    if side > 1:
        wide = m.variable(vector(register_type(e.dtype), lanes * side), "sum")
        m.b.store(identity(combiner, e.dtype, lanes * side), wide)

    def add(base: ir.Value, total, mask=None, lanes=lanes):
        with m.scope(), m.at(axis, base), m.vectorised(axis, lanes, mask):
            value = _combine(m, e, m.b.load(total), e.args[0], m.vector)
            if e in m.kept:
                m.store(*m.kept[e], m.vector(e.args[0]), None)
            if mask is not None:
                value = m.b.select(mask, value, m.b.load(total))
            m.b.store(value, total)

    def block(k: ir.Value):
        if side > 1:
            add(k, wide, lanes=lanes * side)
            return
        for n, total in enumerate(totals):
            add(m.b.add(k, i64(n * lanes)) if n else k, total)

    def open_row():
        stop, stride = m.size(axis.extent), lanes * parts * side
        blocks = m.b.sub(stop, m.b.urem(stop, i64(stride)))
        whole = m.b.sub(stop, m.b.urem(stop, i64(lanes)))
        with m.loop(i64(0), blocks, stride, name="k") as k:
            block(k)
        with m.loop(blocks, whole, lanes, name="k") as k:
            add(k, totals[0])
        with m.b.if_then(m.b.icmp_signed("<", whole, stop)):
            add(whole, totals[0], lanes_below(m, whole, stop, lanes))

    def row():
        if isinstance(axis.extent, Sym):
            open_row()
            return
        whole = axis.extent // lanes * lanes
        stride = lanes * parts * side
        blocks = whole // stride * stride
        if blocks:
            with m.loop(i64(0), i64(blocks), stride, name="k") as k:
                block(k)
        if blocks < whole:
            with m.loop(i64(blocks), i64(whole), lanes, name="k") as k:
                add(k, totals[0])
        if whole < axis.extent:
            add(i64(whole), totals[0], first_lanes(lanes, axis.extent - whole))

    m.loops([a for a in axes if a is not axis], row)
    values = [m.b.load(t) for t in totals]
    if side > 1:
        values.append(_fold(m, combiner, e.dtype, m.b.load(wide), lanes * side, lanes))
    while len(values) > 1:
        values = [_join(m, combiner, e.dtype, x, y) for x, y in zip(values[::2], values[1::2])]
    return _fold(m, combiner, e.dtype, values[0], lanes)


def is_gathered(body: Expr, axis: Axis) -> bool:
    """Whether some loads along an axis are no whole vectors."""
    loads = [x for x in s.walk(body) if x.op == "load" and axis in x.free]
    return any(s.linear(x.args[0])[0].get(s.axis(axis)) != 1 for x in loads)


def _is_light(body: Expr, axis: Axis) -> bool:
    """Whether there is little to do per step, so that steps would wait for the sum."""
    own = [x for x in s.walk(body) if axis in x.free]
    return len(own) < LIGHT and not any(x.op in formulas.FORMULAS for x in own)


def _join(m: Emitter, combiner: str, dtype: DType, x: ir.Value, y: ir.Value) -> ir.Value:
    return PRIMITIVE[s.COMBINERS[combiner]](m.b, dtype, x, y)


def _fold(
    m: Emitter, combiner: str, dtype: DType, value: ir.Value, lanes: int, left: int = 1
) -> ir.Value:
    """All lanes into one (or so many as are `left`), halving."""
    while lanes > left:
        half = lanes // 2
        undefined = ir.Constant(value.type, ir.Undefined)
        picks = [
            m.b.shuffle_vector(value, undefined, ir.Constant(vector(I32, half), list(places)))
            for places in (range(half), range(half, lanes))
        ]
        value, lanes = _join(m, combiner, dtype, *picks), half
    return value if left > 1 else m.b.extract_element(value, ir.Constant(I32, 0))


def identity(combiner: str, dtype: DType, lanes: int | None) -> ir.Constant:
    """The neutral element of a combiner."""
    return constant(s.identity(combiner, dtype), dtype, lanes)
