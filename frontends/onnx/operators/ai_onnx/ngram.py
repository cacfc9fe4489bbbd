"""TfIdfVectorizer: how often the n-grams of a pool occur in rows of tokens.

A pool is a tree: each n-gram is its first n - 1 tokens, a prefix, and one token more. Level by
level, windows of a row are looked up: (number of the prefix, token) in a sorted table gives the
number of the longer prefix, or -1. What is found is added up in the column of its n-gram. A pool
of few n-grams is compared with every window instead.
"""

import numpy as np

from .....compiler.classes import dataclass
from .....compiler.errors import ModelError
from .....compiler.ir import dims
from .....compiler.ir.builder import Tensor
from .....compiler.ir.types import F32, I32, I64, STR
from ...read.call import Call

FEW = 64  # n-grams that are compared with every window


@dataclass
class Pool:
    """`grams[n]` are the n-grams of length n, int[P,n], and `columns[n]` where each is counted;
    of lengths that are asked for."""

    grams: dict[int, np.ndarray]
    columns: dict[int, np.ndarray]
    size: int


def tfidf_vectorizer(c: Call):
    """Weights belong to columns, as ONNX Runtime and the reference of ONNX have it."""
    x, tokens = _tokens(c)
    pool = _pool(c, tokens)
    skips, mode, weights = c.attr("max_skip_count"), c.attr("mode"), c.attr("weights", None)
    if mode not in ("TF", "IDF", "TFIDF"):
        raise ModelError("unknown mode", where=c.where, expected="TF, IDF or TFIDF", received=mode)
    if weights and len(weights) < pool.size:
        raise ModelError(
            "weights has one entry for each column",
            where=c.where,
            expected=pool.size,
            received=len(weights),
        )
    few = sum(map(len, pool.grams.values())) <= FEW
    total = (_compared if few else _looked_up)(c, x, pool, skips)
    if mode == "IDF":
        total = c.b.emit("minimum", total, c.scalar(1, F32))
    if mode == "TF" or not weights:
        return total
    return total * c.b.constant(np.asarray(weights[: pool.size], np.float32))


def _tokens(c: Call) -> tuple[Tensor, np.ndarray]:
    """The input and the pool as ints of one type; strings by their place in a vocabulary."""
    x, words, pool = c.x(0), c.attr("pool_strings", None), c.attr("pool_int64s", None)
    if x.rank == 0:
        x = x.reshape((1,))
    if (words is None) == (pool is None) or (x.dtype == STR) == (words is None):
        raise ModelError(
            "a TfIdfVectorizer has one pool, of its input's type",
            where=c.where,
            expected="pool_strings for strings, else pool_int64s",
            received=x.type,
        )
    if words is not None:
        vocabulary = tuple(dict.fromkeys(words))
        place = {word: i for i, word in enumerate(vocabulary)}
        x = c.b.emit("find_string", x, vocabulary=vocabulary)
        return x, np.array([place[w] for w in words], np.int64)
    pool = np.array(pool, np.int64)
    if x.dtype == I32 and (pool == pool.astype(np.int32)).all():
        return x, pool.astype(np.int32)
    return x.cast(I64), pool


def _pool(c: Call, tokens: np.ndarray) -> Pool:
    """Of equal n-grams the last one counts."""
    starts, columns = c.attr("ngram_counts"), np.array(c.attr("ngram_indexes"), np.int64)
    low, high = c.attr("min_gram_length"), c.attr("max_gram_length")
    pool, first = Pool({}, {}, int(columns.max(initial=-1)) + 1), 0
    for n, (start, end) in enumerate(zip(starts, [*starts[1:], len(tokens)]), 1):
        grams = tokens[start : start + (end - start) // n * n].reshape(-1, n)
        mine = columns[first : first + len(grams)]
        first += len(grams)
        if low <= n <= high and len(grams) == len(mine) > 0:
            last = {gram: i for i, gram in enumerate(map(tuple, grams.tolist()))}
            kept = sorted(last.values())
            pool.grams[n], pool.columns[n] = grams[kept], mine[kept]
    if first != len(columns):
        raise ModelError(
            "ngram_indexes has one entry for each n-gram",
            where=c.where,
            expected=first,
            received=len(columns),
        )
    return pool


def _added(c: Call, x: Tensor, index: Tensor, number: Tensor, size: int) -> Tensor:
    """`number` added up in the columns `index`, of which there are `size`: f32[…, size]."""
    rows = x.shape[:-1]
    empty = c.b.emit("expand", c.scalar(0, F32), shape=(*rows, size))
    return c.b.emit("scatter_elements", empty, index, number, axis=len(rows), reduction="add")


def _compared(c: Call, x: Tensor, pool: Pool, skips: int) -> Tensor:
    b, axis = c.b, x.rank - 1
    if not pool.grams:
        return b.emit("expand", c.scalar(0, F32), shape=(*x.shape[:-1], pool.size))
    counts = [
        b.emit("ngram_counts", x, b.constant(grams), skips=skips) for grams in pool.grams.values()
    ]
    found = counts[0] if len(counts) == 1 else b.emit("concat", *counts, axis=axis)
    columns = np.concatenate(list(pool.columns.values()))
    index = b.emit("expand", b.constant(columns), shape=found.shape)
    return _added(c, x, index, found.cast(F32), pool.size)


def _looked_up(c: Call, x: Tensor, pool: Pool, skips: int) -> Tensor:
    """An extra column, cut off in the end, takes what is not found."""
    b, axis = c.b, x.rank - 1
    vocabulary = np.unique(np.concatenate([g.ravel() for g in pool.grams.values()]))
    token = b.emit("find_sorted", x, b.constant(vocabulary)).cast(I64)
    levels = _levels(pool, vocabulary)
    found = []
    if 1 in pool.grams:
        found.append(b.emit("gather", b.constant(levels[0][1]), token, axis=0))
    for step in range(1, skips + 2):
        prefix = token
        for k, (keys, columns) in enumerate(levels[1:], 1):
            count = dims.dim_max(0, x.shape[-1] - k * step)
            if isinstance(count, int) and count == 0:
                break
            prefix, more = (
                b.emit("slice", t, axes=(axis,), starts=(start,), steps=(1,), sizes=(count,))
                for t, start in ((prefix, 0), (token, k * step))
            )
            known = b.emit("and", prefix >= 0, more >= 0)
            key = b.emit("where", known, prefix * len(vocabulary) + more, c.scalar(-1, I64))
            prefix = b.emit("find_sorted", key, b.constant(keys))
            if k + 1 in pool.grams:
                found.append(b.emit("gather", b.constant(columns), prefix, axis=0))
    index = found[0] if len(found) == 1 else b.emit("concat", *found, axis=axis)
    ones = b.emit("expand", c.scalar(1, F32), shape=index.shape)
    total = _added(c, x, index, ones, pool.size + 1)
    return b.emit("slice", total, axes=(axis,), starts=(0,), steps=(1,), sizes=(pool.size,))


def _levels(pool: Pool, vocabulary: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each length, (keys of its prefixes in order, their columns).

    A prefix's number is its place among the keys. A single token is its own key; others are
    (number of the prefix before) * (size of the vocabulary) + (last token). Behind the columns
    stands that of what is not found, which an index of -1 reads.
    """
    longest = max(pool.grams)
    numbers = {n: np.searchsorted(vocabulary, g) for n, g in pool.grams.items()}
    levels = []
    for k in range(1, longest + 1):
        longer = [n for n in numbers if n >= k]
        if k == 1:
            keys = np.arange(len(vocabulary))
            prefix = {n: numbers[n][:, 0] for n in longer}
        else:
            pairs = {n: prefix[n] * len(vocabulary) + numbers[n][:, k - 1] for n in longer}
            keys = np.unique(np.concatenate(list(pairs.values())))
            prefix = {n: np.searchsorted(keys, pairs[n]) for n in longer}
        columns = np.full(len(keys) + 1, pool.size, np.int64)
        if k in numbers:
            columns[prefix[k]] = pool.columns[k]
        levels.append((keys, columns))
    return levels


TABLE = {"TfIdfVectorizer": tfidf_vectorizer}
