"""What values a graph allows for its inputs, where these end up as they are in limited operands.

    %y = gather(%table, %ids)     table: f32[30522,768]     =>     {"ids": (-30522, 30522)}

For who makes up inputs. Only values that go unchanged (reshaped, widened, cut, into a branch or a
loop) are followed: what is computed of them may well be out of range.
"""

from collections.abc import Iterable

from .ir import Graph, Node, Value
from .limits import Limit
from .types import TensorType

_MOVES = frozenset(
    ["reshape", "expand", "transpose", "slice", "split", "tile", "reverse", "identity", "cast",
     "within", "stop_gradient", "bind_dims"]
)  # fmt: skip


def input_limits(graph: Graph) -> dict[str, list[tuple]]:
    """For inputs by name, all (low, high) that low <= element < high has to hold for: dims."""
    found: dict[str, list[tuple]] = {}
    _walk(graph, {v: v.name for v in graph.inputs}, found)
    return found


def _walk(graph: Graph, source: dict[Value, str], found: dict[str, list[tuple]]) -> None:
    for node in graph.nodes:
        for limit in limits_of(node):
            name = source.get(node.inputs[limit.operand])
            if name is not None:
                found.setdefault(name, []).append((limit.low, limit.high))
        if node.op.name in _MOVES and node.inputs[0] in source:
            source |= dict.fromkeys(node.outputs, source[node.inputs[0]])
        for _, region in node.regions():
            inner = {v: source[x] for v, x in handed(node, region) if x in source}
            _walk(region, inner, found)


def limits_of(node: Node) -> list[Limit]:
    """The limits of the operands that a node has."""
    if node.op.limits is None:
        return []
    types = [None if v is None else v.type for v in node.inputs]
    return [
        limit for limit in node.op.limits(*types, **node.attrs)
        if limit.operand < len(types) and types[limit.operand] is not None
    ]  # fmt: skip


def handed(node: Node, region: Graph) -> Iterable[tuple[Value, Value]]:
    """(a region's input, the operand that it is, or a slice of it) for all that no turn changes."""
    match node.op.name:
        case "if":
            first, skipped = 0, 1
        case "scan":
            first = skipped = node.attrs["states"]
        case "while":
            first, skipped = node.attrs["states"], 1 + node.attrs["states"]
        case _:
            return []
    pairs = zip(region.inputs[first:], node.inputs[skipped:])
    return [(inner, outer) for inner, outer in pairs if isinstance(outer.type, TensorType)]
