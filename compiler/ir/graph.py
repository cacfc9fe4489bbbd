"""The Graph: SSA over tensors.

    graph  ::= graph NAME(VALUE: TYPE, …) -> (VALUE, …) { node … }
    node   ::= VALUE, … = OP(VALUE | none, …) {ATTR = LITERAL, …} : TYPE, …   # origin
    VALUE  ::= %NAME | %"any text"
    TYPE   ::= f32[N,3,2*M] | seq(TYPE) | map(DTYPE,TYPE)
    LITERAL::= int | float | "text" | true | false | none | DTYPE | [LITERAL, …] | {graph}
             | dense | @NAME

Every value is defined once, before its uses. Attributes are static (ints, dims, dtypes, arrays,
graphs); what is only known at run time is an operand. Regions (graphs in attributes of `if`,
`scan`, …) are closed: what they use from outside is passed to them as an operand.
Weights are `constant` nodes; `compiler/ir/text.py` prints large ones as `@name` beside a table.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..classes import dataclass
from .types import DType, Shape, TensorType, Type

if TYPE_CHECKING:
    from .op import Op


class Value:
    """One tensor (or sequence, map) of a graph. `node is None` for the graph's inputs."""

    __slots__ = ("index", "name", "node", "type")

    def __init__(self, name: str, type: Type, node: "Node | None" = None, index: int = 0):
        self.name, self.type, self.node, self.index = name, type, node, index

    @property
    def shape(self) -> Shape:
        return self.type.shape  # type: ignore[union-attr]  # it is a tensor's, or AttributeError

    @property
    def dtype(self) -> DType:
        return self.type.dtype  # type: ignore[union-attr]

    @property
    def rank(self) -> int:
        return self.type.rank  # type: ignore[union-attr]

    @property
    def constant(self) -> np.ndarray | None:
        """The array, if this value is a constant of the graph."""
        if self.node is not None and self.node.op.name == "constant":
            return self.node.attrs["value"]
        return None

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


class Node:
    """One operation. `op` is its record (`compiler/ir/op.py`); `origin` its address
    in the user's model (the ONNX node's name or the user's line). `expansion` is what a composite
    is made of, once the loops have asked (`lowering/inlining.py`)."""

    __slots__ = ("attrs", "expansion", "inputs", "op", "origin", "outputs")

    def __init__(
        self,
        op: "Op",
        inputs: Iterable[Value | None],
        attrs: Mapping[str, Any],
        types: Iterable[Type],
        names: Iterable[str],
        origin: str | None = None,
    ):
        self.op = op
        self.inputs: list[Value | None] = list(inputs)
        self.attrs: dict[str, Any] = dict(attrs)
        self.outputs = [Value(n, t, self, i) for i, (n, t) in enumerate(zip(names, types))]
        self.origin: str | None = origin
        self.expansion: Graph | None = None

    def copied(
        self,
        inputs: Iterable[Value | None],
        attrs: Mapping[str, Any] | None = None,
        types: Iterable[Type] | None = None,
    ) -> "Node":
        """A node like this one that reads `inputs`, with other attributes or types if given."""
        types = [v.type for v in self.outputs] if types is None else types
        names = [v.name for v in self.outputs]
        return Node(
            self.op, inputs, self.attrs if attrs is None else attrs, types, names, self.origin
        )

    @property
    def output(self) -> Value:
        assert len(self.outputs) == 1, self
        return self.outputs[0]

    @property
    def where(self) -> str:
        """The node's address in errors."""
        return self.origin or f"{self.op.name} %{self.outputs[0].name if self.outputs else '?'}"

    def regions(self) -> Iterator[tuple[str, "Graph"]]:
        for name, value in self.attrs.items():
            if isinstance(value, Graph):
                yield name, value

    def __repr__(self) -> str:
        outs = ", ".join(f"%{v.name}" for v in self.outputs)
        ins = ", ".join("none" if v is None else f"%{v.name}" for v in self.inputs)
        return f"{outs} = {self.op.name}({ins})"


@dataclass(eq=False)
class Graph:
    """Inputs, outputs and nodes in order.

    `output_names` are the user's names for the outputs (a value may be an output twice, or an
    input may be one). `updates` maps an output's position to the input whose memory it may
    take over: parameters updated in place by a training step.
    """

    name: str = "main"
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    output_names: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    updates: dict[int, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    def values(self) -> Iterator[Value]:
        yield from self.inputs
        for node in self.nodes:
            yield from node.outputs

    def uses(self) -> dict[Value, list[tuple[Node, int]]]:
        """Who reads each value: (node, operand position). Graph outputs are not listed."""
        table: dict[Value, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            for i, v in enumerate(node.inputs):
                if v is not None:
                    table.setdefault(v, []).append((node, i))
        return table

    def replace(self, mapping: Mapping[Value, Value]) -> None:
        """Let every reader of a key read its value instead (chains are followed)."""

        def final(v: Value) -> Value:
            while v in mapping:
                v = mapping[v]
            return v

        for node in self.nodes:
            node.inputs = [None if v is None else final(v) for v in node.inputs]
        self.outputs = [final(v) for v in self.outputs]

    def symbols(self) -> list[str]:
        """Names of the symbolic dims of the inputs, in order of appearance."""
        from . import dims

        seen: dict[str, None] = {}
        for v in self.inputs:
            if isinstance(v.type, TensorType):
                for d in v.type.shape:
                    seen |= dict.fromkeys(sorted(dims.symbols(d)))
        return list(seen)

    def copy(self) -> "Graph":
        """A deep copy of the structure; arrays are shared."""
        return clone(self)[0]

    def __str__(self) -> str:
        from .text import print_graph

        return print_graph(self)


def clone(graph: Graph) -> tuple[Graph, dict[Value, Value]]:
    """A copy of `graph` and the map from its values to the copy's."""
    table: dict[Value, Value] = {}
    result = Graph(
        name=graph.name,
        output_names=list(graph.output_names),
        updates=dict(graph.updates),
        metadata=dict(graph.metadata),
    )
    for v in graph.inputs:
        table[v] = Value(v.name, v.type)
        result.inputs.append(table[v])
    for node in graph.nodes:
        attrs = {k: a.copy() if isinstance(a, Graph) else a for k, a in node.attrs.items()}
        new = node.copied([None if v is None else table[v] for v in node.inputs], attrs)
        table |= zip(node.outputs, new.outputs)
        result.nodes.append(new)
    result.outputs = [table[v] for v in graph.outputs]
    return result, table


DEQUANTIZE = "dequantize_linear"


def widens(name: str, operand: Type, result: Type) -> bool:
    """Whether an op makes wide numbers out of the narrow ones that stand for them. Weights stay
    narrow: they are read as such, and products may sum them as such (`rules/quantized.py`)."""
    if name != DEQUANTIZE or not (isinstance(operand, TensorType) and operand.is_static):
        return False
    assert isinstance(result, TensorType)
    return operand.size > 1 and operand.dtype.bits < result.dtype.bits


def constants(graph: Graph) -> Iterator[np.ndarray]:
    """The arrays that a graph and its regions hold."""
    for node in graph.nodes:
        if node.op.name == "constant":
            yield node.attrs["value"]
        for _, region in node.regions():
            yield from constants(region)
