"""What the integers of a graph can be: the least and the greatest, from where they come.

    Ranges().of(value) -> (low, high)    both included; dims, or infinities where nothing is known

    iota(n)            0 … n - 1                 arg_max, top_k      0 … size of the axis - 1
    clip(x, a, b)      a … b                     reshape, gather, …  what their operand can be
    within             what it insists on        add, where, …       by the ranges of the operands

Sound for every size of dynamic dims: where sizes would decide, nothing is known.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from ..ir import dims
from ..ir.bounds import at_least as surely
from ..ir.bounds import from_zero
from ..ir.graph import Node, Value
from ..ir.types import BOOL, TensorType, normalize_axis

Range = tuple  # (low, high)
ANY: Range = (-math.inf, math.inf)
DEPTH = 64  # nodes above each other that are looked through


class Ranges:
    """Remembers what it has found. `given`: the ranges of a region's inputs."""

    def __init__(self, given: Mapping[Value, Range] | None = None):
        self._found: dict[Value, Range] = dict(given or {})

    def of(self, value: Value, depth: int = 0) -> Range:
        """The least and the greatest element of a value."""
        if value not in self._found:
            self._found[value] = self._range(value, depth) if depth < DEPTH else ANY
        return self._found[value]

    def place(self, value: Value, axis: int, k: int) -> Range:
        """The same for the elements at place k of an axis."""
        if value.constant is not None:
            return _of_array(np.take(value.constant, k, axis))
        node = value.node
        name = "" if node is None else node.op.name
        if name == "transpose":
            return self.place(node.inputs[0], node.attrs["perm"][axis], k)
        if name == "concat" and normalize_axis(node.attrs["axis"], value.rank) == axis:
            return self._part(value, axis, k)
        if name == "within":
            found = self.place(node.inputs[0], axis, k)
            mine = node.attrs["column"] in (None, k if axis == value.rank - 1 else None)
            return _both(found, _insisted(node)) if mine else found
        if node is not None and keeps_values(node):
            return self.place(node.inputs[0], axis, k)
        return self.of(value)

    def _part(self, value: Value, axis: int, k: int) -> Range:
        """Place k of a concat."""
        for part in value.node.inputs:
            width = part.shape[axis]
            if not isinstance(width, int):
                break
            if k < width:
                return self.of(part) if width == 1 else self.place(part, axis, k)
            k -= width
        return self.of(value)

    def _sliced(self, node: Node) -> Range:
        """Of a slice that takes one place of an axis, what is there."""
        x, a = node.inputs[0], node.attrs
        found = self.of(x)
        for axis, start, size in zip(a["axes"], a["starts"], a["sizes"]):
            if size == 1 and isinstance(start, int):
                found = _both(found, self.place(x, normalize_axis(axis, x.rank), start))
        return found

    def _range(self, value: Value, depth: int) -> Range:
        if not isinstance(value.type, TensorType) or value.dtype.kind not in "iub":
            return ANY
        array = value.constant
        if array is not None:
            return _of_array(array)
        node = value.node
        known = _of_dtype(value)
        if node is None:
            return known
        if node.op.name == "slice":
            return _both(self._sliced(node), known)
        read = lambda v: self.of(v, depth + 1)
        rule = _RULES.get(node.op.name)
        found = ANY if rule is None else rule(node, value, read)
        return _both(found, known)


def _of_array(array: np.ndarray) -> Range:
    if array.size == 0:
        return 0, 0
    return int(array.min()), int(array.max())


def _of_dtype(value: Value) -> Range:
    if value.dtype == BOOL:
        return 0, 1
    if value.dtype.bits > 16:
        return (0, math.inf) if value.dtype.kind == "u" else ANY
    if value.dtype.kind == "u":
        return 0, 2**value.dtype.bits - 1
    return -(2 ** (value.dtype.bits - 1)), 2 ** (value.dtype.bits - 1) - 1


def at_least(a, b) -> bool:
    """Whether a >= b surely holds; sizes that data decides may be 0."""
    return surely(from_zero(a), from_zero(b))


def _greater(a, b):
    """The greater of two lower ends, if that can be said; else one of them."""
    return b if at_least(b, a) else a


def _lesser(a, b):
    return b if at_least(a, b) else a


def _both(x: Range, y: Range) -> Range:
    """What lies in both."""
    return _greater(x[0], y[0]), _lesser(x[1], y[1])


def _either(*ranges: Range) -> Range:
    """What lies in one of them."""
    low, high = ranges[0]
    for a, b in ranges[1:]:
        low = low if at_least(a, low) else a if at_least(low, a) else -math.inf
        high = high if at_least(high, b) else b if at_least(b, high) else math.inf
    return low, high


def _plus(a, b):
    infinite = [x for x in (a, b) if isinstance(x, float)]
    return infinite[0] if infinite else a + b


def _minus(a):
    return -a


def _fits(x: Range, value: Value) -> Range:
    """A sum or product of the dtype of `value`: nothing is known where it may wrap around."""
    bits = value.dtype.bits - (value.dtype.kind != "u")
    top = 2**bits
    low = 0 if value.dtype.kind == "u" else -top
    for d in x:
        # No axis is longer than 2**48 (`registry.MAX_ELEMENTS`): dims fit into 64 bits.
        if isinstance(d, float) or (isinstance(d, dims.Sym) and bits < 63):
            return ANY
        if isinstance(d, int) and not low <= d < top:
            return ANY
    return x


def _insisted(node: Node) -> Range:
    low, high = node.attrs["low"], node.attrs["high"]
    return (-math.inf if low is None else low, math.inf if high is None else high - 1)


def keeps_values(node: Node) -> bool:
    """Whether a node is a cast of integers that keeps every value."""
    if node.op.name != "cast":
        return False
    a, b = node.inputs[0].dtype, node.attrs["dtype"]
    if a.kind not in "iub" or b.kind not in "iu":
        return False
    return b.bits > a.bits or (b.kind == a.kind and b.bits >= a.bits)


# -- rules ---------------------------------------------------------------------------------


def _same(node: Node, value: Value, read: Callable) -> Range:
    return read(node.inputs[0])


def _union(node: Node, value: Value, read: Callable) -> Range:
    return _either(*[read(v) for v in node.inputs if v is not None])


def _where(node: Node, value: Value, read: Callable) -> Range:
    return _either(read(node.inputs[1]), read(node.inputs[2]))


def _scattered(node: Node, value: Value, read: Callable) -> Range:
    if node.attrs["reduction"] not in ("none", "max", "min"):
        return ANY
    return _either(read(node.inputs[0]), read(node.inputs[2]))


def _cast(node: Node, value: Value, read: Callable) -> Range:
    if node.inputs[0].dtype.kind not in "iub":
        return ANY
    found = read(node.inputs[0])
    return found if keeps_values(node) else _fits(found, value)


def _iota(node: Node, value: Value, read: Callable) -> Range:
    return 0, node.attrs["shape"][node.attrs["axis"]] - 1


def _place(node: Node, value: Value, read: Callable) -> Range:
    """arg_max and arg_min, and the second result of top_k."""
    if node.op.name == "top_k" and value.index == 0:
        return read(node.inputs[0])
    x = node.inputs[0]
    return 0, x.shape[normalize_axis(node.attrs["axis"], x.rank)] - 1


def _order(node: Node, value: Value, read: Callable) -> Range:
    """A permutation of the last axis."""
    return 0, node.inputs[0].shape[-1] - 1


def _count(node: Node, value: Value, read: Callable) -> Range:
    return 0, node.inputs[0].shape[-1]


def _found(node: Node, value: Value, read: Callable) -> Range:
    return -1, node.inputs[1].shape[0] - 1


def _found_word(node: Node, value: Value, read: Callable) -> Range:
    return -1, len(node.attrs["keys"]) - 1


def _clip(node: Node, value: Value, read: Callable) -> Range:
    """min(max(x, low), high): the upper end holds whatever the lower one is."""
    x, *rest = node.inputs
    low, high = (*rest, None, None)[:2]
    a, b = read(x)
    if low is not None:
        la, lb = read(low)
        a, b = _greater(a, la), _either((0, b), (0, lb))[1]
    if high is not None:
        ha, hb = read(high)
        a, b = _either((a, 0), (ha, 0))[0], _lesser(b, hb)
    return a, b


def _minimum(node: Node, value: Value, read: Callable) -> Range:
    (a, b), (c, d) = map(read, node.inputs)
    return _either((a, 0), (c, 0))[0], _lesser(b, d)


def _maximum(node: Node, value: Value, read: Callable) -> Range:
    (a, b), (c, d) = map(read, node.inputs)
    return _greater(a, c), _either((0, b), (0, d))[1]


def _add(node: Node, value: Value, read: Callable) -> Range:
    (a, b), (c, d) = map(read, node.inputs)
    return _fits((_plus(a, c), _plus(b, d)), value)


def _sub(node: Node, value: Value, read: Callable) -> Range:
    (a, b), (c, d) = map(read, node.inputs)
    return _fits((_plus(a, _minus(d)), _plus(b, _minus(c))), value)


def _mul(node: Node, value: Value, read: Callable) -> Range:
    """Of what is not negative."""
    (a, b), (c, d) = map(read, node.inputs)
    if not (at_least(a, 0) and at_least(c, 0)) or any(isinstance(x, float) for x in (a, b, c, d)):
        return ANY
    return _fits((a * c, b * d), value)


def _div(node: Node, value: Value, read: Callable) -> Range:
    """Of what is not negative, by a positive number."""
    (a, b), (c, d) = map(read, node.inputs)
    if not at_least(a, 0) or c != d or not isinstance(c, int) or c <= 0 or isinstance(b, float):
        return ANY
    return a // c, b // c


def _mod(node: Node, value: Value, read: Callable) -> Range:
    """By a positive number; the result has its sign, or that of x (`fmod`)."""
    (a, _), (c, d) = map(read, node.inputs)
    if not at_least(c, 1) or isinstance(d, float):
        return ANY
    return (0 if at_least(a, 0) or not node.attrs.get("fmod", False) else 1 - d), d - 1


def _dims(node: Node, value: Value, read: Callable) -> Range:
    values = node.attrs["values"]
    return _either(*[(d, d) for d in values]) if values else (0, 0)


def _within(node: Node, value: Value, read: Callable) -> Range:
    found = read(node.inputs[0])
    return found if node.attrs["column"] is not None else _both(found, _insisted(node))


_RULES: dict[str, Callable] = {
    **dict.fromkeys(
        [
            "reshape",
            "expand",
            "transpose",
            "split",
            "gather",
            "gather_elements",
            "gather_nd",
            "gather_points",
            "tile",
            "reverse",
            "identity",
            "stop_gradient",
        ],
        _same,
    ),
    "concat": _union,
    "where": _where,
    "scatter_elements": _scattered,
    "scatter_nd": _scattered,
    "cast": _cast,
    "iota": _iota,
    "arg_max": _place,
    "arg_min": _place,
    "top_k": _place,
    "argsort": _order,
    "running_count": _count,
    "search": _found,
    "search_strings": _found_word,
    "clip": _clip,
    "minimum": _minimum,
    "maximum": _maximum,
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "mod": _mod,
    "dims": _dims,
    "within": _within,
}
