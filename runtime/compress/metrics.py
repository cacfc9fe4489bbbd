"""Metrics by name, for who has inputs and labels: functions of an executable, larger is better."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ...compiler.compress.recipe import nearest
from ...compiler.errors import InputError, UsageError
from .data import Data


def metric_of(name: str, data: Data, labels: np.ndarray) -> Callable[[Any], float]:
    """The metric of this name on data whose samples have `labels`. Raises UsageError."""
    if name not in METRICS:
        raise UsageError(
            "unknown metric",
            expected=", ".join(METRICS),
            received=repr(name),
            fix=nearest(name, METRICS),
        )
    if data.begins is None:
        raise UsageError("labels belong to arrays of samples", fix="give an .npz of them")
    labels = np.asarray(labels).reshape(-1)
    if len(labels) != data.samples:
        raise InputError(
            "there is a label for each sample", expected=data.samples, received=len(labels)
        )

    def metric(exe: Any) -> float:
        output = exe.outputs[0].name
        given = {p.name for p in exe.inputs}
        predicted: np.ndarray | None = None
        for begin, feed in zip(data.begins or (), data):
            y = exe.run({n: a for n, a in feed.items() if n in given})[output]
            if predicted is None:
                predicted = np.empty((len(labels), *y.shape[1:]), y.dtype)
            predicted[begin : begin + len(y)] = y
        assert predicted is not None
        return METRICS[name](predicted.reshape(len(labels), -1), labels)

    return metric


def _accuracy(y: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float((y.argmax(axis=1) == labels).mean())


def _top5(y: np.ndarray, labels: np.ndarray) -> float:
    best = np.argpartition(-y, min(5, y.shape[1]) - 1, axis=1)[:, :5]
    return 100 * float((best == labels[:, None]).any(axis=1).mean())


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": _accuracy,  # percent of samples whose largest output is the label
    "top5": _top5,
}
