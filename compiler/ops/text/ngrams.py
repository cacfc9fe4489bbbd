"""What TfIdfVectorizer needs: `ngram_counts` counts few sequences, `find_sorted` looks up many."""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.op import Attr, Expand, NotDifferentiable, Pull, register
from ...ir.types import I32, I64
from ..common import STEP, array, case, ints


def _steps(length: int, skips: int) -> range:
    """Distances between neighbours of an n-gram; a single element has none."""
    return range(1, skips + 2) if length > 1 else range(1, 2)


def _counts_shape(x, grams, *, skips):
    if x.rank not in (1, 2) or grams.rank != 2 or grams.shape[1] == 0 or skips < 0:
        raise TypeMismatch(
            "ngram_counts takes rows, and n-grams of at least one element",
            expected="x[C] or x[N,C], grams[P,n], skips ≥ 0",
            received=f"{x}, {grams}, skips={skips}",
        )
    return (*x.shape[:-1], grams.shape[0])


def counts_ref(x, grams, *, skips):
    number, length = grams.shape
    rows = x.reshape(-1, x.shape[-1])
    total = np.zeros((len(rows), number), np.int64)
    for step in _steps(length, skips):
        windows = x.shape[-1] - (length - 1) * step
        if windows <= 0:
            break
        parts = [rows[:, j * step : j * step + windows] for j in range(length)]
        found = np.stack(parts, -1)[:, :, None] == grams
        total += found.all(-1).sum(1)
    return total.reshape(*x.shape[:-1], number)


def _counts(out, x, grams, *, skips):
    size, length = x.shape[-1], grams.shape[1]

    def at(*index):
        *row, p = index
        total = s.const(0, I64)
        for step in _steps(length, skips):
            windows = size - (length - 1) * step
            if windows <= 0:
                break
            total = total + s.reduce_sum([windows], lambda k, d=step: same(row, p, k, d), I64)
        return total

    def same(row, p, k, step):
        """Whether n-gram p stands at k, each element `step` after the one before it."""
        found = None
        for j in range(length):
            equal = s.eq(x[(*row, k + j * step)], grams[p, j])
            found = equal if found is None else s.logical_and(found, equal)
        return s.cast(found, I64)

    return at


register(
    "ngram_counts",
    "x: T, grams: T -> i64",
    """How often each row of `grams`, an n-gram, occurs in x[…, C].

    Up to `skips` elements may lie between its neighbours, everywhere the same number of them.
    """,
    attrs={"skips": Attr("int", 0)},
    shape=_counts_shape,
    ref=counts_ref,
    grad=NotDifferentiable("counts have no gradient", zero=True),
    loops=Pull(_counts),
    samples=lambda: [
        case(ints((2, 12), 1, 0, 4), array([[1, 2], [3, 3], [0, 1]], "i64"), skips=2),
        case(ints((9,), 2, 0, 3, "i32"), array([[1], [2], [7]], "i32"), skips=5),
        case(ints((3, 4), 3, 0, 2), array([[1, 0, 1]], "i64")),
        case(ints((2, 2), 4, 0, 2), array([[1, 0, 1]], "i64"), skips=1),
        case(ints((0, 5), 4, 0, 2), array([[1, 0]], "i64")),
    ],
    group="reduce",
    T={I32, I64},
)


def _found_shape(x, table):
    if table.rank != 1 or not isinstance(table.shape[0], int):
        raise TypeMismatch("find_sorted looks into a vector of known size", received=table)
    return x.shape


def found_ref(x, table):
    if not len(table):
        return np.full(x.shape, -1, np.int64)
    at = np.minimum(np.searchsorted(table, x), len(table) - 1)
    return np.where(table[at] == x, at, -1).astype(np.int64)


def _found(b, x, table):
    """Halves what is left of the table until one entry is: the last one that is not above x."""
    left, zero, none = table.shape[0], b.scalar(0, I64), b.scalar(-1, I64)
    if not left:
        return b.expand(none, shape=x.shape)
    at = b.expand(zero, shape=x.shape)
    while left > 1:
        half = left // 2
        middle = at + half
        at = b.where(b.gather(table, middle, axis=0) <= x, middle, at)
        left -= half
    return b.where(b.equal(b.gather(table, at, axis=0), x), at, none)


register(
    "find_sorted",
    "x: T, table: T -> i64",
    "Where each element of x stands in an ascending `table` without repetitions, or -1.",
    shape=_found_shape,
    ref=found_ref,
    grad=STEP,
    loops=Expand(_found),
    samples=lambda: [
        case(ints((3, 9), 1, -3, 12), array([-1, 0, 3, 4, 9], "i64")),
        case(ints((9,), 2, 0, 3, "i32"), array([1], "i32")),
        case(ints((), 3), array([-5, 7], "i64")),
        case(ints((40,), 4, 0, 300), np.arange(0, 300, 3)),
        case(ints((2,), 5), array([], "i64")),
    ],
    group="move",
    T={I32, I64},
)
