"""Weights of a graph as inputs that are trained, and back.

graph, values = with_parameters(graph, "*")        constants => inputs, and what they hold
graph = with_constants(graph, values)              inputs => constants
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from ..errors import UsageError
from ..ir.graph import Graph, Node, Value, clone
from ..ir.op import Elementwise, get
from ..ir.types import TensorType

# Operands, as records call them, that are no parameters: statistics, masks.
_NOT_TRAINED = frozenset({"mean", "variance", "mask", "zero_point"})


def with_parameters(
    graph: Graph, patterns: str | Sequence[str] = "*"
) -> tuple[Graph, dict[str, np.ndarray]]:
    """A copy of `graph` in which weights are inputs behind the others, and their values by name.

    `patterns` (*, ?, […]) choose of the constants that are weights: factors of products, tables
    that indices choose from, and what is added to or multiplied with one axis (biases, norms). A
    name without a pattern is taken whatever it is for. The statistics of batch norms stay. Raises
    UsageError for what names nothing.
    """
    patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    graph = clone(graph)[0]
    floats = [v for n in graph.nodes for v in n.outputs if _is_float(v)]
    weights = set(_weights(graph))
    chosen: list[Value] = []
    for v in floats:
        if v.name in patterns or (v in weights and any(fnmatchcase(v.name, p) for p in patterns)):
            chosen.append(v)
    for pattern in patterns:
        if not any(fnmatchcase(v.name, pattern) for v in chosen):
            raise UsageError(
                f"the model has no weight {pattern!r}",
                expected=", ".join(v.name for v in floats if v in weights) or "no weights at all",
            )
    values, gone = {}, set()
    for v in chosen:
        assert v.node is not None
        values[v.name] = v.node.attrs["value"]
        gone.add(v.node)
        v.node = None
        graph.inputs.append(v)
    graph.nodes = [n for n in graph.nodes if n not in gone]
    return graph, values


def with_constants(graph: Graph, values: Mapping[str, np.ndarray]) -> Graph:
    """A copy of `graph` whose inputs of these names are constants of these values."""
    graph = clone(graph)[0]
    nodes = []
    for v in graph.inputs:
        if v.name in values:
            array = np.asarray(values[v.name], v.dtype.numpy)
            v.node = Node(get("constant"), [], {"value": array}, [v.type], [v.name])
            v.node.outputs = [v]
            nodes.append(v.node)
    # Only what nobody updates can be constant: positions of inputs change.
    kept = [v for v in graph.inputs if v.node is None]
    graph.updates = {
        o: kept.index(graph.inputs[i])
        for o, i in graph.updates.items()
        if graph.inputs[i].node is None
    }
    graph.inputs, graph.nodes = kept, [*nodes, *graph.nodes]
    return graph


def _is_float(v: Value) -> bool:
    return v.constant is not None and isinstance(v.type, TensorType) and v.dtype.is_float


def _weights(graph: Graph) -> Iterable[Value]:
    """Constants that readers treat as weights."""
    for node in graph.nodes:
        for i, v in enumerate(node.inputs):
            if v is not None and _is_float(v) and _is_weight(node, i, v):
                yield v


def _is_weight(node: Node, position: int, v: Value) -> bool:
    """Elementwise, whole matrices are masks and tables of positions; what lies along one axis
    belongs to channels."""
    declared = node.op.inputs[min(position, len(node.op.inputs) - 1)].name
    if declared in _NOT_TRAINED or v.type.size <= 1:  # type: ignore[union-attr]
        return False
    along_one_axis = sum(d != 1 for d in v.shape) == 1
    return along_one_axis or not isinstance(node.op.loops, Elementwise)


__all__ = ["with_constants", "with_parameters"]
