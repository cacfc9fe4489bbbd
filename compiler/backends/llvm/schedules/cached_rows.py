"""Rows that are kept: what a reduction computes for each element, where a store wants it again.

    y[i] = exp(x[i] - m) / sum(k; exp(x[k] - m))     =>     row[k] = exp(x[k] - m), while summing
                                                            y[i] = row[i] / sum

A softmax then takes one exp per element instead of two. The row lies on the stack, or in scratch
memory where its size is open; a long one lies where the result will, if that is the kernel's one
store, which then reads and writes each of its elements once.
"""

import llvmlite.ir as ir

from ....expr import expr as s
from ....expr.expr import Axis, Buffer, Expr
from ....ir.bounds import size_hint
from ....ir.dims import Sym, ceil_div
from ....ir.types import TensorType
from ....kernels.kernel import Kernel, Store
from ....kernels.machine import ALIGNMENT
from ..base.types import I8, PTR, memory_type
from ..emit.emitter import Emitter
from ..emit.reduction import own_vector_axis
from .lane_steps import stride_along

LONGEST = 16 << 10  # bytes of a row, but for those that lie where the result will
WORTH = frozenset(
    ["exp", "exp2", "tanh", "erf", "normal_area", "sigmoid", "log", "pow", "sin", "cos", "div"]
)


def row_bytes(kernel: Kernel, vector_axis: Axis | None):
    """Bytes of scratch that kept rows of a dynamic dim take at most, a dim."""
    if vector_axis is None or not isinstance(vector_axis.extent, Sym):
        return 0
    reduces = [x for x in s.walk(*kernel.roots()) if x.op == "reduce"]
    return sum(
        _bytes(vector_axis, r) for r in reduces if _again(kernel, r, vector_axis) is not None
    )


def _bytes(vector_axis: Axis, r: Expr):
    return ceil_div(vector_axis.extent * r.args[0].dtype.bytes, ALIGNMENT) * ALIGNMENT


def keep_rows(
    e: Emitter,
    kernel: Kernel,
    vector_axis: Axis | None,
    scratch: ir.Value | None = None,
    outer: frozenset[Axis] | None = None,
) -> Kernel:
    """The kernel with reads of kept rows; `e.kept` says which reductions have to keep theirs, and
    where. Where a unit, made of the axes `outer`, is one row of the result, and nothing else reads
    its memory, the row may lie there. Then the kernel reads what it stores."""
    used = 0
    for r in [x for x in s.walk(*kernel.roots()) if x.op == "reduce"]:
        again = None if vector_axis is None else _again(kernel, r, vector_axis, outer)
        if again is None or own_vector_axis(e, r) is not r.data[1][0]:
            continue
        (own,) = r.data[1]
        if _is_long(r, vector_axis):
            (store,) = kernel.stores
            e.kept[r] = store.buffer, s.substitute(store.index[0], {vector_axis: s.axis(own)})
            there = s.make("load", store.index, store.buffer, store.buffer.dtype)
            return _replaced(kernel, again, there)
        row = Buffer("row", TensorType(r.args[0].dtype, (vector_axis.extent,)))
        if isinstance(vector_axis.extent, Sym):
            place = e.b.gep(scratch, [e.size(used)], source_etype=I8)
            used = used + _bytes(vector_axis, r)
        else:
            place = e.variable(ir.ArrayType(memory_type(row.dtype), vector_axis.extent), "row")
            place.align = 64
            place.type = PTR
        e.pointers[row] = place
        e.kept[r] = row, s.axis(own)
        kernel = _replaced(kernel, again, s.load(row, (s.axis(vector_axis),)))
    return kernel


def _is_long(r: Expr, vector_axis: Axis) -> bool:
    return size_hint(vector_axis.extent) * r.args[0].dtype.bytes > LONGEST


def _again(
    kernel: Kernel, r: Expr, vector_axis: Axis, outer: frozenset[Axis] | None = None
) -> Expr | None:
    """The reduction's body at the vector axis, if stores want it and it is work."""
    if len(r.data[1]) != 1 or r.data[1][0].extent != vector_axis.extent or vector_axis in r.free:
        return None
    (body,) = r.args
    if body.dtype.bits < 32:
        return None
    if _is_long(r, vector_axis) and not (
        r.free == outer and _fits_result(kernel, body, vector_axis)
    ):
        return None
    if not any(x.op in WORTH for x in s.walk(body)):
        return None
    again = s.substitute(body, {r.data[1][0]: s.axis(vector_axis)})
    wanted = any(x is again for st in kernel.stores for x in s.walk(st.value))
    return again if wanted else None


def _fits_result(kernel: Kernel, body: Expr, vector_axis: Axis) -> bool:
    """Whether the kernel's one store is to whole vectors of the row's dtype."""
    if len(kernel.stores) != 1 or isinstance(vector_axis.extent, Sym):
        return False
    (store,) = kernel.stores
    if store.mode != "set" or store.where is not None or store.buffer.dtype != body.dtype:
        return False
    return stride_along(store.index[0], vector_axis) == 1


def _replaced(kernel: Kernel, old: Expr, new: Expr) -> Kernel:
    visit = lambda x: new if x is old else None
    stores = [
        Store(st.buffer, st.index, s.transform(st.value, visit), st.where, st.mode)
        for st in kernel.stores
    ]
    return Kernel(kernel.name, kernel.axes, tuple(stores), kernel.serial, kernel.origins)
