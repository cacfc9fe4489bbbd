"""From graph nodes to expressions: `Inliner.read(value, index)` is a value at an index.

A value that has a buffer is a load. Any other value is *pulled*: its node's record says what the
element at that index is in terms of its operands, which are read the same way. Composites made of
elementwise, reduction and index ops are pulled through their expansion, so a softmax or a layer
norm becomes one expression with nested reductions.
"""

import math
from collections.abc import Callable, Sequence

from ..errors import TypeMismatch
from ..expr import expr as s
from ..expr.expr import Buffer, Expr
from ..ir.bounds import DynamicSize, assume_above, assume_equal, dynamic_size_of, sizes_of
from ..ir.builder import Builder, Tensor
from ..ir.dims import Sym
from ..ir.graph import Graph, Node, Value
from ..ir.op import Alias, Elementwise, Expand, Pull
from ..ir.types import TensorType


class Operand:
    """What a rule sees of an operand: its type, reads `x[i, j]` at exact indices, and the array
    that a constant is."""

    __slots__ = ("_constant", "read", "type")

    def __init__(self, type: TensorType, read: Callable[[tuple], Expr], constant=None):
        self.type, self.read, self._constant = type, read, constant

    constant = property(lambda self: self._constant)
    shape = property(lambda self: self.type.shape)
    dtype = property(lambda self: self.type.dtype)
    rank = property(lambda self: self.type.rank)

    def __getitem__(self, index) -> Expr:
        index = index if isinstance(index, tuple) else (index,)
        return self.read(tuple(i if isinstance(i, Expr) else s.const(i) for i in index))


def expansion(node: Node) -> Graph:
    """The composite's own graph: inputs are its operands (absent ones stay absent)."""
    if node.expansion is not None:
        return node.expansion
    b = Builder(name=node.op.name)
    b.origin = node.origin
    operands = [None if v is None else b.input(f"x{i}", v.type) for i, v in enumerate(node.inputs)]
    operands += [None] * (sum(not i.variadic for i in node.op.inputs) - len(operands))
    with sizes_of(node):
        result = node.op.loops.rule(b, *operands, **node.attrs)
    for i, r in enumerate(result if isinstance(result, (tuple, list)) else [result]):
        r = r if isinstance(r, Tensor) else b.constant(r)
        _check_result(node, node.outputs[i].type, r.type)
        b.output(f"y{i}", r)
    node.expansion = b.graph
    return b.graph


def _check_result(node: Node, expected: TensorType, received: TensorType) -> None:
    """Raise TypeMismatch where an expansion gives another shape than its record says: operands
    that do not fit each other made it wider."""
    if expected.rank != received.rank or any(
        isinstance(d, int) and isinstance(e, int) and d != e
        for d, e in zip(expected.shape, received.shape)
    ):
        raise TypeMismatch(
            f"{node.op.name}: its operands do not fit each other",
            where=node.where,
            expected=expected,
            received=received,
        )


class Inliner:
    """Expressions of values. `buffers` maps the values that have memory to their buffers."""

    def __init__(self, buffers: dict[Value, Buffer]):
        self.buffers = buffers
        self._memo: dict[tuple, Expr] = {}
        self._rules: dict[Node, Sequence[Callable]] = {}
        self.visited: dict[Node, None] = {}
        self._recent: dict[Node, None] = {}

    @property
    def origins(self) -> tuple[str, ...]:
        """Where in the model those nodes are that were visited."""
        return tuple(dict.fromkeys(n.where for n in reversed(self.visited)))

    def read(self, value: Value, index: Sequence[Expr]) -> Expr:
        """The element of `value` at `index` (one expression per dim). Of a value that has no
        elements nothing is read, whatever the index: zero stands for what cannot be used."""
        if 0 in value.shape:
            return s.const(0, value.dtype)
        index = tuple(s.const(0) if d == 1 else i for i, d in zip(index, value.shape))
        key = (value, *index)
        if key not in self._memo:
            self._memo[key] = self._inline(value, index)
        return self._memo[key]

    def _inline(self, value: Value, index: tuple[Expr, ...]) -> Expr:
        constant = value.constant
        if constant is not None and constant.size == 1 and constant.dtype != object:
            return _scalar(constant, value.dtype)
        if value in self.buffers:
            _assume_inside(index, value.shape)
            return s.load(self.buffers[value], index)
        node = value.node
        assert node is not None, f"input {value} has no buffer"
        self.visited[node] = self._recent[node] = None
        try:
            if node not in self._rules:
                self._rules[node] = self._rule(node)
            return s.cast(self._rules[node][value.index](*index), value.dtype)
        except TypeError as error:
            raise dynamic_size_of(node, error) from error

    def recent(self) -> tuple[Node, ...]:
        """The nodes that were pulled since this was asked last."""
        found = tuple(self._recent)
        self._recent.clear()
        return found

    def operand(self, value: Value | None) -> Operand | None:
        if value is None:
            return None
        return Operand(value.type, lambda index: self.read(value, index), value.constant)

    def _rule(self, node: Node) -> Sequence[Callable]:
        """One function of the output index per output."""
        match node.op.loops:
            case Elementwise(body=body):
                return [self._elementwise(node, body)]
            case Alias():
                x, out = node.inputs[0], node.outputs[0]
                return [lambda *i: self.read(x, s.unflatten(s.flatten(i, out.shape), x.shape))]
            case Pull(rule=rule):
                outs = tuple(o.type for o in node.outputs)
                operands = [self.operand(v) for v in node.inputs]
                operands += [None] * (sum(not i.variadic for i in node.op.inputs) - len(operands))
                made = rule(outs[0] if len(outs) == 1 else outs, *operands, **node.attrs)
                return made if isinstance(made, (tuple, list)) else [made]
            case Expand():
                return self._expanded(node)
        raise AssertionError(f"{node} cannot be pulled")

    def _expanded(self, node: Node) -> Sequence[Callable]:
        graph = expansion(node)
        inner = Inliner({})
        outer = iter(v for v in node.inputs if v is not None)
        reads = {v: next(outer) for v in graph.inputs}
        inner_inline = inner._inline
        inner._inline = lambda v, i: self.read(reads[v], i) if v in reads else inner_inline(v, i)
        return [lambda *i, v=v: inner.read(v, i) for v in graph.outputs]

    def _elementwise(self, node: Node, body: Callable) -> Callable:
        out = node.outputs[0].type

        def at(*index):
            operands = []
            for v in node.inputs:
                if v is None:
                    operands.append(None)
                    continue
                i = index[out.rank - v.rank :]
                _assume_broadcast(v.shape, out.shape)
                x = self.read(v, tuple(s.const(0) if d == 1 else k for k, d in zip(i, v.shape)))
                operands.append(s.cast(x, x.dtype.compute))
            missing = sum(not i.variadic for i in node.op.inputs) - len(operands)
            return body(s, *operands, *([None] * missing), **node.attrs)

        return at


def _assume_broadcast(shape: tuple, out: tuple) -> None:
    """Dims that only turn out to be equal: what is wider than the result would be cut off, what is
    shorter would be read past its end."""
    for d, wanted in zip(shape, out[len(out) - len(shape) :]):
        if d not in (1, wanted) and not assume_equal(d, wanted):
            raise DynamicSize(f"{d} is not {wanted}")


def _assume_inside(index: tuple[Expr, ...], shape: tuple) -> None:
    """Places that follow from the sizes lie inside of the array; where data decides, see the op."""
    for i, d in zip(index, shape):
        if i.op == "axis" and i.data.extent == d:
            continue
        low, high = s.bounds(i)
        if isinstance(high, Sym) or (isinstance(d, Sym) and high != math.inf):
            assume_above(d, high)
        if isinstance(low, Sym):
            assume_above(low, -1)


def _scalar(array, dtype) -> Expr:
    value = array.reshape(-1)[0]
    if dtype.is_float:
        return s.cast(s.const(float(value), dtype.compute), dtype)
    return s.const(int(value) if dtype.kind != "b" else bool(value), dtype)
