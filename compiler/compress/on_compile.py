"""Quantization that needs no data, as a pass of a compilation: `compile(model, quantize=…)`.

Where activations are rounded, a product that would take longer so stays f32. Its time is that of a
graph of it alone, in both forms, for sizes to expect: products of one shape are asked for once, so
that it costs little of a compilation. (`tessel.quantize` asks for the whole model.)
"""

from collections.abc import Callable, Hashable
from typing import ClassVar

from ..classes import dataclass
from ..ir.bounds import size_hint
from ..ir.builder import Builder
from ..ir.graph import Graph
from ..ir.types import F32, TensorType
from ..passes.base import Pass, Pipeline, Report, Step
from .candidates import CALLED, Product, find_products, is_quantized
from .placement import losers
from .quantize import Plan
from .recipe import Recipe

AFTER = "recognize_again"  # the pass after which weights have absorbed what they can


Predict = Callable[[Graph], float | None]  # ms of a graph's run, where they are known


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """quantize constant weights by a recipe that needs no data"""

    name: ClassVar[str] = "quantize"
    recipe: str
    predict: Predict | None = None

    def run(self, graph: Graph, report: Report) -> bool:
        if not find_products(graph) or is_quantized(graph):
            return False  # once: what stays, stays for sizes that are compiled for later
        plan = Plan.of(graph, Recipe.of(self.recipe))
        if self.predict is not None and plan.recipe.placement == "time":
            place_alone(plan, self.predict)
        quantized, done = plan.apply()
        for row in done.rows:
            if row.kept is None:
                report.apply(f"{CALLED}: {self.recipe}", row.name)
            else:
                report.decline(f"{CALLED}: {self.recipe}", row.name, row.kept)
        quantized.replace(dict(zip(quantized.inputs, graph.inputs)))
        graph.nodes, graph.outputs = quantized.nodes, quantized.outputs
        return bool(done.quantized)


def place_alone(plan: Plan, predict: Predict) -> None:
    """Let products stay that would lose time with rounded activations, one by one."""
    if plan.recipe.activations == "f32":
        return  # what such recipes are for is memory
    known: dict[Hashable, tuple[float, float] | None] = {}
    ms: dict[Product, tuple[float, float]] = {}
    for p in plan.candidates.products:
        if p.keep is None and isinstance(p.x.type, TensorType):
            key = p.node.op.name, str(p.node.attrs), p.w.shape, _sizes(p)
            if key not in known:
                known[key] = _both(p, plan.recipe, predict)
            if (found := known[key]) is not None:
                ms[p] = found
    slower = losers(plan.candidates, ms, sum(floats for floats, _ in ms.values()))
    for p, reason in slower.items():
        p.keep = reason


def _both(p: Product, recipe: Recipe, predict: Predict) -> tuple[float, float] | None:
    """ms of a product alone: of floats, and as the recipe makes it."""
    b, w = Builder(), p.w.constant
    assert w is not None
    x = b.input("x", TensorType(F32, _sizes(p)))
    b.output("y", b.emit(p.node.op.name, x, b.constant(w), **p.node.attrs))
    floats, narrow = predict(b.graph), predict(Plan.of(b.graph, recipe).quantized())
    return None if floats is None or narrow is None else (floats, narrow)


def _sizes(p: Product) -> tuple[int, ...]:
    return tuple(size_hint(d) for d in p.x.shape)


def with_quantization(pipeline: Pipeline, recipe: str, predict: Predict | None = None) -> Pipeline:
    """A pipeline that quantizes, once weights are what they will be."""
    step = Step(
        QuantizeWeights(recipe, predict), "weights are narrow numbers, which products read as such"
    )
    names = [s.action.name for s in pipeline]
    at = names.index(AFTER) + 1 if AFTER in names else len(names)
    return Pipeline((*pipeline.steps[:at], step, *pipeline.steps[at:]))
