"""Accuracy-aware quantization: the fewest products that stay f32 so that a metric holds.

    chosen = search(plan, metric, before, max_drop=0.3)

Everything is quantized first. Where that costs too much, products are ranked by what their errors
do to the outputs, and as many of the worst stay f32 as a bisection finds to be needed: with n
products, log2(n) + 2 evaluations. The best so far is kept whatever ends the search.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from ...compiler.classes import dataclass
from ...compiler.compress.candidates import Product
from ...compiler.compress.quantize import Plan
from ...compiler.compress.report import RANKING, Report
from ...compiler.errors import UsageError
from ...compiler.ir.graph import Graph
from ...compiler.options import Options
from ...compiler.system.progress import Listener, tell
from ..compile import GraphSource, compile_model

Metric = Callable[[Any], float]


@dataclass(frozen=True, eq=False)
class Goal:
    """`metric(executable)` may fall by `max_drop`, found out by so many `evaluations` (the one of
    the f32 model is not among them) within `seconds`. `max_drop` None: it is measured only.
    `resume`: what an earlier search has measured (`report.measured`, or a file of the report)."""

    metric: Metric
    max_drop: float | None = None
    evaluations: int = 8
    seconds: float | None = None
    resume: Any = None

    def __post_init__(self) -> None:
        if not callable(self.metric):
            raise UsageError(
                "a metric is a function of an executable, larger where that is better",
                received=repr(self.metric),
                fix="metric=lambda exe: 100 * (exe(x).argmax(1) == y).mean()",
            )
        if self.evaluations < 1:
            raise UsageError("there is at least one evaluation", received=self.evaluations)


@dataclass(eq=False)
class Search:
    """The evaluations so far; `best` is the graph, the report and the products that stay."""

    plan: Plan
    goal: Goal
    threads: int | None = None
    progress: Listener | None = None
    before: float = 0.0
    tried: list[tuple[int, float]] = field(default_factory=list)
    best: tuple[Graph, Report, float, int] | None = None
    ended: str = ""
    known: dict[int, float] = field(default_factory=dict)  # of an earlier search, by products kept
    made: int = 0  # evaluations of this one

    def run(self, original: Graph) -> tuple[Graph, Report]:
        """The quantized graph that meets the goal with the fewest products in f32, or comes
        nearest to it."""
        started = time.monotonic()
        self.plan.apply()  # weights are rounded once
        ranked = by_error(self.plan)
        order = [p.where for p in ranked]
        self._resume(order)
        if not self.known:
            self.before = self._measure(original)
        try:
            self._bisect(ranked, started)
        except KeyboardInterrupt:
            self.ended = "interrupted"
            if self.best is None:
                raise
        assert self.best is not None
        graph, report, metric, kept = self.best
        self._keep(ranked, kept)
        self.plan.needed = ranked[:kept]
        graph, report = self.plan.apply()
        report.measured = {
            "metric before": round(self.before, 6),
            "metric after": round(metric, 6),
            "evaluations": [{"kept": k, "metric": round(m, 6)} for k, m in self.tried],
            RANKING: order,
        }
        drop, most = self.before - metric, self.goal.max_drop
        if most is not None and drop > most:
            why = self.ended or "more evaluations may find more"
            report.notes.append(f"the metric falls by {drop:.4g}, more than {most:g}: {why}")
        elif self.ended:
            report.notes.append(f"the search ended early: {self.ended}")
        return graph, report

    def _resume(self, order: Sequence[str]) -> None:
        """Take over what an earlier search has measured, if it was of the same products in the same
        order: whatever is left to measure is measured now."""
        found = self.goal.resume
        if found is None:
            return
        try:
            if not isinstance(found, Mapping):
                found = json.loads(Path(found).read_text(encoding="utf-8"))
            found = found.get("measured", found)
            before, tried = float(found["metric before"]), found["evaluations"]
            known = {int(t["kept"]): float(t["metric"]) for t in tried}
            same = list(found[RANKING]) == list(order)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                "this is nothing that a search can go on from",
                expected="report.measured of an earlier one, or its report as .json",
                received=f"{type(error).__name__}: {error}",
            ) from None
        if not same:
            raise UsageError(
                "the earlier search was of another model, recipe or data: it ranks other products",
                fix="give what it was given, or leave out resume",
            )
        self.before, self.known = before, known

    def _bisect(self, ranked: Sequence[Product], started: float) -> None:
        if self._meets(ranked, 0) or self.goal.max_drop is None:
            return
        failing, meeting = 0, len(ranked)  # numbers of products that stay: with all, it is f32
        while meeting - failing > 1:
            if self.made >= self.goal.evaluations:
                self.ended = f"{self.goal.evaluations} evaluations"
                return
            spent = time.monotonic() - started
            if self.goal.seconds is not None and spent > self.goal.seconds:
                self.ended = f"{self.goal.seconds:g} seconds"
                return
            # Few products are to blame, mostly: numbers are doubled until one is enough.
            middle = (failing + meeting) // 2
            if meeting == len(ranked):
                middle = min(max(2 * failing, len(ranked) // 8, 1), meeting - 1)
            if self._meets(ranked, middle):
                meeting = middle
            else:
                failing = middle

    def _meets(self, ranked: Sequence[Product], kept: int) -> bool:
        """Whether the metric holds with so many of the worst products in f32."""
        self._keep(ranked, kept)
        graph, report = self.plan.apply()
        if kept in self.known:
            metric = self.known[kept]
        else:
            metric = self._measure(graph)
            self.made += 1
        self.tried.append((kept, metric))
        tell(self.progress, "evaluations", self.made, self.goal.evaluations)
        meets = self.goal.max_drop is None or self.before - metric <= self.goal.max_drop
        if self._is_better(metric, kept, meets):
            self.best = graph, report, metric, kept
        return meets

    def _is_better(self, metric: float, kept: int, meets: bool) -> bool:
        if self.best is None:
            return True
        had = self.best[2]
        had_met = self.goal.max_drop is not None and self.before - had <= self.goal.max_drop
        if meets != had_met:
            return meets
        return kept < self.best[3] if meets else metric > had

    def _keep(self, ranked: Sequence[Product], kept: int) -> None:
        for i, p in enumerate(ranked):
            p.keep = f"the metric needs it: rank {i + 1} of {len(ranked)}" if i < kept else None

    def _measure(self, graph: Graph) -> float:
        exe = compile_model(GraphSource(graph), Options(), threads=self.threads, reuse=False)
        return float(self.goal.metric(exe))


def by_error(plan: Plan) -> list[Product]:
    """The products that are quantized, the ones first whose noise is largest."""
    found = {row.name: row for row in plan.rows()}

    def noise(p: Product) -> float:
        row = found[p.where]
        parts = [x for x in (row.sqnr, row.weight_sqnr) if x is not None]
        return plan.errors.get(p.source.name, 0.0) + sum(10 ** (-x / 10) for x in parts)

    return sorted((p for p in plan.candidates.products if p.keep is None), key=lambda p: -noise(p))
