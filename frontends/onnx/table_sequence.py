"""Sequences and optionals exist while reading only: a Python list, or the value itself."""

import numpy as np

from ...compiler.dims import Sym
from .call import Call
from .scope import Sequence


def construct(c: Call):
    return Sequence(c.tensors)


def _items(c: Call) -> list:
    if not isinstance(c[0], Sequence):
        raise c.unsupported("a sequence that is not made in the model")
    return c[0].items


def _position(c: Call, i: int, default: int) -> int:
    return default if c[i] is None else c.ints(i, "position")[0]


def at(c: Call):
    return _items(c)[_position(c, 1, -1)]


def insert(c: Call):
    items = list(_items(c))
    position = _position(c, 2, len(items))
    items.insert(position, c.x(1))
    return Sequence(items)


def erase(c: Call):
    items = list(_items(c))
    del items[_position(c, 1, -1)]
    return Sequence(items)


def length(c: Call):
    return c.b.constant(np.int64(len(_items(c))))


def concat(c: Call):
    items, axis = _items(c), c.attr("axis")
    if c.attr("new_axis", 0):
        rank = items[0].rank + 1
        axis %= rank
        items = [c.b.emit("reshape", x, shape=(*x.shape[:axis], 1, *x.shape[axis:])) for x in items]
    return items[0] if len(items) == 1 else c.b.emit("concat", *items, axis=axis % items[0].rank)


def split(c: Call):
    x, axis = c.x(0), c.axis(0)
    keepdims = bool(c.attr("keepdims", 1))
    whole = x.shape[axis]
    if isinstance(whole, Sym):
        raise c.unsupported("a sequence of symbolic length", fix="pass --shapes")
    if c[1] is None:
        sizes = [1] * whole
    else:
        sizes, keepdims = c.ints(1, "split"), True
        if c.x(1).rank == 0:
            each = sizes[0]
            sizes = [each] * (whole // each) + ([whole % each] if whole % each else [])
    parts = [x] if len(sizes) == 1 else c.b.emit("split", x, axis=axis, sizes=tuple(sizes))
    if not keepdims:
        parts = [p.reshape(p.shape[:axis] + p.shape[axis + 1 :]) for p in parts]
    return Sequence(list(parts))


def empty(c: Call):
    c.ignore("dtype")
    return Sequence([])


def optional(c: Call):
    c.ignore("type")
    if c[0] is None:
        raise c.unsupported("an empty optional")
    return c[0]


def has_element(c: Call):
    return c.b.constant(np.bool_(c[0] is not None))


TABLE = {
    "SequenceConstruct": construct,
    "SequenceEmpty": empty,
    "SequenceAt": at,
    "SequenceInsert": insert,
    "SequenceErase": erase,
    "SequenceLength": length,
    "ConcatFromSequence": concat,
    "SplitToSequence": split,
    "Optional": optional,
    "OptionalGetElement": lambda c: c[0],
    "OptionalHasElement": has_element,
}
