"""Kinds of nodes, and whatever else fusion asks of them: what their expressions (`reading.py`) or
stores say. Each node is looked at once while a graph is lowered, and nodes that are alike together.
"""

from itertools import combinations

from ..errors import told
from ..expr import expr as s
from ..expr.expr import Axis, Buffer
from ..expr.index import NUMBERS
from ..ir.bounds import assuming, at_least, sizes_of
from ..ir.graph import Node
from ..ir.host_callbacks import host_callback_of
from ..ir.op import Alias, Elementwise, Expand, Kernels, Pull
from .inlining import Operand, expansion
from .reading import AGAIN, Border, Kind, Reading, bare
from .writer import KernelWriter


class Kinds:
    """Kinds of nodes, and what their expressions say; each node is looked at once."""

    def __init__(self):
        self._kinds: dict[Node, Kind] = {}
        self._readings: dict[Node, Reading] = {}
        self._alike: dict[tuple, Reading] = {}
        self._whole: dict[Node, bool] = {}

    def __getitem__(self, node: Node) -> Kind:
        if node not in self._kinds:
            self._kinds[node] = self._kind(node)
        return self._kinds[node]

    def _kind(self, node: Node) -> Kind:
        if node.op.name == "constant":
            return Kind.CONSTANT
        if host_callback_of(node) is not None:
            return Kind.OTHER
        match node.op.loops:
            case Alias():
                return Kind.ALIAS
            case Elementwise():
                return Kind.MAP
            case Pull():
                return self.reading(node).kind
            case Kernels():
                return Kind.KERNELS
            case Expand() if self.can_inline(node):
                inner = {self[n] for n in expansion(node).nodes}
                if inner & {Kind.REDUCE, Kind.ROW}:
                    return Kind.ROW
                return Kind.MOVE if self.places(node) else Kind.MAP
        return Kind.OTHER

    def can_inline(self, node: Node) -> bool:
        """Whether the node can be part of another kernel's expression: a composite only where all
        that it is made of can, sums no products or windows, and has no weights."""
        match node.op.loops:
            case Elementwise() | Pull() | Alias():
                return True
            case Expand():
                return all(
                    n.attrs["value"].size == 1
                    if n.op.name == "constant"
                    else self.can_inline(n) and self[n] not in AGAIN
                    for n in expansion(node).nodes
                )
        return False

    def reading(self, node: Node) -> Reading:
        """What the expression of a pullable node says."""
        found = self._readings.get(node)
        if found is None:
            key = _key(node)
            found = self._alike.get(key)
            if found is None:
                found = Reading(node)
                if key is not None and not found.is_of_constants:
                    self._alike[key] = found
            self._readings[node] = found
        return found

    def places(self, node: Node) -> frozenset[int]:
        """The operands that are read at places which are data, so that they must be in memory."""
        match node.op.loops:
            case Kernels(memory=memory):
                return frozenset(memory)
            case Pull() if host_callback_of(node) is None:
                return self.reading(node).places
            case Expand() if self.can_inline(node):
                inner = (n for n in expansion(node).nodes if n.op.name != "constant")
                if any(self.places(n) for n in inner):
                    return self.reading(node).places
        return frozenset()

    def again(self, node: Node, position: int) -> bool:
        """Whether elements of an operand are read for several results of a reduction."""
        if self[node] in AGAIN:
            return True
        return self[node] == Kind.REDUCE and position in self.reading(node).again

    def border(self, node: Node) -> Border | None:
        """Where in its result an operand stands whole, if a constant is around it."""
        is_pull = isinstance(node.op.loops, Pull) and node.op.name != "constant"
        if not is_pull or host_callback_of(node) is not None:
            return None
        return self.reading(node).border

    def stores_whole(self, node: Node) -> bool:
        """Whether each element of an operand is stored once, at a place that moves with its index,
        and the operands beside each other: a concatenation, a constant border."""
        if node not in self._whole:
            is_kernels = isinstance(node.op.loops, Kernels) and host_callback_of(node) is None
            self._whole[node] = _stores_whole(node) if is_kernels else bool(self.border(node))
        return self._whole[node]


def _key(node: Node) -> tuple | None:
    """What a reading follows from, or None where that has no hash: the op, its attributes, types,
    which operands are one, and numbers, which are written into expressions."""
    operands = []
    for v in node.inputs:
        constant = None if v is None else v.constant
        number = constant is not None and constant.size == 1
        operands.append((node.inputs.index(v), v and v.type, number and id(constant)))
    types = tuple(v.type for v in node.outputs)
    key = (id(node.op), tuple(node.attrs.items()), tuple(operands), types)
    try:
        hash(key)
    except TypeError:
        return None
    return key


# -- stores --------------------------------------------------------------------------------


def _stores_whole(node: Node) -> bool:
    buffers = [None if v is None else Buffer(v.name, v.type) for v in node.inputs]
    operands = [
        None if b is None else Operand(b.type, lambda index, b=b: s.load(b, index), v.constant)
        for b, v in zip(buffers, node.inputs)
    ]
    operands += [None] * (sum(not i.variadic for i in node.op.inputs) - len(operands))
    types = tuple(v.type for v in node.outputs)
    writer = KernelWriter([Buffer(v.name, v.type) for v in node.outputs])
    with assuming(), sizes_of(node), told(f"{node.op.name} at {node.where}"):
        node.op.loops.emit(writer, types[0] if len(types) == 1 else types, *operands, **node.attrs)
    boxes, stored = [], []
    for axes, stores, is_serial, *_ in writer.kernels:
        (store,) = stores if len(stores) == 1 else (None,)
        if is_serial or store is None or store.mode != "set" or store.where is not None:
            return False
        load = bare(store.value)
        own = tuple(map(s.axis, axes))
        if load.op != "load" or load.args != own or load.data.shape != _extents(axes):
            return False
        offsets = [s.sub(i, a) for i, a in zip(store.index, own)]
        if len(own) != len(store.index) or any(o.op not in NUMBERS for o in offsets):
            return False
        stored.append(load.data)
        boxes.append([(o.data, o.data + a.extent) for o, a in zip(offsets, axes)])
    return len(node.outputs) == 1 and len(stored) == len(set(stored)) and _are_beside(boxes)


def _extents(axes: tuple[Axis, ...]) -> tuple:
    return tuple(a.extent for a in axes)


def _are_beside(boxes: list) -> bool:
    """Whether of any two boxes one lies behind the other, along some axis."""

    def behind(box, after) -> bool:
        return any(at_least(start, end) for (_, end), (start, _) in zip(box, after))

    return bool(boxes) and all(behind(a, b) or behind(b, a) for a, b in combinations(boxes, 2))
