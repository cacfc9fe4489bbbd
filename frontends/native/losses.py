"""Losses, and what all of them share: weights, masks and how they are reduced.

A loss is a function of predictions and targets that gives one number for each sample (or element);
`@loss` makes the rest:

    mse(predictions, targets)                         the mean of all elements
    mse(predictions, targets, weights=w)              sum(w * losses) / sum(w)
    mse(predictions, targets, mask=seen)              only where the mask holds
    mse(predictions, targets, reduction="none")       the losses themselves; or "sum"

Weights and masks have the losses' first axes: [N] for losses of [N] or [N,T]. The mean of nothing
is 0. A loss that brings weights of its own (classes, labels that are ignored) returns the pair
(losses, weights).
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ...compiler.errors import UsageError
from . import functional as F
from .tracing import Array, user_line

REDUCTIONS = ("mean", "sum", "none")
TINY = 1e-7  # probabilities are kept that far from 0 and 1


def loss(each: Callable) -> Callable:
    """The loss that reduces what `each` gives: losses, or (losses, weights)."""

    @functools.wraps(each)
    def reduced(
        *args: Any,
        weights: Array | None = None,
        mask: Array | None = None,
        reduction: str = "mean",
        **options: Any,
    ) -> Array:
        if reduction not in REDUCTIONS:
            raise UsageError(
                f"{each.__name__}: unknown reduction",
                where=user_line(),
                expected=", ".join(REDUCTIONS),
                received=repr(reduction),
            )
        result = each(*args, **options)
        losses, own = result if isinstance(result, tuple) else (result, None)
        return _reduced(losses, [w for w in (own, weights) if w is not None], mask, reduction)

    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in (("weights", None), ("mask", None), ("reduction", "mean"))
    ]
    signature = inspect.signature(each)
    reduced.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *more], return_annotation=Array
    )
    return reduced


def _reduced(losses: Array, weights: list, mask: Array | None, reduction: str) -> Array:
    b = losses.b
    weights = [_beside(losses, b.like(w, losses).cast(losses.dtype)) for w in weights]
    if mask is not None:
        mask = _beside(losses, b.like(mask, losses).cast("bool"))
        losses = F.where(mask, losses, F.zeros_like(losses))
        weights.append(mask.cast(losses.dtype))
    for w in weights:
        losses = losses * w
    if reduction == "none":
        return losses
    if not weights:
        return losses.sum() if reduction == "sum" else losses.mean()
    total = losses.sum()
    if reduction == "sum":
        return total
    weight = functools.reduce(lambda x, y: x * y, weights).expand(losses.shape).sum()
    return total / F.where(weight == 0, F.ones_like(weight), weight)


def _beside(losses: Array, w: Any) -> Any:
    """Weights of the first axes of the losses, with the others as axes of size 1."""
    return w.reshape((*w.shape, *[1] * (losses.rank - w.rank)))


# -- numbers ---------------------------------------------------------------------------------------


@loss
def mse(predictions: Array, targets: Array) -> Array:
    """Squared error: (prediction - target)^2, of each element."""
    d = predictions - targets
    return d * d


@loss
def mae(predictions: Array, targets: Array) -> Array:
    """Absolute error: |prediction - target|, of each element."""
    return abs(predictions - targets)


@loss
def mape(predictions: Array, targets: Array) -> Array:
    """Absolute error in percent of the target, of each element."""
    return abs((predictions - targets) / F.maximum(abs(targets), TINY)) * 100


@loss
def msle(predictions: Array, targets: Array) -> Array:
    """Squared error of log(1 + x), of each element; below 0 counts as 0."""
    d = F.log(F.relu(predictions) + 1) - F.log(F.relu(targets) + 1)
    return d * d


@loss
def huber(predictions: Array, targets: Array, delta: float = 1.0) -> Array:
    """d^2 / 2 up to |d| = delta, then the line delta * (|d| - delta / 2) (Huber 1964)."""
    d = abs(predictions - targets)
    near = F.minimum(d, delta)
    return near * (d - near * 0.5)


@loss
def log_cosh(predictions: Array, targets: Array) -> Array:
    """log(cosh(d)), of each element, without overflow: |d| + log(1 + e^(-2|d|)) - log(2)."""
    d = abs(predictions - targets)
    return d + F.softplus(d * -2) - 0.6931471805599453


@loss
def poisson(predictions: Array, targets: Array) -> Array:
    """prediction - target * log(prediction): counts, from their expected value above 0."""
    return predictions - targets * F.log(F.maximum(predictions, TINY))


@loss
def gaussian_nll(mean: Array, targets: Array, variance: Array, eps: float = 1e-6) -> Array:
    """-log N(target; mean, variance) without its constant: (log v + (t - m)^2 / v) / 2."""
    v, d = F.maximum(variance, eps), mean - targets
    return (F.log(v) + d * d / v) * 0.5


# -- classes ---------------------------------------------------------------------------------------


@loss
def cross_entropy(
    logits: Array,
    labels: Array,
    label_smoothing: float = 0.0,
    *,
    ignore_index: int | None = None,
    class_weights: Array | None = None,
) -> Any:
    """-log softmax(logits)[label]: logits [N,…,C], integer labels [N,…].

    With smoothing s the target is 1 - s for the label plus s / C for each class. Labels equal to
    `ignore_index` don't count. `class_weights` [C] weigh samples by their label. A run with another
    label that is no class raises InputError. Classes whose logit is -inf do no harm unless they are
    a sample's label.
    """
    counted, labels = _labels(logits, labels, ignore_index)
    log_p = F.log_softmax(logits, axis=-1)
    loss = -_at(log_p, labels)
    if label_smoothing != 0:
        loss = loss * (1 - label_smoothing) - log_p.mean(-1) * label_smoothing
    return _weighed(loss, labels, counted, class_weights)


@loss
def categorical_cross_entropy(logits: Array, targets: Array, label_smoothing: float = 0.0) -> Array:
    """-sum(target * log softmax(logits)) along the last axis: targets are shares of classes."""
    log_p = F.log_softmax(logits, axis=-1)
    loss = -_weighted_log(targets, log_p).sum(-1)
    if label_smoothing != 0:
        loss = loss * (1 - label_smoothing) - log_p.mean(-1) * label_smoothing
    return loss


@loss
def binary_cross_entropy(logits: Array, targets: Array, pos_weight: float = 1.0) -> Array:
    """-t log(sigmoid(x)) * pos_weight - (1 - t) log(1 - sigmoid(x)), of each element.

    `targets` are 0, 1 or between. From logits, so that no logarithm of 0 is taken.
    """
    t = targets.cast(logits.dtype)
    return F.softplus(-logits) * t * pos_weight + F.softplus(logits) * (1 - t)


@loss
def binary_cross_entropy_of_probabilities(p: Array, targets: Array) -> Array:
    """As `binary_cross_entropy`, of probabilities, kept 1e-7 away from 0 and 1."""
    t, p = targets.cast(p.dtype), F.minimum(F.maximum(p, TINY), 1 - TINY)
    return -(t * F.log(p) + (1 - t) * F.log(1 - p))


@loss
def focal(
    logits: Array,
    labels: Array,
    gamma: float = 2.0,
    *,
    ignore_index: int | None = None,
    class_weights: Array | None = None,
) -> Any:
    """(1 - p)^gamma * -log p, p = softmax(logits)[label]: easy samples count less (Lin 2017).

    Labels as in `cross_entropy`.
    """
    counted, labels = _labels(logits, labels, ignore_index)
    log_p = _at(F.log_softmax(logits, axis=-1), labels)
    rest = F.maximum(1 - F.exp(log_p), 1e-30)  # its power's gradient stays finite
    return _weighed(-log_p * rest**gamma, labels, counted, class_weights)


@loss
def binary_focal(
    logits: Array, targets: Array, gamma: float = 2.0, alpha: float | None = 0.25
) -> Array:
    """`focal` of two classes, each element for itself; `alpha` weighs targets of 1, 1 - alpha 0."""
    t = targets.cast(logits.dtype)
    error = F.softplus(-logits) * t + F.softplus(logits) * (1 - t)
    p = F.sigmoid(logits)
    wrong = F.maximum(p * (1 - t) + (1 - p) * t, 1e-30)
    error = error * wrong**gamma
    return error if alpha is None else error * (t * alpha + (1 - t) * (1 - alpha))


@loss
def kl_divergence(log_predictions: Array, targets: Array) -> Array:
    """sum(t * (log t - log p)) along the last axis, of log p and shares t; 0 where t is 0."""
    log_t = F.log(F.where(targets > 0, targets, F.ones_like(targets)))
    return _weighted_log(targets, log_t - log_predictions).sum(-1)


@loss
def hinge(predictions: Array, targets: Array) -> Array:
    """max(0, 1 - target * prediction), of each element; targets are -1 and 1."""
    return F.relu(1 - targets * predictions)


@loss
def squared_hinge(predictions: Array, targets: Array) -> Array:
    """max(0, 1 - target * prediction)^2, of each element; targets are -1 and 1."""
    d = F.relu(1 - targets * predictions)
    return d * d


@loss
def multi_margin(scores: Array, labels: Array, margin: float = 1.0) -> Array:
    """mean over the other classes c of max(0, margin - score[label] + score[c])."""
    _, labels = _labels(scores, labels, None)
    own = _at(scores, labels)
    d = F.relu(scores - own.reshape((*own.shape, 1)) + margin)
    return F.where(_is_label(scores, labels), 0.0, d).mean(-1)


# -- distances -------------------------------------------------------------------------------------


@loss
def cosine_distance(x: Array, y: Array, eps: float = 1e-8) -> Array:
    """1 - cos of the angle between x and y, vectors along the last axis."""
    return 1 - _normal(x, y, eps)


@loss
def triplet(anchor: Array, positive: Array, negative: Array, margin: float = 1.0) -> Array:
    """max(0, |a - p| - |a - n| + margin), of vectors along the last axis (Schroff et al. 2015)."""
    return F.relu(_distance(anchor, positive) - _distance(anchor, negative) + margin)


@loss
def contrastive(x: Array, y: Array, same: Array, margin: float = 1.0) -> Array:
    """d^2 of pairs that are the same, else max(0, margin - d)^2 (Hadsell et al. 2006)."""
    d, t = _distance(x, y), same.cast(x.dtype)
    apart = F.relu(margin - d)
    return d * d * t + apart * apart * (1 - t)


def accuracy(logits: Array, labels: Array) -> Array:
    """The share of rows whose largest logit is at the integer label."""
    best = F.arg_max(logits, axis=-1, keepdims=False)
    return (best == labels.cast(best.dtype)).cast("f32").mean()


# -- parts -----------------------------------------------------------------------------------------


def _labels(logits: Array, labels: Array, ignore_index: int | None) -> tuple[Array | None, Array]:
    """(which labels count, labels that are classes)"""
    counted = None
    if ignore_index is not None:
        counted = labels != ignore_index
        labels = F.where(counted, labels, F.zeros_like(labels))
    return counted, F.within(labels, low=0, high=logits.shape[-1], what="a label")


def _at(x: Array, labels: Array) -> Array:
    """x[…, label]. What is not chosen is left out, not multiplied by 0: it may be -inf."""
    return F.where(_is_label(x, labels), x, F.zeros_like(x)).sum(-1)


def _is_label(x: Array, labels: Array) -> Array:
    place = x.b.array(x.b.iota(shape=(x.shape[-1],), axis=0, dtype=labels.dtype))
    return labels.reshape((*labels.shape, 1)) == place


def _weighed(
    losses: Array, labels: Array, counted: Array | None, class_weights: Array | None
) -> Any:
    """The losses, with the weights that classes and ignored labels give them."""
    weights = None
    if counted is not None:
        losses = F.where(counted, losses, F.zeros_like(losses))
        weights = counted.cast(losses.dtype)
    if class_weights is not None:
        own = F.gather(losses.b.like(class_weights, losses).cast(losses.dtype), labels, axis=0)
        weights = own if weights is None else weights * own
    return losses if weights is None else (losses, weights)


def _weighted_log(weights: Array, logs: Array) -> Array:
    """weight * log, 0 where the weight is 0: the log may be -inf there."""
    zero = weights == 0
    return F.where(zero, F.zeros_like(logs), weights * F.where(zero, F.zeros_like(logs), logs))


def _distance(x: Array, y: Array) -> Array:
    """|x - y| along the last axis; its gradient at 0 is finite."""
    d = x - y
    return F.sqrt(F.maximum((d * d).sum(-1), 1e-12))


def _normal(x: Array, y: Array, eps: float) -> Array:
    size = F.sqrt(F.maximum((x * x).sum(-1) * (y * y).sum(-1), eps * eps))
    return (x * y).sum(-1) / size
