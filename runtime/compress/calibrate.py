"""Calibration: run the statistics graph over the data, once for all observers.

found = calibrate(graph, values, data)      found.seen: Observed by the name of the value
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from ...compiler.classes import dataclass
from ...compiler.compress.candidates import Product, find_products, parts_of
from ...compiler.compress.observers import Observed
from ...compiler.compress.statistics import ENDS, HISTOGRAM, can_be_observed, histogram
from ...compiler.compress.sums import sums_of
from ...compiler.errors import InputError
from ...compiler.ir.graph import Graph, Value
from ...compiler.system.progress import Listener, tell
from ..base.signature import fix_shapes
from .counting import Counting
from .data import Data, Feed, add_to_hash
from .memory import give_back


@dataclass(frozen=True, eq=False)
class Calibrated:
    """What was seen of each value, the sums of what products read by the product's name, and the
    hash of the data."""

    seen: dict[str, Observed]
    sums: dict[str, np.ndarray]
    hash: str


def calibrate(
    graph: Graph,
    values: Sequence[Value],
    data: Data,
    products: Sequence[Product] = (),
    *,
    threads: int | None = None,
    progress: Listener | None = None,
) -> Calibrated:
    """What the data makes of these values, and of what these products read. Raises InputError for
    NaN or infinite values, which input and which node has them."""
    if data.shapes is not None:  # code for these sizes is faster
        names = {v.name for v in values}
        graph = fix_shapes(graph, data.shapes)
        values = [v for v in graph.values() if v.name in names]
        known = {p.name: p for p in find_products(graph)}
        products = [known[p.name] for p in products]
    observed = [v for v in values if can_be_observed(v)]
    statistics = [(v, histogram(places)) for v, places in _places(graph, observed)]
    sums = {p.name: (p.x, sums_of(p)) for p in products}
    once = {f"{x.name}/{s.name}": (x, s) for x, s in sums.values()}
    counting = Counting(graph, [*statistics, *once.values()], observed, threads=threads)
    h, runs, ends = hashlib.sha256(), 0, _Ends(len(observed))
    tell(progress, "calibrate", 0, data.total or 0)
    for feed in data:
        _refuse_odd(feed, runs)
        add_to_hash(h, feed)
        found = counting.run(feed)
        if observed:
            ends.add(np.array([found[f"{v.name}/{ENDS}"] for v in observed]))
        runs += 1
        tell(progress, "calibrate", runs, max(runs, data.total or 0))
    if not runs:
        raise InputError("the data has no samples", fix="give at least one")
    histograms = [counting.state[f"{v.name}/{HISTOGRAM}"].copy() for v in observed]
    seen = {v.name: ends.observed(i, histograms[i]) for i, v in enumerate(observed)}
    for v in observed:
        if not np.isfinite(seen[v.name].range).all() or seen[v.name].ends[3]:
            raise InputError(
                "the data makes NaN or infinite values",
                where="an input of the model" if v.node is None else v.node.where,
                received=f"%{v.name}, in {int(seen[v.name].ends[3])} of {runs} runs",
                fix="look at what the model gives for this data before it is quantized",
            )
    summed = {n: counting.state[f"{x.name}/{s.name}"].copy() for n, (x, s) in sums.items()}
    del counting
    give_back()
    return Calibrated(seen, summed, h.hexdigest()[:16])


def _places(graph: Graph, values: Sequence[Value]) -> Iterator[tuple[Value, tuple[int, ...]]]:
    """Each value with its axes of places, where convolutions read it."""
    windows = {v: p.node for p in find_products(graph) for v in (p.x, *parts_of(p.source))}
    for v in values:
        node = windows.get(v)
        if node is None or node.op.name != "conv" or v.rank != node.outputs[0].rank:
            yield v, ()
        else:
            first = 1 if node.attrs["channels_last"] else 2
            yield v, tuple(range(first, first + v.rank - 2))


class _Ends:
    """The least and largest values of `count` values, over all runs."""

    def __init__(self, count: int):
        self.range = np.array([[np.inf, -np.inf]] * count, np.float32)
        self.total = np.zeros((count, 2))
        self.runs, self.odd = 0, np.zeros(count)

    def add(self, found: np.ndarray) -> None:
        high, low = found.T
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
