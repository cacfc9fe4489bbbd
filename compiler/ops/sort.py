"""Order and choice: top_k, one_hot."""

import numpy as np

from ..errors import TypeMismatch
from ..loops import expr as s
from ..types import I64, NUMERIC, normalize_axis
from .common import array, case, ints, spaced
from .registry import Attr, Kernels, Pull, register


def top_k_shape(x, *, k, axis, **_):
    axis = normalize_axis(axis, x.rank)
    size = x.shape[axis]
    if isinstance(k, int) and isinstance(size, int) and not 0 <= k <= size:
        raise TypeMismatch("top_k wants more than there is", expected=f"0 … {size}", received=k)
    return [(*x.shape[:axis], k, *x.shape[axis + 1 :])] * 2


def top_k_ref(x, *, k, axis, largest, sorted):
    """By a stable sort; NaN is larger than every number, as in numpy's sort."""
    keys = np.flip(x, axis) if largest else x
    order = np.argsort(keys, axis, kind="stable")
    if largest:
        order = x.shape[axis] - 1 - np.flip(order, axis)
    order = np.take(order, range(k), axis).astype(np.int64)
    return np.take_along_axis(x, order, axis), order


def _top_k(kernels, out, x, *, k, axis, largest, sorted):
    """The place of an element is its rank: how many others come before it.

    x[j] comes before x[i] if it is larger, or equal and j < i.
    """
    axis = normalize_axis(axis, len(x.shape))
    size = x.shape[axis]

    def place(*i):
        def value(at):
            v = x[(*i[:axis], at, *i[axis + 1 :])]
            return s.cast(v, v.dtype.compute)

        mine = value(i[axis])

        def before(j):
            other = value(j)
            ahead = other > mine if largest else other < mine
            level = s.eq(other, mine)
            if x.dtype.is_float:
                nan, other_nan = s.isnan(mine), s.isnan(other)
                ahead = ahead | (other_nan & ~nan if largest else nan & ~other_nan)
                level = level | (nan & other_nan)
            return s.cast(ahead | (level & (j < i[axis])), I64)

        rank = s.reduce("sum", [size], before, I64)
        # Inside memory also where the store is masked out.
        at = (*i[:axis], s.minimum(rank, max(k - 1, 0)), *i[axis + 1 :])
        return at, rank < k

    def values(*i):
        at, where = place(*i)
        return at, x[i], where

    def indices(*i):
        at, where = place(*i)
        return at, i[axis], where

    kernels.store(x.shape, values, output=0)
    kernels.store(x.shape, indices, output=1)


def top_k_grad(c, dvalues, _):
    x = c.inputs[0]
    zeros = c.b.scalar(0, x.dtype).expand(x.shape)
    return [
        c.b.scatter_elements(zeros, c.outputs[1], dvalues, axis=c.attrs["axis"], reduction="add")
    ]


register(
    "top_k",
    "x: T -> T, i64",
    """The k largest (or smallest) elements on `axis` in order, and their indices.

    Of equal elements the first comes first. NaN counts as larger than every number. The result
    is in order also where `sorted` does not ask for it.
    """,
    attrs={
        "k": Attr("dim"),
        "axis": Attr("int", -1),
        "largest": Attr("bool", True),
        "sorted": Attr("bool", True),
    },
    shape=top_k_shape,
    ref=top_k_ref,
    grad=top_k_grad,
    loops=Kernels(_top_k),
    samples=lambda: [
        case(spaced((3, 5)), k=2),
        case(spaced((4, 3)), k=3, axis=0, largest=False),
        case(array([1.0, 3.0, 3.0, 2.0]), k=3, grad=False),
        case(array([np.nan, 1.0, np.inf, -np.inf]), k=4, grad=False),
        case(array([2.0, np.nan, 1.0]), k=2, largest=False, grad=False),
        case(ints((2, 6), low=-3, high=3), k=6),
        case(ints((4,), high=200, dtype="u8"), k=1),
        case(spaced((2, 4), dtype="f16"), k=2),
    ],
    family="sort",
    T=NUMERIC,
)


def one_hot_shape(indices, values, *, depth, axis):
    axis = normalize_axis(axis, indices.rank + 1)
    if values.shape != (2,):
        raise TypeMismatch("the values of one_hot are [off, on]", received=values)
    return (*indices.shape[:axis], depth, *indices.shape[axis:])


def one_hot_ref(indices, values, *, depth, axis):
    axis = axis % (indices.ndim + 1)
    at = indices.astype(np.int64)
    at = np.expand_dims(np.where(at < 0, at + depth, at), axis)
    classes = np.arange(depth).reshape(-1, *[1] * (indices.ndim - axis))
    return values[(at == classes).astype(np.int64)]


def _one_hot(out, indices, values, *, depth, axis):
    axis = normalize_axis(axis, len(out.shape))

    def at(*i):
        index = s.cast(indices[(*i[:axis], *i[axis + 1 :])], I64)
        index = s.select(index < 0, index + depth, index)
        return s.select(s.eq(index, i[axis]), values[(s.const(1),)], values[(s.const(0),)])

    return at


def one_hot_grad(c, dy):
    b = c.b
    marks = b.constant(np.array([0, 1], dy.dtype.numpy))
    hot = b.one_hot(c.inputs[0], marks, **c.attrs)
    on = b.mul(dy, hot).sum()
    return [None, b.concat((dy.sum() - on).reshape(1), on.reshape(1), axis=0)]


register(
    "one_hot",
    "indices: I, values: T -> T",
    """values[1] where the new axis' index is `indices`, else values[0].

    Negative indices count from the end; others outside give values[0] everywhere.
    """,
    attrs={"depth": Attr("dim"), "axis": Attr("int", -1)},
    shape=one_hot_shape,
    ref=one_hot_ref,
    grad=one_hot_grad,
    loops=Pull(_one_hot),
    samples=lambda: [
        case(array([0, 2, -1, 5], "i64"), array([0.0, 1.0]), depth=3),
        case(ints((2, 2), low=0, high=4), array([-1.0, 2.5]), depth=4, axis=1),
        case(array([1, 0], "i32"), array([0, 7], "i64"), depth=2, axis=0),
        case(array([1.0, 2.0]), array([False, True], "bool"), depth=3),
    ],
    family="move",
    T="any",
    I=NUMERIC,
)
