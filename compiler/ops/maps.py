"""Strings and maps, which live in Python: lookup, search_strings, zip_map (ai.onnx.ml)."""

import numpy as np

from ..errors import TypeMismatch
from ..types import F32, I64, STR, MapType, SequenceType, TensorType
from .common import array, case, floats
from .registry import Attr, Extern, register
from .scores import LABELS

STRINGS = "strings and maps live in Python: they appear at the model's boundary only"


# -- lookup, search_strings ------------------------------------------------------------------


def lookup_ref(index, *, labels):
    return np.asarray(np.asarray(labels, object)[index])


register(
    "lookup",
    "index: i64 -> str",
    "The string at each index; negative ones count from the end.",
    attrs={"labels": Attr("strs")},
    shape=lambda index, *, labels: index.shape,
    ref=lookup_ref,
    grad=LABELS,
    loops=Extern(lookup_ref, STRINGS),
    samples=lambda: [case(array([2, 0], "i64"), labels=("a", "b", "c"))],
    family="ml",
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
    family="ml",
)

# -- zip_map -------------------------------------------------------------------------------


def zip_map_infer(x, *, labels):
    if x.rank not in (1, 2) or (isinstance(x.shape[-1], int) and x.shape[-1] != len(labels)):
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
    family="ml",
)
