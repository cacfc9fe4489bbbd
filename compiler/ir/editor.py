"""Change a graph in place: other nodes and values in the place of some of its own.

    edit = GraphEditor(graph)
    for node in edit:                              # reads what stands for its operands by now
        if is_identity(node):
            edit.replace(node, node.inputs[0])
        elif needs_padding(node):
            node.inputs[0] = edit.b.pad(…).value   # what is emitted stands before the node
    return edit.changed

A node stays unless it is replaced or removed. Passes that make another graph of one (sizes put in,
halves widened, stages cut) copy its nodes instead (`Node.copied`).
"""

from collections.abc import Iterator, Sequence

from .builder import Builder, Tensor
from .graph import Graph, Node, Value


class GraphEditor:
    """One walk over the nodes of a graph, which has changed when the walk has come to its end.

    changed    whether anything was emitted, replaced or removed so far
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.changed = False
        self._nodes: list[Node] = []
        self._values: dict[Value, Value] = {}  # by what they stand for
        self._builder: Builder | None = None
        self._node: Node | None = None  # at hand, unless it is gone

    def __iter__(self) -> Iterator[Node]:
        values = self._values
        for node in self.graph.nodes:
            if values:
                node.inputs = [None if v is None else values.get(v, v) for v in node.inputs]
            self._node, before = node, len(self._nodes)
            if self._builder is not None:
                self._builder.origin = node.origin
            yield node
            self.changed |= self._node is None or len(self._nodes) > before
            if self._node is not None:
                self._nodes.append(node)
        self.graph.nodes = self._nodes
        self.graph.outputs = [values.get(v, v) for v in self.graph.outputs]

    @property
    def b(self) -> Builder:
        """Emits before the node at hand, with its origin; after the walk, at the end."""
        if self._builder is None:
            self._builder = Builder(self.graph)
            self._builder.graph = Graph(nodes=self._nodes)
            self._builder.origin = None if self._node is None else self._node.origin
        return self._builder

    def replace(self, node: Node, *values: Tensor | Value) -> None:
        """Let `values` stand for the results of the node at hand, which goes."""
        made = [v.value if isinstance(v, Tensor) else v for v in values]
        self._values |= zip(node.outputs, made, strict=True)
        self.remove(node)

    def remove(self, node: Node) -> None:
        """Drop the node at hand; nobody reads its results any more."""
        assert node is self._node, f"{node} is not at hand"
        self._node = None


def splice(graph: Graph, node: Node, nodes: Sequence[Node], values: Sequence[Value]) -> None:
    """`nodes` in the place of `node`. Its output Values live on where `values`, which `nodes`
    define, were: whoever holds them keeps what they mean."""
    for old, new in zip(node.outputs, values, strict=True):
        assert new.node is not None
        new.node.outputs[new.index] = old
        old.node, old.index = new.node, new.index
        for reader in nodes:
            reader.inputs = [old if v is new else v for v in reader.inputs]
    at = next(i for i, n in enumerate(graph.nodes) if n is node)
    graph.nodes[at : at + 1] = nodes
