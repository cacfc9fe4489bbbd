"""`tessel quantize`: a model with narrow numbers, as ONNX or as a package."""

from pathlib import Path

import click
import numpy as np

from .. import quantize as quantize_model
from .. import to_onnx
from ..compiler.compress.recipe import PRESETS, Recipe
from ..compiler.errors import UsageError
from ..runtime.compress.data import Data
from ..runtime.compress.metrics import metric_of
from .common.activity import Activity
from .common.models import (
    MODEL,
    is_package,
    limits,
    model_ports,
    open_graph,
    shapes_option,
    threads_option,
)
from .common.tables import console, size
from .compare import check_report, write_report

EPILOG = """\b
Examples:
  tessel quantize model.onnx --data x.npz --recipe int8 -o q.onnx
  tessel quantize model.onnx --data x.npz --labels y.npy --metric accuracy --max-drop 0.3 -o q.onnx
  tessel quantize model.onnx --recipe int8-dynamic -o q.tsl
  tessel quantize model.onnx --data x.npz --keep '*head*' --write-recipe r.toml -o q.onnx
"""


@click.command(epilog=EPILOG)
@click.argument("model", type=MODEL)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), required=True, help="A .onnx or a .tsl file."
)
@click.option(
    "--recipe",
    default="int8",
    show_default=True,
    help=f"{', '.join(PRESETS)}, or a .toml file.",
)
@click.option(
    "--data",
    type=click.Path(exists=True),
    help="Typical inputs: an .npz by input name, an .npy, or a folder of such; the first axis "
    "counts samples.",
)
@click.option(
    "--keep", multiple=True, metavar="PATTERN", help="Nodes that stay as they are; repeatable."
)
@click.option("--observer", help="What chooses ranges, in place of the recipe's.")
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False),
    help="An .npy (or an .npz of one array) with the label of each sample, for the metric.",
)
@click.option("--metric", default="accuracy", show_default=True, help="accuracy or top5.")
@click.option(
    "--evaluate",
    type=click.Path(exists=True),
    help="The inputs that the labels are of; default: those of --data.",
)
@click.option(
    "--max-drop", type=click.FloatRange(0), help="How much the metric may fall, in its units."
)
@click.option("--evaluations", type=click.IntRange(1), default=8, show_default=True)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Of the search, at most.")
@click.option(
    "--resume",
    type=click.Path(exists=True, dir_okay=False),
    help="The --report .json of a search that has ended early, to go on from.",
)
@shapes_option
@click.option(
    "--operators",
    is_flag=True,
    help="Write QLinearConv, QLinearMatMul, QLinearAdd, not quantize and dequantize nodes.",
)
@click.option("--opset", type=int, default=21, show_default=True, help="Of a .onnx file.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False),
    help="Compare and time both models, and write all that is known: .json, .html, or a picture of "
    "the errors: .png, .svg, .pdf (needs matplotlib).",
)
@click.option("--write-recipe", type=click.Path(dir_okay=False), help="Write the recipe as .toml.")
@threads_option
def quantize(
    model,
    output,
    recipe,
    data,
    keep,
    observer,
    labels,
    metric,
    evaluate,
    max_drop,
    evaluations,
    seconds,
    resume,
    shapes,
    operators,
    opset,
    report,
    write_recipe,
    threads,
):
    """Quantize MODEL (.onnx, .graph or .tsl) by a recipe, with typical inputs where it needs such,
    and write it as ONNX or as a package."""
    if Path(output).suffix not in (".onnx", ".tsl"):
        raise UsageError("the output is a .onnx or a .tsl file", received=output)
    if report is not None:
        check_report(report)
    chosen = Recipe.of(recipe)
    if observer is not None:
        chosen = Recipe.of(chosen, observer=observer)
    with Activity(f"reading {model}") as activity:
        plain = Path(model).suffix != ".onnx" or is_package(model)
        source = open_graph(model, shapes) if plain or not Path(model).is_file() else model
        q = quantize_model(
            source,
            data,
            chosen,
            keep=keep or None,
            metric=_metric(metric, model, evaluate or data, labels, max_drop),
            max_drop=max_drop,
            evaluations=evaluations,
            seconds=seconds,
            resume=resume,
            shapes=shapes or None if source is model else None,
            threads=threads,
            limits=limits() if source is model else None,
            progress=activity,
        )
        if Path(output).suffix == ".tsl":
            activity.show("compiling")
            q.save(output)
        else:
            to_onnx(q, output, opset=opset, operators=operators)
        if report is not None:
            activity.show("comparing")
            q.compare(data, measure=True, threads=threads, progress=activity)
    out, notes = console(), console(stderr=True)
    for line in q.report.lines():
        out.print(line)
    if report is not None:
        write_report(q.report, report)
    if write_recipe is not None:
        q.recipe.save(write_recipe)
    notes.print(f"wrote {output}: {size(Path(output).stat().st_size)}")


def _metric(name: str, model: str, inputs: str | None, labels: str | None, max_drop: float | None):
    """The metric by name, where there are labels for it."""
    if labels is None:
        if max_drop is not None:
            raise UsageError("--max-drop is of a metric", fix="give --labels y.npy")
        return None
    if inputs is None:
        raise UsageError("labels are of inputs", fix="give --data x.npz, or --evaluate x.npz")
    found = np.load(labels, allow_pickle=False)
    array = found if isinstance(found, np.ndarray) else found[found.files[0]]
    return metric_of(name, Data.of(inputs, model_ports(model)), array)
