"""Graphs of modules: for inference with the parameters inside, and for training.

graph = to_graph(net, params, "f32[N,1,8,8]")                     # ready for an ONNX writer
train, evaluate = training_graphs(net, cross_entropy, {"accuracy": accuracy},
                                  x="f32[N,1,8,8]", y="i64[N]")
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...compiler.errors import UsageError
from ...compiler.ir.builder import Builder, as_tensor_type
from ...compiler.ir.graph import Graph
from ...compiler.ir.types import TensorType
from . import tree
from .module import Module
from .tracing import Array, trace

PARAMETERS, STATE = "params", "state"


def to_graph(
    model: Module,
    params: Mapping,
    input_spec: Any,
    *,
    state: Mapping | None = None,
    input_name: str = "x",
    output_name: str = "y",
    name: str | None = None,
) -> Graph:
    """The inference graph of `model` with its parameters as constants, named by their paths.

    `input_spec` is a TensorType, its text ("f32[N,1,8,8]") or an example array.
    """
    state = model.init_state() if state is None else state

    def inference(x: Array) -> Any:
        named = [_constants(x.b, t) for t in (params, state)]
        return model(named[0], x, state=named[1])

    graph = trace(inference, input_spec, name=name or type(model).__name__)
    if len(graph.outputs) != 1:
        raise UsageError(
            "the model must return one tensor", expected=1, received=len(graph.outputs)
        )
    graph.inputs[0].name = _free(graph, input_name)
    graph.output_names = [output_name]
    return graph


def training_graphs(
    model: Module,
    loss: Callable[[Array, Array], Array],
    metrics: Mapping[str, Callable[[Array, Array], Array]] | None = None,
    *,
    x: Any,
    y: Any,
) -> tuple[Graph, Graph]:
    """(training graph, evaluation graph) of a model with inputs `x` and targets `y` (specs).

    Both have the inputs `params.*`, `state.*`, x and y and the outputs "loss" and the metrics.
    The training graph also returns the new state, paired with the old in `updates`; the
    evaluation graph runs in inference mode and also returns the prediction, "prediction".
    """
    metrics = dict(metrics or {})
    params = tree.tree_map(_type_of, model.init(np.random.default_rng(0)))
    state = tree.tree_map(_type_of, model.init_state())

    def run(params: Any, state: Any, x: Array, y: Array, training: bool) -> dict[str, Any]:
        prediction, new = model.apply(params, x, state=state, training=training)
        results = {"loss": loss(prediction, y)} | {k: m(prediction, y) for k, m in metrics.items()}
        return results | ({STATE: new} if training else {"prediction": prediction})

    def train(params: Any, state: Any, x: Array, y: Array) -> dict[str, Any]:
        return run(params, state, x, y, True)

    def evaluate(params: Any, state: Any, x: Array, y: Array) -> dict[str, Any]:
        return run(params, state, x, y, False)

    graphs = [trace(f, params, state, x, y, name=f.__name__) for f in (train, evaluate)]
    for graph in graphs:
        graph.output_names = [n.removeprefix("out.") for n in graph.output_names]
        inputs = {v.name: i for i, v in enumerate(graph.inputs)}
        graph.updates = {
            i: inputs[n] for i, n in enumerate(graph.output_names) if n.startswith(f"{STATE}.")
        }
    return graphs[0], graphs[1]


def flat_values(params: Mapping, state: Mapping | None = None) -> dict[str, np.ndarray]:
    """Parameters and state as one flat dict: {"params.conv.weight": …, "state.norm.mean": …}."""
    values: dict[str, np.ndarray] = {}
    for prefix, nested in ((PARAMETERS, params), (STATE, state or {})):
        values |= zip(tree.paths(nested, prefix), tree.flatten(nested)[0])
    return values


def nested_values(values: Mapping[str, np.ndarray], like: Mapping, prefix: str = PARAMETERS) -> Any:
    """The part of a flat dict under `prefix`, nested like `like`: the way back."""
    _, structure = tree.flatten(like)
    return tree.unflatten(structure, [values[p] for p in tree.paths(like, prefix)])


def _type_of(x: np.ndarray) -> TensorType:
    return as_tensor_type(x)


def _constants(b: Builder, values: Mapping) -> Any:
    """`values` as named constants of the trace."""
    leaves, structure = tree.flatten(values)
    named = [b.constant(np.asarray(v), name=p) for p, v in zip(tree.paths(values), leaves)]
    return tree.unflatten(structure, named)


def _free(graph: Graph, name: str) -> str:
    taken = {v.name for v in graph.values()} - {graph.inputs[0].name}
    if name in taken:
        raise UsageError(f"a value of the graph is already called {name!r}", received=name)
    return name
