"""AdaRound and AutoRound: weights are rounded so that each part of a model gives what it gave.

    reconstruct(plan, data)       the plan's weights, learned from what its parts read

The graph is cut into segments (`compiler/compress/segments.py`), which are trained one after
another, each by a Trainer on its own graph: from what the quantized segments before it give, to
what the model of floats gives here (block-wise reconstruction: Li et al. 2021, BRECQ,
arXiv:2102.05426). Every fourth run is held out; what was learned is kept where it errs less there.
Memory is that of what flows between two segments, for all of the data.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from ...compiler.classes import dataclass
from ...compiler.compress.fake import Arrays
from ...compiler.compress.learned import Learned, V, undecided
from ...compiler.compress.quantize import Plan
from ...compiler.compress.segments import Segment, cut, segments
from ...compiler.ir.builder import Builder, Tensor
from ...compiler.ir.graph import Graph
from ...compiler.ir.types import F32, parse_type
from ...compiler.options import Options
from ...compiler.system.progress import Listener, tell
from ..compile import GraphSource, compile_model
from ..training.optimizers import Adam, Optimizer
from ..training.trainer import Trainer
from .data import Data, Feed

HELD_OUT = 4  # every so many runs one is kept for judging
FIRST_BETA, LAST_BETA, FREE = 20.0, 2.0, 0.2  # AdaRound's: the share of steps without the rest
FLOATS, BYTES, WANTED = "floats/", "bytes/", "wanted/"  # before names: what flows in, and out
BETA, PRESSURE = "beta", "pressure"
LEAST = 1e-12


@dataclass(frozen=True)
class SignDescent(Optimizer):
    """p' = p - lr · sign(g): what AutoRound trains with (SignSGD)."""

    def _change(
        self, b: Builder, p: Tensor, g: Tensor, state: list[Tensor], lr: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        return b.sign(g) * lr, []


def reconstruct(
    plan: Plan, data: Data, *, threads: int | None = None, progress: Listener | None = None
) -> None:
    """Learn how the weights of a plan are rounded, as its recipe says."""
    parts = segments(plan.candidates)
    if not parts:
        return
    learned, feeds = Learned(plan), list(data)
    compile: Callable[[Graph], Any] = lambda graph: compile_model(
        GraphSource(graph), Options(), threads=threads, reuse=False
    )
    streams: Streams | None = None
    before = after = 0.0
    for i, segment in enumerate(parts):
        tell(progress, plan.recipe.rounding, i, len(parts))
        part = _Part(plan, learned, segment, feeds, streams, compile)
        values, streams, errors = part.learn(plan.recipe.steps)
        for product in segment.products:
            if values is not None:
                plan.weights[product.node] = learned.narrowed(plan, product, values)
        before, after = before + errors[0] / len(parts), after + errors[1] / len(parts)
    tell(progress, plan.recipe.rounding, len(parts), len(parts))
    plan.notes.append(
        f"{plan.recipe.rounding}: {len(parts)} segments of {plan.recipe.steps} steps, their mean "
        f"error on held-out runs {before:.3g} -> {after:.3g}"
    )


@dataclass(eq=False)
class Streams:
    """What flows into a segment in each run: of floats, and of the quantized segments before."""

    name: str
    floats: list[np.ndarray] = field(default_factory=list)
    bytes: list[np.ndarray] = field(default_factory=list)


class _Part:
    """One segment, as an executable that gives its results of floats and as they are rounded, and
    as a Trainer of what rounds."""

    def __init__(
        self,
        plan: Plan,
        learned: Learned,
        segment: Segment,
        feeds: Sequence[Feed],
        streams: Streams | None,
        compile: Callable[[Graph], Any],
    ):
        self.learned, self.segment, self.feeds, self.streams = learned, segment, feeds, streams
        self.floats = cut(plan.candidates.graph, segment.begin, segment.ends)
        self.rounded = cut(learned.graph, segment.begin, segment.ends)
        names = {v.name for v in self.rounded.inputs}
        self.start = {n: v for n, v in learned.parameters.items() if n in names}
        self.compile = compile
        self.exe = compile(self._pair())

    def learn(self, steps: int) -> tuple[Arrays | None, Streams, tuple[float, float]]:
        """(values that are better on held-out runs or None, what flows out, errors before and
        after)"""
        wanted, first, before = self._run(self.learned.decided(self.start))
        values = self._trained(steps, wanted, before)
        _, second, after = self._run(values)
        better = after < before
        floats = [w[self.segment.ends[0]] for w in wanted]
        flow = [y[self.segment.ends[0]] for y in (second if better else first)]
        streams = Streams(self.segment.ends[0], floats, flow)
        return values if better else None, streams, (before, min(before, after))

    def _run(self, values: Mapping[str, np.ndarray]) -> tuple[list[Feed], list[Feed], float]:
        """(results of floats, as rounded, error on held-out runs) for values of parameters."""
        given = {p.name for p in self.exe.inputs}
        floats, rounded, error, total = [], [], 0.0, 0.0
        for i in range(len(self.feeds)):
            feed = {**self._feed(i), **values}
            if self.streams is not None:
                feed[FLOATS + self.streams.name] = self.streams.floats[i]
            y = self.exe.run({n: a for n, a in feed.items() if n in given})
            floats.append({n: y[FLOATS + n] for n in self.segment.ends})
            rounded.append({n: y[BYTES + n] for n in self.segment.ends})
            if self._is_held_out(i):
                for n in self.segment.ends:
                    wide = floats[-1][n].astype(np.float64)
                    error += float(np.square(wide - rounded[-1][n]).sum())
                    total += float(np.square(wide).sum())
        return floats, rounded, error / max(total, LEAST)

    def _is_held_out(self, run: int) -> bool:
        """Of few runs, all are for learning and for judging."""
        return len(self.feeds) < HELD_OUT or run % HELD_OUT == HELD_OUT - 1

    def _feed(self, run: int) -> Feed:
        feed = dict(self.feeds[run])
        if self.streams is not None:
            feed[BYTES + self.streams.name] = self.streams.bytes[run]
        return feed

    def _trained(self, steps: int, wanted: Sequence[Feed], error: float) -> Arrays:
        is_adaptive = self.learned.is_adaptive
        rate = lambda step: 1e-2 if is_adaptive else (1 - step / steps) / steps
        optimizer = Adam(rate) if is_adaptive else SignDescent(rate)
        trainer = Trainer(self._loss(), self.start, optimizer, compile=self.compile)
        runs = range(len(self.feeds))
        learned_from = [i for i in runs if not self._is_held_out(i)] or list(runs)
        rng = np.random.default_rng(0)
        for step in range(steps):
            run = int(rng.choice(learned_from))
            batch = {**self._feed(run), **{WANTED + n: y for n, y in wanted[run].items()}}
            batch |= _annealed(step / steps, error)
            trainer.step({n: a for n, a in batch.items() if n in trainer.inputs})
        return self.learned.decided({n: trainer.values[n] for n in self.start})

    def _pair(self) -> Graph:
        b, begin = Builder(Graph()), self.segment.begin
        shared: dict[str, Tensor] = {}

        def results(graph: Graph, before: str) -> list[Tensor]:
            given = []
            for v in graph.inputs:
                name = before + v.name if v.name == begin else v.name
                if name not in shared:
                    shared[name] = b.input(name, v.type)
                given.append(shared[name])
            return b.inline(graph, given)

        for graph, before in ((self.floats, FLOATS), (self.rounded, BYTES)):
            for name, y in zip(self.segment.ends, results(graph, before)):
                b.output(before + name, y)
        return b.graph

    def _loss(self) -> Graph:
        b = Builder(Graph())
        given = [
            b.input(BYTES + v.name if v.name == self.segment.begin else v.name, v.type)
            for v in self.rounded.inputs
        ]
        by_name = dict(zip((v.name for v in self.rounded.inputs), given))
        apart, total = b.scalar(0, F32), b.scalar(LEAST, F32)
        for name, y in zip(self.segment.ends, b.inline(self.rounded, given)):
            d = y - (t := b.input(WANTED + name, y.type))
            apart, total = apart + (d * d).mean(), total + (t * t).mean()
        loss = apart / total
        if self.learned.is_adaptive:
            vs = [by_name[n] for n in self.start if n.endswith(V)]
            beta, pressure = (b.input(n, parse_type("f32[]")) for n in (BETA, PRESSURE))
            loss = loss + undecided(b, vs, beta) * pressure
        b.output("loss", loss)
        return b.graph


def _annealed(share: float, error: float) -> Feed:
    """AdaRound's exponent and weight of what is undecided, after this share of the steps: first
    none, then as much as the error was, with an exponent that falls."""
    late = max(0.0, (share - FREE) / (1 - FREE))
    beta = LAST_BETA + (FIRST_BETA - LAST_BETA) * (1 - late)
    return {BETA: np.float32(beta), PRESSURE: np.float32(error if share >= FREE else 0)}
