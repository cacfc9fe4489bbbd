"""`quantize`: what is behind `tessel.quantize`.

read the model → passes → candidates → calibration → scales → Q/DQ graph, report
"""

from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

from ...compiler.classes import dataclass
from ...compiler.compress.candidates import refuse_quantized
from ...compiler.compress.comparison import Comparison
from ...compiler.compress.quantize import Plan, aliases_of
from ...compiler.compress.recipe import TRAINED, Recipe
from ...compiler.compress.report import Report
from ...compiler.driver import Driver
from ...compiler.errors import UsageError
from ...compiler.ir.graph import Graph
from ...compiler.options import WITHOUT_DATA, Options
from ...compiler.system.progress import Listener
from ...compiler.targets.table import open_target
from ..base.signature import Signature
from ..compile import GraphSource, Shapes, Source, compile_model
from .biases import correct_biases, corrected
from .calibrate import calibrate
from .compare import compare
from .data import Data, random_feeds
from .equalize import equalize
from .gains import place
from .moments import BY_DATA, by_data, moments
from .ranges import least_output_error
from .reconstruct import reconstruct
from .search import Goal, Search


@dataclass(eq=False)
class Quantized:
    """A quantized model, for `compile` and `to_onnx`.

    graph    with quantize and dequantize nodes; integers where it is compiled
    report   what was done to each product, and what it cost
    recipe   with the scales that were chosen: applied again it gives the same graph
    original the graph that it was made of
    """

    graph: Graph
    report: Report
    recipe: Recipe
    original: Graph
    is_quantized: ClassVar[bool] = True

    def save(self, path: str | PathLike[str]) -> None:
        """Compile it for this machine, and write the package."""
        if Path(path).suffix != ".tsl":
            raise UsageError(
                "a package is called .tsl",
                received=str(path),
                fix="for other formats: tessel.to_onnx(quantized, path)",
            )
        compile_model(GraphSource(self.graph), Options()).save(path)

    def compare(
        self,
        data: Any = None,
        *,
        measure: bool = False,
        threads: int | None = None,
        progress: Listener | None = None,
    ) -> Comparison:
        """Which kernels err, and how much, on data (as `quantize` takes it; random without); with
        `measure`, how long both models take. The report has it from then on."""
        feeds = random_feeds(self.original) if data is None else data
        found = compare(
            self.original, self.graph, feeds, measure=measure, threads=threads, progress=progress
        )
        if data is None:
            found.notes.append("random inputs: give data that matter")
        self.report.comparison = found
        return found

    def __repr__(self) -> str:
        return f"Quantized({self.graph.name!r}, {self.report.recipe!r})"


def quantize_model(
    source: Source,
    data: Any,
    recipe: Recipe,
    *,
    shapes: Shapes | None = None,
    goal: Goal | None = None,
    threads: int | None = None,
    progress: Listener | None = None,
) -> Quantized:
    """The words are those of `tessel.quantize`. Raises TesselError."""
    plan, found = observed(source, data, recipe, shapes=shapes, threads=threads, progress=progress)
    if plan.recipe.activations != "f32" and not (plan.recipe.scales and data is None):
        place(plan)  # a recipe with scales keeps what was found to lose
    if goal is None:
        quantized, report = plan.apply()
    else:
        quantized, report = Search(plan, goal, threads, progress).run(plan.candidates.graph)
    report.notes[:0] = plan.notes
    if (nothing := report.gains_nothing()) is not None:
        report.notes.append(nothing)
    return Quantized(quantized, report, plan.chosen(found), plan.candidates.graph)


def observed(
    source: Source,
    data: Any,
    recipe: Recipe,
    *,
    shapes: Shapes | None = None,
    threads: int | None = None,
    progress: Listener | None = None,
) -> tuple[Plan, str]:
    """The plan of a model with the scales that its data asks for, and the hash of the data."""
    model = source.read(shapes)
    refuse_quantized(model)
    graph = prepared(model)
    aliases = aliases_of(model, graph)
    plan = Plan.of(graph, recipe, aliases)
    needs = recipe.chooses_weights or (plan.wanted() and not recipe.scales)
    if needs and data is None:
        raise needs_data(recipe)
    feeds, found = None if data is None else Data.of(data, Signature.of(graph).inputs), ""
    if recipe.equalization != "none":
        graph, note = equalize(plan, feeds, threads=threads, progress=progress)
        plan = Plan.of(graph, recipe, aliases)
        plan.notes.append(note)
    plan.sizes = None if feeds is None else feeds.shapes
    if feeds is None or not (plan.wanted() or recipe.chooses_weights):
        return plan, ""
    sums = {}
    if plan.wanted():
        products = corrected(plan)
        calibrated = calibrate(
            graph, plan.wanted(), feeds, products, threads=threads, progress=progress
        )
        seen, sums, found = calibrated.seen, calibrated.sums, calibrated.hash
        plan.observe(seen)
        if recipe.observer == "auto":
            note = least_output_error(plan, seen, feeds, threads=threads, progress=progress)
            plan.notes += [note] if note else []
    if recipe.rounding in TRAINED:
        reconstruct(plan, feeds, threads=threads, progress=progress)
    if recipe.rounding in BY_DATA:
        by_data(plan, moments(plan, feeds, threads=threads, progress=progress))
    if sums:
        correct_biases(plan, sums)
    return plan, found or feeds.hash()


def prepared(model: Graph) -> Graph:
    """The graph after the passes that any target has: what is quantized."""
    return Driver(open_target("numpy"), Options()).optimize(model)


def needs_data(recipe: Recipe) -> UsageError:
    what = "weights" if recipe.chooses_weights else "ranges of activations"
    return UsageError(
        f"{recipe.name} needs data: {what} are chosen from it",
        fix="give some hundred typical inputs (tessel.quantize(model, data), or tessel quantize "
        f"--data x.npz); without data: {', '.join(WITHOUT_DATA)}",
    )
