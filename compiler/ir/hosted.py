"""What of a graph the host runs: sizes that data decides cut it where they become known.

`bind_dims` says that elements of a vector are sizes; `host_if`, `host_loop`
(`host_control.py`) and `host_image` have results whose sizes the host reads off their arrays.
"""

from collections.abc import Sequence
from typing import Any

from ..errors import InputError
from . import dims
from .graph import Graph, Node
from .types import TensorType

HOSTED = ("host_if", "host_loop", "host_image")


def has_stages(graph: Graph) -> bool:
    """Whether a size of the graph is known only while it runs, or the host runs a part of it."""
    return any(n.op.name == "bind_dims" or n.op.name in HOSTED for n in graph.nodes)


def own_symbols(node: Node) -> set[str]:
    """The symbols that a node binds."""
    if node.op.name != "bind_dims" and node.op.name not in HOSTED:
        return set()
    return {name for d in node.attrs["symbols"] for name in dims.symbols(d)}


def inner_symbols(graph: Graph) -> set[str]:
    """The symbols that a graph or its regions bind while they run."""
    found: set[str] = set()
    for node in graph.nodes:
        found |= own_symbols(node)
        found |= {name for d in node.attrs.get("turn", ()) for name in dims.symbols(d)}
        for _, region in node.regions():
            found |= inner_symbols(region)
    return found


def node_symbols(node: Node) -> set[str]:
    """The symbols in a node's attributes and types, also in its regions."""
    found: set[str] = set()

    def visit(value: Any) -> None:
        match value:
            case dims.Sym():
                found.update(value.symbols())
            case tuple() | list():
                for v in value:
                    visit(v)
            case Graph():
                for v in value.inputs:
                    visit_type(v.type)
                for n in value.nodes:
                    found.update(node_symbols(n))

    def visit_type(type: Any) -> None:
        if isinstance(type, TensorType):
            visit(type.shape)

    for value in node.attrs.values():
        visit(value)
    for v in node.outputs:
        visit_type(v.type)
    return found


def free_symbols(graph: Graph) -> set[str]:
    """The symbols that a graph must be told: neither the shapes of its inputs nor it itself do."""
    shapes = [v.type.shape for v in graph.inputs if isinstance(v.type, TensorType)]
    told = {str(d) for shape in shapes for d in shape if str(d) in dims.symbols(d)}
    used = {s for shape in shapes for d in shape for s in dims.symbols(d)}
    used |= {s for node in graph.nodes for s in node_symbols(node)}
    return used - told - inner_symbols(graph)


def bound_symbols(node: Any, results: Sequence[Any]) -> dict[str, int]:
    """The sizes of a node's symbols, from its results. Raises InputError where two contradict."""
    names = {str(d) for d in node.attrs["symbols"]}
    found: dict[str, int] = {}
    for v, x in zip(node.outputs, results):
        for d, size in zip(v.type.shape, x.shape):
            if str(d) in names and found.setdefault(str(d), size) != size:
                raise InputError(
                    "results that must have one size differ",
                    where=node.where,
                    expected=f"{d} = {found[str(d)]}",
                    received=size,
                )
    return found
