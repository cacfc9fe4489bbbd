"""What ai.onnx.ml's models do to their scores at the end: `post_transform`.

One column of scores becomes the two of a binary model before the transform: 1 - s and s of a
probability, -s and s of anything else.
"""

import numpy as np

from ...errors import TypeMismatch
from ...ir.op import NotDifferentiable

TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
LABELS = NotDifferentiable("labels have no gradient")
NEAR_ZERO = 1e-7  # SOFTMAX_ZERO takes smaller magnitudes for zeros


def two_columns(b, scores, post_transform: str, probability: bool):
    """[N, 1] to [N, 2]. What LOGISTIC or a softmax takes is no probability."""
    probability = probability and post_transform in ("NONE", "PROBIT")
    return b.concat(1 - scores if probability else -scores, scores, axis=1)


def transform(b, scores, post_transform: str):
    """`post_transform` of scores [N, columns] of f32 or f64. Raises TypeMismatch."""
    check(post_transform)
    zero = b.scalar(0, scores.dtype)
    match post_transform:
        case "LOGISTIC":
            return b.sigmoid(scores)
        case "SOFTMAX":
            return b.softmax(scores, axis=1)
        case "SOFTMAX_ZERO":  # zeros stay zero, the others share
            e = b.exp(scores - scores.max(1, keepdims=True))
            near = b.emit("abs", scores) <= b.scalar(NEAR_ZERO, scores.dtype)
            e = b.where(near, zero, e)
            total = e.sum(1, keepdims=True)
            return e / b.where(b.equal(total, zero), b.scalar(1, scores.dtype), total)
        case "PROBIT":
            return probit(b, scores)
    return scores


def probit(b, p):
    """sqrt(2) * erfinv(2p - 1) in Winitzki's approximation, which ONNX Runtime uses too."""
    x = p * 2 - 1
    log = b.log((1 - x) * (1 + x))
    v = log * 0.5 + 2 / (3.14159 * 0.147)
    root = b.sqrt(b.sqrt(v * v - log * (1 / 0.147)) - v)
    return b.where(x < b.scalar(0, p.dtype), -root, root) * 1.41421356


def check(post_transform: str) -> None:
    """Raises TypeMismatch for a transform that there is not."""
    if post_transform not in TRANSFORMS:
        raise TypeMismatch(
            "no such post_transform", expected=", ".join(TRANSFORMS), received=post_transform
        )


def transform_ref(scores, post_transform):
    match post_transform:
        case "LOGISTIC":
            return 1 / (1 + np.exp(-scores))
        case "SOFTMAX" | "SOFTMAX_ZERO":
            e = np.exp(scores - scores.max(1, keepdims=True))
            if post_transform == "SOFTMAX_ZERO":
                e = np.where(np.abs(scores) <= NEAR_ZERO, 0, e)
            total = e.sum(1, keepdims=True)
            return e / np.where(total == 0, 1, total)
        case "PROBIT":
            x = 2 * scores - 1
            log = np.log((1 - x) * (1 + x))
            v = 2 / (3.14159 * 0.147) + 0.5 * log
            root = np.sqrt(np.sqrt(v * v - log / 0.147) - v)
            return np.where(x < 0, -1, 1) * 1.41421356 * root
    return scores
