"""Second moments of what products read, and weights that are rounded by them.

    moments(plan, data)     XᵀX of each product's rows x, of three runs in four, and of the fourth
    by_data(plan, found)    GPTQ, kept where it errs less than nearest on the fourth runs

Rows of a convolution are its patches, at some places of each sample. Memory is that of one run and
k² floats per product, whatever the amount of data.
"""

from collections.abc import Mapping
from math import prod

import numpy as np

from ...compiler.classes import dataclass
from ...compiler.compress.candidates import Product
from ...compiler.compress.quantize import Plan
from ...compiler.compress.rounding.gptq import gptq_if_better
from ...compiler.compress.rounding.grid import as_rows
from ...compiler.compress.statistics import Statistic, prime
from ...compiler.compress.weights import grid_of, narrow
from ...compiler.ir.builder import Builder, Tensor
from ...compiler.system.progress import Listener, tell
from .counting import Counting
from .data import Data

HELD_OUT = 4  # every so many runs one is kept for judging
PLACES = 64  # of a convolution's outputs, in each sample
BY_DATA = ("gptq",)


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the rows of a product: XᵀX f64[k, k] of most runs, and of those held out."""

    most: np.ndarray
    held_out: np.ndarray


def moments(
    plan: Plan, data: Data, *, threads: int | None = None, progress: Listener | None = None
) -> dict[str, Moments]:
    """By the name of each product whose rows are known: matmuls, and convolutions of one group."""
    wanted = {p.name: p for p in plan.candidates.products if p.keep is None and _has_rows(p)}
    if not wanted:
        return {}
    statistics = {_name(p): (p.x, _statistic(p)) for p in wanted.values()}  # of each value once
    counting = Counting(plan.candidates.graph, statistics.values(), threads=threads)
    start, state = counting.start, counting.state
    held_out = {name: np.zeros_like(array) for name, array in start.items()}
    for run, feed in enumerate(data, 1):
        before = {} if run % HELD_OUT else {n: a.copy() for n, a in state.items()}
        counting.run(feed)
        for name, array in before.items():
            held_out[name] += state[name] - array
            np.copyto(state[name], array)
        tell(progress, "moments", run, max(run, data.total or 0))
    found = {}
    for key, p in wanted.items():
        name = _name(p)
        most, rest = (_channels_first(t[name].astype(np.float64), p) for t in (state, held_out))
        found[key] = _moments(most, rest)
    return found


def by_data(plan: Plan, found: Mapping[str, Moments]) -> None:
    """Choose the weights of a plan by GPTQ where the moments of products are known; the plan's
    notes say where they are not."""
    active = [p for p in plan.candidates.products if p.keep is None]
    unknown = [p.where for p in active if p.name not in found]
    if unknown:
        plan.notes.append(
            f"{len(unknown)} of {len(active)} products have no rows of data to choose by (grouped "
            f"or channels-last convolutions): {', '.join(unknown[:3])}"
            + (", …" if len(unknown) > 3 else "")
        )
    for p in active:
        seen, w = found.get(p.name), p.w.constant
        if seen is None or w is None or p.axis is None:
            continue
        rows, recipe = as_rows(w, p.axis), plan.recipe
        if recipe.granularity != "tensor":
            rounded = gptq_if_better(rows, seen.most, seen.held_out, grid_of(recipe))
            plan.weights[p.node] = narrow(rounded, w.shape, p.axis)


def _moments(most: np.ndarray, held_out: np.ndarray) -> Moments:
    if not held_out.any():  # fewer runs than are needed to hold one out
        held_out = most
    return Moments(most, held_out)


def _has_rows(p: Product) -> bool:
    if p.axis is None or p.w.constant is None:
        return False
    attrs = p.node.attrs
    return p.node.op.name != "conv" or (attrs["group"] == 1 and not attrs["channels_last"])


def _name(p: Product) -> str:
    return f"{p.x.name}/{_statistic(p).name}"


def _statistic(p: Product) -> Statistic:
    w = p.w.constant
    assert w is not None and p.axis is not None
    k = w.size // w.shape[p.axis]

    def update(b: Builder, old: Tensor, x: Tensor) -> Tensor:
        rows = _rows(b, x, p, k)
        return old + rows.transpose() @ rows

    said = "" if p.node.op.name != "conv" else f"{w.shape[2:]}{p.node.attrs}"
    return Statistic(f"moments{said}", lambda _: np.zeros((k, k), np.float32), update)


def _rows(b: Builder, x: Tensor, p: Product, k: int) -> Tensor:
    """What the product sums over, a row for each of its outputs' places (some `PLACES` of each
    sample): [rows, k], by taps and then channels."""
    if p.node.op.name != "conv":
        return x.reshape(-1, k)
    w, attrs, out = p.w.constant, p.node.attrs, p.node.outputs[0].shape[2:]
    assert w is not None
    spatial = tuple(range(2, x.rank))
    count = len(spatial)
    pads = attrs["pads"] or (0,) * 2 * count
    x = b.pad(x, pads=(0, 0, *pads[:count], 0, 0, *pads[count:]))
    ones = (1,) * count
    steps, dilations = attrs["strides"] or ones, attrs["dilations"] or ones
    taps = []
    for tap in np.ndindex(*w.shape[2:]):
        starts = tuple(i * d for i, d in zip(tap, dilations))
        where = {"axes": spatial, "starts": starts, "steps": steps, "sizes": out}
        taps.append(b.emit("slice", x, **where))
    rows = b.concat(*taps, axis=1).transpose(0, *spatial, 1)
    if not all(isinstance(d, int) for d in out) or prod(out) < 2 * PLACES:
        return rows.reshape(-1, k)
    places, step = prod(out), prime(prod(out) // PLACES)
    size = -(-places // step)
    rows = rows.reshape(-1, places, k)
    rows = b.emit("slice", rows, axes=(1,), starts=(0,), steps=(step,), sizes=(size,))
    return rows.reshape(-1, k)


def _channels_first(h: np.ndarray, p: Product) -> np.ndarray:
    """A matrix of taps and then channels as weights lie: of channels and then taps."""
    w = p.w.constant
    assert w is not None
    if p.node.op.name != "conv":
        return h
    channels = w.shape[1]
    order = np.arange(len(h)).reshape(-1, channels).T.ravel()
    return h[np.ix_(order, order)]
