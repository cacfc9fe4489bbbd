"""Which values get memory, and which are computed inside their readers' kernels.

A value is inlined when everything that reads it ends up in one kernel and no reader would make it
be computed again and again. The reasons why a value was kept apart are reported: they answer "why
didn't it fuse?".

    map, move    inlined freely; not into several kernels unless it costs nothing
    reduce       inlined into an elementwise reader of the same shape (its epilogue), or of rows of
                 it (softmax-like: the reduction is done once per row)
    contract     inlined only as the core of its epilogue
    window       pooling: like contract
    kernels, control, extern: always have memory, on both sides
"""

from dataclasses import dataclass, field

from ..dims import prod
from ..ir import Graph, Node, Value
from ..ops.registry import Alias, Elementwise, Expand, Kernels, Pull
from ..types import TensorType
from .pull import expansion, is_pullable

ROW_LIMIT = 1 << 16  # elements of a row that a kernel may walk several times
SMALL = 4096  # elements below which computing a value in each of its readers is cheap enough


def kind_of(node: Node) -> str:
    """constant, alias, map, move, reduce, contract, window, row, kernels or other."""
    op = node.op
    if op.name == "constant":
        return "constant"
    match op.loops:
        case Alias():
            return "alias"
        case Elementwise():
            return "map"
        case Pull():
            return {"contract": "contract", "pool": "window", "reduce": "reduce"}.get(
                op.family, "move"
            )
        case Kernels():
            return "kernels"
        case Expand() if is_pullable(op, node):
            inner = {kind_of(n) for n in expansion(node).nodes}
            return "row" if inner & {"reduce", "row"} else "map"
    return "other"


@dataclass
class Fusion:
    """`inlined` values have no memory; `reasons` says why others were kept apart."""

    inlined: set[Value] = field(default_factory=set)
    reasons: dict[Value, str] = field(default_factory=dict)


def plan_fusion(graph: Graph) -> Fusion:
    """Decide for every value of a graph whose shapes are static."""
    fusion = Fusion()
    kinds = {node: kind_of(node) for node in graph.nodes}
    uses = graph.uses()
    outputs = set(graph.outputs)
    roots: dict[Value, set] = {}
    for node in reversed(graph.nodes):
        for value in node.outputs:
            readers = uses.get(value, [])
            found = set()
            for reader, _ in readers:
                for out in reader.outputs:
                    if out in fusion.inlined:
                        found |= roots[out]
                    else:
                        found.add(reader if kinds[reader] == "other" else out)
            roots[value] = found
            why = _keep(value, node, kinds, readers, found, value in outputs)
            if why is None:
                fusion.inlined.add(value)
            elif readers:
                fusion.reasons[value] = why
    return fusion


def _keep(value, node, kinds, readers, roots, is_output) -> str | None:
    """Why the value needs memory, or None."""
    kind = kinds[node]
    if kind == "constant":
        array = node.attrs["value"]
        return None if array.size == 1 and array.dtype != object and not is_output else "constant"
    if is_output:
        return "it is an output of the model"
    if not isinstance(value.type, TensorType) or kind in ("kernels", "other"):
        return f"{node.op.name} writes memory"
    if not readers:
        return "nothing reads it"
    if kind == "alias":
        source = node.inputs[0]
        inner = source.node
        if inner is None or kinds[inner] == "constant":
            return "it is a view of memory"
    for reader, position in readers:
        why = _edge(value, kind, node, reader, position, kinds)
        if why is not None:
            return why
    if len(roots) > 1:
        if kind in ("map", "move") and _is_cheap(node, value):
            return None
        return f"{len(roots)} kernels read it"
    return None


def _is_cheap(node: Node, value: Value) -> bool:
    """Recomputing costs no more than loading: an index map or a small thing."""
    if node.op.name in ("expand", "iota", "identity"):
        return True
    return prod(value.shape) <= SMALL and isinstance(node.op.loops, (Elementwise, Pull))


def _edge(value, kind, node, reader, position, kinds) -> str | None:
    """Why `value` cannot be computed inside `reader`, or None."""
    target = kinds[reader]
    if target == "other":
        return f"{reader.op.name} reads memory"
    heavy = kind in ("reduce", "contract", "window", "row")
    if target in ("contract", "window"):
        if kind in ("move", "alias") and node.op.name in ("transpose", "reshape", "slice", "split"):
            return None
        if _is_weight_side(node):
            return None
        return f"{reader.op.name} reads it more than once"
    if reader.op.name.startswith(("gather", "scatter", "top_k")) and position == 0:
        return f"{reader.op.name} reads it at computed places"
    if not heavy:
        if kind == "map" and _grows(value, reader) and _is_expensive(node):
            return f"{reader.op.name} would compute it {_growth(value, reader)} times"
        return None
    if target == "kernels":
        return f"{reader.op.name} stores it in pieces" if kind == "row" else None
    if target not in ("map", "alias", "move"):
        return f"{reader.op.name} would compute the {node.op.name} again"
    if target in ("move", "alias") and kind != "contract":
        return None if target == "alias" else f"{reader.op.name} would scatter the rows"
    if target == "move" and reader.op.name != "transpose":
        return f"{reader.op.name} would compute the {node.op.name} again"
    out = reader.outputs[0].shape
    if prod(value.shape) == prod(out):
        return None
    return (
        None
        if kind != "contract" and _is_row(value.shape, out)
        else (f"{reader.op.name} would compute the {node.op.name} again")
    )


def _is_row(inner: tuple, outer: tuple) -> bool:
    """Whether `inner` broadcasts to `outer` along trailing dims only, of a modest size."""
    if len(inner) != len(outer):
        return False
    split = len(inner)
    while split and inner[split - 1] == 1:
        split -= 1
    if inner[:split] != outer[:split]:
        return False
    row, rows = prod(outer[split:]), prod(outer[:split])
    return row <= ROW_LIMIT and (rows >= 4 or row <= SMALL)


def _is_weight_side(node: Node) -> bool:
    """Whether everything below is constant: evaluated while compiling."""
    stack = [node]
    while stack:
        n = stack.pop()
        if n.op.name == "constant":
            continue
        if not n.inputs or any(v is not None and v.node is None for v in n.inputs):
            return False
        stack += [v.node for v in n.inputs if v is not None]
    return True


def _grows(value: Value, reader: Node) -> bool:
    return any(prod(o.shape) > prod(value.shape) for o in reader.outputs)


def _growth(value: Value, reader: Node) -> int:
    return prod(reader.outputs[0].shape) // max(1, prod(value.shape))


_CHEAP = frozenset(
    ["add", "sub", "mul", "neg", "abs", "cast", "minimum", "maximum", "relu", "clip", "where",
     "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "not", "and", "or",
     "xor", "identity"]
)  # fmt: skip


def _is_expensive(node: Node) -> bool:
    return node.op.name not in _CHEAP
