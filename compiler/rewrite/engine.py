"""Rules and the driver that applies them.

    rule("conv(x, w) * s => conv(x, w * s)", pattern, rewrite, check)

`where(m)` says what the pattern cannot; `check(m)` returns None, or the reason why not, which
lands in the Report. `rewrite(b, m)` writes
the replacement with the builder `b` and returns one Tensor (or one per result of the root); the
values of `m` work as operands of `b`. What both need to know is checked here, once:
the values inside of the pattern have no other readers (unless the rule is `shared`), and the
replacement has the type of what it replaces. A rule that does not get to the end, since shapes do
not fit or dynamic dims decide, is declined with that reason.

The driver walks the nodes in order; rules are indexed by the op at the pattern's root, and new
nodes are matched again before the walk goes on. Nodes that lose their last reader are dropped,
and new nodes whose operands are all constants are computed on the spot, so rules that reshape
weights are written in the language of the graph.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import ClassVar

from ..classes import dataclass
from ..errors import TypeMismatch
from ..ir.bounds import DynamicSize
from ..ir.builder import Builder, Tensor
from ..ir.graph import Graph, Node, Value
from ..passes.base import Pass, Report
from ..passes.fold import fold_node
from .pattern import Either, Match, OpPattern, Pattern


@dataclass(frozen=True)
class Rule:
    """pattern / check / rewrite, named by its equation."""

    equation: str
    pattern: Pattern
    rewrite: Callable
    check: Callable[[Match], str | None] | None = None
    where: Callable[[Match], bool] | None = None
    shared: bool = False

    @property
    def roots(self) -> tuple[str, ...]:
        """Names of the ops that the pattern's root may be."""
        p = self.pattern
        return tuple(q.name for q in (p.patterns if isinstance(p, Either) else (p,)))


def rule(
    equation: str, pattern: Pattern, rewrite, check=None, *, where=None, shared: bool = False
) -> Rule:
    """A Rule. `where(m)` is part of the pattern: if it is false there was no near-miss.

    `shared`: values inside of the pattern may have other readers, and then stay.
    """
    return Rule(equation, pattern, rewrite, check, where, shared)


class Rules:
    """Rules indexed by the op at the root of their pattern."""

    def __init__(self, rules: Iterable[Rule]):
        self.table: dict[str, list[Rule]] = {}
        for r in rules:
            for name in dict.fromkeys(r.roots):
                self.table.setdefault(name, []).append(r)


@dataclass(frozen=True)
class Rewrite(Pass):
    """Apply rules greedily until none fits, `limit` walks and 20 rewrites per node at most."""

    name: ClassVar[str] = "rewrite"
    title: str = field(metadata={"said": False})  # no option: what it is known by
    rules: tuple[Rule, ...]
    limit: int = 10

    def __post_init__(self):
        object.__setattr__(self, "name", self.title)
        object.__setattr__(self, "_index", Rules(self.rules))

    def run(self, graph: Graph, report: Report) -> bool:
        changed = False
        for _ in range(self.limit):
            if not _Walk(graph, self._index.table, report).run():
                break
            changed = True
        for node in graph.nodes:
            for _, region in node.regions():
                changed |= self.run(region, report)
        return changed


class _Walk:
    """One walk over a graph."""

    def __init__(self, graph: Graph, table: dict[str, list[Rule]], report: Report):
        self.graph, self.table, self.report = graph, table, report
        self.b = Builder(graph)
        self.mapping: dict[Value, Value] = {}
        self.count: dict[Value, int] = {}
        self.dead: set[Node] = set()
        self.budget = 20 * len(graph.nodes) + 100
        for node in graph.nodes:
            self.read(node.inputs, 1)
        self.read(graph.outputs, 1)

    def run(self) -> bool:
        pending, done, changed = deque(self.graph.nodes), [], False
        while pending:
            node = pending.popleft()
            if node in self.dead:
                continue
            node.inputs = [None if v is None else self.final(v) for v in node.inputs]
            new = self.apply(node) if node.op.name in self.table and self.budget else None
            if new is None:
                done.append(node)
            else:
                changed = True
                self.budget -= 1
                pending.extendleft(reversed(new))
        self.graph.nodes = [n for n in done if n not in self.dead]
        self.graph.outputs = [self.final(v) for v in self.graph.outputs]
        return changed

    def final(self, v: Value) -> Value:
        while v in self.mapping:
            v = self.mapping[v]
        return v

    def read(self, values: Iterable[Value | None], by: int) -> None:
        for v in values:
            if v is not None:
                self.count[v] = self.count.get(v, 0) + by

    def apply(self, node: Node) -> list[Node] | None:
        """The nodes that replace `node`, or None if no rule fits."""
        for r in self.table[node.op.name]:
            reason = None
            for bindings in r.pattern.match(node.outputs[0], {}):
                m = Match(self.b, node, bindings, self.count)
                try:
                    if r.where is not None and not r.where(m):
                        continue
                    reason = self.refusal(r, m)
                except DynamicSize as error:
                    reason = str(error)
                if reason is not None:
                    continue
                new = self.replace(r, m)
                if new is not None:
                    return new
            if reason is not None:
                self.report.decline(r.equation, node.where, reason)
        return None

    def refusal(self, r: Rule, m: Match) -> str | None:
        if not r.shared:
            inside = Counter(v for n in m.nodes for v in n.inputs)
            for inner in m.nodes[1:]:
                for v in inner.outputs:
                    if self.count.get(v, 0) > inside[v] and inner.op.name != "constant":
                        return f"{inner.op.name} %{v.name} is read elsewhere too"
        return None if r.check is None else r.check(m)

    def replace(self, r: Rule, m: Match) -> list[Node] | None:
        origin = next((n.origin for n in m.nodes if n.origin is not None), None)
        with self.b.aside() as new:
            self.b.origin = origin
            try:
                results = r.rewrite(self.b, m)
            except (TypeMismatch, DynamicSize) as error:  # no rewrite makes a valid graph an error
                self.report.decline(r.equation, m.root.where, str(error).split("\n")[0])
                return None
        if results is None:
            return None
        results = results if isinstance(results, (tuple, list)) else (results,)
        values = [x.value if isinstance(x, Tensor) else x for x in results]
        for old, v in zip(m.root.outputs, values, strict=True):
            if old.type != v.type:  # also where some sizes would make them equal
                self.report.decline(r.equation, m.root.where, f"{old.type} would be {v.type}")
                return None
        self.report.apply(r.equation, *(n.where for n in m.nodes))
        for n in new:
            fold_node(n)
            self.read(n.inputs, 1)
        for old, v in zip(m.root.outputs, values):
            self.mapping[old] = v
            self.count[v] = self.count.get(v, 0) + self.count.pop(old, 0)
        self.kill(m.root)
        for n in reversed(new):
            if not any(self.count.get(v, 0) for v in n.outputs):
                self.kill(n)
        return new

    def kill(self, node: Node) -> None:
        """Drop a node without readers, and what only it read."""
        stack = [node]
        while stack:
            n = stack.pop()
            if n in self.dead or not n.op.pure:
                continue
            self.dead.add(n)
            self.read(n.inputs, -1)
            stack += [
                v.node
                for v in n.inputs
                if v is not None
                and v.node is not None
                and not any(self.count.get(o, 0) for o in v.node.outputs)
            ]


__all__ = ["OpPattern", "Rewrite", "Rule", "rule"]
