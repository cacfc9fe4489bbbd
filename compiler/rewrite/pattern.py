"""Patterns over the graph, written with the operators of the language.

    x, w, s = variables("x w s")
    pattern = conv(x, constant(w)) * constant(s)

A variable matches any value (the same one wherever it occurs again), a Python number a constant
that holds only this number, `constant(x)` any constant, `op.conv(x, w, optional(b))` a node.
Operands of commutative ops match in both orders. Attributes of a pattern must be equal to the
node's. Matching yields every way the pattern fits, as a `Match`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..ir.builder import Builder, Tensor
from ..ir.graph import Node, Value

Bindings = dict[Any, Any]  # variable name -> Value | None, OpPattern -> Node


class Pattern:
    """Base: operators build patterns."""

    def match(self, v: Value | None, found: Bindings) -> Iterator[Bindings]:
        """Every extension of `found` under which `v` fits."""
        raise NotImplementedError

    def __neg__(self):
        return OpPattern("neg", (self,))

    def __invert__(self):
        return OpPattern("not", (self,))


def _operators() -> None:
    for python, name in {
        "add": "add",
        "sub": "sub",
        "mul": "mul",
        "truediv": "div",
        "pow": "pow",
        "matmul": "matmul",
        "and": "and",
        "or": "or",
    }.items():
        forward = lambda a, b, name=name: OpPattern(name, (a, pattern_of(b)))
        reverse = lambda a, b, name=name: OpPattern(name, (pattern_of(b), a))
        setattr(Pattern, f"__{python}__", forward)
        setattr(Pattern, f"__r{python}__", reverse)


_operators()


class Variable(Pattern):
    """Any value; `optional` also matches an absent operand, `constant` only constants."""

    def __init__(self, name: str, *, constant: bool = False, optional: bool = False):
        self.name, self.constant, self.optional = name, constant, optional

    def match(self, v, found):
        if v is None and not self.optional:
            return
        if self.constant and v is not None and v.constant is None:
            return
        if self.name in found:
            if found[self.name] is v:
                yield found
        else:
            yield {**found, self.name: v}


class Number(Pattern):
    """A constant whose elements all are `value` (rounded to its dtype), of any shape.

    `rtol` is for numbers that exporters round, such as √2.
    """

    def __init__(self, value: float, rtol: float = 0.0):
        self.value, self.rtol = value, rtol

    def match(self, v, found):
        held = splat(v)
        if held is None:
            return
        near = abs(held - self.value) <= self.rtol * abs(self.value)
        if near or held == v.dtype.numpy.type(self.value):
            yield found


class OpPattern(Pattern):
    """A node `name(*operands) {attrs}`, result `output` of it."""

    def __init__(
        self,
        name: str,
        operands: Sequence[Pattern] | None = None,
        attrs: Mapping[str, Any] | None = None,
        output: int = 0,
    ):
        self.name, self.output = name, output
        self.operands = None if operands is None else tuple(operands)
        self.attrs = dict(attrs or {})

    def match(self, v, found):
        node = None if v is None else v.node
        if node is None or node.op.name != self.name or v.index != self.output:
            return
        if any(node.attrs[k] != a for k, a in self.attrs.items()):
            return
        found = {**found, self: node}
        if self.operands is None:
            yield found
            return
        inputs = node.inputs + [None] * (len(self.operands) - len(node.inputs))
        if len(inputs) > len(self.operands):
            return
        yield from _match_all(self.operands, inputs, found)
        if node.op.commutative and len(inputs) == 2:
            yield from _match_all(self.operands, inputs[::-1], found)


def _match_all(patterns, values, found) -> Iterator[Bindings]:
    if not patterns:
        yield found
        return
    for first in patterns[0].match(values[0], found):
        yield from _match_all(patterns[1:], values[1:], first)


class Either(Pattern):
    """Any of several patterns, tried in order."""

    def __init__(self, *patterns: Pattern):
        self.patterns = patterns

    def match(self, v, found):
        for p in self.patterns:
            yield from p.match(v, found)


class _Ops:
    """`op.conv(x, w)` is a pattern, for every name; `op.conv` takes any operands."""

    def __getattr__(self, name: str):
        name = name.rstrip("_")  # and_, or_, not_, if_
        return lambda *operands, **attrs: OpPattern(name, [pattern_of(p) for p in operands], attrs)


op = _Ops()


def node(name: str, **attrs) -> OpPattern:
    """A node of that name whatever its operands are."""
    return OpPattern(name, None, attrs)


def variables(names: str) -> list[Variable]:
    return [Variable(n) for n in names.split()]


def constants(names: str) -> list[Variable]:
    """Variables that match constants only."""
    return [Variable(n, constant=True) for n in names.split()]


def optional(v: Variable) -> Variable:
    """The variable, or an absent operand."""
    return Variable(v.name, constant=v.constant, optional=True)


def about(value: float) -> Number:
    """A constant near `value`: exporters round √2 and √(2/π) as they like."""
    return Number(value, rtol=1e-3)


def pattern_of(p) -> Pattern:
    return p if isinstance(p, Pattern) else Number(p)


def splat(v: Value | None):
    """The one number that a constant holds in all of its elements, as a Python number, or None.

    Looks through `expand` and `reshape`, which the constant folder leaves for large results.
    """
    while v is not None and v.node is not None and v.node.op.name in ("expand", "reshape"):
        v = v.node.inputs[0]
    a = None if v is None else v.constant
    if a is None or a.size == 0 or a.dtype == object:
        return None
    flat = a.reshape(-1)
    first = flat[0]
    if flat[-1] != first or flat[flat.size // 2] != first:  # most weights end here
        return None
    return first.item() if bool(np.all(flat == first)) else None


class Match:
    """How a pattern fits: `m.x` is variable x as a Tensor of the builder that will write the
    replacement (None where absent), `m[p]` the node of sub-pattern p."""

    def __init__(
        self, b: Builder, root: Node, bindings: Bindings, count: Mapping[Value, int] | None = None
    ):
        self._b, self.root, self._bindings, self._count = b, root, bindings, count or {}

    def __getattr__(self, name: str) -> Tensor | None:
        if name.startswith("__") or name not in self._bindings:
            raise AttributeError(name)
        v = self._bindings[name]
        return None if v is None else Tensor(self._b, v)

    def __getitem__(self, pattern: "OpPattern") -> Node:
        return self._bindings[pattern]

    def __contains__(self, pattern: "OpPattern | str") -> bool:
        return pattern in self._bindings

    def readers(self, v: Value) -> int:
        """How many operands (and graph outputs) read a value."""
        return self._count.get(v, 0)

    def attr(self, name: str):
        """An attribute of the root."""
        return self.root.attrs[name]

    @property
    def nodes(self) -> list[Node]:
        """The nodes of the pattern, the root first."""
        found = dict.fromkeys(n for n in self._bindings.values() if isinstance(n, Node))
        return list(found)
