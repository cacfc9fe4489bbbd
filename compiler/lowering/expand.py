"""Composites that cannot be one kernel (attention, lstm, …) replaced by their expansion."""

from ..ir.builder import Builder
from ..ir.graph import Graph, Node, Value
from ..ir.host_callbacks import host_callback_of
from ..ir.op import Expand
from .inlining import expansion
from .kinds import Kinds


def needs_expansion(node: Node, kinds: Kinds) -> bool:
    if not isinstance(node.op.loops, Expand) or host_callback_of(node) is not None:
        return False
    return not kinds.can_inline(node)


def expand_composites(graph: Graph, kinds: Kinds | None = None) -> Graph:
    """Replace composites that cannot be one kernel (attention, lstm, …) by their expansion."""
    kinds = Kinds() if kinds is None else kinds
    while any(needs_expansion(n, kinds) for n in graph.nodes) or any(
        needs_expansion(n, kinds)
        for node in graph.nodes
        for _, g in node.regions()
        for n in g.nodes
    ):
        b = Builder(Graph(graph.name))
        table: dict[Value, Value] = {}
        for v in graph.inputs:
            table[v] = b.input(v.name, v.type).value
        for node in graph.nodes:
            operands = [None if v is None else table[v] for v in node.inputs]
            if needs_expansion(node, kinds):
                inner = expansion(node)
                results = b.inline(inner, [v for v in operands if v is not None])
            else:
                attrs = {
                    k: expand_composites(a, kinds) if isinstance(a, Graph) else a
                    for k, a in node.attrs.items()
                }
                types, names = [o.type for o in node.outputs], [o.name for o in node.outputs]
                results = b._append(node.op, operands, attrs, types, names, node.origin)
            table |= {o: r.value for o, r in zip(node.outputs, results)}
        for v, name in zip(graph.outputs, graph.output_names):
            b.output(name, table[v])
        b.graph.updates, b.graph.metadata = dict(graph.updates), dict(graph.metadata)
        graph = b.graph
    return graph
