"""Losses and metrics: from predictions and labels to a scalar."""

from . import functional as F
from .tracing import Array


def cross_entropy(logits: Array, labels: Array, label_smoothing: float = 0.0) -> Array:
    """Mean of -log softmax(logits)[label]: logits [N,…,C], integer labels [N,…].

    With smoothing s the target is 1 - s for the label plus s / C for each class. A run with a label
    that is no class raises InputError.
    """
    log_p = F.log_softmax(logits, axis=-1)
    classes = logits.shape[-1]
    labels = F.within(labels, low=0, high=classes, what="a label")
    target = F.one_hot(labels, classes, axis=-1, dtype=logits.dtype)
    if label_smoothing != 0:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    return -(log_p * target).sum(-1).mean()


def mse(predictions: Array, targets: Array) -> Array:
    """Mean squared error."""
    d = predictions - targets
    return (d * d).mean()


def accuracy(logits: Array, labels: Array) -> Array:
    """The share of rows whose largest logit is at the integer label."""
    best = F.arg_max(logits, axis=-1, keepdims=False)
    return (best == labels.cast(best.dtype)).cast("f32").mean()
