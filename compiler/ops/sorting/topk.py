"""Order and choice: top_k, one_hot.

An element's place in the order is its rank: how many others come before it.

    rank         on a short axis, by comparing each element with all others
    place        elements put where their ranks say
    top_k        short axes: rank and place. Others: the first k (`selection.py`), then their order

Long rows are put in order digit by digit (`order.py`), which begins here where they are short.
"""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.bounds import assume_at_least, assume_equal_shapes
from ...ir.dims import prod
from ...ir.op import Attr, Expand, Kernels, NotDifferentiable, Pull, register
from ...ir.types import I32, I64, NUMERIC, normalize_axis
from ..common import array, case, floats, ints, spaced
from .selection import first_places


def top_k_shape(x, *, k, axis, **_):
    axis = normalize_axis(axis, x.rank)
    size = x.shape[axis]
    if not (assume_at_least(k, 0) and assume_at_least(size, k)):
        raise TypeMismatch("top_k wants more than there is", expected=f"0 … {size}", received=k)
    return [(*x.shape[:axis], k, *x.shape[axis + 1 :])] * 2


def comparable(x: np.ndarray) -> np.ndarray:
    """x in a type that numpy sorts: those of ml_dtypes as floats."""
    return x if x.dtype.kind in "iufb" else x.astype(np.float32)


def stable_order(x: np.ndarray, axis: int, descending: bool) -> np.ndarray:
    """Where the elements come from that are in order along an axis, equal ones as they were; NaN is
    larger than every number, as in numpy's sort."""
    x = comparable(x)
    if not descending:
        return np.argsort(x, axis, kind="stable").astype(np.int64)
    order = np.argsort(np.flip(x, axis), axis, kind="stable")
    return (x.shape[axis] - 1 - np.flip(order, axis)).astype(np.int64)


def top_k_ref(x, *, k, axis, largest, sorted):
    order = np.take(stable_order(x, axis, largest), range(k), axis)
    return np.take_along_axis(x, order, axis), order


def top_k_grad(c, dvalues, _):
    x = c.inputs[0]
    zeros = c.b.scalar(0, x.dtype).expand(x.shape)
    return [
        c.b.scatter_elements(zeros, c.outputs[1], dvalues, axis=c.attrs["axis"], reduction="add")
    ]


# -- ranks ---------------------------------------------------------------------------------------


def _ahead(x, y, largest: bool):
    """Does x come before y? NaN is larger than every number and equal to itself."""
    if not x.dtype.is_float:
        return x > y if largest else x < y
    if largest:
        return ~(x <= y) & ~s.isnan(y)
    return ~(y <= x) & ~s.isnan(x)


def _compared(x):
    return lambda *i: s.cast(x[i], x.dtype.compute)


def _rank(out, x, *, axis, largest):
    axis, read = normalize_axis(axis, len(x.shape)), _compared(x)
    n = x.shape[axis]
    place = I32 if isinstance(n, int) and n < 1 << 31 else I64  # narrow ones are compared sooner

    def at(*i):
        mine = read(*i)

        def before(j):
            other = read(*i[:axis], j, *i[axis + 1 :])
            earlier = ~_ahead(mine, other, largest)  # equals count where they come first
            first = s.cast(j, place) < s.cast(i[axis], place)
            return s.cast(s.select(first, earlier, _ahead(other, mine, largest)), I32)

        return s.reduce("sum", [x.shape[axis]], before, I32)

    return at


def rank_ref(x, *, axis, largest):
    return np.argsort(stable_order(x, axis, largest), axis).astype(np.int32)


STEP = NotDifferentiable("a rank is piecewise constant", zero=True)

register(
    "rank",
    "x: T -> i32",
    "How many elements on `axis` come before each one; of equals the first comes first.",
    attrs={"axis": Attr("int", -1), "largest": Attr("bool", True)},
    shape=lambda x, *, axis, largest: (normalize_axis(axis, x.rank), x.shape)[1],
    ref=rank_ref,
    grad=STEP,
    loops=Pull(_rank),
    samples=lambda: [
        case(spaced((3, 5))),
        case(ints((4, 3), low=-2, high=2), axis=0, largest=False),
        case(array([2.0, np.nan, 1.0, 2.0, np.nan, np.inf])),
        case(array([2.0, np.nan, 1.0, 2.0, np.nan, np.inf], "bf16"), largest=False),
    ],
    group="pool",
    T=NUMERIC,
)


def _place(kernels, out, x, rank, *, axis, k):
    axis = normalize_axis(axis, len(x.shape))

    def value(*i):
        at = s.cast(rank[i], I64)
        # Inside memory also where the store is masked out.
        near = s.minimum(s.maximum(at, 0), max(k - 1, 0))
        return (*i[:axis], near, *i[axis + 1 :]), x[i], at < k

    kernels.store(x.shape, value)


def place_shape(x, rank, *, axis, k):
    axis = normalize_axis(axis, x.rank)
    if not assume_equal_shapes(x.shape, rank.shape):
        raise TypeMismatch("place needs a rank for each element", expected=x.shape, received=rank)
    return (*x.shape[:axis], k, *x.shape[axis + 1 :])


def place_ref(x, rank, *, axis, k):
    y = np.empty_like(x)
    np.put_along_axis(y, rank.astype(np.int64), x, axis)
    return np.take(y, range(k), axis)


register(
    "place",
    "x: T, rank: i32 -> T",
    "out[rank[i]] = x[i] on `axis`, for ranks below k. The ranks are a permutation.",
    attrs={"axis": Attr("int", -1), "k": Attr("dim")},
    shape=place_shape,
    ref=place_ref,
    grad=lambda c, dy: (
        _unplaced(c.b, dy, c.inputs[1], c.inputs[0].shape, c.attrs["axis"]),
        None,
    ),
    loops=Kernels(_place),
    samples=lambda: [
        case(floats((2, 3)), array([[2, 0, 1], [0, 1, 2]], "i32"), k=2),
        case(ints((3, 2)), array([[1, 1], [0, 2], [2, 0]], "i32"), k=3, axis=0),
    ],
    group="sort",
    T="any",
)


def _unplaced(b, dy, rank, shape, axis):
    """dy[rank[i]], and 0 for what was left out."""
    axis = normalize_axis(axis, len(shape))
    pads = [0] * (2 * len(shape))
    pads[len(shape) + axis] = shape[axis] - dy.shape[axis]
    return b.gather_elements(b.pad(dy, pads=tuple(pads)), rank, axis=axis)


# -- top_k ---------------------------------------------------------------------------------------

SHORT = 40  # axes up to here are ranked


def _top_k(b, x, *, k, axis, largest, sorted):
    axis = normalize_axis(axis, x.rank)
    n = x.shape[axis]
    if isinstance(n, int) and (n <= SHORT or k == 0):
        return _ranked(b, x, axis, k, largest)
    order = [*range(axis), *range(axis + 1, x.rank), axis]
    rows = x.transpose(order)
    lead = rows.shape[:-1]
    rows = rows.reshape(prod(lead), n)
    found = _chosen(b, rows, k, largest)
    back = np.argsort(order).tolist()
    return tuple(y.reshape(*lead, k).transpose(back) for y in found)


def _ranked(b, x, axis: int, k, largest: bool):
    rank = b.rank(x, axis=axis, largest=largest)
    places = b.iota(shape=x.shape, axis=axis, dtype=I64)
    return tuple(b.place(v, rank, axis=axis, k=k) for v in (x, places))


def _chosen(b, x, k, largest: bool):
    """The first k of rows [rows, n], then in order."""
    if isinstance(x.shape[1], int) and isinstance(k, int) and 2 * k > x.shape[1]:
        places = b.argsort(x, descending=largest)[:, :k]
    else:
        places, found = first_places(b, x, k, descending=largest)
        places = b.gather_elements(places, b.argsort(found), axis=1)
    return b.gather_elements(x, places, axis=1), places


def _with_nan(x):
    odd = np.arange(x.size).reshape(x.shape) % 2
    return np.where(odd, x, np.nan).astype(x.dtype)


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
        case(ints((60, 90), 4, -9, 9, "f32"), k=4, grad=False),
        *(
            case(_with_nan(ints((2, 90), 5, -9, 9, "f32")), k=1, largest=up, grad=False)
            for up in (False, True)
        ),
    ],
    group="sort",
    T=NUMERIC,
)


def one_hot_shape(indices, values, *, depth, axis):
    axis = normalize_axis(axis, indices.rank + 1)
    if not assume_equal_shapes(values.shape, (2,)):
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
    group="move",
    T="any",
    I=NUMERIC,
)
