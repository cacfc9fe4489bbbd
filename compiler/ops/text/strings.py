"""Strings: concat, split, normalize, match, and the place of each in a vocabulary.

They are Python objects, so these ops run in Python. How much `string_split` and
`normalize_strings` make depends on their data: an op beside each says how much beforehand.
"""

import functools
import unicodedata

import numpy as np

from ...errors import InputError, ModelError, TypeMismatch, UnsupportedError
from ...ir.host_callbacks import STRINGS
from ...ir.op import Attr, Extern, NotDifferentiable, Sample, register
from ..common import broadcast_shape

NOT_NUMBERS = NotDifferentiable("strings have no gradient")


def texts(values) -> np.ndarray:
    """An object array of (nested lists of) strings."""
    return np.array(values, object)


def _each(f, x: np.ndarray, dtype) -> np.ndarray:
    """f of every element."""
    out = np.empty(x.size, dtype)
    out[:] = [f(v) for v in x.flat]
    return out.reshape(x.shape)


def concat_ref(x, y):
    return np.asarray(np.add(x, y), object)


register(
    "string_concat",
    "x: str, y: str -> str",
    "x[i] followed by y[i]; shapes broadcast.",
    shape=broadcast_shape,
    ref=concat_ref,
    grad=NOT_NUMBERS,
    loops=Extern(concat_ref, STRINGS),
    samples=lambda: [
        Sample((texts(["a", "", "ç"]), texts(["b"]))),
        Sample((texts([["a"], ["b"]]), texts(["x", "y"]))),
        Sample((texts("a"), texts("b"))),
        Sample((texts([]), texts(["b"]))),
    ],
    group="text",
)

# -- split ---------------------------------------------------------------------------------

SPLIT_ATTRS = {
    "delimiter": Attr("str", "", "what stands between parts; empty: any white space"),
    "maxsplit": Attr("int", -1, "the largest number of cuts, from the left; below 0: any number"),
}


def _parts(x, delimiter, maxsplit) -> list[list[str]]:
    return [v.split(delimiter or None, maxsplit) for v in x.flat]


def width_ref(x, *, delimiter, maxsplit):
    longest = max(map(len, _parts(x, delimiter, maxsplit)), default=0)
    return np.array(longest, np.int64)


def split_ref(x, *, delimiter, maxsplit, width):
    parts = _parts(x, delimiter, maxsplit)
    out = np.full((x.size, width), "", object)
    for row, words in zip(out, parts):
        row[: len(words)] = words[:width]
    counts = np.array([len(words) for words in parts], np.int64)
    return out.reshape(*x.shape, width), counts.reshape(x.shape)


_SPLIT_SAMPLES = [
    (texts(["a,b", "", ",c,d"]), {"delimiter": ","}),
    (texts([["  a b ", "c"], ["d e f", ""]]), {}),
    (texts(["a-b-c", "d"]), {"delimiter": "-", "maxsplit": 1}),
    (texts("a b"), {}),
    (texts([]), {}),
]

register(
    "string_split_width",
    "x: str -> i64",
    "The largest number of parts that string_split makes of an element; 0 without elements.",
    attrs=SPLIT_ATTRS,
    shape=lambda x, **attrs: (),
    ref=width_ref,
    grad=NOT_NUMBERS,
    loops=Extern(width_ref, STRINGS),
    samples=lambda: [Sample((x,), attrs) for x, attrs in _SPLIT_SAMPLES],
    group="text",
)

register(
    "string_split",
    "x: str -> str, i64",
    """The parts of each element between delimiters, in `width` places of a new last axis, filled up
    with empty strings; and how many parts there are.""",
    attrs=SPLIT_ATTRS | {"width": Attr("dim")},
    shape=lambda x, *, width, **attrs: [(*x.shape, width), x.shape],
    ref=split_ref,
    grad=NOT_NUMBERS,
    loops=Extern(split_ref, STRINGS),
    samples=lambda: [
        Sample((x,), attrs | {"width": width})
        for width, (x, attrs) in zip((3, 3, 2, 2, 0), _SPLIT_SAMPLES)
    ],
    group="text",
)

# -- normalize -----------------------------------------------------------------------------

NORMALIZE_ATTRS = {
    "stopwords": Attr("strs", ()),
    "case": Attr("str", "NONE", "NONE, LOWER or UPPER: what is done to the words that stay"),
    "case_sensitive": Attr("bool", False, "whether a stop word must be written alike"),
    "locale": Attr("str", "en_US"),
}
_ABOVE = 230  # the combining class of accents above a letter
_DOT = "\u0307"


def lower(text: str, locale: str) -> str:
    """Lower case by the rules of Unicode (SpecialCasing.txt), which differ for Turkish, Azeri and
    Lithuanian."""
    language = locale[:2].lower()
    if language in ("tr", "az"):
        text = text.replace("I" + _DOT, "i").replace("\u0130", "i").replace("I", "\u0131")
    elif language == "lt":
        text = _lithuanian(text)
    return text.lower()


def upper(text: str, locale: str) -> str:
    language = locale[:2].lower()
    if language in ("tr", "az"):
        text = text.replace("i", "\u0130")
    elif language == "lt":
        for letter in "ij\u012f":
            text = text.replace(letter + _DOT, letter)
    return text.upper()


def _lithuanian(text: str) -> str:
    """I and J keep their dot in lower case under accents: i, dot, accent."""
    for whole, accent in (("\u00cc", "\u0300"), ("\u00cd", "\u0301"), ("\u0128", "\u0303")):
        text = text.replace(whole, "i" + _DOT + accent)
    out = []
    for c, after in zip(text, [*text[1:], ""]):
        dotted = c in "IJ\u012e" and after and unicodedata.combining(after) == _ABOVE
        out.append(c.lower() + _DOT if dotted and after != _DOT else c)
    return "".join(out)


def _kept(x, stopwords, case, case_sensitive, locale) -> list[str]:
    same = (lambda v: v) if case_sensitive else (lambda v: lower(v, locale))
    stop = {same(w) for w in stopwords}
    change = {"NONE": lambda v, _: v, "LOWER": lower, "UPPER": upper}[case]
    return [change(v, locale) for v in x.flat if same(v) not in stop] or [""]


def kept_ref(x, *, stopwords, case, case_sensitive, locale):
    return np.array(len(_kept(x, stopwords, case, case_sensitive, locale)), np.int64)


def normalize_ref(x, *, stopwords, case, case_sensitive, locale, size):
    kept = _kept(x, stopwords, case, case_sensitive, locale)
    if len(kept) < size:
        raise InputError(
            "normalize_strings: fewer strings stay than its size says",
            expected=size,
            received=len(kept),
            fix="normalized_size counts them",
        )
    return texts(kept[:size]).reshape((*x.shape[:-1], size))


def _check_row(x, case):
    if x.rank not in (1, 2) or (x.rank == 2 and isinstance(x.shape[0], int) and x.shape[0] != 1):
        raise TypeMismatch("strings to normalize are one row", expected="[C] or [1, C]", received=x)
    if case not in ("NONE", "LOWER", "UPPER"):
        raise TypeMismatch("unknown case", expected="NONE, LOWER or UPPER", received=case)


def _kept_shape(x, *, case, **attrs):
    _check_row(x, case)
    return ()


def _normalize_shape(x, *, case, size, **attrs):
    _check_row(x, case)
    return (*x.shape[:-1], size)


_DAYS = texts(["Monday", "tuesday", "MONDAY", "\u0130zmir"])
_NORMALIZE_SAMPLES = [
    (_DAYS, {"stopwords": ("monday",), "case": "UPPER"}, 2),
    (_DAYS, {"stopwords": ("MONDAY",), "case_sensitive": True}, 3),
    (_DAYS[None], {"case": "LOWER", "locale": "tr_TR"}, 4),
    (texts(["a", "A"]), {"stopwords": ("a",)}, 1),
]

register(
    "normalized_size",
    "x: str -> i64",
    "How many elements normalize_strings gives: those that are no stop word, or 1.",
    attrs=NORMALIZE_ATTRS,
    shape=_kept_shape,
    ref=kept_ref,
    grad=NOT_NUMBERS,
    loops=Extern(kept_ref, STRINGS),
    samples=lambda: [Sample((x,), attrs) for x, attrs, _ in _NORMALIZE_SAMPLES],
    group="text",
)

register(
    "normalize_strings",
    "x: str -> str",
    """The elements that are no stop word, in lower or upper case if `case` says so: `size` of them.
    If there are none, one empty string.""",
    attrs=NORMALIZE_ATTRS | {"size": Attr("dim")},
    shape=_normalize_shape,
    ref=normalize_ref,
    grad=NOT_NUMBERS,
    loops=Extern(normalize_ref, STRINGS),
    samples=lambda: [Sample((x,), attrs | {"size": n}) for x, attrs, n in _NORMALIZE_SAMPLES],
    group="text",
)

# -- match, find ---------------------------------------------------------------------------


@functools.lru_cache(256)
def expression(pattern: str):
    """An expression of RE2. Raises UnsupportedError where that is not installed, ModelError for
    what is no regular expression."""
    try:
        import re2
    except ImportError:
        raise UnsupportedError(
            "matching regular expressions needs RE2", fix="pip install 'tessel[text]'"
        ) from None
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ModelError(
            f"no regular expression: {error}", expected="RE2's syntax", received=pattern
        ) from None


def match_ref(x, *, pattern):
    compiled = expression(pattern)
    return _each(lambda v: compiled.fullmatch(v) is not None, x, bool)


register(
    "regex_full_match",
    "x: str -> bool",
    "Whether the whole of each element matches a regular expression in RE2's syntax.",
    attrs={"pattern": Attr("str")},
    shape=lambda x, *, pattern: x.shape,
    ref=match_ref,
    grad=NOT_NUMBERS,
    loops=Extern(match_ref, STRINGS),
    samples=lambda: [
        Sample((texts([["www.a.com", "www.com", "a\nb"]]),), {"pattern": r"www\.[\w.-]+\.com"}),
        Sample((texts("abc"),), {"pattern": "(?i)A.*"}),
        Sample((texts([]),), {"pattern": ""}),
    ],
    group="text",
)


def find_ref(x, *, vocabulary):
    places = {word: i for i, word in enumerate(vocabulary)}
    return _each(lambda v: places.get(v, -1), x, np.int64)


register(
    "find_string",
    "x: str -> i64",
    "The place of each element in a vocabulary (the last one, if it is there twice), or -1.",
    attrs={"vocabulary": Attr("strs")},
    shape=lambda x, *, vocabulary: x.shape,
    ref=find_ref,
    grad=NOT_NUMBERS,
    loops=Extern(find_ref, STRINGS),
    samples=lambda: [
        Sample((texts([["b", "x"], ["a", "b"]]),), {"vocabulary": ("a", "b")}),
        Sample((texts([]),), {"vocabulary": ()}),
    ],
    group="text",
)
