"""Compression of whatever is a model: what is behind names of the public API."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Any

from ..compiler.compress.recipe import Recipe
from ..compiler.errors import entrance
from ..compiler.system.budgets import Limits
from ..compiler.system.progress import Listener
from ..runtime.compile import compile_graph
from ..runtime.compress.quantize import observed
from ..runtime.compress.training import TrainableModel
from ..runtime.training.optimizers import Optimizer
from .sources import source_of


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
    plan, _ = observed(
        source, data, Recipe.of(recipe), shapes=shapes, threads=threads, progress=progress
    )
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
