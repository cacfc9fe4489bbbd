"""Writes whose place is data: scatter_elements, scatter_nd.

The result is x, then each update in order: written (`none`: the last one stays) or combined
with what is there (`add`, `mul`, `max`, `min`). Negative indices count from the end.
"""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir import dims
from ...ir.bounds import assume_equal_shapes
from ...ir.limits import index_limit
from ...ir.op import Attr, Kernels, register
from ...ir.types import normalize_axis
from ..common import array, case, floats, ints, mask, reference, spaced, zeros_like
from .gather import INDICES, check_beside, column_limits, wrap, wrapped

REDUCTIONS = {"none": None, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _check_reduction(reduction):
    if reduction not in REDUCTIONS:
        raise TypeMismatch(
            "unknown reduction", expected=", ".join(REDUCTIONS), received=repr(reduction)
        )


def _exact(f):
    """`reference`, but arrays of dims and of strings are moved as they are."""
    wide = reference(f)
    return lambda x, *rest, **attrs: (f if x.dtype == object else wide)(x, *rest, **attrs)


def _combine(y: np.ndarray, at: tuple, updates: np.ndarray, reduction: str) -> np.ndarray:
    if reduction == "none":
        y[at] = updates
    else:
        REDUCTIONS[reduction].at(y, at, updates)
    return y


def _scatter_grad(b, x, y, updates, dy, reduction, scatter, gather):
    """`scatter(x, updates, reduction)` and `gather(x)` are the op and its adjoint."""
    if reduction == "none":
        dx = scatter(dy, zeros_like(b, updates), "none")
        return dx, mask(_stayed(b, x, updates, scatter, gather), gather(dy))
    if reduction == "add":
        return dy, gather(dy)
    if reduction == "mul":
        return scatter(dy, updates, "mul"), _factor_grad(b, x, updates, dy, scatter, gather)
    # Whoever equals the extreme has won: winners share the gradient equally.
    kept, won = b.equal(x, y), b.equal(updates, gather(y))
    share = dy / scatter(kept.cast(x.dtype), won.cast(x.dtype), "add")
    return mask(kept, share), mask(won, gather(share))


def _stayed(b, x, updates, scatter, gather):
    """Of several updates of one place the last stays: who finds its own number there."""
    count = dims.prod(updates.shape)
    own = b.iota(shape=(count,), axis=0, dtype="i64").reshape(updates.shape)
    there = scatter(b.scalar(0, "i64").expand(x.shape), own, "none")
    return b.equal(gather(there), own)


def _factor_grad(b, x, updates, dy, scatter, gather):
    """y / update, and where an update is the only zero of its place the product of the others."""
    zero = b.equal(updates, b.scalar(0, x.dtype))
    filled = b.where(zero, b.scalar(1, x.dtype), updates)
    others = gather(dy * scatter(x, filled, "mul"))
    zeros = gather(scatter(zeros_like(b, x), zero.cast(x.dtype), "add"))
    alone = b.emit("and", zero, zeros < 2)
    return b.where(alone, others, mask(zeros < 1, others) / filled)


def scatter_elements_shape(x, indices, updates, *, axis, reduction):
    normalize_axis(axis, x.rank)
    _check_reduction(reduction)
    if indices.rank != x.rank or not assume_equal_shapes(indices.shape, updates.shape):
        raise TypeMismatch(
            "indices and updates must have one shape and the rank of the data",
            expected=f"rank {x.rank}",
            received=f"{indices} and {updates}",
        )
    check_beside("scatter_elements", x, indices, axis)
    return x.shape


@_exact
def scatter_elements_ref(x, indices, updates, *, axis, reduction):
    axis = axis % x.ndim
    at = list(np.indices(indices.shape))
    at[axis] = wrap(indices, x.shape[axis])
    return _combine(x.copy(), tuple(at), updates, reduction)


def scatter_elements_grad(c, dy):
    (x, indices, updates), b, axis = c.inputs, c.b, c.attrs["axis"]
    dx, dupdates = _scatter_grad(
        b,
        x,
        c.outputs[0],
        updates,
        dy,
        c.attrs["reduction"],
        lambda x, u, r: b.scatter_elements(x, indices, u, axis=axis, reduction=r),
        lambda x: b.gather_elements(x, indices, axis=axis),
    )
    return [dx, None, dupdates]


def _mode(reduction: str) -> str:
    return "set" if reduction == "none" else reduction


def _scatter_elements(k, out, x, indices, updates, *, axis, reduction):
    axis = normalize_axis(axis, len(x.shape))
    k.store(out.shape, lambda *i: (i, x[i]))

    def update(*i):
        return (*i[:axis], wrapped(indices[i], out.shape[axis]), *i[axis + 1 :]), updates[i]

    k.store(updates.shape, update, mode=_mode(reduction), serial=True)


register(
    "scatter_elements",
    "x: T, indices: I, updates: T -> T",
    "out[indices[i, j, …], j, …] = updates[i, j, …] for axis 0, and so on; else x.",
    attrs={"axis": Attr("int", 0), "reduction": Attr("str", "none")},
    shape=scatter_elements_shape,
    ref=scatter_elements_ref,
    grad=scatter_elements_grad,
    loops=Kernels(_scatter_elements, memory=(0,)),
    limits=lambda x, indices, updates, *, axis, **_: [index_limit(1, x.shape[axis])],
    samples=lambda: [
        case(floats((3, 3)), array([[1, 0, 2], [0, 2, 1]], "i64"), floats((2, 3), seed=1), axis=0),
        case(floats((2, 4)), array([[-1, 1]], "i32"), floats((1, 2), seed=1), axis=1),
        *(
            case(
                spaced((3, 3)),
                array([[1, 0, 2], [0, 0, 1]], "i64"),
                spaced((2, 3), seed=1, step=0.3),
                axis=-1,
                reduction=r,
            )
            for r in ("add", "mul", "max", "min")
        ),
        case(ints((4,)), array([0, 0], "i64"), ints((2,), seed=1), axis=0),
        case(np.zeros((3,), bool), array([1], "i64"), np.ones((1,), bool), axis=0),
    ],
    group="scatter",
    T="any",
    I=INDICES,
)


def scatter_nd_shape(x, indices, updates, *, reduction):
    _check_reduction(reduction)
    depth = indices.shape[-1] if indices.rank else None
    if not isinstance(depth, int) or depth > x.rank:
        raise TypeMismatch(
            "scatter_nd needs indices with a static last axis, at most the rank of the data",
            received=f"{indices} for {x}",
        )
    expected = (*indices.shape[:-1], *x.shape[depth:])
    if not assume_equal_shapes(updates.shape, expected):
        raise TypeMismatch(
            "the updates of scatter_nd do not fit",
            expected=updates.with_shape(expected),
            received=updates,
        )
    return x.shape


@_exact
def scatter_nd_ref(x, indices, updates, *, reduction):
    depth = indices.shape[-1]
    at = tuple(wrap(indices[..., k], x.shape[k]) for k in range(depth))
    return _combine(x.copy(), at if depth else (), updates, reduction)


def scatter_nd_grad(c, dy):
    (x, indices, updates), b = c.inputs, c.b
    dx, dupdates = _scatter_grad(
        b,
        x,
        c.outputs[0],
        updates,
        dy,
        c.attrs["reduction"],
        lambda x, u, r: b.scatter_nd(x, indices, u, reduction=r),
        lambda x: b.gather_nd(x, indices),
    )
    return [dx, None, dupdates]


def _scatter_nd(k, out, x, indices, updates, *, reduction):
    n, depth = len(indices.shape) - 1, indices.shape[-1]
    k.store(out.shape, lambda *i: (i, x[i]))

    def update(*i):
        index = [wrapped(indices[(*i[:n], s.const(d))], out.shape[d]) for d in range(depth)]
        return (*index, *i[n:]), updates[i]

    k.store(updates.shape, update, mode=_mode(reduction), serial=True)


register(
    "scatter_nd",
    "x: T, indices: I, updates: T -> T",
    "out[indices[i]] = updates[i]: the last axis of `indices` holds a place in x.",
    attrs={"reduction": Attr("str", "none")},
    shape=scatter_nd_shape,
    ref=scatter_nd_ref,
    grad=scatter_nd_grad,
    loops=Kernels(_scatter_nd, memory=(0,)),
    limits=lambda x, indices, *_, **__: column_limits(1, x.shape[: indices.shape[-1]]),
    samples=lambda: [
        case(floats((4, 3)), array([[1], [-1]], "i64"), floats((2, 3), seed=1)),
        case(floats((2, 3)), array([[0, 1], [1, -2]], "i32"), floats((2,), seed=1)),
        *(
            case(
                spaced((3, 2)),
                array([[0], [2], [0]], "i64"),
                spaced((3, 2), seed=1, step=0.3),
                reduction=r,
            )
            for r in ("add", "mul", "max", "min")
        ),
        case(ints((5,)), array([[[1], [3]]], "i64"), ints((1, 2), seed=1)),
    ],
    group="scatter",
    T="any",
    I=INDICES,
)
