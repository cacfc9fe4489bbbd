"""Reductions over axes: sums, means, extremes, products and norms.

`axes` empty means no axis at all. Half types accumulate in f32, everything else in its own dtype.
In gradient rules `g` and `y`, gradient and output, have the reduced axes back with size 1, so
they broadcast against the input `x`.
"""

import numpy as np

from ...expr import expr as s
from ...ir import dims
from ...ir.op import Attr, Pull, register
from ...ir.types import BOOL, NUMERIC, normalize_axes
from ..common import (
    FLOAT_SAMPLES,
    array,
    bools,
    case,
    floats,
    ints,
    mask,
    reference,
    scalar_of_dim,
    spaced,
)


def kept_shape(x, axes, keepdims) -> tuple:
    """The shape after reducing `axes`."""
    axes = normalize_axes(axes, x.rank)
    ones = (1,) if keepdims else ()
    return tuple(e for d, n in enumerate(x.shape) for e in (ones if d in axes else (n,)))


def reduced(out, x, axes, keepdims):
    """(extents of `axes`, index): `index(i, k)` is where the k-th element for output i lies."""
    axes = normalize_axes(axes, len(x.shape))

    def index(i, k):
        i = list(i)
        if not keepdims:
            for a in sorted(axes):
                i.insert(a, None)
        for a, at in zip(axes, k):
            i[a] = at
        return tuple(i)

    return [x.shape[a] for a in axes], index


def reduction(combiner, before=lambda e: e, after=lambda e, n: e):
    """The Pull rule of `after(combiner over k of before(x[k]), n)`, n being how many there are."""

    def rule(out, x, *, axes, keepdims):
        extents, index = reduced(out, x, axes, keepdims)
        n = dims.prod(extents)
        compute = x.dtype.compute

        def at(*i):
            total = s.reduce(combiner, extents, lambda *k: before(s.cast(x[index(i, k)], compute)))
            return after(total, n)

        return at

    return rule


def _extreme(combiner, either):
    """max or min; of booleans, or and and."""
    numeric, boolean = reduction(combiner), reduction(either)
    return lambda out, x, **attrs: (boolean if x.dtype == BOOL else numeric)(out, x, **attrs)


def _mean(total, n):
    if isinstance(n, dims.Sym):
        count = s.const(n, total.dtype)
        return total / count if total.dtype.is_float else s.apply("truncdiv", total, count)
    if total.dtype.is_float:
        return total * (1.0 / n) if n and n & (n - 1) == 0 else total / float(n)
    return s.apply("truncdiv", total, n) if n else total


def _log_sum_exp(out, x, *, axes, keepdims):
    extents, index = reduced(out, x, axes, keepdims)

    def at(*i):
        def read(*k):
            return s.cast(x[index(i, k)], x.dtype.compute)

        m = s.reduce("max", extents, read)
        # An infinite maximum is left out of the exponent, where it would give inf - inf.
        m = s.select(s.isinf(m), 0.0, m)
        return s.log(s.reduce_sum(extents, lambda *k: s.exp(read(*k) - m))) + m

    return at


# -- references: x, axes: a tuple, keep: keepdims ----------------------------------------------


def _mean_ref(x, axes, keep):
    n = int(np.prod([x.shape[a] for a in axes], dtype=np.int64))
    if x.dtype.kind == "f" and n:
        return np.mean(x, axis=axes, keepdims=keep)
    total = np.sum(x, axis=axes, keepdims=keep, dtype=x.dtype)
    if x.dtype.kind == "f":
        return total + np.nan  # the mean of nothing
    n = max(1, n)
    return (np.sign(total) * (np.abs(total) // n)).astype(x.dtype)


def _lowest(dtype, sign):
    if dtype.kind == "b":
        return sign > 0
    if dtype.kind == "f":
        return sign * np.inf
    return np.iinfo(dtype).max if sign > 0 else np.iinfo(dtype).min


def _max_ref(x, axes, keep):
    return np.max(x, axis=axes, keepdims=keep, initial=_lowest(x.dtype, -1))


def _min_ref(x, axes, keep):
    return np.min(x, axis=axes, keepdims=keep, initial=_lowest(x.dtype, 1))


def _sum_ref(x, axes, keep):
    return np.sum(x, axis=axes, keepdims=keep, dtype=x.dtype)


def _log_sum_exp_ref(x, axes, keep):
    m = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    m = np.where(np.isinf(m), x.dtype.type(0), m)
    total = np.log(np.sum(np.exp(x - m), axis=axes, keepdims=True)) + m
    return total if keep else np.squeeze(total, axes)


# -- gradients ---------------------------------------------------------------------------------


def _count(x, axes):
    return scalar_of_dim(x.b, dims.prod([x.shape[a] for a in axes]), x.dtype)


def _ties(g, x, y, axes):
    """Equal extremes share the gradient equally."""
    here = x.b.equal(x, y)
    n = x.b.reduce_sum(here.cast(x.dtype), axes=axes)
    return mask(here, g / n)


def _prod_gradient(g, x, y, axes):
    """y / x, and where x is the only zero of its group the product of the others."""
    b = x.b
    zero = b.equal(x, b.scalar(0, x.dtype))
    filled = b.where(zero, b.scalar(1, x.dtype), x)
    others = b.reduce_prod(filled, axes=axes)
    zeros = b.reduce_sum(zero.cast(x.dtype), axes=axes)
    alone = b.emit("and", zero, zeros < 2)
    return g * b.where(alone, others, mask(zeros < 1, others) / filled)


def _l2_gradient(g, x, y, axes):
    zero = x.b.equal(y, x.b.scalar(0, y.dtype))
    return x * mask(~zero, g / x.b.where(zero, x.b.scalar(1, y.dtype), y))


# fmt: off
TABLE = [
    # name, doc, reference, rule, gradient
    ("reduce_sum", "sum", _sum_ref, reduction("sum"), lambda g, x, y, axes: g),
    ("reduce_mean", "mean, of nothing NaN; of ints, rounded towards zero, of nothing 0", _mean_ref,
     reduction("sum", after=_mean), lambda g, x, y, axes: g / _count(x, axes)),
    ("reduce_max", "largest element; NaN if there is one", _max_ref, _extreme("max", "or"), _ties),
    ("reduce_min", "smallest element; NaN if there is one", _min_ref, _extreme("min", "and"),
     _ties),
    ("reduce_prod", "product",
     lambda x, axes, keep: np.prod(x, axis=axes, keepdims=keep, dtype=x.dtype),
     reduction("prod"), _prod_gradient),
    ("reduce_l1", "sum of |x|", lambda x, axes, keep: _sum_ref(np.abs(x), axes, keep),
     reduction("sum", lambda e: e if e.dtype.kind == "u" else s.abs(e)),
     lambda g, x, y, axes: g * x.b.sign(x)),
    ("reduce_l2", "square root of the sum of x * x",
     lambda x, axes, keep: np.sqrt(_sum_ref(x * x, axes, keep)),
     reduction("sum", lambda e: e * e, lambda e, n: s.sqrt(e)), _l2_gradient),
    ("reduce_log_sum", "log of the sum", lambda x, axes, keep: np.log(_sum_ref(x, axes, keep)),
     reduction("sum", after=lambda e, n: s.log(e)),
     lambda g, x, y, axes: g / x.b.reduce_sum(x, axes=axes)),
    ("reduce_log_sum_exp", "log of the sum of e^x, without overflow", _log_sum_exp_ref,
     _log_sum_exp, lambda g, x, y, axes: g * x.b.exp(x - y)),
    ("reduce_sum_square", "sum of x * x", lambda x, axes, keep: _sum_ref(x * x, axes, keep),
     reduction("sum", lambda e: e * e), lambda g, x, y, axes: g * x * 2),
]
# fmt: on
FLOAT_ONLY = ("reduce_l2", "reduce_log_sum", "reduce_log_sum_exp")


def _reference(f):
    f = reference(f)

    def ref(x, *, axes, keepdims):
        x = np.asarray(x)
        axes = normalize_axes(axes, x.ndim)
        return f(x, axes=axes, keep=keepdims)

    return ref


def back(g, x, axes, keepdims):
    """`g` with the reduced axes as axes of size 1."""
    if keepdims:
        return g
    return g.reshape(tuple(1 if d in axes else n for d, n in enumerate(x.shape)))


def _gradient(rule):
    def grad(c, g):
        (x,) = c.inputs
        axes, keepdims = normalize_axes(c.attrs["axes"], x.rank), c.attrs["keepdims"]
        y = back(c.outputs[0], x, axes, keepdims)
        return (rule(back(g, x, axes, keepdims), x, y, axes),)

    return grad


def _samples(name):
    make = lambda shape, dtype="f32": (
        spaced(shape, 1, 0.125, dtype)
        if name in ("reduce_max", "reduce_min")
        else floats(shape, 1, 0.3, 2.0, dtype)
    )
    for axes in [(1,), (0, 2), (-1,), (0, 1, 2), ()]:
        yield case(make((2, 3, 4)), axes=axes)
        yield case(make((2, 3, 4)), axes=axes, keepdims=False)
    for dtype in FLOAT_SAMPLES:
        yield case(make((3, 33), dtype), axes=(1,))
        yield case(make((33, 3), dtype), axes=(0,), keepdims=False)
    yield case(make(()), axes=())
    yield case(make((5, 1)), axes=(1,))
    yield case(make((0, 3)), axes=(1,))
    if name not in ("reduce_max", "reduce_min"):
        yield case(floats((3, 4), 2, 0.3, 2) * array([1, -1, 1, 1]), axes=(1,))
    if name != "reduce_mean":
        yield case(make((3, 0)), axes=(1,), grad=False)
    yield case(array([[np.nan, 1.0], [2.0, 1.0], [np.inf, 3.0]]), axes=(1,), grad=False)
    yield case(array([[0.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), axes=(1,), grad=name == "reduce_prod")
    if name == "reduce_log_sum_exp":
        yield case(array([[1000.0, 1000.0], [-1000.0, -1001.0]]), axes=(1,), grad=False)
        yield case(array([[-np.inf, -np.inf], [-np.inf, 1.0]]), axes=(1,), grad=False)
    if name not in FLOAT_ONLY:
        for dtype in ("i64", "i32", "i8", "u8"):
            yield case(ints((3, 4), 1, -4, 4, dtype), axes=(0,))
    if name in ("reduce_max", "reduce_min"):
        yield case(bools((3, 4)), axes=(1,))


for _name, _doc, _ref, _rule, _grad in TABLE:
    register(
        _name,
        "x: T -> T",
        f"The {_doc}, over `axes`.",
        T={"reduce_max": NUMERIC | {BOOL}, "reduce_min": NUMERIC | {BOOL}}.get(
            _name, "float" if _name in FLOAT_ONLY else "numeric"
        ),
        shape=lambda x, axes, keepdims: kept_shape(x, axes, keepdims),
        attrs={
            "axes": Attr("ints", doc="empty: none"),
            "keepdims": Attr("bool", True),
        },
        ref=_reference(_ref),
        grad=_gradient(_grad),
        loops=Pull(_rule),
        samples=lambda name=_name: _samples(name),
        group="reduce",
    )
