"""Which values get memory, and which are computed inside their readers' kernels.

A value is inlined when everything that reads it ends up in one kernel and no reader would make it
be computed again and again. The reasons why a value was kept apart are reported: they answer "why
didn't it fuse?".

    map, move    inlined freely; not into several kernels unless it costs nothing
    reduce       inlined into an elementwise reader of the same shape (its epilogue), or of rows of
                 it (softmax-like: the reduction is done once per row)
    contract     inlined only as the core of its epilogue
    window       pooling: like contract
    blocks       Winograd's transforms: like contract, and only where indices stay as they are
    kernels, control, extern: always have memory, on both sides
"""

from dataclasses import dataclass, field

from ..dims import prod
from ..ir import Graph, Node, Value
from ..ops.python import extern_of
from ..ops.registry import Alias, Elementwise, Expand, Kernels, Pull
from ..sizes import typical
from ..types import STR, TensorType
from .pull import expansion, is_pullable

ROW_LIMIT = 1 << 16  # elements of a row that a kernel may walk several times
DEPTH = (
    24  # nodes that one expression may hold above each other: expressions are walked recursively
)
PLACES = 12  # operations that a value may take to follow from the places of its elements
SMALL = 4096  # elements below which computing a value in each of its readers is cheap enough


_PULLED = {
    "contract": "contract",
    "pool": "window",
    "reduce": "reduce",
    "strassen": "blocks",
    "winograd": "blocks",
}


def kind_of(node: Node) -> str:
    """constant, alias, map, move, reduce, contract, window, blocks, row, kernels or other."""
    op = node.op
    if op.name == "constant":
        return "constant"
    if extern_of(node) is not None:
        return "other"
    match op.loops:
        case Alias():
            return "alias"
        case Elementwise():
            return "map"
        case Pull():
            return _PULLED.get(op.family, "move")
        case Kernels():
            return "kernels"
        case Expand() if is_pullable(op, node):
            inner = {kind_of(n) for n in expansion(node).nodes}
            if inner & {"reduce", "row"}:
                return "row"
            return "move" if reads_places(node) else "map"
    return "other"


@dataclass
class Fusion:
    """`inlined` values have no memory; `reasons` says why others were kept apart."""

    inlined: set[Value] = field(default_factory=set)
    reasons: dict[Value, str] = field(default_factory=dict)


HEAVY = ("reduce", "row", "contract", "window", "blocks")
AGAIN = ("contract", "window", "blocks")  # kinds that read an operand more than once
PIECES = ("kernels", "other")  # kinds that read each operand in a kernel of its own


def is_border(node: Node) -> bool:
    """A pad that only adds a constant border: its inside may be stored by whatever computes it."""
    return (
        node.op.name == "pad"
        and node.inputs[0].dtype != STR
        and node.attrs["mode"] == "constant"
        and all(p >= 0 for p in node.attrs["pads"])
    )


def reads_places(node: Node) -> bool:
    """Whether operand 0 is read at places that are data, so that it must be in memory."""
    if isinstance(node.op.loops, Expand):
        return any(n.op.name.startswith("gather") for n in expansion(node).nodes)
    return node.op.name.startswith(("gather", "scatter"))


def _read_at_places(node: Node) -> tuple[int, ...]:
    """The operands that must be in memory."""
    if isinstance(node.op.loops, Kernels):
        return node.op.loops.memory
    return (0,) if reads_places(node) else ()


def stores_whole(node: Node) -> bool:
    """Whether each element of an operand is stored once, at a place that moves with its index."""
    return node.op.name == "concat" or is_border(node)


def plan_fusion(graph: Graph) -> Fusion:
    """Decide for every value of a graph. Where sizes are open, those to expect decide."""
    return _Planner(graph).plan()


class _Planner:
    """Walks from the outputs to the inputs: the readers of a value are decided before it.

    `roots[v]` are the kernels that read v; `claims[root]` the kinds of heavy values inside one;
    `again[v]` is the op that reads an inlined move more than once.
    """

    def __init__(self, graph: Graph):
        self.graph, self.uses, self.outputs = graph, graph.uses(), set(graph.outputs)
        self.kinds = {node: kind_of(node) for node in graph.nodes}
        for node in graph.nodes:
            if is_border(node) and self._has_heavy_reader(node):
                self.kinds[node] = "kernels"
        self.fusion = Fusion()
        self.roots: dict[Value, set] = {}
        self.depths: dict[Value, int] = {}
        self.claims: dict[object, set[str]] = {}
        self.again: dict[Value, str] = {}

    def _has_heavy_reader(self, pad: Node) -> bool:
        """Whether the padded value would be read more than once, so that it gets memory."""
        readers = self.uses.get(pad.output, [])
        return any(self.kinds[r] in (*AGAIN, *PIECES) for r, _ in readers)

    def plan(self) -> Fusion:
        for node in reversed(self.graph.nodes):
            for value in node.outputs:
                self.roots[value] = self._roots(value)
                why = self._keep(value, node)
                if why is None:
                    self.fusion.inlined.add(value)
                    self.depths[value] = self._depth(value, node)
                    again = [self._reads_again(r) for r, _ in self.uses.get(value, [])]
                    if any(again):
                        self.again[value] = next(filter(None, again))
                    if self.kinds[node] in HEAVY:
                        for root in self.roots[value]:
                            self.claims.setdefault(root, set()).add(self.kinds[node])
                elif self.uses.get(value):
                    self.fusion.reasons[value] = why
        return self.fusion

    def _reads_again(self, reader: Node) -> str | None:
        """The product or the pool that reads `reader`'s operands more than once, if one does."""
        if self.kinds[reader] in AGAIN:
            return reader.op.name
        return next((self.again[v] for v in reader.outputs if v in self.again), None)

    def _depth(self, value: Value, node: Node) -> int:
        """Nodes from the root down to this one; a composite counts with what is inside of it."""
        above = [
            self.depths.get(out, 0)
            for reader, _ in self.uses.get(value, [])
            for out in reader.outputs
        ]
        own = len(expansion(node).nodes) if isinstance(node.op.loops, Expand) else 1
        return max(above, default=0) + own

    def _roots(self, value: Value) -> set:
        found = set()
        for reader, position in self.uses.get(value, []):
            for out in reader.outputs:
                if out in self.fusion.inlined:
                    found |= self.roots[out]
                else:
                    found.add((reader, position) if self.kinds[reader] in PIECES else out)
        return found

    def _keep(self, value: Value, node: Node) -> str | None:
        """Why the value needs memory, or None."""
        kind = self.kinds[node]
        is_output = value in self.outputs
        if kind == "constant":
            array = node.attrs["value"]
            scalar = array.size == 1 and array.dtype != object and not is_output
            return None if scalar else "it is a constant"
        if is_output:
            return "it is an output of the model"
        if not isinstance(value.type, TensorType) or kind in ("kernels", "other"):
            return f"{node.op.name} writes memory"
        readers = self.uses.get(value, [])
        if not readers:
            return "nothing reads it"
        if kind == "alias":
            inner = node.inputs[0].node
            if inner is None or self.kinds[inner] == "constant":
                return "it is a view of memory"
        for reader, position in readers:
            why = self._edge(value, node, reader, position)
            if why is not None:
                return why
        if kind != "alias" and self._depth(value, node) > DEPTH:
            return f"more than {DEPTH} nodes would be in one expression"
        if len(self.roots[value]) > 1:
            if kind in ("map", "move") and _is_cheap(node, value):
                return None
            return f"{len(self.roots[value])} kernels read it"
        return self._heavy(value, kind) if kind in HEAVY else None

    def _edge(self, value: Value, node: Node, reader: Node, position: int) -> str | None:
        """Why `value` cannot be computed inside `reader`, or None."""
        kind, target = self.kinds[node], self.kinds[reader]
        if target == "other":
            return f"{reader.op.name} reads memory"
        again = self._reads_again(reader)
        if again is not None:
            if node.op.name in ("transpose", "reshape", "slice", "split") or _is_weight_side(node):
                return None
            return f"{again} reads it more than once"
        if position in _read_at_places(reader):
            return f"{reader.op.name} reads it at computed places"
        once = self.kinds[reader] in PIECES and stores_whole(reader)
        if kind == "map" and not once and _is_expensive(node) and _grows(value, reader):
            return f"{reader.op.name} would compute it {_growth(value, reader)} times"
        return None

    def _heavy(self, value: Value, kind: str) -> str | None:
        """Why a reduction cannot be part of the one kernel that reads it, or None."""
        (root,) = self.roots[value]
        claimed = self.claims.get(root, set())
        if not isinstance(root, Value) and not stores_whole(root[0]):
            return f"{root[0].op.name} stores it in pieces"
        if "contract" in claimed or (kind == "contract" and claimed):
            return "the kernel that reads it already sums products or rows"
        return self._path(value, value, kind)

    def _path(self, value: Value, here: Value, kind: str) -> str | None:
        """Follow the readers to the root: each must need every element of `value` once, or once
        per row."""
        for reader, _ in self.uses.get(here, []):
            name, target = reader.op.name, self.kinds[reader]
            if target in PIECES:
                continue
            again = f"{name} would compute the {value.node.op.name} again"
            if target not in ("map", "alias") and not (target == "move" and name == "transpose"):
                return again
            out = reader.outputs[0]
            if target == "move" and kind != "contract":
                return f"{name} would scatter the rows"
            if target == "alias" and kind == "blocks":
                return f"{name} would cut the blocks"
            if target == "move" and not _keeps_lines(reader):
                return f"{name} would scatter the lines of the {value.node.op.name}"
            if prod(out.shape) != prod(value.shape) and (
                kind in AGAIN or not _is_row(value.shape, out.shape)
            ):
                return again
            if out in self.fusion.inlined:
                why = self._path(value, out, kind)
                if why is not None:
                    return why
        return None


def _keeps_lines(transpose: Node) -> bool:
    """Whether the elements along the last axis, and enough of them, stay neighbours."""
    perm, out = transpose.attrs["perm"], transpose.outputs[0]
    return perm[-1] == len(perm) - 1 and typical(out.shape[-1]) >= 16


def _is_cheap(node: Node, value: Value) -> bool:
    """Recomputing costs no more than loading: an index map or a small thing."""
    if node.op.name in ("expand", "iota", "identity") or _follows_from_places(node):
        return True
    return typical(prod(value.shape)) <= SMALL and isinstance(node.op.loops, (Elementwise, Pull))


def _follows_from_places(node: Node) -> bool:
    """Whether a few cheap operations make the value of where its elements are: a causal mask."""
    below, stack = set(), [node]
    while stack:
        n = stack.pop()
        plain = n.op.name in ("iota", "expand", "reshape", "transpose", "dims")
        number = n.op.name == "constant" and n.attrs["value"].size == 1
        if n in below:
            continue
        below.add(n)
        if len(below) > PLACES or not (plain or number or n.op.name in _CHEAP):
            return False
        if any(v is None or v.node is None for v in n.inputs):
            return False
        stack += [v.node for v in n.inputs]
    return True


def _is_row(inner: tuple, outer: tuple) -> bool:
    """Whether `inner` broadcasts to `outer` along trailing dims only, of a modest size."""
    if len(inner) != len(outer):
        return False
    split = len(inner)
    while split and inner[split - 1] == 1:
        split -= 1
    if inner[:split] != outer[:split]:
        return False
    row, rows = typical(prod(outer[split:])), typical(prod(outer[:split]))
    return row <= ROW_LIMIT and (rows >= 4 or row <= SMALL)


def _is_weight_side(node: Node) -> bool:
    """Whether everything below is constant: evaluated while compiling."""
    stack, seen = [node], {node}
    while stack:
        n = stack.pop()
        if n.op.name == "constant":
            continue
        if not n.inputs or any(v is not None and v.node is None for v in n.inputs):
            return False
        below = [v.node for v in n.inputs if v is not None and v.node not in seen]
        seen.update(below)
        stack += below
    return True


def _grows(value: Value, reader: Node) -> bool:
    return any(
        typical(prod(o.shape)) > typical(prod(value.shape))
        for o in reader.outputs
        if isinstance(o.type, TensorType)
    )


def _growth(value: Value, reader: Node) -> int:
    return typical(prod(reader.outputs[0].shape)) // max(1, typical(prod(value.shape)))


_CHEAP = frozenset(
    ["add", "sub", "mul", "neg", "abs", "cast", "minimum", "maximum", "relu", "clip", "where",
     "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "not", "and", "or",
     "xor", "identity"]
)  # fmt: skip


def _is_expensive(node: Node) -> bool:
    return node.op.name not in _CHEAP
