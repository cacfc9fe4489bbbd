"""Bias correction (Nagel et al. 2019, arXiv:1906.04721, section 4.2).

Rounded weights shift the mean of each output by that of (w' - w) · x, which the bias takes back.
The mean is that of the product itself with w' - w as its weights, in one more pass over the data:
so borders of convolutions, groups and layouts are what they are.
"""

import numpy as np

from ...compiler.compress.candidates import Product
from ...compiler.compress.quantize import Plan
from ...compiler.compress.statistics import Statistic
from ...compiler.ir.builder import Builder, Tensor
from ...compiler.ir.types import F32
from ...compiler.system.progress import Listener
from .counting import Counting
from .data import Data


def correct_biases(
    plan: Plan, data: Data, *, threads: int | None = None, progress: Listener | None = None
) -> None:
    """Choose what a plan adds to the outputs of its products, from their weights as chosen."""
    active = [p for p in plan.candidates.products if p.keep is None and p.axis is not None]
    if not active:
        return
    wanted = {p: (p.x, _statistic(plan, p)) for p in active}
    counting = Counting(plan.candidates.graph, wanted.values(), threads=threads)
    counting.over(data, "biases", progress)
    for p, (x, statistic) in wanted.items():
        seen = counting.state[f"{x.name}/{statistic.name}"].astype(np.float64)
        plan.shifts[p.node] = (-seen[:-1] / max(seen[-1], 1)).astype(np.float32)


def _statistic(plan: Plan, p: Product) -> Statistic:
    """[sum of (w' - w) · x of each output …, how many there were]"""
    w, node = p.w.constant, p.node
    assert w is not None and p.axis is not None
    off = (plan.weights_of(p).floats() - w).astype(np.float32)
    outputs = w.shape[p.axis]

    def update(b: Builder, old: Tensor, x: Tensor) -> Tensor:
        y = b.emit(node.op.name, x, b.constant(off), **node.attrs)
        last = node.op.name != "conv" or node.attrs["channels_last"]
        axes = tuple(i for i in range(y.rank) if i != (y.rank - 1 if last else 1))
        one = b.scalar(1, F32).expand(y.shape).sum(axes=axes)[0:1]
        return old + b.concat(y.sum(axes=axes), one, axis=0)

    start = np.zeros(outputs + 1, np.float32)
    return Statistic(f"shift of {node.outputs[0].name}", lambda _: start, update)
