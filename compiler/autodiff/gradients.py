"""Reverse-mode gradients: append the gradient graph to a graph.

    loss = f(x, w)          gradients(graph, [loss], [x, w])  ->  [dloss/dx, dloss/dw]

One walk over the nodes in reverse. Each value on a path from `wrt` to `outputs` collects
contributions; a node whose outputs have any asks its record, `op.grad(c, *douts)`, for the
gradients of its operands:

    d_input[j] += sum_i  douts[i] * d output[i] / d input[j]

Central, so that rules stay one line: an output without a contribution gets a zero, contributions
are summed, and a gradient of another shape than its input's is reduced (or expanded) to it.
A composite marked `through_expansion` is replaced by its expansion, whose nodes are walked then;
its values stay the same objects.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from ..arguments import require
from ..classes import dataclass
from ..errors import TesselError, TypeMismatch, UsageError
from ..ir.builder import Builder, Tensor
from ..ir.editor import splice
from ..ir.graph import Graph, Node, Value
from ..ir.op import Expand, NotDifferentiable
from ..ir.types import TensorType
from .rules import sum_to, through_expansion, zeros_like


@dataclass(frozen=True)
class GradContext:
    """What a gradient rule sees: the node's operands (None where absent, one per declared
    input), results, attributes, and the Builder that it writes with."""

    inputs: list[Tensor | None]
    outputs: list[Tensor]
    attrs: dict[str, Any]
    b: Builder


def gradients(
    graph: Graph | Builder,
    outputs: Sequence[Value | Tensor],
    wrt: Sequence[Value | Tensor],
    seeds: Sequence[Value | Tensor | None] | None = None,
) -> list[Value | None]:
    """Append d(sum of seeds * outputs) / d wrt to `graph`; one Value per `wrt`.

    `seeds` are the gradients that arrive at the outputs (None: nothing arrives); without them
    every output must be a scalar and its seed is 1. A `wrt` that no output depends on gets None.
    Give the Builder, not its graph, if you go on writing with it.
    Raises TesselError for a non-float `wrt`, a non-scalar output without a seed, and an op on
    the way that has no gradient.
    """
    b = graph if isinstance(graph, Builder) else Builder(graph)
    outputs = [b.value(v) for v in outputs]
    sources = [b.value(v) for v in wrt]
    for v in sources:
        _require_float(v, "a gradient with respect to")
    origin = b.origin
    try:
        return _Walk(b, sources).run(outputs, seeds)
    finally:
        b.origin = origin


def graph_gradients(graph: Graph, wrt: Sequence[str] | str, output: str | None = None) -> Graph:
    """A copy of `graph` with outputs `d_NAME` added: the gradients of `output` (default: the
    first) with respect to the inputs named in `wrt`. Independent inputs get zeros.
    """
    require(
        "the graph", graph, Graph, "a Graph", "tessel.from_onnx(path); tessel.grad of functions"
    )
    require("wrt", wrt, Iterable, "the name of an input, or several")
    names = [wrt] if isinstance(wrt, str) else list(wrt)
    result = graph.copy()
    inputs = {v.name: v for v in result.inputs}
    values = [_lookup(inputs, n, "input") for n in names]
    table = dict(zip(result.output_names, result.outputs))
    loss = result.outputs[0] if output is None else _lookup(table, output, "output")
    b = Builder(result)
    for name, v, d in zip(names, values, gradients(b, [loss], values)):
        b.output(f"d_{name}", zeros_like(b, v) if d is None else d)
    return result


def unbroadcast(dx: Tensor, shape: Sequence) -> Tensor:
    """`dx` summed along the axes that `shape` was broadcast over: [N,3] to [1,3]."""
    shape = tuple(shape)
    if dx.rank >= len(shape):
        dx = sum_to(dx, shape)
    return dx.expand(shape)


class _Walk:
    """The reverse walk.

    active    the values that depend on `wrt` through what has gradients
    blocked   the ints that do so through an op that refuses: {value: that node}
    found     the contributions to each value's gradient
    todo      the nodes still to visit, the last first
    """

    def __init__(self, b: Builder, wrt: list[Value]):
        self.b, self.wrt = b, wrt
        self.active: set[Value] = set(wrt)
        self.blocked: dict[Value, Node] = {}
        self.found: dict[Value, list[Tensor]] = {}
        self.todo: list[Node] = []
        self._push(list(b.graph.nodes))

    def run(self, outputs: Sequence[Value | Tensor], seeds: Any) -> list[Value | None]:
        self._seed(outputs, seeds)
        while self.todo:
            node = self.todo.pop()
            if any(v in self.found for v in node.outputs):
                self._visit(node)
        self.b.origin = None
        totals = [self._total(v) for v in self.wrt]
        return [self.b.value(t) for t in totals]

    def _push(self, nodes: Sequence[Node]) -> None:
        """Let the walk visit those of `nodes` (in graph order) that depend on `wrt`."""
        for node in nodes:
            rule = node.op.grad
            refusal = next((self.blocked[v] for v in node.inputs if v in self.blocked), None)
            if refusal is None and not any(v in self.active for v in node.inputs):
                continue
            if isinstance(rule, NotDifferentiable):
                if rule.zero:
                    continue
                refusal = node
            self.todo.append(node)
            for v in node.outputs:
                if _is_float(v):
                    self.active.add(v)
                elif refusal is not None:
                    self.blocked[v] = refusal

    def _seed(self, outputs: Sequence[Any], seeds: Any) -> None:
        if seeds is not None and len(seeds) != len(outputs):
            raise UsageError(
                "one seed per output is needed", expected=len(outputs), received=len(seeds)
            )
        for v, seed in zip(outputs, seeds if seeds is not None else [1] * len(outputs)):
            _require_float(v, "the gradient of")
            if seed is None:
                continue
            if seeds is None and v.shape != ():
                raise UsageError(
                    "the gradient of a tensor that is not a scalar needs a seed",
                    where=_address(v),
                    expected=f"{v.dtype}[]",
                    received=v.type,
                    fix="reduce the loss to a scalar (mean or sum), or give seeds",
                )
            seed = self.b.like(seed, Tensor(self.b, v))
            if seed.rank != v.rank or seed.dtype != v.dtype:
                raise UsageError(
                    "a seed must have its output's type", expected=v.type, received=seed.type
                )
            self._add(v, seed)

    def _visit(self, node: Node) -> None:
        rule = node.op.grad
        for refusing in [node, *(self.blocked[v] for v in node.inputs if v in self.blocked)]:
            if isinstance(refusing.op.grad, NotDifferentiable):
                raise TesselError(
                    f"{refusing.op.name} is not differentiable: {refusing.op.grad.reason}",
                    where=refusing.where,
                    fix="keep it off the path from the parameters to the loss, "
                    "or use stop_gradient or custom_gradient",
                )
        self.b.origin = f"gradient of {node.where}"
        if rule is through_expansion:
            self._push(expand_node(self.b, node))
            return
        douts = [self._total(v) for v in node.outputs]
        douts = [
            zeros_like(self.b, v) if d is None and _is_float(v) else d
            for v, d in zip(node.outputs, douts)
        ]
        for v, dx in zip(node.inputs, self._apply(node, rule, douts)):
            if v in self.active and dx is not None:
                assert dx.dtype == v.dtype, f"gradient of {node}: {dx.dtype} for {v.dtype}"
                self._add(v, unbroadcast(dx, v.shape))

    def _apply(
        self, node: Node, rule: Any, douts: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        inputs = [None if v is None else Tensor(self.b, v) for v in node.inputs]
        declared = sum(not i.variadic for i in node.op.inputs)
        inputs += [None] * (declared - len(inputs))
        outputs = [Tensor(self.b, v) for v in node.outputs]
        result = rule(GradContext(inputs, outputs, node.attrs, self.b), *douts)
        result = result if isinstance(result, (tuple, list)) else (result,)
        assert len(result) >= len(node.inputs), f"{node.op.name}: a gradient per operand"
        return result

    def _add(self, v: Value, dx: Tensor) -> None:
        self.found.setdefault(v, []).append(dx)

    def _total(self, v: Value) -> Tensor | None:
        """The sum of the contributions to `v`, made once."""
        if v not in self.found:
            return None
        total, *rest = self.found[v]
        for dx in rest:
            total = total + dx
        self.found[v] = [total]
        return total


def expand_node(b: Builder, node: Node) -> list[Node]:
    """Replace the composite `node` by its expansion, in its place; returns the new nodes.

    The node's output Values live on as results of the expansion, so whoever holds them keeps
    what they mean.
    """
    assert isinstance(node.op.loops, Expand), f"{node.op.name} has no expansion"
    # Constants made later in the graph must not be used here.
    with b.aside() as nodes:
        b.origin = node.where
        operands = [None if v is None else Tensor(b, v) for v in node.inputs]
        results = node.op.loops.rule(b, *operands, **node.attrs)
        values: list[Value] = []
        for r in results if isinstance(results, (tuple, list)) else (results,):
            value = b.value(r)
            fresh = value.node in nodes and value not in values
            values.append(value if fresh else b.value(b.emit("identity", value)))
    splice(b.graph, node, nodes, values)
    return nodes


def _is_float(v: Value) -> bool:
    return isinstance(v.type, TensorType) and v.type.dtype.is_float


def _address(v: Value) -> str:
    return f"%{v.name}" if v.node is None else v.node.where


def _require_float(v: Value, what: str) -> None:
    if not _is_float(v):
        raise TypeMismatch(
            f"{what} %{v.name} does not exist: only float tensors have gradients",
            where=_address(v),
            expected="a float tensor",
            received=v.type,
        )


def _lookup(table: dict[str, Value], name: str, kind: str) -> Value:
    if name not in table:
        raise UsageError(
            f"the graph has no {kind} {name!r}", expected=", ".join(table), received=name
        )
    return table[name]
