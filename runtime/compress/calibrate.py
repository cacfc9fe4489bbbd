"""Calibration: run the statistics graph over the data, once for all observers.

seen, hash = calibrate(graph, values, data)      Observed by the name of the value
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from ...compiler.compress.observers import Observed
from ...compiler.compress.statistics import ENDS, HISTOGRAM, can_be_observed
from ...compiler.errors import InputError
from ...compiler.ir.graph import Graph, Value
from ...compiler.system.progress import Listener, tell
from ..base.signature import fix_shapes
from .counting import Counting
from .data import Data, Feed, add_to_hash


def calibrate(
    graph: Graph,
    values: Sequence[Value],
    data: Data,
    *,
    threads: int | None = None,
    progress: Listener | None = None,
) -> tuple[dict[str, Observed], str]:
    """What was seen of each value, and the hash of the data. Raises InputError for NaN or infinite
    values, which input and which node has them."""
    if data.shapes is not None:  # code for these sizes is faster
        names = {v.name for v in values}
        graph = fix_shapes(graph, data.shapes)
        values = [v for v in graph.values() if v.name in names]
    observed = [v for v in values if can_be_observed(v)]
    counting = Counting(graph, [(v, HISTOGRAM) for v in observed], observed, threads=threads)
    h, runs, ends = hashlib.sha256(), 0, _Ends(len(observed))
    tell(progress, "calibrate", 0, data.total or 0)
    for feed in data:
        _refuse_odd(feed, runs)
        add_to_hash(h, feed)
        found = counting.run(feed)
        if observed:
            ends.add(found[ENDS])
        runs += 1
        tell(progress, "calibrate", runs, max(runs, data.total or 0))
    if not runs:
        raise InputError("the data has no samples", fix="give at least one")
    histograms = [counting.state[f"{v.name}/{HISTOGRAM.name}"].copy() for v in observed]
    seen = {v.name: ends.observed(i, histograms[i]) for i, v in enumerate(observed)}
    for v in observed:
        if not np.isfinite(seen[v.name].range).all() or seen[v.name].ends[3]:
            raise InputError(
                "the data makes NaN or infinite values",
                where="an input of the model" if v.node is None else v.node.where,
                received=f"%{v.name}, in {int(seen[v.name].ends[3])} of {runs} runs",
                fix="look at what the model gives for this data before it is quantized",
            )
    return seen, h.hexdigest()[:16]


class _Ends:
    """The least and largest values of `count` values, over all runs."""

    def __init__(self, count: int):
        self.range = np.array([[np.inf, -np.inf]] * count, np.float32)
        self.total = np.zeros((count, 2))
        self.runs, self.odd = 0, np.zeros(count)

    def add(self, found: np.ndarray) -> None:
        high, low = found.reshape(2, -1)
        self.range[:, 0] = np.minimum(self.range[:, 0], low)
        self.range[:, 1] = np.maximum(self.range[:, 1], high)
        with np.errstate(invalid="ignore"):
            self.total += np.stack([low, high], axis=1)
        self.runs += 1
        self.odd += ~(np.isfinite(low) & np.isfinite(high))

    def observed(self, i: int, histogram: np.ndarray) -> Observed:
        ends = np.array([*self.total[i], self.runs, self.odd[i]], np.float32)
        return Observed(self.range[i], ends, histogram)


def _refuse_odd(feed: Feed, run: int) -> None:
    for name, array in feed.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            odd = int((~np.isfinite(array)).sum())
            raise InputError(
                "the data has NaN or infinite values",
                where=f"input {name}, run {run}",
                received=f"{odd} of {array.size}",
                fix="leave these samples out, or repair them",
            )
