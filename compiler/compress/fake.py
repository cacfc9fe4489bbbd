"""A graph whose numbers are rounded as those of its quantized form, with weights that are trained.

    product(x, w)    =>    product(fake_quantize(x, r·s), fake_quantize(w, r'·s'))

w, the other weights of the graph and the factors r of the scales are inputs. Scales are trained by
their factors, which begin at 1, so that one learning rate suits scales of every size; the gradient
is that of learned steps (Esser et al. 2020). What has been trained goes back into the plan that the
graph was made of, and that plan's graph is the quantized model: every product is the same sum.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..autodiff.parameters import with_parameters
from ..ir.builder import Tensor
from ..ir.graph import Graph, Node, Value
from ..ir.types import F16, F32, I8, U8, dtype_of
from .insert import Inserter
from .quantize import Plan
from .recipe import Scale
from .rounding.grid import Grid, as_rows, rounded, short_scales
from .weights import Narrow, narrow

FACTOR = ".scale"  # behind the name of what a factor scales
LEAST = np.float32(1e-12)  # of a scale in training
HALF = np.finfo(np.float16)

Arrays = dict[str, np.ndarray]


def trained_graph(
    plan: Plan, trainable: Any = "*", *, learn_scales: bool = True
) -> tuple[Graph, Arrays]:
    """The graph of a plan that has chosen its scales and weights, and the values of what is
    trained: weights that match the patterns, and factors of scales."""
    parameters = with_parameters(plan.candidates.graph, trainable)[1]
    walk = Fake(plan, learn_scales)
    names = [v.name for n in walk.graph.nodes for v in n.outputs if v.constant is not None]
    chosen = [n for n in names if n in parameters or n in walk.factors]
    graph, values = with_parameters(walk.graph, chosen)
    for p in plan.candidates.products:
        if p.keep is None and p.w.name in values:
            values[p.w.name] = where_rounded(np.asarray(values[p.w.name]), plan.weights_of(p))
    return graph, values


def where_rounded(w: np.ndarray, found: Narrow) -> np.ndarray:
    """w with those elements moved to what they were rounded to whose nearest number is another
    (GPTQ, AutoRound): training begins with the rounding that was chosen."""
    nearest = rounded_again(found, w, None)
    return np.where(nearest.q == found.q, w, found.floats()).astype(np.float32)


def trained_plan(plan: Plan, values: Mapping[str, np.ndarray]) -> Plan:
    """The plan with weights, biases and scales as they were trained."""
    graph = plan.candidates.graph
    scales = {
        name: Scale(float(_scaled(scale.scale, values.get(name + FACTOR))), *scale[1:])
        for name, scale in plan.scales.items()
    }
    weights = {}
    for product in plan.candidates.products:
        old, w = plan.weights.get(product.node), product.w
        if old is not None and product.keep is None and w.constant is not None:
            now = np.asarray(values.get(w.name, w.constant))
            weights[product.node] = rounded_again(old, now, values.get(w.name + FACTOR))
    for node in graph.nodes:
        name = node.outputs[0].name if node.outputs else ""
        if node.op.name == "constant" and name in values:
            node.attrs["value"] = np.asarray(values[name], node.attrs["value"].dtype)
    trained = Plan(plan.candidates, plan.recipe, scales, plan.seen, weights)
    trained.recipe = replace(plan.recipe, scales={}, shifts={}, bias_correction=False)
    return trained


def _scaled(scale: Any, factor: np.ndarray | None, halves: bool = False) -> np.ndarray:
    """As the graph computes it, in f32."""
    scale = np.asarray(scale, np.float32)
    if factor is None:
        return scale
    scale = scale * np.float32(factor)
    if halves:
        return np.clip(scale, HALF.tiny, HALF.max).astype(np.float16).astype(np.float32)
    return np.maximum(scale, LEAST)


def _in_halves(scale: np.ndarray, grid: Grid) -> bool:
    """Whether scales of blocks are stored in f16, and so are trained as numbers of f16."""
    return bool(grid.block) and short_scales(scale).dtype == np.float16


def rounded_again(
    old: Narrow, w: np.ndarray, factor: np.ndarray | None, method: str | None = None
) -> Narrow:
    """Weights rounded to the nearest of scales that were trained."""
    grid, rows = old.rounded.grid, w.reshape(1, -1) if old.axis is None else as_rows(w, old.axis)
    scale = old.rounded.scale
    if factor is not None:
        turned = grid.block and old.axis == 1
        factor = np.asarray(factor).T if turned else np.asarray(factor).reshape(scale.shape)
        scale = _scaled(scale, factor, _in_halves(scale, grid))
    found = rounded(rows, scale, old.rounded.zero, grid).called(method or old.rounded.method)
    return narrow(found, w.shape, old.axis)


class Fake(Inserter):
    """Fake pairs in the place of real ones. `factors` are the constants that scale scales."""

    def __init__(self, plan: Plan, learn_scales: bool):
        self.factors: set[str] = set()
        self.learn_scales = learn_scales
        active = {p.node: plan.weights_of(p) for p in plan.candidates.products if p.keep is None}
        scales = plan.scales if plan.is_static else {}
        super().__init__(plan.candidates, active, scales, plan.recipe)

    def _factored(self, scale: np.ndarray, name: str, halves: bool = False) -> Tensor:
        b = self.edit.b
        s = b.constant(np.asarray(scale, np.float32))
        if not self.learn_scales:
            return s
        r = b.constant(np.ones(s.shape, np.float32), name=name + FACTOR)
        self.factors.add(r.value.name)
        if not halves:
            return b.maximum(s * r, b.scalar(LEAST, F32))
        s = b.minimum(b.maximum(s * r, b.scalar(HALF.tiny, F32)), b.scalar(HALF.max, F32))
        # Difference and sum are exact: the half, with the gradient of s.
        return s + b.stop_gradient(s.cast(F16).cast(F32) - s)

    def _rounded(self, value: Value, scale: Scale) -> Tensor:
        b, dtype = self.edit.b, dtype_of(self.recipe.activations)
        s = self._factored(np.float32(scale.scale), value.name)
        return b.fake_quantize(value, s, b.scalar(scale.zero, dtype), axis=0, dtype=dtype)

    def _product(self, node: Node) -> None:
        w, found = node.inputs[1], self.weights[node]
        assert w is not None
        key = (w, found.axis)
        if key not in self.narrow:
            self.narrow[key] = self._weights(w, found).value
        node.inputs[1] = self.narrow[key]

    def _weights(self, w: Value, found: Narrow) -> Tensor:
        return self._pair(w, found, w.name)

    def _pair(self, w: Value | Tensor, found: Narrow, name: str) -> Tensor:
        """Weights rounded to the grid of `found`; `name` is theirs."""
        r, b = found.rounded, self.edit.b
        grid, axis = r.grid, found.axis or 0
        dtype = I8 if grid.low < 0 else U8
        scale, zero, halves = r.scale, r.zero, _in_halves(r.scale, grid)
        if grid.block:  # [rows, blocks], as the weights [k, rows] lie
            axis, scale, zero = 1 - axis, scale.T if axis else scale, zero.T if axis else zero
        else:
            scale, zero = (t[0, 0] if found.axis is None else t[:, 0] for t in (scale, zero))
        return b.fake_quantize(
            w,
            self._factored(scale, name, halves),
            None if grid.symmetric else b.constant(zero.astype(dtype.numpy)),
            axis=axis,
            dtype=dtype,
            block=grid.block,
            bits=_bits(grid),
            narrow=grid.low == -grid.high,
        )


def _bits(grid: Any) -> int:
    return int(grid.high - grid.low + 1 + (grid.low == -grid.high)).bit_length() - 1
