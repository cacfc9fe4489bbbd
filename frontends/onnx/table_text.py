"""Operators on strings, and images: what is not numbers.

How large some results are follows from data: a size is computed first, and becomes a symbol that
the model binds while it runs.
"""

import numpy as np

from ...compiler.dims import Sym
from ...compiler.errors import ModelError
from ...compiler.ops import registry
from ...compiler.ops.image import pillow
from ...compiler.ops.text import expression
from ...compiler.types import F32, I32, I64, STR
from .call import Call
from .values import Known


def _sizes(c: Call, op: str, hint: str, **attrs) -> list[int | Sym]:
    """The elements of what `op` makes of operand 0, as dims."""
    x = c.x(0)
    if isinstance(x, Known):
        return np.atleast_1d(registry.get(op).ref(x.array, **attrs)).tolist()
    from .sizes import bind

    found = c.b.emit(op, x, **attrs)
    parts = [found] if found.rank == 0 else [found[i] for i in range(found.shape[0])]
    return bind(c, parts, hint)


def string_concat(c: Call):
    return c.b.emit("string_concat", c.x(0), c.x(1))


def string_split(c: Call):
    limit = c.attr("maxsplit", None)
    attrs = {"delimiter": c.attr("delimiter", ""), "maxsplit": -1 if limit is None else limit}
    (width,) = _sizes(c, "string_split_width", "split", **attrs)
    return c.b.emit("string_split", c.x(0), width=width, **attrs)


def string_normalizer(c: Call):
    attrs = {
        "stopwords": tuple(c.attr("stopwords", ())),
        "case": c.attr("case_change_action", "NONE"),
        "case_sensitive": bool(c.attr("is_case_sensitive", 0)),
        "locale": c.attr("locale", "en_US"),
    }
    if attrs["stopwords"]:
        (size,) = _sizes(c, "normalized_size", "words", **attrs)
    else:
        size = c.x(0).shape[-1]
    return c.b.emit("normalize_strings", c.x(0), size=size, **attrs)


def regex_full_match(c: Call):
    pattern = c.attr("pattern")
    try:
        expression(pattern)
    except ModelError as error:
        raise ModelError(
            error.message, where=c.where, expected=error.expected, received=pattern
        ) from None
    return c.b.emit("regex_full_match", c.x(0), pattern=pattern)


def tfidf_vectorizer(c: Call):
    """Counts of n-grams, each in its column.

    Weights belong to columns, as ONNX Runtime and the reference of ONNX have it, not to n-grams.
    """
    x, pool = _tokens(c)
    starts, columns = c.attr("ngram_counts"), c.attr("ngram_indexes")
    low, high = c.attr("min_gram_length"), c.attr("max_gram_length")
    skips, mode = c.attr("max_skip_count"), c.attr("mode")
    weights = c.attr("weights", None)
    counts, at, gram = [], [], 0
    for n, (start, end) in enumerate(zip(starts, [*starts[1:], len(pool)]), 1):
        grams = pool[start:end][: (end - start) // n * n].reshape(-1, n)
        if low <= n <= high and len(grams):
            counts.append(c.b.emit("ngram_counts", x, c.b.constant(grams), skips=skips))
            at += columns[gram : gram + len(grams)]
        gram += len(grams)
    if gram != len(columns):
        raise ModelError("ngram_indexes has one entry for each n-gram", where=c.where,
                         expected=gram, received=len(columns))  # fmt: skip
    size = max(columns, default=-1) + 1
    total = _placed(c, x, counts, at, size).cast(F32)
    if mode not in ("TF", "IDF", "TFIDF"):
        raise ModelError("unknown mode", where=c.where, expected="TF, IDF or TFIDF", received=mode)
    if mode == "IDF":
        total = c.b.emit("minimum", total, c.scalar(1, F32))
    if mode == "TF" or not weights:
        return total
    if len(weights) < size:
        raise ModelError("weights has one entry for each column", where=c.where, expected=size,
                         received=len(weights))  # fmt: skip
    return total * c.b.constant(np.asarray(weights[:size], np.float32))


def _tokens(c: Call):
    """The input and the pool of n-grams as ints of one type; strings by their place in it."""
    x, words, pool = c.x(0), c.attr("pool_strings", None), c.attr("pool_int64s", None)
    if x.rank == 0:
        x = x.reshape((1,))
    if (words is None) == (pool is None) or (x.dtype == STR) == (words is None):
        raise ModelError(
            "a TfIdfVectorizer has one pool, of its input's type", where=c.where,
            expected="pool_strings for strings, else pool_int64s", received=x.type,
        )  # fmt: skip
    if words is not None:
        vocabulary = tuple(dict.fromkeys(words))
        place = {word: i for i, word in enumerate(vocabulary)}
        x = c.b.emit("find_string", x, vocabulary=vocabulary)
        return x, np.array([place[w] for w in words], np.int64)
    pool = np.array(pool, np.int64)
    if x.dtype == I32 and (pool == pool.astype(np.int32)).all():
        return x, pool.astype(np.int32)
    return x.cast(I64), pool


def _placed(c: Call, x, counts: list, columns: list[int], size: int):
    """Counts of n-grams, in columns of their own or added up; columns without any are zero."""
    b, rows, zero = c.b, x.shape[:-1], c.scalar(0, I64)
    if not counts:
        return b.emit("expand", zero, shape=(*rows, size))
    axis = len(rows)
    found = counts[0] if len(counts) == 1 else b.emit("concat", *counts, axis=axis)
    if len(set(columns)) < len(columns):
        empty = b.emit("expand", zero, shape=(*rows, size))
        index = b.emit("expand", b.constant(np.array(columns, np.int64)), shape=found.shape)
        return b.emit("scatter_elements", empty, index, found, axis=axis, reduction="add")
    if columns == list(range(size)):
        return found
    source = np.full(size, len(columns), np.int64)
    source[columns] = np.arange(len(columns))
    if len(columns) < size:
        found = b.emit("concat", found, b.emit("expand", zero, shape=(*rows, 1)), axis=axis)
    return b.emit("gather", found, b.constant(source), axis=axis)


def image_decoder(c: Call):
    pillow()
    pixel_format = c.attr("pixel_format", "RGB")
    height, width = _sizes(c, "image_size", "image", pixel_format=pixel_format)
    return c.b.emit("decode_image", c.x(0), pixel_format=pixel_format, height=height, width=width)


TABLE = {
    "StringConcat": string_concat,
    "StringSplit": string_split,
    "StringNormalizer": string_normalizer,
    "RegexFullMatch": regex_full_match,
    "TfIdfVectorizer": tfidf_vectorizer,
    "ImageDecoder": image_decoder,
}
