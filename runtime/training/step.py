"""A training step as a graph: forward, loss, gradients and the optimizer's update.

    step graph:  parameters, optimizer's arrays, batch, learning rate
                 -> loss, metrics, next parameters, next optimizer's arrays

Its `updates` say which output takes over which input's memory.
"""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence

from ...compiler.autodiff.gradients import gradients, zeros_like
from ...compiler.errors import UsageError
from ...compiler.ir.builder import Builder, Tensor
from ...compiler.ir.graph import Graph
from ...compiler.ir.types import F32, I64, TensorType
from .optimizer import Optimizer

LEARNING_RATE, STEP = "learning_rate", "optimizer.step"
Groups = Mapping[str, Optimizer]


def step_graph(
    graph: Graph,
    optimizer: Optimizer,
    parameters: Sequence[str],
    *,
    loss: str = "loss",
    clip_norm: float | None = None,
    clip_value: float | None = None,
    groups: Groups | None = None,
) -> Graph:
    """One step of training `parameters` (names of inputs of `graph`) against the output `loss`.

    Adds the inputs `optimizer.PARAMETER.SLOT`, `optimizer.step` i64[] and `learning_rate` f32[]
    and an output `new.INPUT` for everything that the step updates. `clip_norm` scales all
    gradients together so that their norm stays below it, `clip_value` bounds each element.
    `groups` give parameters by patterns an optimizer of their own, and the graph an input
    `learning_rate.PATTERN` for each.
    """
    if loss not in graph.output_names:
        raise UsageError(
            f"the graph has no output {loss!r}", expected=", ".join(graph.output_names)
        )
    graph = graph.copy()
    b = Builder(graph)
    inputs = {v.name: v for v in graph.inputs}
    missing = [p for p in parameters if p not in inputs]
    if missing:
        raise UsageError(f"the graph has no input {', '.join(missing)}", expected=", ".join(inputs))
    ps = [Tensor(b, inputs[name]) for name in parameters]
    found = gradients(b, [graph.outputs[graph.output_names.index(loss)]], ps)
    b.origin = f"update by {type(optimizer).__name__}"
    ds = [zeros_like(b, p) if d is None else Tensor(b, d) for p, d in zip(ps, found)]
    if clip_value is not None:
        bounds = [(b.scalar(-clip_value, d.dtype), b.scalar(clip_value, d.dtype)) for d in ds]
        ds = [b.clip(d, *bound) for d, bound in zip(ds, bounds)]
    if clip_norm is not None:
        ds = _clipped(b, ds, clip_norm)
    groups = dict(groups or {})
    rates = {
        g: b.input(rate_name(g), TensorType(F32, ()))
        for g in (None, *groups)
        if g is None or any(group_of(p, groups) == g for p in parameters)
    }
    step = b.input(STEP, TensorType(I64, ()))
    now = step + 1
    _update(b, step, now)
    for name, p, d in zip(parameters, ps, ds):
        group, dtype = group_of(name, groups), p.dtype.compute
        own = optimizer if group is None else groups[group]
        slots = [b.input(f"optimizer.{name}.{s}", p.type.with_dtype(dtype)) for s in own.slots]
        new, new_slots = own.update(b, p, d, slots, rates[group], now)
        for old, value in zip([p, *slots], [new, *new_slots], strict=True):
            _update(b, old, value)
    return graph


def group_of(name: str, groups: Iterable[str]) -> str | None:
    """The first pattern that a parameter's name matches."""
    return next((g for g in groups if fnmatch.fnmatchcase(name, g)), None)


def rate_name(group: str | None) -> str:
    """The input that is a group's learning rate."""
    return LEARNING_RATE if group is None else f"{LEARNING_RATE}.{group}"


def _update(b: Builder, old: Tensor, new: Tensor) -> None:
    b.graph.updates[len(b.graph.outputs)] = b.graph.inputs.index(old.value)
    b.output(f"new.{old.value.name}", new)


def _clipped(b: Builder, ds: Sequence[Tensor], limit: float) -> list[Tensor]:
    squares = [d.cast(F32) * d.cast(F32) for d in ds]
    total = sum((s.sum() for s in squares[1:]), start=squares[0].sum())
    scale = b.minimum(limit / (b.sqrt(total) + 1e-6), b.scalar(1, F32))
    return [d * scale.cast(d.dtype) for d in ds]


def restrict(graph: Graph, output: str) -> Graph:
    """The part of `graph` that computes one output, with the inputs that this needs."""
    result = graph.copy()
    at = result.output_names.index(output)
    result.outputs, result.output_names, result.updates = [result.outputs[at]], [output], {}
    live, nodes = set(result.outputs), []
    for node in reversed(result.nodes):
        if not live.isdisjoint(node.outputs):
            nodes.append(node)
            live.update(v for v in node.inputs if v is not None)
    result.nodes = nodes[::-1]
    result.inputs = [v for v in result.inputs if v in live]
    return result
