"""Keras' math functions of traced tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..functions import movement
from ..functions.elementwise import as_float
from ..functions.reduction import reduced
from ..functions.table import not_traced
from ..functions.traced import TracedArray, cast, emit, find, joined, lift
from .random import erfinv


def top_k(x: Any, k: int, sorted: bool = True) -> tuple[TracedArray, TracedArray]:
    values, places = emit("top_k", x, k=int(k), axis=-1)
    return values, cast(places, "int32")


def in_top_k(targets: Any, predictions: Any, k: int) -> TracedArray:
    like = find(targets, predictions)
    targets, predictions = lift(like, targets), lift(like, predictions)
    kth = top_k(predictions, k)[0][:, -1:]
    own = movement.take_along_axis(predictions, movement.expand_dims(targets, -1), -1)
    return (own >= kth).reshape(targets.shape)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> TracedArray:
    return reduced("reduce_log_sum_exp", as_float(x), axis, keepdims)


def erfc(x: TracedArray) -> TracedArray:
    return cast(1.0 - emit("erf", cast(x, "float64")), as_float(x).dtype)


def _segments(reduction: str, start: Callable) -> Callable:
    def apply(data: Any, segment_ids: Any, num_segments: Any = None, sorted: bool = False) -> Any:
        if num_segments is None:
            raise not_traced("a segment reduction without num_segments")
        like = find(data, segment_ids)
        data, ids = lift(like, data), cast(lift(like, segment_ids), "int64")
        # What belongs nowhere (-1) goes to a segment of its own, which is dropped.
        n = int(num_segments)
        ids = movement.where(ids < 0, np.int64(n), ids)
        base = lift(like, np.full((n + 1, *data.shape[1:]), start(data.dtype), data.dtype))
        places = ids.reshape((-1, 1))
        return emit("scatter_nd", base, places, data, reduction=reduction)[:n]

    return apply


def cdist(x: Any, y: Any) -> TracedArray:
    x, y = joined(x, y, floating=True)
    d = movement.expand_dims(x, -2) - movement.expand_dims(y, -3)
    return emit("sqrt", (d * d).sum(axis=-1))


def extract_sequences(x: TracedArray, sequence_length: int, sequence_stride: int) -> TracedArray:
    count = (x.shape[-1] - (sequence_length - sequence_stride)) // sequence_stride
    places = np.arange(count)[:, None] * sequence_stride + np.arange(sequence_length)
    return emit("gather", x, places, axis=x.ndim - 1)


def _lowest(dtype: Any) -> Any:
    return -np.inf if np.dtype(dtype).kind == "f" else np.iinfo(dtype).min


def _highest(dtype: Any) -> Any:
    return np.inf if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max


FUNCTIONS: dict[str, Callable] = {
    "top_k": top_k,
    "in_top_k": in_top_k,
    "logsumexp": logsumexp,
    "rsqrt": lambda x: emit("rsqrt", as_float(x)),
    "erf": lambda x: emit("erf", as_float(x)),
    "erfc": erfc,
    "erfinv": lambda x: cast(erfinv(x), as_float(x).dtype),
    "cdist": cdist,
    "extract_sequences": extract_sequences,
    "segment_sum": _segments("add", lambda _: 0),
    "segment_prod": _segments("mul", lambda _: 1),
    "segment_max": _segments("max", _lowest),
    "segment_min": _segments("min", _highest),
}
