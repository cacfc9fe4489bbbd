"""What can be quantized in a graph: products with constant weights, and the values they read.

What a product reads lies in memory, and may be bytes there; nothing else is quantized. Between the
value that is quantized and the product may stand nodes that only move or choose elements (those of
`rewrite/rules/quantized.py`):
those work on the bytes. What a concat joins shares one scale.
"""

from collections.abc import Iterator
from dataclasses import field

from ..classes import dataclass
from ..errors import UsageError
from ..ir.graph import Graph, Node, Value
from ..ir.types import F32, TensorType
from ..rewrite.rules.quantized import ROUNDS, WORKS_ON_BYTES

CALLED = "weights => narrow numbers"  # in reports of passes


@dataclass(eq=False)
class Product:
    """A node that sums products of a value `x` and constant weights `w`.

    axis     of the weights along which the outputs lie, None where they have no such axis
    source   the value that is quantized for it
    keep     why it stays in f32, or None
    """

    node: Node
    x: Value
    w: Value
    axis: int | None
    source: Value
    keep: str | None = None

    @property
    def where(self) -> str:
        return self.node.where

    @property
    def name(self) -> str:
        """Of what it gives: the same in every copy of the graph."""
        return self.node.outputs[0].name


@dataclass(eq=False)
class Candidates:
    """Products in the order of the graph; `groups` are values that share one scale."""

    graph: Graph
    products: list[Product] = field(default_factory=list)
    groups: list[list[Value]] = field(default_factory=list)

    def sources(self) -> dict[Value, list[Product]]:
        """The values to quantize, each with the products that read it."""
        found: dict[Value, list[Product]] = {}
        for p in self.products:
            if p.keep is None:
                for v in parts_of(p.source):
                    found.setdefault(v, []).append(p)
        return found


def find_candidates(graph: Graph) -> Candidates:
    """The products of an optimized graph."""
    products = find_products(graph)
    groups: dict[int, list[Value]] = {}
    for p in products:
        parts = parts_of(p.source)
        if len(parts) > 1:
            groups.setdefault(id(p.source), parts)
    return Candidates(graph, products, list(groups.values()))


def find_products(graph: Graph) -> list[Product]:
    """Those with constant weights of f32."""
    return [Product(n, x, w, axis, source_of(x)) for n, x, w, axis in _products(graph)]


def refuse_quantized(graph: Graph) -> None:
    """Raise UsageError for a graph that has quantized nodes."""
    for node in graph.nodes:
        if _is_quantized(node):
            raise UsageError(
                "the model is quantized already",
                where=node.where,
                received=node.op.name,
                fix="quantize the model of floats that it was made of",
            )


def is_quantized(graph: Graph) -> bool:
    """Whether a graph has quantized nodes."""
    return any(map(_is_quantized, graph.nodes))


def _is_quantized(node: Node) -> bool:
    """Whether it rounds, or computes with constants of 8 bits or less."""
    if node.op.name in ROUNDS:
        return True
    narrow = [v for v in node.inputs if v is not None and v.constant is not None and v.rank > 1]
    return node.op.name not in WORKS_ON_BYTES and any(
        v.dtype.kind in "iuf" and v.dtype.bits <= 8 for v in narrow
    )


def _products(graph: Graph) -> Iterator[tuple[Node, Value, Value, int | None]]:
    """(node, data, weights, their axis of outputs) of f32 products with constant weights."""
    for node in graph.nodes:
        rule = AXES.get(node.op.name)
        if rule is None or len(node.inputs) < 2:
            continue
        x, w = node.inputs[:2]
        if x is None or w is None or x.constant is not None or w.constant is None:
            continue
        if not isinstance(x.type, TensorType) or x.dtype != F32 or w.dtype != F32 or w.rank < 2:
            continue
        yield node, x, w, rule(node, w)


def _conv_axis(node: Node, w: Value) -> int:
    return w.rank - 1 if node.attrs["channels_last"] else 0


def _matmul_axis(node: Node, w: Value) -> int | None:
    return 1 if w.rank == 2 else None


AXES = {"conv": _conv_axis, "matmul": _matmul_axis}


def source_of(x: Value) -> Value:
    """Where the bytes of `x` begin: above all nodes that only move them."""
    while x.node is not None and x.node.op.name in WORKS_ON_BYTES:
        above = x.node.inputs[0]
        if above is None or above.constant is not None or above.type.dtype != F32:  # type: ignore[union-attr]
            break
        x = above
    return x


def parts_of(source: Value) -> list[Value]:
    """The values that are quantized for `source`: those that a concat joins, or itself."""
    node = source.node
    if node is None or node.op.name != "concat":
        return [source]
    parts = [source_of(v) for v in node.inputs if v is not None]
    if any(v.constant is not None for v in parts):
        return [source]
    return list(dict.fromkeys(q for v in parts for q in parts_of(v)))
