"""Equalization before quantization: which vectors, chosen by data or by weights.

    graph, note = equalize(graph, recipe, data)

One pass over the data counts four numbers of each channel of what products read: least, most, the
sum of sizes and that of squares. SmoothQuant and AWQ choose from these, cross-layer equalization
from weights alone.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ...compiler.classes import dataclass
from ...compiler.compress.candidates import Product
from ...compiler.compress.equalize import (
    Reader,
    equalize_layers,
    equalized,
    readers,
)
from ...compiler.compress.quantize import Plan
from ...compiler.compress.recipe import Recipe
from ...compiler.compress.rounding.awq import awq_scales
from ...compiler.compress.rounding.grid import as_rows
from ...compiler.compress.rounding.smooth import smooth_scales
from ...compiler.compress.statistics import Statistic
from ...compiler.compress.weights import grid_of
from ...compiler.ir.builder import Builder, Tensor
from ...compiler.ir.graph import Graph, Value
from ...compiler.ir.types import F32
from ...compiler.system.progress import Listener
from .counting import Counting
from .data import Data

BY_DATA = ("smoothquant", "awq")


def equalize(
    plan: Plan,
    data: Data | None,
    *,
    threads: int | None = None,
    progress: Listener | None = None,
) -> tuple[Graph, str]:
    """The plan's graph as its recipe equalizes it, and what was done."""
    candidates, recipe = plan.candidates, plan.recipe
    if recipe.equalization == "cross-layer":
        graph, done = equalize_layers(candidates)
        return graph, f"cross-layer: {len(done)} pairs of products have channels of equal ranges"
    assert data is not None
    found = channels(readers(candidates), candidates.graph, data, threads, progress)
    alphas: list[float] = []

    def vector(reader: Reader) -> np.ndarray | None:
        s, alpha = CHOICES[recipe.equalization](reader, found[reader.x.name, reader.axis], recipe)
        if alpha:
            alphas.append(alpha)
        return s

    graph, done = equalized(candidates, vector)
    total, within = len(found), sum(r.vectors is not None for r in done)
    said = f"{recipe.equalization}: {len(done)} of {total} values that products read"
    if done:
        said += (
            f", alpha {min(alphas):g} to {max(alphas):g}; {within} are divided by constants above "
            f"them, {len(done) - within} by a multiplication of their own"
        )
    return graph, said


@dataclass(frozen=True, eq=False)
class Channels:
    """Of each channel of a value: least, most, mean of |x|, mean of x²; f64[channels]."""

    least: np.ndarray
    most: np.ndarray
    sizes: np.ndarray
    squares: np.ndarray


def channels(
    found: Sequence[Reader],
    graph: Graph,
    data: Data,
    threads: int | None = None,
    progress: Listener | None = None,
) -> dict[tuple[str, int], Channels]:
    """By the name of the value and its axis of channels."""
    wanted = [(r.x, _statistic(r)) for r in found]
    counting = Counting(graph, wanted, threads=threads)
    counting.over(data, "channels", progress)
    result = {}
    for r, (x, statistic) in zip(found, wanted):
        seen = counting.state[f"{x.name}/{statistic.name}"].astype(np.float64)
        count = np.maximum(seen[4], 1)
        result[x.name, r.axis] = Channels(seen[0], seen[1], seen[2] / count, seen[3] / count)
    return result


def _statistic(reader: Reader) -> Statistic:
    axis, size = reader.axis, reader.size

    def start(v: Value) -> np.ndarray:
        return np.zeros((5, size), np.float32)  # ranges hold 0

    def update(b: Builder, old: Tensor, x: Tensor) -> Tensor:
        axes = tuple(i for i in range(x.rank) if i != axis)
        ones = b.scalar(1, F32).expand(x.shape)
        low = b.minimum(old[0:1], b.reduce_min(x, axes=axes, keepdims=False).reshape(1, size))
        high = b.maximum(old[1:2], b.reduce_max(x, axes=axes, keepdims=False).reshape(1, size))
        sums = [t.sum(axes=axes).reshape(1, size) for t in (b.abs(x), x * x, ones)]
        return b.concat(low, high, old[2:5] + b.concat(*sums, axis=0), axis=0)

    return Statistic(f"channels{axis}", start, update)


def _rows(p: Product) -> np.ndarray:
    assert p.w.constant is not None and p.axis is not None
    return as_rows(p.w.constant, p.axis)


def _smooth(reader: Reader, seen: Channels, recipe: Recipe) -> tuple[np.ndarray | None, float]:
    rows = [_by_channel(reader, p) for p in reader.products]
    found = smooth_scales(
        rows,
        seen.least,
        seen.most,
        seen.squares,
        grid_of(recipe),
        levels=15 if recipe.activations.endswith("4") else 255,
    )
    return (None, 0.0) if found is None else found


def _awq(reader: Reader, seen: Channels, recipe: Recipe) -> tuple[np.ndarray | None, float]:
    if any(p.node.op.name == "conv" for p in reader.products):
        return None, 0.0
    rows = [_rows(p) for p in reader.products]
    s, alpha = awq_scales(rows, seen.sizes, seen.squares, grid_of(recipe))
    return (None, 0.0) if not alpha else (s, alpha)


def _by_channel(reader: Reader, p: Product) -> np.ndarray:
    """Weights as [rows of outputs and taps, channels], 0 for channels that a row does not read: a
    factor of a channel is one of a column."""
    rows, group = _rows(p), p.node.attrs.get("group", 1)
    each = reader.size // group
    taps = rows.shape[1] // each
    if p.node.attrs.get("channels_last", False) or taps == 1:
        w = rows.reshape(group, -1, each)
    else:
        w = rows.reshape(group, -1, each, taps).swapaxes(2, 3).reshape(group, -1, each)
    wide = np.zeros((group, w.shape[1], group, each), np.float32)
    for g in range(group):
        wide[g, :, g] = w[g]
    return wide.reshape(-1, reader.size)


CHOICES: dict[str, Callable[[Reader, Channels, Recipe], tuple[np.ndarray | None, float]]] = {
    "smoothquant": _smooth,
    "awq": _awq,
}
