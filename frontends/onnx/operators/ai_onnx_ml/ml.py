"""The ai.onnx.ml domain: linear models, what prepares features, encoders of labels, maps."""

import numpy as np

from .....compiler.errors import ModelError
from .....compiler.ir.builder import Tensor
from .....compiler.ir.types import F32, F64, I64, STR, MapType
from .....compiler.ops.contraction.scores import transform
from ...read.call import Call
from . import svm, tree
from .common import class_labels, columns, rows


def _floats(x: Tensor) -> Tensor:
    """x as f32, or f64 where it is f64."""
    return x.cast(F64 if x.dtype == F64 else F32)


# -- linear models ----------------------------------------------------------------------------


def linear_classifier(c: Call):
    c.ignore("multi_class")
    labels, coefficients = class_labels(c, "classlabels_ints"), c.attr("coefficients")
    intercepts = c.attr("intercepts", ())
    scores = len(intercepts) or len(labels)
    return c.b.emit(
        "linear_classifier",
        columns(c.x(0), len(coefficients) // scores),
        coefficients=tuple(coefficients),
        intercepts=tuple(intercepts),
        post_transform=c.attr("post_transform", "NONE"),
        labels=labels,
    )


def linear_regressor(c: Call):
    """x @ coefficients' + intercepts, a row of coefficients per target."""
    x, targets = rows(c.x(0).cast(F32)), c.attr("targets", 1)
    weights = np.asarray(c.attr("coefficients", ()), np.float32)
    intercepts = np.asarray(c.attr("intercepts", ()), np.float32)
    if targets < 1 or not len(weights) or len(weights) % targets:
        raise ModelError(
            "coefficients must be a row per target",
            where=c.where,
            expected=f"a multiple of {targets}",
            received=len(weights),
        )
    weights = np.ascontiguousarray(weights.reshape(targets, -1).T)
    y = columns(x, len(weights)) @ c.b.constant(weights)
    if len(intercepts):
        y = y + intercepts
    return transform(c.b, y, c.attr("post_transform", "NONE"))


# -- features ---------------------------------------------------------------------------------


def normalizer(c: Call):
    return c.b.emit("normalizer", c.x(0), norm=c.attr("norm", "MAX"))


def scaler(c: Call):
    """(x - offset) * scale"""
    x = _floats(c.x(0))
    return ((x - c.attr("offset", [0.0])) * c.attr("scale", [1.0])).cast(F32)


def binarizer(c: Call):
    """1 where x is above the threshold, else 0."""
    x = c.x(0)
    return (_floats(x) > c.attr("threshold", 0.0)).cast(x.dtype)


def imputer(c: Call):
    """Missing elements (a value, or NaN) replaced by one value, or one per feature."""
    x = c.x(0)
    kind = ("floats", "float", 0.0) if x.dtype.is_float else ("int64s", "int64", 0)
    values = c.attr(f"imputed_value_{kind[0]}", ())
    missing = c.attr(f"replaced_value_{kind[1]}", kind[2])
    c.ignore("imputed_value_floats", "imputed_value_int64s")
    c.ignore("replaced_value_float", "replaced_value_int64")
    if not values:
        raise ModelError(f"attribute imputed_value_{kind[0]} is missing", where=c.where)
    if len(values) != 1 and (not x.rank or len(values) != x.shape[-1]):
        raise ModelError(
            "an Imputer needs one value, or one per feature",
            where=c.where,
            expected=f"1 or {x.shape[-1] if x.rank else 1}",
            received=len(values),
        )
    values = c.b.constant(np.asarray(values).astype(x.dtype.numpy))
    if x.dtype.is_float and np.isnan(missing):
        is_missing = c.b.emit("isnan", x)
    else:
        is_missing = c.b.equal(x, c.scalar(missing, x.dtype))
    return c.b.where(is_missing, values, x)


def feature_vectorizer(c: Call):
    """All inputs side by side, each cut or filled with zeros to its width."""
    parts = [x.reshape(x.shape[0], -1) if x.rank else x.reshape(1, 1) for x in c.tensors]
    widths = c.attr("inputdimensions", None) or [x.shape[1] for x in parts]
    if len(widths) != len(parts):
        raise ModelError(
            "inputdimensions needs a width per input",
            where=c.where,
            expected=len(parts),
            received=len(widths),
        )
    parts = [_wide(c, x.cast(F32), width) for x, width in zip(parts, widths)]
    return parts[0] if len(parts) == 1 else c.b.concat(*parts, axis=1)


def _wide(c: Call, x: Tensor, width: int) -> Tensor:
    if x.shape[1] == width:
        return x
    if x.shape[1] > width:
        return c.b.emit("slice", x, axes=(1,), starts=(0,), steps=(1,), sizes=(width,))
    return c.b.pad(x, pads=(0, 0, 0, width - x.shape[1]))


def array_feature_extractor(c: Call):
    """Columns of the last axis; a vector counts as one row."""
    x, at = rows(c.x(0)), c.x(1).reshape(-1)
    at = c.within(at, 0, x.shape[-1])
    words = c.known(0)
    if x.dtype == STR and words is not None and words.size == x.shape[-1]:
        return c.b.lookup(at.reshape(*x.shape[:-1], -1), labels=tuple(words.reshape(-1).tolist()))
    return c.b.gather(x, at, axis=x.rank - 1)


# -- encoders ---------------------------------------------------------------------------------


def _keys(x: Tensor, keys: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """A place in `order` for each element of x, or -1; `order` lists the keys that there are to
    find, of equal ones the last."""
    if x.dtype == STR:
        return x.b.search_strings(x, keys=tuple(keys.tolist())), np.arange(len(keys))
    sorted_, first = np.unique(keys[::-1], return_index=True)
    return x.b.search(x, x.b.constant(sorted_)), len(keys) - 1 - first


def _encode(c: Call, keys, values, default) -> Tensor:
    """x mapped from keys to values, which are arrays; strings are object arrays."""
    x = c.x(0)
    if len(keys) != len(values) or not len(keys):
        raise ModelError(
            "keys and values must be as many",
            where=c.where,
            expected="one value per key",
            received=f"{len(keys)} keys, {len(values)} values",
        )
    if (x.dtype == STR) != (keys.dtype == object):
        raise ModelError(
            "the keys are of another type than the input",
            where=c.where,
            expected=x.type,
            received="strings" if keys.dtype == object else keys.dtype,
        )
    place, order = _keys(x, keys if x.dtype == STR else keys.astype(x.dtype.numpy))
    # -1 reads from the end: there the default lies.
    table = np.append(values[order], np.asarray(default, values.dtype).reshape(1))
    if values.dtype == object:
        return c.b.lookup(place, labels=tuple(table.tolist()))
    return c.b.gather(c.b.constant(table), place, axis=0)


_KINDS = {"int64s": np.int64, "floats": np.float32, "strings": object}
_DEFAULTS = {
    "int64s": ("default_int64", -1),
    "floats": ("default_float", -0.0),
    "strings": ("default_string", "_Unused"),
}


def _column(c: Call, side: str) -> tuple[np.ndarray, str]:
    """The keys or values of a LabelEncoder, and which of the four attributes they came from."""
    tensor = c.attr(f"{side}_tensor", None)
    found = [(np.asarray(tensor).reshape(-1), "tensor")] if tensor is not None else []
    for kind, dtype in _KINDS.items():
        values = c.attr(f"{side}_{kind}", None)
        if values:
            found.append((np.asarray(values, dtype), kind))
    if len(found) != 1:
        raise ModelError(
            f"a LabelEncoder needs its {side} in exactly one attribute",
            where=c.where,
            expected=f"one of {side}_tensor, {', '.join(f'{side}_{k}' for k in _KINDS)}",
            received=[kind for _, kind in found],
        )
    return found[0]


def label_encoder(c: Call):
    c.ignore("default_int64", "default_float", "default_string", "default_tensor")
    if c.version < 2:
        return _classes(c)
    keys, _ = _column(c, "keys")
    values, kind = _column(c, "values")
    if kind == "tensor":
        kind = {"O": "strings", "f": "floats"}.get(values.dtype.kind, "int64s")
        given = c.attr("default_tensor", None)
        default = _DEFAULTS[kind][1] if given is None else np.asarray(given).reshape(-1)[0]
    else:
        default = c.attr(*_DEFAULTS[kind])
    return _encode(c, keys, values, default)


def _classes(c: Call):
    """Version 1: strings to their places, or places to strings."""
    words = np.asarray(c.attr("classes_strings", ()), object)
    places = np.arange(len(words))
    if c.x(0).dtype == STR:
        return _encode(c, words, places, c.attr("default_int64", -1))
    return _encode(c, places, words, c.attr("default_string", "_Unused"))


def category_mapper(c: Call):
    words = np.asarray(c.attr("cats_strings", ()), object)
    numbers = np.asarray(c.attr("cats_int64s", ()), np.int64)
    default_int, default_string = c.attr("default_int64", -1), c.attr("default_string", "_Unused")
    if c.x(0).dtype == STR:
        return _encode(c, words, numbers, default_int)
    return _encode(c, numbers, words, default_string)


def one_hot_encoder(c: Call):
    """A new last axis with a 1 at the category. Strings are looked up in Python, and so is
    whether a category is unknown where that has to stop the run (zeros=0)."""
    x, zeros = c.x(0), c.attr("zeros", 1)
    name = "cats_strings" if x.dtype == STR else "cats_int64s"
    categories = c.attr(name, ())
    c.ignore("cats_strings", "cats_int64s")
    if not categories:
        raise ModelError(f"attribute {name} is missing", where=c.where)
    keys = np.asarray(categories, object if x.dtype == STR else np.int64)
    place, order = _keys(x if x.dtype == STR else x.cast(I64), keys)
    if not zeros:
        place = c.b.require_found(place)
    column = np.full(len(keys), -2)  # what each column's key is found at
    column[order] = np.arange(len(order))
    return c.b.equal(place.reshape(*x.shape, 1), c.b.constant(column)).cast(F32)


# -- maps -------------------------------------------------------------------------------------


def zip_map(c: Call):
    return c.b.emit("zip_map", c.x(0), labels=class_labels(c, "classlabels_int64s"))


def dict_vectorizer(c: Call):
    names = ("int64_vocabulary", "string_vocabulary")
    vocabulary = class_labels(c, *names)
    type = c.x(0).type
    if not isinstance(type, MapType):
        raise c.unsupported("a DictVectorizer takes a map", received=type)
    return c.b.emit("dict_vectorizer", c.x(0), vocabulary=vocabulary, dtype=type.value.dtype)


_CASTS = {"TO_FLOAT": F32, "TO_INT64": I64, "TO_STRING": STR}


def cast_map(c: Call):
    """The sparse form: a place per key."""
    form, cast = c.attr("map_form", "DENSE"), c.attr("cast_to", "TO_FLOAT")
    size = c.attr("max_map", 1)
    if form != "SPARSE":
        raise c.unsupported(
            "a dense CastMap, whose result is as long as the map",
            expected="map_form=SPARSE",
            received=form,
            fix="tessel needs shapes to follow from the shapes of inputs",
        )
    if cast not in _CASTS:
        raise c.unsupported("unknown cast_to", expected=", ".join(_CASTS), received=cast)
    return c.b.emit("cast_map", c.x(0), size=size, dtype=_CASTS[cast])


TABLE = {
    "LinearClassifier": linear_classifier,
    "LinearRegressor": linear_regressor,
    "Normalizer": normalizer,
    "Scaler": scaler,
    "Binarizer": binarizer,
    "Imputer": imputer,
    "FeatureVectorizer": feature_vectorizer,
    "ArrayFeatureExtractor": array_feature_extractor,
    "LabelEncoder": label_encoder,
    "CategoryMapper": category_mapper,
    "OneHotEncoder": one_hot_encoder,
    "ZipMap": zip_map,
    "DictVectorizer": dict_vectorizer,
    "CastMap": cast_map,
    **svm.TABLE,
    **tree.TABLE,
}
