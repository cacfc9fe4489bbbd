"""Sorting: argsort, sort_rows, and the step that they are made of.

Rows are ordered by integers that order as their elements do (`order_keys`), from their lowest to
their highest digits of 8 bits, where equal ones stay as they were (radix sort: Knuth, The Art of
Computer Programming 3, 5.2.5): as many turns as an element has bytes, whatever the rows' length.
"""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.bounds import assume_above, assume_equal_shapes
from ...ir.builder import Builder
from ...ir.dims import prod
from ...ir.op import Attr, Expand, Kernels, NotDifferentiable, register
from ...ir.types import BOOL, I32, I64, NUMERIC, U8, dtype_of
from ...kernels.kernel import Store
from ..common import array, case, floats, ints
from .selection import KEYS
from .topk import comparable, stable_order

DIGITS = 256
SHORT = 80  # rows up to here are ordered by counting
PIECEWISE = NotDifferentiable("an order is piecewise constant", zero=True)


def _stored(rule):
    """The meaning of an op whose results have memory of their own: whoever reads them would
    compute them in its own order, one by one where that is a scatter."""

    def emit(k, out, *operands, **attrs):
        at = rule(out, *operands, **attrs)
        k.store(out.shape, lambda *i: (i, at(*i)))

    return Kernels(emit)


# -- by digits -----------------------------------------------------------------------------------


def _radix_order(w, out, keys, order, shift):
    """Counts of each digit say where its first element goes, the others go behind it."""
    rows, n = keys.shape
    if out.dtype == I32:
        assume_above(1 << 31, n)
    lowest = s.const(-(1 << keys.dtype.bits - 1), keys.dtype)
    starts = w.temporary((rows, DIGITS + 1), out.dtype)

    def digit(row, i):
        ascending = s.apply("bitxor", keys[row, i], lowest)
        moved = s.cast(s.apply("shr", ascending, shift[()]), I64)
        return s.apply("bitand", moved, s.const(DIGITS - 1))

    def one_more(place):
        return s.apply("add", place, s.const(1, out.dtype))

    def count(row, i):
        return [Store(starts, (row, digit(row, i) + 1), s.const(1, out.dtype), None, "add")]

    def total(row, d):
        both = s.apply("add", starts[row, d], starts[row, d + 1])
        return [Store(starts, (row, d + 1), both)]

    def put(row, i):
        source = order[row, i]
        near = s.minimum(s.maximum(s.cast(source, I64), 0), s.const(n) - 1)
        d = digit(row, near)
        place = starts[row, d]
        to = s.minimum(s.maximum(s.cast(place, I64), 0), s.const(n) - 1)
        return [
            Store(w.outs[0], (row, to), source),
            Store(starts, (row, d), one_more(place)),
        ]

    none = s.const(0, out.dtype)
    w.store((rows, DIGITS + 1), lambda row, d: ((row, d), none), to=starts)
    w.in_order((rows, n), count, apart=1)
    w.in_order((rows, DIGITS), total, apart=1)
    w.in_order((rows, n), put, apart=1)


def _radix_shape(keys, order, shift):
    if keys.rank != 2 or not assume_equal_shapes(keys.shape, order.shape) or shift.rank:
        raise TypeMismatch(
            "radix_order takes keys and an order of them, [rows, n], and one shift",
            received=f"{keys}, {order}, {shift}",
        )
    return order.shape


def radix_order_ref(keys, order, shift):
    digits = (keys >> shift).astype(np.int64) & (DIGITS - 1)
    if int(shift) + 8 == 8 * keys.itemsize:
        digits = digits ^ (DIGITS // 2)  # the sign
    digits = np.take_along_axis(digits, order.astype(np.int64), 1)
    return np.take_along_axis(order, np.argsort(digits, 1, kind="stable"), 1)


def _radix_samples():
    for n, dtype, shift in ((9, "i8", 0), (300, "i16", 8), (70, "i32", 24), (40, "i64", 16)):
        keys = array(ints((2, n), n, -(2**62), 2**62) >> 64 - dtype_of(dtype).bits, dtype)
        order = np.stack([np.random.default_rng(n + i).permutation(n) for i in range(2)])
        yield case(keys, array(order, "i32" if n > 9 else "i64"), array(shift, dtype))


register(
    "radix_order",
    "keys: T, order: I, shift: T -> I",
    """`order` [rows, n], of equal digits as before: sorted by the 8 bits of `keys` from `shift` on.

    Keys are signed: with their highest bits, negative ones come first.
    """,
    shape=_radix_shape,
    ref=radix_order_ref,
    grad=PIECEWISE,
    loops=Kernels(_radix_order, memory=(0,)),
    samples=_radix_samples,
    group="sort",
    T=KEYS,
    I={I32, I64},
)


def _by_digits(b, keys, order):
    """`order` sorted by keys, equal ones as before: by their lowest digits first."""
    for shift in range(0, keys.dtype.bits, DIGITS.bit_length() - 1):
        order = b.radix_order(keys, order, b.scalar(shift, keys.dtype))
    return order


def _turns(b, rows, n):
    """0, 1, 2, … in each row, in as few bits as places need."""
    narrow = not isinstance(n, int) or n < 1 << 31
    return b.iota(shape=(rows, n), axis=1, dtype=I32 if narrow else I64)


def _argsort(b, x, *, descending):
    n = x.shape[-1]
    if isinstance(n, int) and n <= SHORT:
        places = b.iota(shape=x.shape, axis=x.rank - 1, dtype=I64)
        return b.place(places, b.rank(x, axis=-1, largest=descending), axis=-1, k=n)
    rows = prod(x.shape[:-1])
    keys = b.order_keys(x.reshape(rows, n), descending=descending).reshape(rows, n)
    return _by_digits(b, keys, _turns(b, rows, n)).cast(I64).reshape(x.shape)


def _samples():
    for descending in (False, True):
        yield case(ints((2, 70), low=0, high=9), descending=descending)
        yield case(floats((1, 33)), descending=descending)
        yield case(array([[np.nan, 1.0, -np.inf, 1.0, np.nan, np.inf]]), descending=descending)
        x = array([np.nan, -np.inf, 0.0, np.inf, -0.0, 1.0])[ints((2, 400), high=6, low=0)]
        yield case(x, descending=descending)
    yield case(floats((2, 140), dtype="bf16"))
    yield case(ints((1, 140), high=250, dtype="u8"), descending=True)
    yield case(ints((1, 140), low=-(2**62), high=2**62))
    yield case(floats((0, 3)))
    yield case(floats((0, 300)))


register(
    "argsort",
    "x: T -> i64",
    """Indices that sort x along its last axis.

    Equal elements keep their order. NaN counts as larger than every number.
    """,
    attrs={"descending": Attr("bool", False)},
    shape=lambda x, *, descending: x.shape,
    ref=lambda x, *, descending: stable_order(x, -1, descending),
    grad=PIECEWISE,
    loops=Expand(_argsort),
    samples=lambda: [
        *_samples(),
        case(ints((2, 3, 150), low=-5, high=5), descending=True),
        case(ints((2, 300), low=-5, high=5), descending=True),
        case(floats((1, 257), dtype="f16")),
    ],
    group="sort",
    T=NUMERIC,
)


def row_order(x: np.ndarray) -> np.ndarray:
    """Indices that sort the rows of a matrix, columns from the first; equal rows stay in order."""
    if x.dtype == object:
        return np.array(sorted(range(len(x)), key=lambda i: tuple(x[i])), np.int64)
    return np.lexsort(comparable(x).T[::-1]) if x.shape[1] else np.arange(len(x))


def row_ranks_ref(x):
    return np.argsort(row_order(x)).astype(np.int64)


def _row_ranks(out, x):
    """How many rows come before: smaller at the first place where they differ, or equal and
    earlier. NaN is larger than every number."""
    n, m = x.shape

    def read(*i):
        v = x[i]
        return s.cast(v, I64) if v.dtype == BOOL else s.cast(v, v.dtype.compute)

    def same(a, b):
        level = s.eq(a, b)
        return level | (s.isnan(a) & s.isnan(b)) if a.dtype.is_float else level

    def at(i):
        def before(j):
            def place(k):
                return s.select(same(read(j, k), read(i, k)), m, k)

            first = s.reduce("min", [m], place)
            here = s.minimum(first, m - 1)
            mine, other = read(i, here), read(j, here)
            ahead = other < mine
            if mine.dtype.is_float:
                ahead = ahead | (s.isnan(mine) & ~s.isnan(other))
            equal = same(mine, other) if m == 1 else s.eq(first, m)
            return s.cast((ahead & ~equal) | (equal & (j < i)), I64)

        if m == 0:
            return i
        return s.reduce("sum", [n], before, I64)

    return at


def _row_ranks_shape(x):
    if x.rank != 2:
        raise TypeMismatch("row_ranks orders the rows of a matrix", received=x)
    return (x.shape[0],)


register(
    "row_ranks",
    "x: T -> i64",
    """Where each row of [n, m] stands when rows are sorted, columns from the first: i64[n].

    Equal rows keep their order. NaN counts as larger than every number.
    """,
    shape=_row_ranks_shape,
    ref=row_ranks_ref,
    grad=PIECEWISE,
    loops=_stored(_row_ranks),
    samples=lambda: [
        case(ints((9, 1), low=0, high=4)),
        case(ints((7, 3), low=0, high=2, dtype="i32")),
        case(ints((5, 2, 2), low=0, high=2).reshape(5, 4).astype(bool)),
        case(array([[2.0], [np.nan], [-np.inf], [2.0], [np.nan]])),
        case(floats((6, 2), dtype="bf16")),
        case(ints((5, 1), high=250, dtype="u8")),
        case(floats((4, 0))),
        case(floats((0, 2))),
    ],
    group="sort",
    T=NUMERIC | {BOOL},
)


def _sort_rows(b, x):
    """By columns from the last to the first, each sorted without disturbing equal elements."""
    n, columns = x.shape
    if isinstance(n, int) and n <= SHORT:
        zeros = b.scalar(0, I64).expand((n,))
        turns = b.iota(shape=(n,), axis=0, dtype=I64)
        return b.scatter_elements(zeros, b.row_ranks(x), turns, axis=0)
    x = x.cast(U8) if x.dtype == BOOL else x
    keys = b.order_keys(x.transpose(1, 0)).reshape(columns, 1, n)
    order = _turns(b, 1, n)
    if isinstance(columns, int) and columns <= 1:
        order = _by_digits(b, keys.reshape(1, n), order) if columns else order
        return order.reshape(n).cast(I64)
    inner = Builder(name="column")
    before = inner.input("order", order.type)
    column = inner.input("keys", keys.type.with_shape((1, n)))
    inner.output("next", _by_digits(inner, column, before))
    order = b.scan(order, keys, body=inner.graph, states=1, scans=1, reverse=True)
    return order.reshape(n).cast(I64)


register(
    "sort_rows",
    "x: T -> i64",
    """Indices that sort the rows of [n, m], columns from the first: i64[n].

    Equal rows keep their order. NaN counts as larger than every number; strings are ordered by
    their code points.
    """,
    shape=_row_ranks_shape,
    ref=lambda x: row_order(x).astype(np.int64),
    grad=PIECEWISE,
    loops=Expand(_sort_rows),
    samples=lambda: [
        case(ints((9, 2), low=0, high=3)),
        case(ints((SHORT + 5, 2), low=0, high=4)),
        case(ints((SHORT + 3, 1), low=0, high=2).astype(bool)),
        case(array([[2.0], [np.nan], [-np.inf], [2.0], [np.nan]])),
    ],
    group="sort",
    T="any",
)
