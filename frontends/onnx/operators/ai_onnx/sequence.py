"""Sequences and optionals exist while reading only: a Python list, or the value itself."""

import numpy as np

from .....compiler.errors import ModelError
from .....compiler.ir.builder import Tensor
from .....compiler.ir.dims import Sym
from ...read.call import Call
from ...read.region import inline_graph
from ...read.scope import EMPTY, Sequence


def construct(c: Call):
    return Sequence(c.tensors)


def _items(c: Call, i: int = 0) -> list:
    if c[i] is EMPTY:
        raise ModelError("an empty optional is no sequence", where=c.where)
    if not isinstance(c[i], Sequence):
        raise c.unsupported("a sequence that is not made in the model")
    return c[i].items


def _position(c: Call, i: int, default: int, last: int) -> int:
    """Operand i, a place in a sequence: from -length to `last`."""
    position = default if c[i] is None else c.ints(i, "position")[0]
    length = len(_items(c))
    if not -length <= position <= last:
        raise ModelError(
            "a position outside of the sequence",
            where=c.where,
            expected=f"[{-length}, {last}]",
            received=position,
        )
    return position


def at(c: Call):
    """The item at a position; at one that is computed, a slice of all items in one tensor."""
    items = _items(c)
    alike = items and all(v.type == items[0].type for v in items)
    if not alike or c[1] is None or c.known(1) is not None:
        return items[_position(c, 1, -1, len(items) - 1)]
    table = _stack(c, items, 0)
    return c.b.emit("gather", table, c.x(1).reshape(()), axis=0)


def insert(c: Call):
    items = list(_items(c))
    items.insert(_position(c, 2, len(items), len(items)), c.x(1))
    return Sequence(items)


def erase(c: Call):
    items = list(_items(c))
    del items[_position(c, 1, -1, len(items) - 1)]
    return Sequence(items)


def length(c: Call):
    return c.b.constant(np.int64(len(_items(c))))


def _stack(c: Call, items: list, axis: int):
    """The items along a new axis."""
    items = [c.b.emit("reshape", x, shape=(*x.shape[:axis], 1, *x.shape[axis:])) for x in items]
    return items[0] if len(items) == 1 else c.b.emit("concat", *items, axis=axis)


def concat(c: Call):
    items, axis, new = _items(c), c.attr("axis"), c.attr("new_axis", 0)
    if not items:
        raise ModelError("an empty sequence cannot be concatenated", where=c.where)
    if new:
        return _stack(c, items, axis % (items[0].rank + 1))
    return items[0] if len(items) == 1 else c.b.emit("concat", *items, axis=axis % items[0].rank)


def split(c: Call):
    x, axis = c.x(0), c.axis(0)
    keepdims = bool(c.attr("keepdims", 1))
    whole = x.shape[axis]
    sizes = None if c[1] is None else c.ints(1, "split")
    if isinstance(whole, Sym) and (sizes is None or c.x(1).rank == 0):
        raise c.size_dependence("a sequence of symbolic length", received=whole)
    if sizes is None:
        c.b.budget.node(whole)
        sizes = [1] * whole
    else:
        keepdims = True
        if c.x(1).rank == 0:
            each = sizes[0]
            if each < 1:
                raise ModelError("pieces without a size", where=c.where, received=each)
            c.b.budget.node(whole // each)
            sizes = [each] * (whole // each) + ([whole % each] if whole % each else [])
    parts = [x] if len(sizes) == 1 else c.b.emit("split", x, axis=axis, sizes=tuple(sizes))
    if not keepdims:
        parts = [p.reshape(p.shape[:axis] + p.shape[axis + 1 :]) for p in parts]
    return Sequence(list(parts))


def empty(c: Call):
    c.ignore("dtype")
    return Sequence([])


def sequence_map(c: Call):
    """The body's results for each item; operands that are no sequences are the same for all."""
    body, count = c.attr("body"), len(_items(c))
    names = [i.name for i in body.input]
    for i, v in enumerate(c.inputs):
        if isinstance(v, Sequence) and len(v.items) != count:
            raise ModelError(
                "the sequences of SequenceMap differ in length",
                where=c.where,
                expected=count,
                received=f"{len(v.items)} (operand {i})",
            )
    results = []
    for turn in range(count):
        values = [v.items[turn] if isinstance(v, Sequence) else v for v in c.inputs]
        results.append(inline_graph(c, body, "body", dict(zip(names, values))))
    return [Sequence([r[i] for r in results]) for i in range(len(body.output))]


def optional(c: Call):
    c.ignore("type")
    return EMPTY if c[0] is None else c[0]


def get_element(c: Call):
    if c[0] is EMPTY:
        raise ModelError("an empty optional has no element", where=c.where)
    return c[0]


def has_element(c: Call):
    return c.b.constant(np.bool_(c[0] is not None and c[0] is not EMPTY))


def identity(c: Call):
    return c.b.emit("identity", c.x(0)) if isinstance(c[0], Tensor) else c[0]


TABLE = {
    "Identity": identity,
    "SequenceConstruct": construct,
    "SequenceEmpty": empty,
    "SequenceAt": at,
    "SequenceInsert": insert,
    "SequenceErase": erase,
    "SequenceLength": length,
    "SequenceMap": sequence_map,
    "ConcatFromSequence": concat,
    "SplitToSequence": split,
    "Optional": optional,
    "OptionalGetElement": get_element,
    "OptionalHasElement": has_element,
}
