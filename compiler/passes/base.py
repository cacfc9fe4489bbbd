"""What a pass is: a frozen dataclass whose fields are its options, from Graph to Graph.

    @dataclass(frozen=True)
    class DeadCodeElimination(Pass):
        "drop nodes nobody reads"
        name = "dce"

        def run(self, graph, report):
            ...
            return changed            # the graph is edited in place

A pass edits the graph it is given and says whether it changed; `run_pipeline` copies the user's
graph once, before the first pass. A pipeline is a visible list with a reason beside each entry.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from typing import ClassVar

from ..classes import dataclass
from ..errors import GraphError, at
from ..ir.builder import Builder
from ..ir.editor import GraphEditor
from ..ir.graph import Graph, Node, Value
from ..ir.verify import verify


@dataclass(frozen=True)
class Applied:
    """A rewrite that happened: the rule's equation and the origins of the nodes it replaced."""

    rule: str
    where: tuple[str, ...]


@dataclass(frozen=True)
class Declined:
    """A near-miss: the rule's pattern was there, its check said why not."""

    rule: str
    where: str
    reason: str


@dataclass
class Report:
    """What the passes did and what they declined; `tessel explain` prints it."""

    applied: list[Applied] = field(default_factory=list)
    declined: dict[Declined, None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def apply(self, rule: str, *where: str) -> None:
        self.applied.append(Applied(rule, where))

    def decline(self, rule: str, where: str, reason: str) -> None:
        self.declined[Declined(rule, where, reason)] = None

    def count(self, rule: str) -> int:
        return sum(a.rule == rule for a in self.applied)

    def why_not(self, where: str = "") -> list[Declined]:
        """Near-misses at nodes whose address contains `where`."""
        return [d for d in self.declined if where in d.where]

    def __str__(self):
        lines = [f"{n:5d} × {rule}" for rule, n in Counter(a.rule for a in self.applied).items()]
        refusals = Counter((d.rule, d.reason) for d in self.declined)
        lines += [f"{n:5d} × not {rule}: {why}" for (rule, why), n in refusals.items()]
        return "\n".join(lines)


class Pass:
    """Base of all passes. `name` is what `--print-after` takes."""

    name: ClassVar[str]

    def run(self, graph: Graph, report: Report) -> bool:
        """Edit `graph`; whether it changed."""
        raise NotImplementedError

    def exchange(
        self, graph: Graph, report: Report, other: Callable[[Builder, Node], Value | None]
    ) -> bool:
        """Put what `other` emits in the place of each node that it gives a value for, after running
        the pass in the node's regions; whether anything changed."""
        changed, edit = False, GraphEditor(graph)
        for node in edit:
            for _, region in node.regions():
                changed |= self.run(region, report)
            value = other(edit.b, node)
            if value is not None:
                edit.replace(node, value)
        return changed or edit.changed

    def __call__(self, graph: Graph, report: Report | None = None) -> tuple[Graph, bool]:
        """A changed copy of `graph`, and whether it changed."""
        graph = graph.copy()
        return graph, self.run(graph, Report() if report is None else report)


@dataclass(frozen=True)
class Step:
    """A pass and why it is in the pipeline at this place."""

    action: Pass
    reason: str


@dataclass(frozen=True)
class Repeat(Pass):
    """A list of passes over and over until none changes anything, `limit` times at most."""

    name: ClassVar[str] = "repeat"
    steps: tuple[Step, ...]
    limit: int = 8

    def run(self, graph: Graph, report: Report) -> bool:
        changed = False
        for _ in range(self.limit):
            again = [step.action.run(graph, report) for step in self.steps]
            if not any(again):
                break
            changed = True
        return changed


@dataclass(frozen=True)
class Pipeline:
    """Steps in order."""

    steps: tuple[Step, ...]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __str__(self):
        return "\n".join(f"{_describe(s.action):40s}  {s.reason}" for s in self.steps)


Observer = Callable[[Pass, Graph, bool], None]


def run_pipeline(
    graph: Graph,
    passes: Pipeline | Sequence[Pass],
    *,
    verify_between: bool = False,
    observer: Observer | None = None,
    report: Report | None = None,
) -> Graph:
    """The graph after `passes`; the given one is left as it is.

    `observer(action, graph, changed)` sees the graph after each pass. With `verify_between` a
    pass that leaves a malformed graph is named by the GraphError.
    """
    report = Report() if report is None else report
    graph = graph.copy()
    for step in passes:
        action = step.action if isinstance(step, Step) else step
        start = time.perf_counter()
        try:
            changed = action.run(graph, report)
        except Exception as error:
            at(error, f"the pass {action.name}")
            raise
        spent = time.perf_counter() - start
        report.seconds[action.name] = report.seconds.get(action.name, 0.0) + spent
        if verify_between and changed:
            try:
                verify(graph)
            except GraphError as error:
                raise GraphError(
                    f"the pass {action.name} left a malformed graph", findings=error.findings
                ) from error
        if observer is not None:
            observer(action, graph, changed)
    return graph


def _describe(action: Pass) -> str:
    if isinstance(action, Repeat):
        return "repeat " + ", ".join(s.action.name for s in action.steps)
    return action.name
