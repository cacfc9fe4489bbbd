"""Statistics of a graph's values, counted in one pass over data.

counting = Counting(graph, [(value, statistic), …])
counting.over(data, "biases", progress)
counting.state["VALUE/KIND"]        what has been counted so far
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ...compiler.compress.statistics import Statistic, with_statistics
from ...compiler.ir.graph import Graph, Value
from ...compiler.options import Options
from ...compiler.system.progress import Listener, tell
from ..compile import GraphSource, compile_model
from .data import Data


class Counting:
    """The graph with statistics, compiled; `start` is what `state` begins from. `ends` are values
    whose largest and least elements each run gives besides (`with_statistics`)."""

    def __init__(
        self,
        graph: Graph,
        statistics: Iterable[tuple[Value, Statistic]],
        ends: Sequence[Value] = (),
        *,
        threads: int | None = None,
    ):
        counted, self.start = with_statistics(graph, statistics, ends)
        self._exe = compile_model(GraphSource(counted), Options(), threads=threads, reuse=False)
        self.state = {name: self._exe.bind(name, array) for name, array in self.start.items()}
        self._known = {p.name for p in self._exe.inputs} - set(self.state)

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One run, of those inputs that the statistics depend on."""
        return self._exe.run({n: a for n, a in feed.items() if n in self._known})

    def over(self, data: Data, stage: str, progress: Listener | None) -> None:
        """A run of each sample; `progress` hears of them as `stage`."""
        for run, feed in enumerate(data, 1):
            self.run(feed)
            tell(progress, stage, run, max(run, data.total or 0))
