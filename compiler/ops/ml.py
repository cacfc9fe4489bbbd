"""Classical models: linear_classifier, normalizer, lookup, zip_map (ai.onnx.ml)."""

import numpy as np

from ..errors import TypeMismatch
from ..types import F32, F64, I32, I64, STR, MapType, SequenceType, TensorType
from .common import array, case, floats, ints, through_expansion
from .registry import Attr, Expand, Extern, NotDifferentiable, register

NUMBERS = {F32, F64, I64, I32}
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
STRINGS = "strings and maps live in Python: they appear at the model's boundary only"
BOUNDARY = NotDifferentiable("labels have no gradient")


# -- lookup --------------------------------------------------------------------------------


def lookup_ref(index, *, labels):
    return np.asarray(np.asarray(labels, object)[index])


register(
    "lookup",
    "index: i64 -> str",
    "The string at each index.",
    attrs={"labels": Attr("strs")},
    shape=lambda index, *, labels: index.shape,
    ref=lookup_ref,
    grad=BOUNDARY,
    loops=Extern(lookup_ref, STRINGS),
    samples=lambda: [case(array([2, 0], "i64"), labels=("a", "b", "c"))],
    family="ml",
)

# -- linear_classifier ---------------------------------------------------------------------

CLASSIFIER_ATTRS = {
    "coefficients": Attr("floats", doc="[scores, features], row by row"),
    "intercepts": Attr("floats", ()),
    "post_transform": Attr("str", "NONE", "|".join(TRANSFORMS)),
    "labels": Attr("any", doc="ints or strings, one per class"),
}


def _layout(x, coefficients, intercepts, labels):
    """(features, score columns, classes). One column is the score of the second of two classes."""
    features = x.shape[-1]
    if not isinstance(features, int) or features == 0 or len(coefficients) % features:
        raise TypeMismatch(
            "linear_classifier: coefficients must be rows as long as x's last axis",
            expected=f"a multiple of {features} coefficients",
            received=len(coefficients),
        )
    columns = len(coefficients) // features
    classes = 2 if columns == 1 else columns
    if len(labels) != classes or len(intercepts) not in (0, columns):
        raise TypeMismatch(
            "linear_classifier: one label per class and one intercept per row of coefficients",
            expected=f"{classes} labels, {columns} intercepts or none",
            received=f"{len(labels)} labels, {len(intercepts)} intercepts",
        )
    return features, columns, classes


def classifier_infer(x, *, coefficients, intercepts, post_transform, labels):
    if x.rank not in (1, 2):
        raise TypeMismatch("linear_classifier needs [N, features] or [features]", received=x)
    _, columns, classes = _layout(x, coefficients, intercepts, labels)
    allowed = TRANSFORMS if columns == classes else TRANSFORMS[:-1]
    if post_transform not in allowed:
        raise TypeMismatch(
            f"no such post_transform for {columns} score columns",
            expected=", ".join(allowed),
            received=post_transform,
        )
    rows = x.shape[0] if x.rank == 2 else 1
    kind = STR if isinstance(labels[0], str) else I64
    return TensorType(kind, (rows,)), TensorType(F32, (rows, classes))


def classifier_ref(x, *, coefficients, intercepts, post_transform, labels):
    features, columns, classes = _layout(x, coefficients, intercepts, labels)
    weights = np.asarray(coefficients, np.float32).reshape(columns, features)
    scores = x.reshape(-1, features).astype(np.float32) @ weights.T
    if intercepts:
        scores = scores + np.asarray(intercepts, np.float32)
    binary = columns < classes
    chosen = (scores[:, 0] > 0).astype(int) if binary else scores.argmax(1)
    names = np.asarray(labels, object if isinstance(labels[0], str) else np.int64)
    with np.errstate(all="ignore"):
        return names[chosen], _transform_ref(scores, post_transform, binary).astype(np.float32)


def _transform_ref(scores, post_transform, binary):
    match post_transform:
        case "LOGISTIC":
            both = np.concatenate([-scores, scores], 1) if binary else scores
            return 1 / (1 + np.exp(-both))
        case _ if binary:
            return np.concatenate([1 - scores, scores], 1)
        case "SOFTMAX" | "SOFTMAX_ZERO":
            e = np.exp(scores - scores.max(1, keepdims=True))
            if post_transform == "SOFTMAX_ZERO":
                e = np.where(scores == 0, 0, e)
            return e / e.sum(1, keepdims=True)
        case "PROBIT":
            x = 2 * scores - 1
            log = np.log((1 - x) * (1 + x))
            v = 2 / (3.14159 * 0.147) + 0.5 * log
            root = np.sqrt(np.sqrt(v * v - log / 0.147) - v)
            return np.where(x < 0, -1, 1) * 1.41421356 * root
    return scores


def _transform(b, scores, post_transform, binary):
    """`binary`: one column; LOGISTIC gives sigmoid(-s), sigmoid(s), the others 1 - s, s."""
    match post_transform:
        case "LOGISTIC":
            return b.sigmoid(b.concat(-scores, scores, axis=1) if binary else scores)
        case _ if binary:
            return b.concat(1 - scores, scores, axis=1)
        case "SOFTMAX":
            return b.softmax(scores, axis=1)
        case "SOFTMAX_ZERO":  # zeros stay zero, the others share
            e = b.exp(scores - scores.max(1, keepdims=True))
            e = b.where(b.equal(scores, b.scalar(0, F32)), b.scalar(0, F32), e)
            return e / e.sum(1, keepdims=True)
        case "PROBIT":
            return _probit(b, scores)
    return scores


def _probit(b, p):
    """sqrt(2) * erfinv(2p - 1) in Winitzki's approximation, which ONNX Runtime uses too."""
    x = p * 2 - 1
    log = b.log((1 - x) * (1 + x))
    v = log * 0.5 + 2 / (3.14159 * 0.147)
    root = b.sqrt(b.sqrt(v * v - log * (1 / 0.147)) - v)
    return b.where(x < b.scalar(0, F32), -root, root) * 1.41421356


def _classifier(b, x, *, coefficients, intercepts, post_transform, labels):
    features, columns, classes = _layout(x, coefficients, intercepts, labels)
    if x.rank == 1:
        x = x.reshape(1, features)
    weights = np.asarray(coefficients, np.float32).reshape(columns, features)
    scores = x.cast(F32) @ b.constant(np.ascontiguousarray(weights.T))
    if intercepts:
        scores = scores + b.constant(np.asarray(intercepts, np.float32))
    binary = columns < classes
    if binary:
        chosen = (scores > b.scalar(0, F32)).cast(I64).reshape(x.shape[0])
    else:
        chosen = b.arg_max(scores, axis=1, keepdims=False)
    if isinstance(labels[0], str):
        label = b.lookup(chosen, labels=labels)
    else:
        label = b.gather(b.constant(np.asarray(labels, np.int64)), chosen, axis=0)
    return label, _transform(b, scores, post_transform, binary)


def _classifier_samples():
    x = floats((3, 2))
    rows = {"coefficients": (0.3, 0.2, -0.1, 0.4, 0.1, 0.1), "intercepts": (0.1, 0.0, -0.1)}
    for post_transform in TRANSFORMS[:-1]:
        yield case(x, **rows, labels=(4, 5, 6), post_transform=post_transform, grad=False)
        yield case(x, coefficients=(0.3, 0.2), labels=(4, 9), post_transform=post_transform,
                   grad=False)  # fmt: skip
    yield case(x, **rows, labels=("a", "b", "c"), grad=False)
    yield case(ints((3, 2), low=0, high=2), **rows, labels=(0, 1, 2), grad=False)
    yield case(floats((3, 1), low=0.05, high=0.95), coefficients=(1.0, 0.9), labels=(0, 1),
               post_transform="PROBIT", grad=False)  # fmt: skip


register(
    "linear_classifier",
    "x: T -> *",
    """Labels of the highest linear score, and the scores after `post_transform`.

    One row of coefficients with two labels is a binary classifier: the second label where the
    score is positive.
    """,
    attrs=CLASSIFIER_ATTRS,
    infer=classifier_infer,
    ref=classifier_ref,
    grad=BOUNDARY,
    loops=Expand(_classifier),
    samples=_classifier_samples,
    family="ml",
    T=NUMBERS,
)

# -- normalizer ----------------------------------------------------------------------------


def normalizer_shape(x, *, norm):
    if norm not in ("MAX", "L1", "L2") or x.rank == 0:
        raise TypeMismatch("unknown normalizer", expected="MAX, L1 or L2", received=norm)
    return x.shape


def normalizer_ref(x, *, norm):
    x = x.astype(np.float32)
    match norm:
        case "MAX":
            d = x.max(-1, keepdims=True)
        case "L1":
            d = np.abs(x).sum(-1, keepdims=True)
        case "L2":
            d = np.sqrt((x * x).sum(-1, keepdims=True))
    return np.divide(x, d, out=x.copy(), where=d != 0)


def _normalizer(b, x, *, norm):
    x = x.cast(F32)
    op = {"MAX": "reduce_max", "L1": "reduce_l1", "L2": "reduce_l2"}[norm]
    d = b.emit(op, x, axes=(-1,), keepdims=True)
    return x / b.where(b.equal(d, b.scalar(0, F32)), b.scalar(1, F32), d)


register(
    "normalizer",
    "x: T -> f32",
    "Rows divided by their maximum (MAX), sum of magnitudes (L1) or length (L2); zero rows stay.",
    attrs={"norm": Attr("str", "MAX")},
    shape=normalizer_shape,
    ref=normalizer_ref,
    grad=through_expansion,
    loops=Expand(_normalizer),
    samples=lambda: [
        *(case(floats((3, 4)), norm=norm, grad=False) for norm in ("MAX", "L1", "L2")),
        case(array([[0.0, 0.0], [-3.0, -1.0]]), norm="L2", grad=False),
        case(ints((2, 3)), norm="L1"),
    ],
    family="ml",
    T=NUMBERS,
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
    grad=BOUNDARY,
    loops=Extern(zip_map_ref, STRINGS),
    samples=lambda: [
        case(floats((2, 3)), labels=("a", "b", "c"), grad=False),
        case(floats((2, 2)), labels=(0, 1), grad=False),
    ],
    family="ml",
)
