"""Reductions, argmax, cumulative sums, softmax and its kin, top-k."""

from .....compiler.ir import dims
from .....compiler.ir.types import BOOL, F64, normalize_axes, normalize_axis
from ...read.call import Call


def reduce(op: str, since: int):
    """`axes` became operand 1 in opset `since`; absent means all."""

    def entry(c: Call):
        x = c.x(0)
        keepdims = bool(c.attr("keepdims", 1))
        axes = c.ints_of("axes", 1, since, [])
        identity = c.version >= since and bool(c.attr("noop_with_empty_axes", 0))
        if not axes and not identity:
            axes = range(x.rank)
        axes = normalize_axes(axes, x.rank)
        if not axes and op in ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min"):
            return x
        if x.dtype == BOOL:
            return c.b.emit(op, x.cast("u8"), axes=axes, keepdims=keepdims).cast(BOOL)
        if x.dtype.is_int and op in _ROOTS:
            wide = c.b.emit(op, x.cast(F64), axes=axes, keepdims=keepdims)
            return wide.cast(x.dtype)
        return c.b.emit(op, x, axes=axes, keepdims=keepdims)

    return entry


_ROOTS = ("reduce_l2", "reduce_log_sum", "reduce_log_sum_exp")  # of ints by way of f64


def arg(op: str):
    def entry(c: Call):
        return c.b.emit(
            op,
            c.x(0),
            axis=c.axis(0),
            keepdims=bool(c.attr("keepdims", 1)),
            select_last_index=bool(c.attr("select_last_index", 0)),
        )

    return entry


def running(op: str):
    """A running sum or product along an axis that is an operand."""

    def entry(c: Call):
        (axis,) = c.ints(1, "axis")
        return c.b.emit(
            op,
            c.x(0),
            axis=normalize_axis(axis, c.x(0).rank),
            exclusive=bool(c.attr("exclusive", 0)),
            reverse=bool(c.attr("reverse", 0)),
        )

    return entry


def softmax(op: str):
    """Before opset 13 the axes from `axis` (default 1) on are one: [prod(:axis), prod(axis:)]."""

    def entry(c: Call):
        x = c.x(0)
        if c.version >= 13:
            return c.b.emit(op, x, axis=c.axis(-1))
        axis = c.attr("axis", 1)
        axis = x.rank if axis == x.rank else normalize_axis(axis, x.rank)
        if axis == x.rank - 1:
            return c.b.emit(op, x, axis=axis)
        flat = x.reshape((dims.prod(x.shape[:axis]), dims.prod(x.shape[axis:])))
        return c.b.emit(op, flat, axis=1).reshape(x.shape)

    return entry


def top_k(c: Call):
    x = c.x(0)
    axis = c.axis(-1)
    if c.version < 10:
        k = c.attr("k")
    else:
        (k,) = c.symbols(1, "K")
    return c.b.emit(
        "top_k",
        x,
        k=k,
        axis=axis,
        largest=bool(c.attr("largest", 1)),
        sorted=bool(c.attr("sorted", 1)),
    )


def lp_normalization(c: Call):
    """x / norm(x), and 0 where the norm is 0."""
    x, axis, p = c.x(0), c.axis(-1), c.attr("p", 2)
    c.only("p", 2, 1)
    norm = c.b.emit("reduce_l2" if p == 2 else "reduce_l1", x, axes=(axis,), keepdims=True)
    zero = c.scalar(0, x.dtype)
    nonzero = c.b.emit("where", c.b.emit("equal", norm, zero), c.scalar(1, x.dtype), norm)
    return c.b.emit("div", x, nonzero)


TABLE = {
    "ReduceSum": reduce("reduce_sum", 13),
    "ReduceMean": reduce("reduce_mean", 18),
    "ReduceMax": reduce("reduce_max", 18),
    "ReduceMin": reduce("reduce_min", 18),
    "ReduceProd": reduce("reduce_prod", 18),
    "ReduceL1": reduce("reduce_l1", 18),
    "ReduceL2": reduce("reduce_l2", 18),
    "ReduceLogSum": reduce("reduce_log_sum", 18),
    "ReduceLogSumExp": reduce("reduce_log_sum_exp", 18),
    "ReduceSumSquare": reduce("reduce_sum_square", 18),
    "ArgMax": arg("arg_max"),
    "ArgMin": arg("arg_min"),
    "CumSum": running("cumsum"),
    "CumProd": running("cumprod"),
    "Softmax": softmax("softmax"),
    "LogSoftmax": softmax("log_softmax"),
    "Hardmax": softmax("hardmax"),
    "TopK": top_k,
    "LpNormalization": lp_normalization,
}
