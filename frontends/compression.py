"""Compression of whatever is a model: what is behind names of the public API."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Any

import numpy as np

from ..compiler.compress.recipe import Recipe
from ..compiler.errors import UsageError, entrance
from ..compiler.system.budgets import Limits
from ..compiler.system.progress import Listener
from ..runtime.compile import compile_graph
from ..runtime.compress.quantize import Quantized, observed, quantize_model
from ..runtime.compress.search import Goal
from ..runtime.compress.training import TrainableModel
from ..runtime.execution.executable import Executable
from ..runtime.training.optimizers import Optimizer
from .native.export import to_graph
from .native.module import Module
from .sources import source_of


@entrance
def quantize(
    model: Any,
    data: Any = None,
    recipe: str | PathLike[str] | Recipe | Mapping[str, Any] = "int8",
    *,
    keep: str | Sequence[str] | None = None,
    params: Mapping | None = None,
    state: Mapping | None = None,
    metric: Callable[[Executable], float] | None = None,
    max_drop: float | None = None,
    evaluations: int = 8,
    seconds: float | None = None,
    resume: Mapping[str, Any] | str | PathLike[str] | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    threads: int | None = None,
    limits: Limits | Mapping[str, int] | None = None,
    progress: Listener | None = None,
) -> Quantized:
    """A model (see `compile`) with narrow numbers in the place of floats: smaller, and faster. Of a
    native module with `params`, it is the graph for inference.

    data        what the model is calibrated with, typical inputs: arrays by input name whose first
                axis counts samples, a tuple of them, one array, an .npz, a folder of such, an
                iterable of dicts, tuples or arrays (one run each), or a function that gives one.
                None for recipes that need none
    recipe      "int8" (static: weights i8 per channel, activations u8), "int8-dynamic" (scales of
                activations in each run), "int8-weights" (weights only), "int4", "int4-int8"; of
                weights only "fp8", "fp8-e5m2", "mxfp8", "mxfp4", "nf4"; a .toml file; a
                `tessel.Recipe`, or its fields
    params      parameters of a module, and its `state`; its input is as the data, or `shapes`, say
    keep        patterns (*, ?) of nodes of the model that stay as they are, beside the recipe's
    metric      of an executable, larger where that is better; the report has it before and after
    max_drop    how much the metric may fall: as few products as are found stay in f32 for that, by
                so many `evaluations` within `seconds`; what is found is the best so far, also if
                the search is interrupted
    resume      `report.measured` of a search that has ended early (or its report as .json): what it
                has measured is not measured again
    shapes      as in `compile`
    progress    is called with a `Progress` during the calibration

    The result has `.graph`, `.report` and `.recipe` (with the scales that were chosen, so that it
    gives the same graph again without data), goes to `compile` and `to_onnx`, and is written as a
    package by `.save("m.tsl")`. Raises TesselError.
    """
    recipe = Recipe.of(recipe)
    if keep is not None:
        more = (keep,) if isinstance(keep, str) else tuple(keep)
        recipe = Recipe.of(recipe, keep=(*recipe.keep, *more))
    source = source_of(graph_of(model, data, shapes, params, state), limits=limits)
    goal = None if metric is None else Goal(metric, max_drop, evaluations, seconds, resume)
    if goal is None and max_drop is not None:
        raise UsageError("max_drop is of a metric", fix="metric=lambda exe: …")
    return quantize_model(
        source, data, recipe, shapes=shapes, goal=goal, threads=threads, progress=progress
    )


@entrance
def quantize_for_training(
    model: Any,
    data: Any = None,
    recipe: str | PathLike[str] | Recipe | Mapping[str, Any] = "int8",
    *,
    loss: str | Callable[..., Any] = "cross_entropy",
    optimizer: Optimizer | None = None,
    distill: float = 0.0,
    trainable: str | Sequence[str] = "*",
    learn_scales: bool = True,
    clip_norm: float | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    threads: int | None = None,
    limits: Limits | Mapping[str, int] | None = None,
    progress: Listener | None = None,
) -> TrainableModel:
    """A model (see `compile`) that is trained as it will be quantized: quantization-aware training.

    data, recipe, shapes   as in `quantize`: where training begins
    loss        "cross_entropy": of the first output and the input "labels" i64 (below 0: not
                counted); "mse": of it and the input "targets"; "none": `distill=1` alone; or a
                function (builder, outputs) -> loss, in which `builder.input` makes further inputs
    optimizer   Adam(1e-4) unless given
    distill     share of the loss, 0 to 1, that is how far answers are from the model of floats
    trainable   patterns of weights; batch norms are part of the weights, with frozen statistics
    learn_scales   whether scales are trained too (LSQ)

    `.fit({"x": …, "labels": …}, epochs=3)` trains, `.trainer` is the `Trainer`, and `.quantized()`
    gives what `quantize` does. It computes the same, to the bit, as the graph that was trained.
    """
    source = source_of(model, limits=limits)
    recipe = Recipe.of(Recipe.of(recipe), bias_correction=False)  # biases are trained
    plan, _ = observed(source, data, recipe, shapes=shapes, threads=threads, progress=progress)
    return TrainableModel(
        plan,
        loss=loss,
        optimizer=optimizer,
        distill=distill,
        trainable=trainable,
        learn_scales=learn_scales,
        clip_norm=clip_norm,
        compile=partial(compile_graph, threads=threads),
    )


def graph_of(
    model: Any,
    data: Any,
    shapes: Mapping[str, Sequence[int | None]] | None,
    params: Mapping | None,
    state: Mapping | None,
) -> Any:
    """A module as its graph for inference, any other model as it is. Raises UsageError."""
    if not isinstance(model, Module):
        if params is not None or state is not None:
            raise UsageError("params are of a module", received=type(model).__name__)
        return model
    if params is None:
        raise UsageError(
            f"{type(model).__name__} is a module, whose parameters lie outside of it",
            fix="tessel.quantize(module, data, params=params, state=state)",
        )
    name, spec = _spec(data, shapes)
    return to_graph(model, params, spec, state=state, input_name=name)


def _spec(data: Any, shapes: Mapping[str, Sequence[int | None]] | None) -> tuple[str, str]:
    """The input of a module: as `shapes` says, or as the arrays of a data set are."""
    for name, shape in (shapes or {}).items():
        return name, f"f32[{', '.join(_dim(i, d) for i, d in enumerate(shape))}]"
    if isinstance(data, (str, PathLike)) and str(data).endswith((".npz", ".npy")):
        found = np.load(data, allow_pickle=False)
        data = found if isinstance(found, np.ndarray) else dict(found)
    named = data if isinstance(data, Mapping) else {"x": data}
    arrays = {n: np.asarray(a) for n, a in named.items() if hasattr(a, "shape")}
    if len(arrays) != 1 or len(named) != 1:
        raise UsageError(
            "what a module reads is not known",
            expected="one array as data, or shapes",
            fix='shapes={"x": (None, 3, 224, 224)}',
        )
    ((name, array),) = arrays.items()
    dtype = {"f": "f32", "i": "i64", "u": "i64", "b": "bool"}[array.dtype.kind]
    return name, f"{dtype}[{', '.join(['N', *map(str, array.shape[1:])])}]"


def _dim(i: int, d: int | None) -> str:
    return str(d) if d is not None else "N" if i == 0 else f"D{i}"
