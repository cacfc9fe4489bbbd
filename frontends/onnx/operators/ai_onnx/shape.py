"""Shapes as data: Shape, Size, Range, Reshape, Expand, Squeeze …, and constants."""

import math

import numpy as np

from .....compiler.ir import dims
from .....compiler.ir.bounds import above
from .....compiler.ir.builder import Tensor, resolve_shape
from .....compiler.ir.dim_arrays import larger
from .....compiler.ir.dims import Sym
from .....compiler.ir.nonempty import surely_from_zero, take_nonempty, take_positive
from .....compiler.ir.types import F64, I64, normalize_axes, normalize_axis
from ...file.proto import dtype_of_element
from ...read.call import Call
from ...read.folded import SMALL, FoldedValue
from ...read.symbolic import bind, expanded, reshaped


def shape(c: Call):
    x = c.x(0)
    start, end = c.attr("start", 0), c.attr("end", None)
    return c.b.dims(list(x.shape)[slice(start, end)])


def size(c: Call):
    return c.b.dims([dims.prod(c.x(0).shape)]).reshape(())


def constant(c: Call):
    kinds = {
        "value": np.asarray,
        "sparse_value": np.asarray,
        "value_float": np.float32,
        "value_int": np.int64,
        "value_floats": lambda v: np.asarray(v, np.float32),
        "value_ints": lambda v: np.asarray(v, np.int64),
        "value_string": lambda v: np.asarray(v, object),
        "value_strings": lambda v: np.asarray(v, object),
    }
    given = [name for name in kinds if c.has(name)]
    if len(given) != 1:
        raise c.unsupported("a Constant needs exactly one value", received=given)
    array = np.asarray(kinds[given[0]](c.attr(given[0])))
    return FoldedValue(c.b, array, name=c.outputs[0] if array.size > 16 else None)


def constant_of_shape(c: Call):
    """A small constant, or a scalar expanded: no memory for large ones."""
    value = np.asarray(c.attr("value", np.zeros(1, np.float32))).reshape(())
    sizes = tuple(c.symbols(0, "input"))
    if dims.is_static(sizes) and math.prod(sizes) <= SMALL:
        return c.b.constant(np.full(sizes, value))
    return c.b.emit("expand", c.b.constant(value), shape=sizes)


def range_(c: Call):
    """start + i · delta for i < ceil((limit - start) / delta)."""
    start, delta = c.x(0), c.x(2)
    dtype = start.dtype
    if any(
        isinstance(e, Tensor)
        for i, n in enumerate(("start", "limit", "delta"))
        for e in c.elements(i, n)
    ):
        return _range_of_data(c, dtype)
    if dtype.is_float:
        low, high, step = (c.floats(i, n)[0] for i, n in enumerate(("start", "limit", "delta")))
        count = max(math.ceil((high - low) / step), 0)
    else:
        (low,), (high,), (step,) = (
            c.symbols(i, n) for i, n in enumerate(("start", "limit", "delta"))
        )
        if isinstance(step, Sym):
            raise c.size_dependence("a Range with a symbolic step", received=step)
        distance = (high - low) if step > 0 else (low - high)
        count = larger(dims.ceil_div(distance, abs(step)), 0)
    if isinstance(count, int) and count <= SMALL and not isinstance(low, Sym):
        return c.b.constant((low + np.arange(count) * step).astype(dtype.numpy))
    steps = c.b.emit("iota", shape=(count,), axis=0, dtype=dtype)
    if step != 1:
        steps = c.b.emit("mul", steps, delta.reshape(()))
    if isinstance(low, Sym) or low != 0:
        steps = c.b.emit("add", steps, start.reshape(()))
    return steps


def _range_of_data(c: Call, dtype):
    """The number of steps is computed in f64, as a Range's definition has it."""
    start, limit, delta = (c.x(i).reshape(()) for i in range(3))
    low, high, step = (x.cast(F64) for x in (start, limit, delta))
    count = c.b.emit("ceil", c.b.emit("div", c.b.emit("sub", high, low), step))
    count = c.b.emit("maximum", count, c.scalar(0, F64)).cast(I64)
    (symbol,) = bind(c, [count], "range")
    steps = c.b.emit("iota", shape=(symbol,), axis=0, dtype=dtype)
    return c.b.emit("add", c.b.emit("mul", steps, delta), start)


def reshape(c: Call):
    """0 keeps the operand's dim (unless allowzero), -1 takes what is left."""
    x = c.x(0)
    keep_zeros = bool(c.version >= 14 and c.attr("allowzero", 0))
    sizes = c.attr("shape") if c.version < 5 else c.elements(1, "shape")
    if not keep_zeros:
        sizes = [_unless_copied(c, x, i, d) for i, d in enumerate(sizes)]
    if any(isinstance(e, Tensor) for e in sizes):
        sizes = reshaped(c, x, sizes, keep_zeros)
    elif not keep_zeros:
        sizes = [
            x.shape[i] if not isinstance(d, Sym) and d == 0 else d for i, d in enumerate(sizes)
        ]
    new = resolve_shape(x.shape, sizes)
    return x if new == x.shape else c.b.emit("reshape", x, shape=new)


def _unless_copied(c: Call, x: Tensor, axis: int, d):
    """A dim of a reshape's target, which means the operand's own where it is 0: a size that data
    decides is looked at when it is known, others are taken to be at least 1."""
    if not isinstance(d, Sym) or (axis < x.rank and d == x.shape[axis]) or surely_from_zero(d, 1):
        return d
    take_positive(d)
    return c.b.dims([d]) if any(map(dims.may_be_zero, d.symbols())) else d


def expand(c: Call):
    x = c.x(0)
    new = expanded(c, x, c.elements(1, "shape"))
    return x if new == x.shape else c.b.emit("expand", x, shape=new)


def squeeze(c: Call):
    x = c.x(0)
    axes = c.ints_of("axes", 1, 13)
    if axes is None:
        if any(map(_may_be_one, x.shape)):
            raise c.size_dependence("sizes decide which axes are squeezed", received=f"{x.type}")
        axes = [i for i, d in enumerate(x.shape) if not isinstance(d, Sym) and d == 1]
    axes = normalize_axes(axes, x.rank)
    for a in axes:
        if not isinstance(x.shape[a], Sym) and x.shape[a] != 1:
            raise c.unsupported("a squeezed axis must have size 1", received=f"{x.type}, axis {a}")
    if any(isinstance(x.shape[a], Sym) for a in axes):
        take_nonempty(*x.shape)  # as many elements, none, says nothing of an axis
    return _reshaped(c, [d for i, d in enumerate(x.shape) if i not in axes])


def _may_be_one(d) -> bool:
    """Whether a dynamic dim may be 1; of those that data decides it is not asked."""
    known = not isinstance(d, Sym) or any(map(dims.may_be_zero, d.symbols()))
    return not known and not above(d, 1)


def unsqueeze(c: Call):
    x = c.x(0)
    axes = c.ints_of("axes", 1, 13)
    rank = x.rank + len(axes)
    axes = normalize_axes(axes, rank)
    rest = iter(x.shape)
    return _reshaped(c, [1 if i in axes else next(rest) for i in range(rank)])


def flatten(c: Call):
    x = c.x(0)
    axis = c.attr("axis", 1)
    axis = x.rank if axis == x.rank else normalize_axis(axis, x.rank)
    return _reshaped(c, [dims.prod(x.shape[:axis]), dims.prod(x.shape[axis:])])


def _reshaped(c: Call, sizes) -> FoldedValue:
    sizes = tuple(sizes)
    return c.x(0) if sizes == c.x(0).shape else c.b.emit("reshape", c.x(0), shape=sizes)


def eye_like(c: Call):
    x = c.x(0)
    dtype = dtype_of_element(c.attr("dtype"), c.where) if c.has("dtype") else x.dtype
    k = c.attr("k", 0)
    rows = c.b.emit("iota", shape=x.shape, axis=0, dtype=I64)
    columns = c.b.emit("iota", shape=x.shape, axis=1, dtype=I64)
    shifted = c.b.emit("add", rows, c.scalar(k, I64))
    return c.b.emit("equal", columns, shifted).cast(dtype)


TABLE = {
    "Shape": shape,
    "Size": size,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Range": range_,
    "Reshape": reshape,
    "Expand": expand,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Flatten": flatten,
    "EyeLike": eye_like,
}
