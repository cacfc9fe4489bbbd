"""Order and choice: top_k, one_hot.

ranked      on a short axis: an element's place is its rank, how many others come before it
top_k       short axes: ranked. Few of many: the best of each block, then the best of those.
            Many of many: Batcher's bitonic sort (1968), a loop over its stages, each of which
            compares all elements with a partner
"""

import math

import numpy as np

from ..errors import TypeMismatch
from ..loops import expr as s
from ..types import I64, NUMERIC, TensorType, normalize_axis
from .common import array, case, ints, spaced
from .registry import Attr, Expand, Kernels, Pull, register


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


def _ranked(kernels, out, x, *, k, axis, largest):
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


def _with_nan(x):
    return np.where(np.arange(x.size) % 2, x, np.nan).astype(x.dtype)


RANKED = {
    "k": Attr("dim"),
    "axis": Attr("int", -1),
    "largest": Attr("bool", True),
}

register(
    "ranked",
    "x: T -> T, i64",
    "`top_k` of a short axis, by comparing each element with all others.",
    attrs=RANKED,
    shape=top_k_shape,
    ref=lambda x, **attrs: top_k_ref(x, **attrs, sorted=True),
    grad=top_k_grad,
    loops=Kernels(_ranked),
    samples=lambda: [
        case(spaced((3, 5)), k=2),
        case(spaced((4, 3)), k=3, axis=0, largest=False),
        case(array([2.0, np.nan, 1.0, 2.0]), k=3, largest=False, grad=False),
    ],
    family="sort",
    T=NUMERIC,
)

# -- long axes -----------------------------------------------------------------------------------

SHORT = 1024  # axes up to here are ranked
FEW = 256  # so many of a longer axis are chosen block by block


def _top_k(b, x, *, k, axis, largest, sorted):
    axis = normalize_axis(axis, x.rank)
    n, way = x.shape[axis], {"k": k, "largest": largest}
    if not (isinstance(n, int) and isinstance(k, int)) or n <= SHORT or k == 0:
        return b.ranked(x, axis=axis, **way)
    order = [*range(axis), *range(axis + 1, x.rank), axis]
    rows = x.transpose(order)
    lead = rows.shape[:-1]
    rows = rows.reshape(math.prod(lead), n)
    found = _of_blocks(b, rows, **way) if k <= FEW else _bitonic(b, rows, **way)
    back = np.argsort(order).tolist()
    return tuple(y.reshape(*lead, k).transpose(back) for y in found)


def _filled(b, x, size: int, largest: bool):
    """[M, n] with elements appended that come last."""
    n, d = x.shape[1], x.dtype
    if d.is_float:
        last = -np.inf if largest else np.nan
    else:
        low = -(1 << d.bits - 1) if d.kind == "i" else 0
        last = low if largest else low + (1 << d.bits) - 1
    return x if n == size else b.pad(x, b.scalar(last, d), pads=(0, 0, 0, size - n))


def _of_blocks(b, x, *, k, largest):
    """The k best of each block, in the order of the blocks, so that of equals the first stays."""
    m, n = x.shape
    if n <= SHORT:
        return b.ranked(x, k=k, largest=largest)
    size = max(128, 4 * k)
    count = -(-n // size)
    blocks = _filled(b, x, count * size, largest).reshape(m, count, size)
    values, places = b.ranked(blocks, k=k, largest=largest)
    places = places + b.iota(shape=(1, count, 1), axis=1, dtype=I64) * size
    values, chosen = _of_blocks(b, values.reshape(m, count * k), k=k, largest=largest)
    return values, b.gather_elements(places.reshape(m, count * k), chosen, axis=1)


def _bitonic(b, x, *, k, largest):
    m, n = x.shape
    size = 1 << (n - 1).bit_length()
    stages = [(2 << i, 1 << j) for i in range(size.bit_length() - 1) for j in range(i, -1, -1)]
    runs, steps = (b.constant(np.array(v, np.int64)) for v in zip(*stages))
    places = b.iota(shape=(m, size), axis=1, dtype=I64)
    body = _stage(m, size, x.dtype, largest)
    found = b.scan(_filled(b, x, size, largest), places, runs, steps, body=body, states=2, scans=2)
    return tuple(b.slice(y, axes=[1], starts=[0], steps=[1], sizes=[k]) for y in found[:2])


def _stage(m: int, size: int, dtype, largest: bool):
    """(values, places [M, size]; run, step) → each pair i, i ^ step put in order: upwards where
    run's bit of i is 0. Places break ties, so that the order is total and the sort stable."""
    from ..builder import Builder

    b = Builder(name="stage")
    values = b.input("values", TensorType(dtype, (m, size)))
    places = b.input("places", TensorType(I64, (m, size)))
    run, step = (b.input(name, TensorType(I64, ())) for name in ("run", "step"))
    i = b.iota(shape=(size,), axis=0, dtype=I64)
    partner = b.bitwise_xor(i, step)
    other, at = b.gather(values, partner, axis=1), b.gather(places, partner, axis=1)
    mine, theirs = (v.cast(dtype.compute) for v in (values, other))
    ahead = b.emit("greater" if largest else "less", mine, theirs)
    level = b.equal(mine, theirs)
    if dtype.is_float:
        nan, other_nan = b.isnan(mine), b.isnan(theirs)
        ahead = ahead | (nan & ~other_nan if largest else other_nan & ~nan)
        level = level | (nan & other_nan)
    ahead = ahead | (level & (places < at))
    zero = b.scalar(0, I64)
    low, up = (b.equal(b.bitwise_and(i, mask), zero) for mask in (step, run))
    stay = b.equal(ahead, b.equal(low, up))
    b.output("values", b.where(stay, values, other))
    b.output("places", b.where(stay, places, at))
    return b.graph


register(
    "top_k",
    "x: T -> T, i64",
    """The k largest (or smallest) elements on `axis` in order, and their indices.

    Of equal elements the first comes first. NaN counts as larger than every number. The result
    is in order also where `sorted` does not ask for it.
    """,
    attrs={**RANKED, "sorted": Attr("bool", True)},
    shape=top_k_shape,
    ref=top_k_ref,
    grad=top_k_grad,
    loops=Expand(_top_k),
    samples=lambda: [
        case(spaced((3, 5)), k=2),
        case(spaced((4, 3)), k=3, axis=0, largest=False),
        case(array([1.0, 3.0, 3.0, 2.0]), k=3, grad=False),
        case(array([np.nan, 1.0, np.inf, -np.inf]), k=4, grad=False),
        case(array([2.0, np.nan, 1.0]), k=2, largest=False, grad=False),
        case(ints((2, 6), low=-3, high=3), k=6),
        case(ints((4,), high=200, dtype="u8"), k=1),
        case(spaced((2, 4), dtype="f16"), k=2),
        case(ints((2, 1100), low=-3, high=3), k=5),
        case(ints((3000, 2), 1, -99, 99, "f32"), k=40, axis=0, largest=False, grad=False),
        case(_with_nan(ints((1100,), 2, -99, 99, "f32")), k=300, grad=False),
        case(_with_nan(ints((1100,), 2, -99, 99, "f32")), k=1100, largest=False, grad=False),
        case(_with_nan(ints((1100,), 2, -99, 99, "f32")), k=20, largest=False, grad=False),
        case(ints((2, 1030), 3, 0, 255, "u8"), k=1030),
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
