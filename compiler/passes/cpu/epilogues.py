"""What follows a node element by element, so that pieces of its result can be computed with it."""

from ...ir.graph import Graph, Node, Value
from ...ir.op import Elementwise, Expand
from ...lowering.inlining import expansion

AFTER = 8  # nodes that are computed with a piece


def chains_from(op: str, graph: Graph) -> list[list[Node]]:
    """Each node of an op, with what alone reads it, element by element."""
    found = [[node] for node in graph.nodes if node.op.name == op]
    uses = graph.uses() if found else {}
    for chain in found:
        while len(chain) <= AFTER and chain[-1].output not in graph.outputs:
            readers = uses.get(chain[-1].output, [])
            if len(readers) != 1 or not _is_epilogue(chain[0], chain[-1].output, readers[0][0]):
                break
            chain.append(readers[0][0])
    return found


def _is_epilogue(node: Node, value: Value, reader: Node) -> bool:
    """Whether a reader of the value computes its elements from one each, and numbers."""
    parts = [reader]
    if isinstance(reader.op.loops, Expand):
        parts = [n for n in expansion(reader).nodes if n.op.name != "constant"]
    if not all(isinstance(n.op.loops, Elementwise) for n in parts) or "axis" in reader.attrs:
        return False
    if len(reader.outputs) != 1 or reader.output.shape != value.shape:
        return False
    others = [v.constant for v in reader.inputs if v is not None and v is not value]
    last = node.attrs["channels_last"]
    return all(c is not None and (c.size == 1 or (last and c.size == c.shape[-1])) for c in others)
