"""Decision trees as arrays of nodes: tree_leaves (ai.onnx.ml).

A node asks `x[feature] <= threshold`. Its two children lie side by side at `child` (yes) and
`child + 1` (no), so that a step down is an addition and no branch:

    node = child[node] + not(x[feature[node]] <= threshold[node])

A leaf's threshold is NaN, which nothing is below, and its child the node before it: it steps to
itself. All trees can thus take the same number of steps, whatever their shapes.
"""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.bounds import assume_equal, assume_equal_shapes
from ...ir.op import Attr, Kernels, register
from ...ir.types import F16, F32, F64, I64
from ..common import STEP, array, case, floats

STEPS = 16  # of one kernel: an expression is walked recursively


def tree_leaves_shape(x, start, feature, threshold, child, missing, *, steps):
    nodes = feature.shape
    if x.rank != 2 or start.rank != 2 or feature.rank != 1:
        raise TypeMismatch(
            "tree_leaves needs rows of features, rows of places to start from, and nodes",
            expected="x [N, features], start [N or 1, trees], feature [nodes]",
            received=f"{x}, {start}, {feature}",
        )
    for t in (threshold, child, *([] if missing is None else [missing])):
        if not assume_equal_shapes(t.shape, nodes):
            raise TypeMismatch(
                "tree_leaves needs a threshold, a child and a flag per node",
                expected=f"[{nodes[0]}]",
                received=t,
            )
    if not 1 <= steps <= STEPS:
        raise TypeMismatch("too many steps at once", expected=f"1 to {STEPS}", received=steps)
    if start.shape[0] != 1 and not assume_equal(start.shape[0], x.shape[0]):
        raise TypeMismatch("start has other rows than x", expected=x.shape[0], received=start)
    return (x.shape[0], start.shape[1])


def tree_leaves_ref(x, start, feature, threshold, child, missing, *, steps):
    node = np.broadcast_to(start, (len(x), start.shape[1])).astype(np.int64)
    for _ in range(steps):
        value = np.take_along_axis(x, feature[node].astype(np.int64), 1)
        yes = value <= threshold[node]
        if missing is not None:
            yes |= np.isnan(value) & missing[node]
        node = child[node].astype(np.int64) + ~yes
    return node.astype(np.int32)


def _limited(index, array, size: int, more: int = 0):
    """An index that comes from `array`, plus up to `more`, inside of an axis. It is limited unless
    the array is a constant whose elements lie inside."""
    known = array.constant
    if known is not None and known.size and known.min() >= 0 and known.max() + more < size:
        return index
    return s.minimum(s.maximum(index, 0), size - 1)


def _tree_leaves(k, out, x, start, feature, threshold, child, missing, *, steps):
    wide, nodes = x.dtype.compute, feature.shape[0]

    def at(n, t):
        node = s.cast(start[(n if start.shape[0] > 1 else 0, t)], I64)
        node = _limited(node, start, nodes)
        for _ in range(steps):
            which = _limited(s.cast(feature[node], I64), feature, x.shape[1])
            value = s.cast(x[n, which], wide)
            yes = value <= s.cast(threshold[node], wide)
            if missing is not None:
                yes = yes | (s.apply("isnan", value) & missing[node])
            node = s.cast(child[node], I64) + s.select(yes, s.const(0), s.const(1))
            node = _limited(node, child, nodes, 1)
        return (n, t), node

    k.store(out.shape, at)


def _samples():
    """Two trees: a stump and one of depth 2; all of their leaves step to themselves."""
    start = array([[0, 1]], "i32")
    feature = array([0, 1, 0, 0, 2, 0, 0, 0], "i32")
    nan = np.nan
    threshold = [0.0, 0.5, nan, nan, -0.5, nan, nan, nan]
    child = array([2, 4, 1, 2, 6, 4, 5, 6], "i32")
    missing = array([True, False, False, False, True, False, False, False], "bool")
    for dtype in (F32, F64, F16):
        x = floats((5, 3), low=-1, high=1, dtype=dtype)
        yield case(x, start, feature, array(threshold, dtype), child, steps=2)
    holes = np.where(floats((9, 3), seed=1) > 0.8, np.float32(nan), floats((9, 3), low=-1, high=1))
    yield case(holes, start, feature, array(threshold), child, missing, steps=3)
    later = np.repeat(array([[2, 4]], "i32"), 9, 0)
    yield case(holes, later, feature, array(threshold), child, missing, steps=1)
    yield case(floats((0, 3)), start, feature, array(threshold), child, steps=1)


register(
    "tree_leaves",
    "x: T, start: i32, feature: i32, threshold: T, child: i32, missing: bool? -> i32",
    """The nodes that each row of x comes to in each tree, `steps` below `start`.

    A step goes to `child` where `x[feature] <= threshold`, or x is NaN and the node's `missing`
    is set; else to the node after it. Leaves have a NaN threshold and the node before them as
    child. x: [N, features], start: [N or 1, trees], the others: [nodes]; result: [N, trees].
    """,
    attrs={"steps": Attr("int")},
    shape=tree_leaves_shape,
    ref=tree_leaves_ref,
    grad=STEP,
    loops=Kernels(_tree_leaves),
    samples=_samples,
    group="ml",
    T={F16, F32, F64},
)
