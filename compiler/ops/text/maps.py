"""Strings and maps, which live in Python: lookup, search_strings, zip_map, dict_vectorizer,
cast_map (ai.onnx.ml).
"""

import numpy as np

from ...errors import InputError, TypeMismatch
from ...ir.bounds import assume_equal
from ...ir.limits import index_limit
from ...ir.op import Attr, Extern, Sample, register
from ...ir.types import F32, I64, STR, DType, MapType, SequenceType, TensorType
from ..common import array, case, floats
from ..contraction.scores import LABELS
from ..movement.gather import wrap

STRINGS = "strings and maps are Python objects: no machine code reads them"


# -- lookup, search_strings ------------------------------------------------------------------


def lookup_ref(index, *, labels):
    return np.asarray(np.asarray(labels, object)[wrap(index, len(labels))])


register(
    "lookup",
    "index: i64 -> str",
    "The string at each index; negative ones count from the end.",
    attrs={"labels": Attr("strs")},
    shape=lambda index, *, labels: index.shape,
    ref=lookup_ref,
    grad=LABELS,
    loops=Extern(lookup_ref, STRINGS),
    limits=lambda index, *, labels: [index_limit(0, len(labels))],
    samples=lambda: [case(array([2, 0], "i64"), labels=("a", "b", "c"))],
    group="ml",
)


def search_strings_ref(x, *, keys):
    place = {key: i for i, key in enumerate(keys)}
    found = [place.get(word, -1) for word in x.reshape(-1).tolist()]
    return np.array(found, np.int64).reshape(x.shape)


register(
    "search_strings",
    "x: str -> i64",
    "Where each string is in `keys` (the last one of equal keys), or -1.",
    attrs={"keys": Attr("strs")},
    shape=lambda x, *, keys: x.shape,
    ref=search_strings_ref,
    grad=LABELS,
    loops=Extern(search_strings_ref, STRINGS),
    samples=lambda: [
        case(array([["b", "c"], ["", "a"]], "str"), keys=("a", "b", "")),
        case(array(["a", "b"], "str"), keys=("a", "b", "a")),
    ],
    group="ml",
)

# -- zip_map -------------------------------------------------------------------------------


def zip_map_infer(x, *, labels):
    if x.rank not in (1, 2) or not assume_equal(x.shape[-1], len(labels)):
        raise TypeMismatch(
            "zip_map needs one label per column", expected=f"[N, {len(labels)}]", received=x
        )
    key = STR if isinstance(labels[0], str) else I64
    return SequenceType(MapType(key, TensorType(F32, ())))


def zip_map_ref(x, *, labels):
    return [dict(zip(labels, row)) for row in x.reshape(-1, len(labels)).tolist()]


register(
    "zip_map",
    "x: f32 -> *",
    "One {label: score} per row, scores as Python floats.",
    attrs={"labels": Attr("any", doc="ints or strings, one per column")},
    infer=zip_map_infer,
    ref=zip_map_ref,
    grad=LABELS,
    loops=Extern(zip_map_ref, STRINGS),
    samples=lambda: [
        case(floats((2, 3)), labels=("a", "b", "c"), grad=False),
        case(floats((2, 2)), labels=(0, 1), grad=False),
    ],
    group="ml",
)

# -- dict_vectorizer, cast_map -------------------------------------------------------------


def _entry(x, name: str) -> tuple[DType, DType]:
    """The dtypes of a map's keys and values."""
    scalar = isinstance(x, MapType) and isinstance(x.value, TensorType) and x.value.rank == 0
    if not scalar:
        raise TypeMismatch(f"{name} takes a map of scalars", received=x)
    return x.key, x.value.dtype


def dict_vectorizer_infer(x, *, vocabulary, dtype):
    key, value = _entry(x, "dict_vectorizer")
    if value != dtype:
        raise TypeMismatch("the map holds other values", expected=dtype, received=x)
    if not vocabulary or any(isinstance(k, str) != (key == STR) for k in vocabulary):
        raise TypeMismatch(
            "dict_vectorizer needs keys of the map's type", expected=key, received=vocabulary
        )
    return TensorType(value, (1, len(vocabulary)))


def dict_vectorizer_ref(x, *, vocabulary, dtype):
    place = {key: i for i, key in enumerate(vocabulary)}
    unknown = [key for key in x if key not in place]
    if unknown:
        raise InputError("the map has a key that is not in the vocabulary", received=unknown[0])
    row = np.full(len(place), "" if dtype == STR else 0, dtype.numpy)
    for key, value in x.items():
        row[place[key]] = value
    return row[None]


register(
    "dict_vectorizer",
    "x: * -> *",
    """One row: the value of each key of `vocabulary`, zero or "" where the map has none.

    Raises InputError for a key that is not in the vocabulary.
    """,
    attrs={"vocabulary": Attr("any", doc="ints or strings"), "dtype": Attr("dtype", F32)},
    infer=dict_vectorizer_infer,
    ref=dict_vectorizer_ref,
    grad=LABELS,
    loops=Extern(dict_vectorizer_ref, STRINGS),
    samples=lambda: [
        Sample(({"a": np.float32(1.5)},), {"vocabulary": ("b", "a", "c")}),
        Sample(({7: "x"},), {"vocabulary": (7, 8), "dtype": STR}),
    ],
    group="ml",
)


def cast_map_infer(x, *, size, dtype):
    key, value = _entry(x, "cast_map")
    if key != I64 or value not in (F32, STR) or dtype not in (F32, I64, STR) or size < 1:
        raise TypeMismatch(
            "cast_map takes a map of ints to f32 or strings, and gives f32, i64 or strings",
            received=f"{x} to {dtype}, size {size}",
        )
    return TensorType(dtype, (1, size))


def cast_map_ref(x, *, size, dtype):
    """Missing strings are `0.f` and floats have six digits, as in ONNX Runtime."""
    row = np.full(size, "0.f", object) if dtype == STR else np.zeros(size, dtype.numpy)
    for key, value in x.items():
        if not 0 <= key < size:
            raise InputError(
                "a key of the map is out of range", expected=f"0 to {size - 1}", received=key
            )
        if dtype == STR:
            row[key] = value if isinstance(value, str) else f"{float(value):f}"
        else:
            row[key] = float(value) if dtype == F32 else int(float(value))
    return row[None]


register(
    "cast_map",
    "x: * -> *",
    "One row of `size`: the value of key i at place i, converted to `dtype`, else zero.",
    attrs={"size": Attr("int"), "dtype": Attr("dtype", F32)},
    infer=cast_map_infer,
    ref=cast_map_ref,
    grad=LABELS,
    loops=Extern(cast_map_ref, STRINGS),
    samples=lambda: [
        *(
            Sample(({3: np.float32(1.5), 1: np.float32(2.25)},), {"size": 5, "dtype": dtype})
            for dtype in (F32, I64)
        ),
        Sample(({0: "1.5"},), {"size": 2}),
    ],
    group="ml",
)
