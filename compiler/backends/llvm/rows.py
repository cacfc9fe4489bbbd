"""Rows that are kept: what a reduction computes for each element, where a store wants it again.

    y[i] = exp(x[i] - m) / sum(k; exp(x[k] - m))     =>     row[k] = exp(x[k] - m), while summing
                                                            y[i] = row[i] / sum

A softmax then takes one exp per element instead of two. The row lies on the stack.
"""

import llvmlite.ir as ir

from ...loops import expr as s
from ...loops.expr import Axis, Buffer, Expr
from ...loops.nest import Kernel, Store
from ...types import TensorType
from .emit import Emitter
from .reduction import own_lane
from .types import PTR, memory_type

LONGEST = 16 << 10  # bytes of a row
WORTH = frozenset(["exp", "exp2", "tanh", "erf", "sigmoid", "log", "pow", "sin", "cos", "div"])


def keep_rows(e: Emitter, kernel: Kernel, lane: Axis | None) -> Kernel:
    """The kernel with reads of kept rows; `e.kept` says which reductions have to keep theirs."""
    for r in [x for x in s.walk(*kernel.roots()) if x.op == "reduce"]:
        again = None if lane is None else _again(kernel, r, lane)
        if again is None or own_lane(e, r) is not r.data[1][0]:
            continue
        row = Buffer("row", TensorType(r.args[0].dtype, (lane.extent,)))
        place = e.variable(ir.ArrayType(memory_type(row.dtype), lane.extent), "row")
        place.align = 64
        place.type = PTR
        e.pointers[row] = place
        e.kept[r] = row
        kernel = _replaced(kernel, again, s.load(row, (s.axis(lane),)))
    return kernel


def _again(kernel: Kernel, r: Expr, lane: Axis) -> Expr | None:
    """The reduction's body at the lane axis, if stores want it and it is work."""
    if len(r.data[1]) != 1 or r.data[1][0].extent != lane.extent or lane in r.free:
        return None
    (body,) = r.args
    if lane.extent * body.dtype.bytes > LONGEST or body.dtype.bits < 32:
        return None
    if not any(x.op in WORTH for x in s.walk(body)):
        return None
    again = s.substitute(body, {r.data[1][0]: s.axis(lane)})
    wanted = any(x is again for st in kernel.stores for x in s.walk(st.value))
    return again if wanted else None


def _replaced(kernel: Kernel, old: Expr, new: Expr) -> Kernel:
    visit = lambda x: new if x is old else None
    stores = [
        Store(st.buffer, st.index, s.transform(st.value, visit), st.where, st.mode)
        for st in kernel.stores
    ]
    return Kernel(kernel.name, kernel.axes, tuple(stores), kernel.serial, kernel.origins)
