"""What fusion has to know of a node, read from what its record says of its elements.

A rule is pulled once, at an index of fresh axes, with every operand in memory. The expression says

    move        a load, at whatever place; arithmetic on elements from other places, or on indices
    map         arithmetic on the elements that stand at the same place
    contract    a sum of products, in which an axis of the result belongs to one factor alone, or
                a sum of such sums of blocks, times factors
    window      another reduction of which the results share elements: a pool, ranks, distances
    reduce      a reduction of elements that no other result needs
    blocks      the rule asks where in its block an element is (`blocks.py`)

and besides which operands are read at places that are data, which ones again and again, and what
it costs. So an op is fused for what it means, whoever wrote its record.
"""

import math
from collections.abc import Iterator
from enum import StrEnum

from ..classes import dataclass
from ..errors import told
from ..expr import expr as s
from ..expr.blocks import Unblocked
from ..expr.expr import Axis, Buffer, Expr
from ..ir.bounds import assuming, sizes_of
from ..ir.dims import prod
from ..ir.graph import Node, Value
from ..ir.types import BOOL
from ..kernels.contraction import Contraction, sum_of_blocks, sum_of_products
from ..system.concurrency import lazy
from .inlining import Inliner, Operand

CHEAP = frozenset(
    [
        "add",
        "sub",
        "mul",
        "neg",
        "abs",
        "min",
        "max",
        "select",
        "lt",
        "le",
        "gt",
        "ge",
        "eq",
        "ne",
        "and",
        "or",
        "xor",
        "not",
        "bitand",
        "bitor",
        "bitxor",
        "bitnot",
        "shl",
        "shr",
        "isnan",
        "isinf",
        "fma",
    ]
)
FREE = ("load", "axis", "const", "size", "cast", "bitcast")


class Kind(StrEnum):
    """What a node is for fusion (`fuse.py` says what follows)."""

    CONSTANT = "constant"
    ALIAS = "alias"
    MAP = "map"
    MOVE = "move"
    REDUCE = "reduce"
    CONTRACT = "contract"
    WINDOW = "window"
    BLOCKS = "blocks"
    ROW = "row"  # a composite with reductions inside: softmax
    KERNELS = "kernels"
    OTHER = "other"


AGAIN = (Kind.CONTRACT, Kind.WINDOW, Kind.BLOCKS)  # kinds that read operands more than once


@dataclass(frozen=True)
class Border:
    """Operand number `inner` stands in the result from `low` on; around it is `fill`: a number, or
    loads of the operands that `loaded` names."""

    inner: int
    low: tuple
    fill: Expr
    loaded: dict[Buffer, int]

    def read(self, node: Node, inliner: Inliner) -> tuple[Operand, Expr]:
        """The operand and what is around it, in another kernel."""

        def visit(e):
            is_load = e.op == "load"
            return inliner.read(node.inputs[self.loaded[e.data]], e.args) if is_load else None

        return inliner.operand(node.inputs[self.inner]), s.transform(self.fill, visit)


class _Operand(Operand):
    """Notes when a rule looks at the array that an operand is."""

    __slots__ = ("note",)

    @property
    def constant(self):
        if self._constant is not None:
            self.note()
        return self._constant


class _Alone(Inliner):
    """Pulls a node by itself."""

    looked_at_constants = False

    def operand(self, value: Value | None) -> Operand | None:
        if value is None:
            return None
        operand = _Operand(value.type, lambda index: self.read(value, index), value.constant)
        operand.note = self._note
        return operand

    def _note(self) -> None:
        self.looked_at_constants = True


class Reading:
    """A node's results, `parts`, as expressions over `axes` of loads of its operands; the same for
    all nodes of one op, type and attributes, unless it `is_of_constants`."""

    def __init__(self, node: Node):
        buffers = {v: Buffer(v.name, v.type) for v in node.inputs if v is not None}
        self.operands = [buffers.get(v) for v in node.inputs]
        self.sizes = [prod(v.shape) for v in node.outputs]
        self.parts: list[tuple[tuple[Axis, ...], Expr]] = []
        self.is_blocked = False
        inliner = _Alone(buffers)
        try:
            # What is taken of sizes is not noted: lowering will do so where it matters.
            with assuming(), sizes_of(node), told(f"{node.op.name} at {node.where}"):
                for value in node.outputs:
                    axes = tuple(Axis("i", d) for d in value.shape)
                    self.parts.append((axes, inliner._inline(value, tuple(map(s.axis, axes)))))
        except Unblocked:
            self.is_blocked = True
        self.is_of_constants = inliner.looked_at_constants

    @lazy
    def _found(self) -> tuple[list[Expr], set[Buffer]]:
        """Reductions, and the buffers that are read at places which are data."""
        reductions, at_data = [], set()
        holds_load: set[Expr] = set()
        for e in s.walk(*(e for _, e in self.parts)):
            is_data = any(a in holds_load for a in e.args)
            if e.op == "reduce":
                reductions.append(e)
            elif e.op == "load" and is_data:
                at_data.add(e.data)
            if is_data or e.op == "load":
                holds_load.add(e)
        return reductions, at_data

    def _positions(self, buffers: set[Buffer]) -> frozenset[int]:
        return frozenset(i for i, b in enumerate(self.operands) if b in buffers)

    @lazy
    def kind(self) -> Kind:
        if self.is_blocked:
            return Kind.BLOCKS
        if self._found[0]:
            if self._is_contraction():
                return Kind.CONTRACT
            return Kind.WINDOW if self._sharing[1] else Kind.REDUCE
        loads = [(x, axes) for axes, e in self.parts for x in _loads(e)]
        if self.is_index_map or not loads:
            return Kind.MOVE
        return Kind.MAP if all(_is_at_own_place(x, axes) for x, axes in loads) else Kind.MOVE

    def _is_contraction(self) -> bool:
        if len(self.parts) != 1:
            return False
        c = self._contraction
        if c is None or not (c.m or c.n):
            return False
        return all(next(_loads(factor), None) is not None for factor in (c.a, c.b))

    @property
    def _contraction(self) -> Contraction | None:
        """The sum of products, or that of a block, that the only result is made of."""
        ((axes, e),) = self.parts
        several = _several(axes)
        return sum_of_products(e, several) or sum_of_blocks(e, several)

    def sums_lines(self, position: int) -> int:
        """For how many results a product sums each line (the last axis) of an operand; 0 if its
        lines are not what is summed."""
        if self.kind != Kind.CONTRACT:
            return 0
        c = self._contraction
        for factor, others in ((c.a, c.n), (c.b, c.m)):
            loads = [x for x in _loads(factor) if x.data is self.operands[position]]
            if loads and loads[0].args and loads[0].args[-1].free & set(c.k):
                return prod(a.extent for a in others)
        return 0

    @lazy
    def _sharing(self) -> tuple[set[Buffer], bool]:
        """The buffers of which reductions read an element for several results; and whether
        neighbours in a buffer are shared, or all that is reduced."""
        again, is_shared = set(), False
        for axes, e in self.parts:
            axes = frozenset(_several(axes))
            for r in (x for x in s.walk(e) if x.op == "reduce"):
                summed, once = frozenset(r.data[1]), False
                reads = [x for x in _loads(r.args[0]) if x.free & summed]
                for x in reads:
                    mixed = any(i.free & axes and i.free & summed for i in x.args)
                    if mixed or not axes <= x.free:
                        again.add(x.data)
                    else:
                        once = True
                    is_shared |= mixed
                is_shared |= bool(reads) and not once
        return again, is_shared

    @property
    def again(self) -> frozenset[int]:
        return self._positions(self._sharing[0])

    @property
    def places(self) -> frozenset[int]:
        return self._positions(self._found[1])

    @lazy
    def is_index_map(self) -> bool:
        """Whether results are elements of operands, as they are."""
        return not self.is_blocked and all(bare(e).op == "load" for _, e in self.parts)

    @lazy
    def is_free(self) -> bool:
        """Whether reading a result is reading an operand at the same place: a broadcast."""
        return self.is_index_map and all(_is_at_own_place(bare(e), a) for a, e in self.parts)

    @lazy
    def cost(self) -> float:
        """How many simple operations a result takes, besides reading operands; infinite where some
        are not simple."""
        found = [x for _, e in self.parts for x in _operations(e)]
        is_simple = not self.is_blocked and all(x.op in CHEAP for x in found)
        return len(found) if is_simple else math.inf

    @lazy
    def reads_once(self) -> bool:
        """Whether it is an index map that takes no element twice: each axis of the result moves
        along one axis of the operand."""
        return self.is_index_map and all(_moves_apart(bare(e), axes) for axes, e in self.parts)

    @lazy
    def is_permutation(self) -> bool:
        """Whether the result has every element of the operand, its axes in another order."""
        if not self.reads_once or len(self.parts) != 1:
            return False
        load = bare(self.parts[0][1])
        plain = all(i.op in ("axis", "const") for i in load.args)
        return plain and prod(load.data.shape) == self.sizes[0]

    @property
    def keeps_lines(self) -> bool:
        """Whether elements along the result's last axis are neighbours in the operand."""
        axes, e = self.parts[0]
        load = bare(e)
        return bool(axes and load.args) and load.args[-1] is s.axis(axes[-1])

    @lazy
    def border(self) -> Border | None:
        """`select(low <= i < low + n, x[i - low], a number)`, on all axes at once."""
        if len(self.parts) != 1 or self.parts[0][1].op != "select":
            return None
        ((axes, e),) = self.parts
        inside, part, fill = e.args
        if part.op != "load" or fill.free or len(part.args) != len(axes):
            return None
        box = _box(inside, axes)
        shape = part.data.shape
        if box is None or any(high - low != d for (low, high), d in zip(box, shape)):
            return None
        low = tuple(low for low, _ in box)
        own = [s.const(0) if d == 1 else s.sub(s.axis(a), p) for d, a, p in zip(shape, axes, low)]
        if any(_unlimited(i, d) is not o for i, d, o in zip(part.args, shape, own)):
            return None
        loaded = {b: i for i, b in enumerate(self.operands)}
        return Border(loaded[part.data], low, fill, loaded)


def _several(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Those of more than one element: an index of the others is 0."""
    return tuple(a for a in axes if a.extent != 1)


def _loads(e: Expr) -> Iterator[Expr]:
    return (x for x in s.walk(e) if x.op == "load")


def bare(e: Expr) -> Expr:
    """What an element is without having been widened, computed in a wider type, and narrowed."""
    inner = e
    while inner.op == "cast":
        (inner,) = inner.args
    return inner if inner.dtype == e.dtype else e


def _operations(e: Expr) -> Iterator[Expr]:
    """What is computed of loads; indices, and conditions on them, are left out."""
    seen, stack = set(), [e]
    while stack:
        x = stack.pop()
        if x in seen or (x.dtype == BOOL and next(_loads(x), None) is None):
            continue
        seen.add(x)
        if x.op not in FREE:
            yield x
        if x.op != "load":
            stack += x.args


def _is_at_own_place(load: Expr, axes: tuple[Axis, ...]) -> bool:
    """Whether the element stands where the result does, an operand being broadcast."""
    shape = load.data.shape
    own = axes[len(axes) - len(shape) :]
    return len(own) == len(shape) and all(
        d == 1 or i is s.axis(a) for i, d, a in zip(load.args, shape, own)
    )


def _moves_apart(load: Expr, axes: tuple[Axis, ...]) -> bool:
    moved: list[Axis] = []
    for i in load.args:
        terms, _ = s.linear(i)
        if len(terms) > 1 or any(t.op != "axis" for t in terms):
            return False
        moved += [t.data for t in terms]
    return len(moved) == len(set(moved)) and set(moved) >= set(_several(axes))


def _unlimited(index: Expr, size) -> Expr:
    """The index that is held within 0 … size - 1."""
    if index.op == "min" and index.args[1] is s.const(size - 1):
        index = index.args[0]
    if index.op == "max" and index.args[1] is s.const(0):
        index = index.args[0]
    return index


def _box(inside: Expr, axes: tuple[Axis, ...]) -> list[tuple] | None:
    """The (low, high) of each axis between which a condition holds, if it says no more."""
    box = {a: (0, a.extent) for a in axes}
    stack = [inside]
    while stack:
        e = stack.pop()
        if e.op == "and":
            stack += e.args
            continue
        if e.op not in ("ge", "gt", "lt", "le"):
            return None
        terms, c = s.linear(s.sub(*e.args))
        if len(terms) != 1:
            return None
        ((term, factor),) = terms.items()
        if term.op != "axis" or factor != 1 or term.data not in box:
            return None
        low, high = box[term.data]
        if e.op in ("ge", "gt"):
            low = -c + (e.op == "gt")
        else:
            high = -c + (e.op == "le")
        box[term.data] = low, high
    return list(box.values())
