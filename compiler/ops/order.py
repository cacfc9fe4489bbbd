"""Sorting: argsort, sort_rows, and the steps that they are made of.

Runs of 32 elements are ordered by counting, then neighbouring runs are merged until one is left
(Knuth, The Art of Computer Programming 3, 5.2.4). An element's place in a merge is its own place in
its run and how many of the other run come before it, which a binary search says: all elements at
once, without a branch.
"""

import numpy as np

from ..errors import TypeMismatch
from ..loops import expr as s
from ..types import BOOL, I64, NUMERIC, U8
from .common import array, case, floats, ints
from .registry import Attr, Expand, Kernels, NotDifferentiable, register

BLOCK = 5  # log2 of the runs that are ordered by counting before they are merged
LONGEST = 31  # log2 of the elements that an axis of unknown size may have
SHORT = 256  # rows that are ordered by counting
COLUMNS = 16  # columns that are sorted one after the other
PIECEWISE = NotDifferentiable("an order is piecewise constant", zero=True)


def _before(a: s.Expr, b: s.Expr, descending: bool) -> s.Expr:
    """Whether a comes before b; NaN is larger than every number."""
    ahead = a > b if descending else a < b
    if a.dtype.is_float:
        nan, other = s.isnan(a), s.isnan(b)
        ahead = ahead | (nan & ~other if descending else other & ~nan)
    return ahead


def _reader(x):
    def read(*i):
        value = x[i]
        return s.cast(value, value.dtype.compute)

    return read


def _plain(x):
    return x if x.dtype.kind in "iufb" else x.astype(np.float32)


def _order(x, descending: bool):
    """A stable argsort along the last axis."""
    x = _plain(x)
    if not descending:
        return np.argsort(x, -1, kind="stable").astype(np.int64)
    order = np.argsort(np.flip(x, -1), -1, kind="stable")
    return (x.shape[-1] - 1 - np.flip(order, -1)).astype(np.int64)


def _ranks(order):
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(order.shape[-1]), order.shape), -1)
    return ranks


def _runs(x, width: int, descending: bool):
    """Ranks within each run of `width` elements, as places along the axis."""
    pieces = [
        start + _ranks(_order(x[:, start : start + width], descending))
        for start in range(0, x.shape[1], width)
    ]
    return np.concatenate(pieces, 1) if pieces else np.zeros(x.shape, np.int64)


def _stored(rule):
    """The meaning of an op whose results have memory of their own: whoever reads them would
    compute them in its own order, one by one where that is a scatter."""

    def emit(k, out, *operands, **attrs):
        at = rule(out, *operands, **attrs)
        k.store(out.shape, lambda *i: (i, at(*i)))

    return Kernels(emit)


def _matrix(x, *others, **_):
    if x.rank != 2:
        raise TypeMismatch("runs are sorted along the rows of a matrix", received=x)
    return x.shape


def _block_ranks(out, x, *, descending):
    n, width, read = x.shape[1], 1 << BLOCK, _reader(x)

    def at(row, i):
        start, mine = i - i % width, read(row, i)

        def before(j):
            at = start + j
            other = read(row, s.minimum(at, n - 1))
            level = ~_before(mine, other, descending) & (at < i)
            ahead = _before(other, mine, descending) | level
            return s.cast(ahead & (at < n), I64)

        return start + s.reduce("sum", [width], before, I64)

    return at


def _run_samples():
    for descending in (False, True):
        yield case(ints((2, 70), low=0, high=9), descending=descending)
        yield case(floats((1, 33)), descending=descending)
        yield case(array([[np.nan, 1.0, -np.inf, 1.0, np.nan, np.inf]]), descending=descending)
    yield case(floats((2, 40), dtype="bf16"))
    yield case(ints((1, 40), high=250, dtype="u8"), descending=True)
    yield case(floats((0, 3)))


register(
    "block_ranks",
    "x: T -> i64",
    "[rows, n]: the place that each element takes when every 32 elements of a row are sorted.",
    attrs={"descending": Attr("bool", False)},
    shape=_matrix,
    ref=lambda x, *, descending: _runs(x, 1 << BLOCK, descending),
    grad=PIECEWISE,
    loops=_stored(_block_ranks),
    samples=_run_samples,
    family="sort",
    T=NUMERIC,
)


def _merge_ranks(out, x, shift, *, descending, steps):
    n, read = x.shape[1], _reader(x)

    def at(row, i):
        mine, by = read(row, i), shift[()]
        width = s.apply("shl", s.const(1), by)
        run = s.apply("shr", i, by)
        odd = s.eq(s.apply("bitand", run, s.const(1)), 1)
        other = s.apply("shl", s.select(odd, run - 1, run + 1), by)
        low = s.const(0)
        high = s.maximum(s.minimum(s.lift(n, other) - other, width), 0)
        for _ in range(steps):
            middle = s.apply("shr", low + high, s.const(1))
            value = read(row, s.maximum(s.minimum(other + middle, n - 1), 0))
            ahead = s.select(
                odd, ~_before(mine, value, descending), _before(value, mine, descending)
            )
            left = low < high
            low, high = (
                s.select(left & ahead, middle + 1, low),
                s.select(left & ~ahead, middle, high),
            )
        return i - s.select(odd, width, s.const(0)) + low

    return at


def _merge_samples():
    for descending in (False, True):
        for x, shift in (
            (ints((2, 11), low=0, high=5), 2), (floats((1, 70)), 5),
            (array([[np.nan, 1.0, 2.0, np.nan, 1.0]]), 1), (floats((2, 8), dtype="f16"), 2),
        ):  # fmt: skip
            ordered = np.empty_like(x)
            np.put_along_axis(ordered, _runs(x, 1 << shift, descending), x, -1)
            yield case(ordered, array(shift, "i64"), descending=descending, steps=7)


register(
    "merge_ranks",
    "x: T, shift: i64 -> i64",
    """[rows, n]: the place that each element takes when neighbouring runs are merged.

    Runs of 2^shift elements are sorted already; at most 2^(steps - 1) elements. Of equal elements
    those of the first run come first.
    """,
    attrs={"descending": Attr("bool", False), "steps": Attr("int")},
    shape=_matrix,
    ref=lambda x, shift, *, descending, steps: _runs(x, 2 << int(shift), descending),
    grad=PIECEWISE,
    loops=_stored(_merge_ranks),
    samples=_merge_samples,
    family="sort",
    T=NUMERIC,
)


def _argsort(b, x, *, descending):
    from ..builder import Builder

    n = x.shape[-1]
    rows = x.reshape(-1 if 0 not in x.shape else 0, n)
    zeros = b.scalar(0, I64).expand(rows.shape)
    turns = b.iota(shape=rows.shape, axis=1, dtype=I64)
    order = b.scatter_elements(zeros, b.block_ranks(rows, descending=descending), turns, axis=1)
    steps = (max(n, 1) - 1).bit_length() if isinstance(n, int) else LONGEST
    if steps > BLOCK:
        inner = Builder(name="merge")
        before = inner.input("order", order.type)
        shift = inner.input("shift", "i64[]")
        keys = inner.input("keys", rows.type)
        ordered = inner.gather_elements(keys, before, axis=1)
        places = inner.merge_ranks(ordered, shift, descending=descending, steps=steps)
        none = inner.scalar(0, I64).expand(rows.shape)
        inner.output("next", inner.scatter_elements(none, places, before, axis=1))
        shifts = b.constant(np.arange(BLOCK, steps))
        order = b.scan(order, shifts, rows, body=inner.graph, states=1, scans=1)
    return order.reshape(x.shape)


register(
    "argsort",
    "x: T -> i64",
    """Indices that sort x along its last axis.

    Equal elements keep their order. NaN counts as larger than every number.
    """,
    attrs={"descending": Attr("bool", False)},
    shape=lambda x, *, descending: x.shape,
    ref=lambda x, *, descending: _order(x, descending),
    grad=PIECEWISE,
    loops=Expand(_argsort),
    samples=lambda: [
        *_run_samples(),
        case(ints((2, 3, 150), low=-5, high=5), descending=True),
        case(ints((2, 300), low=-5, high=5), descending=True),
        case(floats((1, 257), dtype="f16")),
    ],
    family="sort",
    T=NUMERIC,
)


def row_order(x: np.ndarray) -> np.ndarray:
    """Indices that sort the rows of a matrix, columns from the first; equal rows stay in order."""
    if x.dtype == object:
        return np.array(sorted(range(len(x)), key=lambda i: tuple(x[i])), np.int64)
    return np.lexsort(_plain(x).T[::-1]) if x.shape[1] else np.arange(len(x))


def row_ranks_ref(x):
    return _ranks(row_order(x).astype(np.int64))


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
    family="sort",
    T=NUMERIC | {BOOL},
)


def _sort_rows(b, x):
    """By columns from the last to the first, each sorted without disturbing equal elements."""
    n, columns = x.shape
    if (isinstance(n, int) and n <= SHORT) or not isinstance(columns, int) or columns > COLUMNS:
        zeros = b.scalar(0, I64).expand((n,))
        turns = b.iota(shape=(n,), axis=0, dtype=I64)
        return b.scatter_elements(zeros, b.row_ranks(x), turns, axis=0)
    x = x.cast(U8) if x.dtype == BOOL else x
    order = b.iota(shape=(n,), axis=0, dtype=I64)
    for column in reversed(range(columns)):
        keys = b.slice(x, axes=(1,), starts=(column,), steps=(1,), sizes=(1,)).reshape(n)
        order = b.gather(order, b.argsort(b.gather(keys, order, axis=0)), axis=0)
    return order


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
    family="sort",
    T="any",
)
