"""Quantization that needs no data, as a pass of a compilation: `compile(model, quantize=…)`."""

from typing import ClassVar

from ..classes import dataclass
from ..ir.graph import Graph
from ..passes.base import Pass, Pipeline, Report, Step
from .candidates import CALLED, find_products
from .quantize import Plan
from .recipe import Recipe

AFTER = "recognize_again"  # the pass after which weights have absorbed what they can


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """quantize constant weights by a recipe that needs no data"""

    name: ClassVar[str] = "quantize"
    recipe: str

    def run(self, graph: Graph, report: Report) -> bool:
        if not find_products(graph):
            return False
        plan = Plan.of(graph, Recipe.of(self.recipe))
        quantized, done = plan.apply()
        for row in done.rows:
            if row.kept is None:
                report.apply(f"{CALLED}: {self.recipe}", row.name)
            else:
                report.decline(f"{CALLED}: {self.recipe}", row.name, row.kept)
        quantized.replace(dict(zip(quantized.inputs, graph.inputs)))
        graph.nodes, graph.outputs = quantized.nodes, quantized.outputs
        return bool(done.quantized)


def with_quantization(pipeline: Pipeline, recipe: str) -> Pipeline:
    """A pipeline that quantizes, once weights are what they will be."""
    step = Step(QuantizeWeights(recipe), "weights are narrow numbers, which products read as such")
    names = [s.action.name for s in pipeline]
    at = names.index(AFTER) + 1 if AFTER in names else len(names)
    return Pipeline((*pipeline.steps[:at], step, *pipeline.steps[at:]))
