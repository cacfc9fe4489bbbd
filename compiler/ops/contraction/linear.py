"""Linear models and rows of unit length: linear_classifier, normalizer (ai.onnx.ml)."""

import numpy as np

from ...errors import TypeMismatch
from ...ir.op import Attr, Expand, register
from ...ir.types import F32, F64, I32, I64, STR, TensorType
from ..common import array, case, floats, ints, through_expansion
from .scores import LABELS, TRANSFORMS, transform, transform_ref

NUMBERS = {F32, F64, I64, I32}

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
        end = _binary_ref if binary else transform_ref
        return names[chosen], end(scores, post_transform).astype(np.float32)


def _binary_ref(scores, post_transform):
    if post_transform == "LOGISTIC":
        return transform_ref(np.concatenate([-scores, scores], 1), post_transform)
    return np.concatenate([1 - scores, scores], 1)


def _binary(b, scores, post_transform):
    """One column is a log-odds for LOGISTIC, and a probability for all others."""
    if post_transform == "LOGISTIC":
        return b.sigmoid(b.concat(-scores, scores, axis=1))
    return b.concat(1 - scores, scores, axis=1)


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
    return label, (_binary if binary else transform)(b, scores, post_transform)


def _classifier_samples():
    x = floats((3, 2))
    rows = {"coefficients": (0.3, 0.2, -0.1, 0.4, 0.1, 0.1), "intercepts": (0.1, 0.0, -0.1)}
    for post_transform in TRANSFORMS[:-1]:
        yield case(x, **rows, labels=(4, 5, 6), post_transform=post_transform, grad=False)
        yield case(
            x, coefficients=(0.3, 0.2), labels=(4, 9), post_transform=post_transform, grad=False
        )
    yield case(x, **rows, labels=("a", "b", "c"), grad=False)
    yield case(ints((3, 2), low=0, high=2), **rows, labels=(0, 1, 2), grad=False)
    yield case(
        floats((3, 1), low=0.05, high=0.95),
        coefficients=(1.0, 0.9),
        labels=(0, 1),
        post_transform="PROBIT",
        grad=False,
    )


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
    grad=LABELS,
    loops=Expand(_classifier),
    samples=_classifier_samples,
    group="ml",
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
    group="ml",
    T=NUMBERS,
)
