"""A graph whose weights are rounded by numbers that are trained (`rounding/learned.py`).

    learned = Learned(plan)
    learned.graph, learned.parameters       rounded as in training (`fake.py`), with inputs for
                                            v of each weight, and for AutoRound its r
    learned.narrowed(plan, product, values)        the weights that such values stand for

The weights themselves stay what they are. Activations are rounded where the plan has scales.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from ..autodiff.parameters import with_parameters
from ..ir.builder import Builder, Tensor
from ..ir.graph import Value
from ..ir.types import F32
from .candidates import Product
from .fake import FACTOR, Arrays, Fake, rounded_again
from .quantize import Plan
from .rounding.grid import as_rows, from_rows
from .rounding.learned import STRETCH, below, decided, first_v, shifted, up_or_down
from .weights import Narrow, narrow

V = ".rounding"  # behind the name of the weight


class Learned(Fake):
    """The graph of a plan whose weights are where learning begins."""

    def __init__(self, plan: Plan):
        self.is_adaptive = plan.recipe.rounding == "adaround"
        self.names: list[str] = []
        super().__init__(plan, learn_scales=not self.is_adaptive)
        self.graph, self.parameters = with_parameters(self.graph, self.names)

    def _weights(self, w: Value, found: Narrow) -> Tensor:
        b, rows, start = self.edit.b, _rows(w, found), found.rounded
        grid, k = start.grid, rows.shape[1]
        lie = lambda t: b.constant(_as_weights(t, w, found))
        first = first_v(rows, start) if self.is_adaptive else np.zeros_like(rows)
        v = self._learned(w, first, found)
        if not self.is_adaptive:
            self.names.append(w.name + FACTOR)
            steps = b.clip(v, b.scalar(-0.5, F32), b.scalar(0.5, F32))
            return self._pair(w + steps * lie(grid.widened(start.scale, k)), found, w.name)
        low, high = (b.scalar(end, F32) for end in (grid.low, grid.high))
        q = b.clip(lie(below(rows, start)) + upwards(b, v), low, high)
        q = q if grid.symmetric else q - lie(grid.widened(start.zero, k))
        return q * lie(grid.widened(start.scale, k))

    def _learned(self, w: Value, v: np.ndarray, found: Narrow) -> Tensor:
        self.names.append(w.name + V)
        return self.edit.b.constant(_as_weights(v, w, found), name=w.name + V)

    def narrowed(self, plan: Plan, product: Product, values: Mapping[str, np.ndarray]) -> Narrow:
        """What the values of parameters make of the weights of a product."""
        w, found = product.w, plan.weights_of(product)
        rows = _rows(w, found)
        v = _as_rows(np.asarray(values[w.name + V]), found)
        if self.is_adaptive:
            return narrow(up_or_down(rows, found.rounded, v), w.shape, found.axis)
        moved = _as_weights(shifted(rows, found.rounded, v), w, found)
        return rounded_again(found, moved, np.asarray(values[w.name + FACTOR]), "autoround")

    def decided(self, values: Mapping[str, np.ndarray]) -> Arrays:
        """Values with which the graph computes what it will once weights are integers."""
        names = {n for n in values if self.is_adaptive and n.endswith(V)}
        return {n: decided(t) if n in names else np.array(t) for n, t in values.items()}


def upwards(b: Builder, v: Tensor) -> Tensor:
    """h(v): how far a weight goes from the lower number to the upper one."""
    nothing, one = b.scalar(0, F32), b.scalar(1, F32)
    return b.clip(b.sigmoid(v) * STRETCH - (STRETCH - 1) / 2, nothing, one)


def undecided(b: Builder, vs: Iterable[Tensor], beta: Tensor) -> Tensor:
    """The mean of 1 - |2 h(v) - 1|^beta of all weights: 0 where each went all the way."""
    total, count = b.scalar(0, F32), 0
    for v in vs:
        apart = b.abs(upwards(b, v) * 2.0 - 1.0)
        total, count = total + (1.0 - b.pow(apart, beta)).sum(), count + v.type.size
    return total / float(max(count, 1))


def _rows(w: Value, found: Narrow) -> np.ndarray:
    assert w.constant is not None
    return _as_rows(w.constant, found)


def _as_rows(t: np.ndarray, found: Narrow) -> np.ndarray:
    return t.reshape(1, -1) if found.axis is None else as_rows(t, found.axis)


def _as_weights(rows: np.ndarray, w: Value, found: Narrow) -> np.ndarray:
    """Rows as the weights lie, f32."""
    rows = np.asarray(rows, np.float32)
    t = rows.reshape(w.shape) if found.axis is None else from_rows(rows, w.shape, found.axis)
    return np.ascontiguousarray(t)
