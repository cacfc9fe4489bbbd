"""Passes that only remove: constants computed, dead and doubled nodes dropped, `if`s decided."""

from typing import Any, ClassVar

import numpy as np

from ..classes import dataclass
from ..ir.editor import GraphEditor
from ..ir.graph import Graph, Node
from ..ir.types import TensorType
from ..system.budgets import SPENT
from .base import Pass, Report
from .fold import Allowance, fold_node, fold_values

_SMALL = 1024  # bytes up to which constants are compared by content


@dataclass(frozen=True)
class FoldConstants(Pass):
    """op(constant, …) => constant"""

    name: ClassVar[str] = "fold_constants"

    def run(self, graph: Graph, report: Report) -> bool:
        allowance = Allowance.of(graph)
        changed = self._fold(graph, allowance)
        if allowance.left:
            graph.metadata[SPENT] = ", ".join(allowance.left)
        return changed

    def _fold(self, graph: Graph, allowance: Allowance) -> bool:
        changed, edit = False, GraphEditor(graph)
        for node in edit:
            if len(node.outputs) == 1:
                changed |= fold_node(node, allowance)
            elif (values := fold_values(node, allowance)) is not None:
                named = zip(node.outputs, values)
                edit.replace(node, *[edit.b.constant(x, name=f"{v.name}_folded") for v, x in named])
            for _, region in node.regions():
                changed |= self._fold(region, allowance)
        return changed or edit.changed


@dataclass(frozen=True)
class DeadCodeElimination(Pass):
    """drop pure nodes without readers"""

    name: ClassVar[str] = "dce"

    def run(self, graph: Graph, report: Report) -> bool:
        live = set(graph.outputs)
        kept: list[Node] = []
        changed = False
        for node in reversed(graph.nodes):
            if node.op.pure and live.isdisjoint(node.outputs):
                changed = True
                continue
            kept.append(node)
            live.update(v for v in node.inputs if v is not None)
            for _, region in node.regions():
                changed |= self.run(region, report)
        graph.nodes = kept[::-1]
        return changed


@dataclass(frozen=True)
class CommonSubexpressionElimination(Pass):
    """a = f(x), b = f(x) => b is a (common subexpressions)"""

    name: ClassVar[str] = "cse"

    def run(self, graph: Graph, report: Report) -> bool:
        seen: dict[tuple, Node] = {}
        edit = GraphEditor(graph)
        for node in edit:
            key = (node.op.name, tuple(node.inputs), _key(node.attrs))
            first = seen.setdefault(key, node) if node.op.pure else node
            if first is not node:
                edit.replace(node, *first.outputs)
        inner = [self.run(g, report) for node in graph.nodes for _, g in node.regions()]
        return edit.changed or any(inner)


def _key(value: Any):
    """Something hashable that is equal exactly for equal attributes."""
    match value:
        case dict():
            return tuple((k, _key(v)) for k, v in value.items())
        case tuple() | list():
            return tuple(_key(v) for v in value)
        case float():
            return np.float64(value).tobytes()  # 0.0 and -0.0 differ
        case np.ndarray() if value.dtype != object and value.nbytes <= _SMALL:
            return (value.dtype.name, value.shape, value.tobytes())
        case np.ndarray():
            return id(value)
        case Graph():
            return _graph_key(value)
    return (type(value), value)


def _graph_key(graph: Graph):
    number = {v: i for i, v in enumerate(graph.values())}
    nodes = tuple(
        (
            n.op.name,
            tuple(None if v is None else number[v] for v in n.inputs),
            _key(n.attrs),
            tuple(str(v.type) for v in n.outputs),
        )
        for n in graph.nodes
    )
    types = tuple(str(v.type) for v in graph.inputs)
    return (types, nodes, tuple(number[v] for v in graph.outputs))


@dataclass(frozen=True)
class RemoveIdentities(Pass):
    """identity(x) => x, also cast to its own dtype, and stop_gradient once gradients are taken"""

    name: ClassVar[str] = "remove_identities"

    def run(self, graph: Graph, report: Report) -> bool:
        edit = GraphEditor(graph)
        for node in edit:
            if _is_identity(node):
                edit.replace(node, node.inputs[0])
        inner = [self.run(g, report) for node in graph.nodes for _, g in node.regions()]
        return edit.changed or any(inner)


def _is_identity(node: Node) -> bool:
    match node.op.name:
        case "identity" | "stop_gradient":
            return True
        case "cast":
            return node.attrs["dtype"] == node.inputs[0].dtype
        case "reshape" | "expand":
            return node.attrs["shape"] == node.inputs[0].shape
        case "transpose":
            return node.attrs["perm"] == tuple(range(len(node.attrs["perm"])))
        case "slice":
            return isinstance(node.inputs[0].type, TensorType) and (
                node.outputs[0].type == node.inputs[0].type
                and min(node.attrs["steps"], default=1) > 0
            )
        case "concat":
            return len(node.inputs) == 1
    return False


@dataclass(frozen=True)
class FoldConstantBranches(Pass):
    """if(true, x) {then_graph=f} => f(x)"""

    name: ClassVar[str] = "fold_constant_branches"

    def run(self, graph: Graph, report: Report) -> bool:
        if not any(n.op.name == "if" for n in graph.nodes):
            inner = [self.run(g, report) for n in graph.nodes for _, g in n.regions()]
            return any(inner)
        changed, edit = False, GraphEditor(graph)
        for node in edit:
            condition = node.inputs[0].constant if node.op.name == "if" else None
            if condition is None:
                for _, region in node.regions():
                    changed |= self.run(region, report)
                continue
            branch = node.attrs["then_graph" if bool(condition) else "else_graph"]
            self.run(branch, report)
            edit.replace(node, *edit.b.inline(branch, node.inputs[1:]))
            report.apply("if(constant) => branch", node.where)
        return changed or edit.changed
