"""A graph cut into segments one after another, each small enough to be looked at by itself.

    for s in segments(candidates):      what flows into s is one value, `begin`
        part = cut(graph, s.begin, s.ends)

Between two segments exactly one value flows that depends on a product: what residual blocks, layers
of a chain, or attention and feed-forward parts of a transformer give. What does not depend on any
product (masks, tables of positions) is computed anew in each part.
"""

from collections.abc import Iterator, Sequence

from ..classes import dataclass
from ..ir.graph import Graph, Node, Value, clone
from ..ir.types import F32, TensorType
from .candidates import Candidates, Product


@dataclass(frozen=True)
class Segment:
    """`begin` names the value that flows in (None: it begins with the graph's inputs), `ends` the
    values that it is there for; `products` are those to be quantized."""

    begin: str | None
    ends: tuple[str, ...]
    products: tuple[Product, ...]


def segments(candidates: Candidates) -> list[Segment]:
    """The segments that have products to quantize, and those between them, in order."""
    graph, active = candidates.graph, {p.node: p for p in candidates.products if p.keep is None}
    found: list[Segment] = []
    begin: str | None = None
    inside: list[Product] = []
    end: Value | None = None  # the last place to cut behind the products so far
    products = {p.node for p in candidates.products}
    for node, only in _narrow_places(graph, products):
        if node in active:
            if inside and end is not None:
                found.append(Segment(begin, (end.name,), tuple(inside)))
                begin, inside = end.name, []
            inside.append(active[node])
            end = None
        if only is not None:
            end = only
    outputs = tuple(dict.fromkeys(v.name for v in graph.outputs if _is_f32(v)))
    if inside:
        here = set(_reached(graph, begin))
        outputs = tuple(n for n in outputs if n in here) or outputs
        found.append(Segment(begin, outputs, tuple(inside)))
    return found


def _narrow_places(graph: Graph, products: set[Node]) -> Iterator[tuple[Node, Value | None]]:
    """Each node, and the value that alone flows behind it, if there is one."""
    places = {node: i for i, node in enumerate(graph.nodes)}
    last = {v: max(places[n] for n, _ in uses) for v, uses in graph.uses().items()}
    depends: set[Value] = set()
    live: set[Value] = set()
    for i, node in enumerate(graph.nodes):
        if node in products or any(v in depends for v in node.inputs):
            depends |= set(node.outputs)
            live |= {v for v in node.outputs if v in last}
        live = {v for v in live if last[v] > i}
        only = next(iter(live)) if len(live) == 1 else None
        yield node, only if only is not None and _is_f32(only) else None


def _is_f32(v: Value) -> bool:
    return isinstance(v.type, TensorType) and v.dtype == F32


def _reached(graph: Graph, begin: str | None) -> Iterator[str]:
    """The names of all values that depend on `begin`, or of all."""
    depends: set[Value] = set()
    for v in graph.values():
        inputs = () if v.node is None else v.node.inputs
        if begin is None or v.name == begin or any(u in depends for u in inputs):
            depends.add(v)
            yield v.name


def cut(graph: Graph, begin: str | None, ends: Sequence[str]) -> Graph:
    """The part of `graph` that computes the values `ends` from `begin`, its last input, and from
    those of the graph's inputs that are needed beside it."""
    part = clone(graph)[0]
    values = {v.name: v for v in part.values()}
    part.outputs, part.output_names = [values[n] for n in ends], list(ends)
    part.updates = {}
    start = None if begin is None else values[begin]
    live, nodes = set(part.outputs), []
    for node in reversed(part.nodes):
        if any(v in live and v is not start for v in node.outputs):
            nodes.append(node)
            live |= {v for v in node.inputs if v is not None}
    part.nodes = nodes[::-1]
    part.inputs = [v for v in part.inputs if v in live and v is not start]
    if start is not None:
        start.node = None
        part.inputs.append(start)
    return part
