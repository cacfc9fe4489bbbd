"""What values a graph allows for its inputs, where these end up as they are in limited operands.

    %y = gather(%table, %ids)     table: f32[30522,768]     =>     {"ids": -30522 … 30521}

For who makes up inputs, and where a run that will fail must not start. Only values that go
unchanged (reshaped, widened, cut, into a branch or a loop) are followed: what is computed of them
may well be out of range.
"""

from collections.abc import Iterable

from ..classes import dataclass
from ..ir.graph import Graph, Node, Value
from ..ir.limits import Limit
from ..ir.types import TensorType
from .ranges import keeps_values

_MOVES = frozenset(
    [
        "reshape",
        "expand",
        "transpose",
        "slice",
        "split",
        "tile",
        "reverse",
        "identity",
        "cast",
        "within",
        "stop_gradient",
        "bind_dims",
    ]
)

_ALL = frozenset(["reshape", "transpose", "identity", "within"])  # of these, what keeps all


@dataclass(frozen=True)
class InputLimit:
    """low <= element < high is needed at the node `where`, if that is run (`certain`: it is)."""

    low: object
    high: object
    what: str
    where: str
    certain: bool


Found = dict[str, list[InputLimit]]


def input_limits(graph: Graph) -> Found:
    """What has to hold for the elements of inputs, by name; bounds are dims."""
    found: Found = {}
    whole = dict.fromkeys(graph.inputs, True)
    _walk(graph, {v: v.name for v in graph.inputs}, whole, found, certain=True)
    return found


def _walk(
    graph: Graph, source: dict[Value, str], whole: dict[Value, bool], found: Found, certain: bool
) -> None:
    """`whole`: whether a value has all elements of its source."""
    for node in graph.nodes:
        for limit in limits_of(node):
            value = node.inputs[limit.operand]
            if value in source:
                sure = certain and whole[value] and limit.column is None
                one = InputLimit(limit.low, limit.high, limit.what, node.where, sure)
                found.setdefault(source[value], []).append(one)
        if node.op.name in _MOVES and node.inputs[0] in source:
            source |= dict.fromkeys(node.outputs, source[node.inputs[0]])
            all_of_it = whole[node.inputs[0]] and (node.op.name in _ALL or keeps_values(node))
            whole |= dict.fromkeys(node.outputs, all_of_it)
        for _, region in node.regions():
            inner = {v: source[x] for v, x in handed(node, region) if x in source}
            _walk(region, inner, dict.fromkeys(inner, False), found, certain=False)


def limits_of(node: Node) -> list[Limit]:
    """The limits of the operands that a node has."""
    if node.op.limits is None:
        return []
    types = [None if v is None else v.type for v in node.inputs]
    return [
        limit
        for limit in node.op.limits(*types, **node.attrs)
        if limit.operand < len(types) and types[limit.operand] is not None
    ]


def handed(node: Node, region: Graph) -> Iterable[tuple[Value, Value]]:
    """(a region's input, the operand that it is, or a slice of it) for all that no turn changes."""
    match node.op.name:
        case "if" | "host_if":
            first, skipped = 0, 1
        case "scan":
            first = skipped = node.attrs["states"]
        case "while" | "host_loop":
            first, skipped = node.attrs["states"], 1 + node.attrs["states"]
        case _:
            return []
    pairs = zip(region.inputs[first:], node.inputs[skipped:])
    return [(inner, outer) for inner, outer in pairs if isinstance(outer.type, TensorType)]
