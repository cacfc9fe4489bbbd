"""`Session`: what an executable asks for code, of one target and with the same options each time.

session = Session(Driver(open_target("cpu"), Options()))
built = session.build(graph, {"N": 4})       the driver's code, put into memory: a `Built`
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ...compiler.driver import Code, Driver
from ...compiler.ir.graph import Graph
from ...compiler.options import Options
from ...compiler.targets.base import Target
from ...compiler.targets.table import open_target
from ..base.build import Built
from .load import open_loader

if TYPE_CHECKING:
    from ...compiler.backends.llvm.base.cache import ObjectCache
    from ...compiler.passes.base import Observer, Report
    from ...compiler.system.progress import Listener
    from ..tuning.tune import Tuning


class Session:
    """A driver, and what loads its code."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self.loader = open_loader(driver.target)

    @classmethod
    def open(
        cls,
        target: str = "cpu",
        options: Options | None = None,
        *,
        cache: "ObjectCache | None" = None,
        tuning: "Tuning | None" = None,
        progress: "Listener | None" = None,
    ) -> "Session":
        """The session of a target's name. Raises UsageError for what is no target, and for options
        that it has not; UnsupportedError where this installation has no support for it."""
        opened = open_target(target, cache, tuning)
        return cls(Driver(opened, Options() if options is None else options, progress))

    @property
    def target(self) -> Target:
        return self.driver.target

    @property
    def options(self) -> Options:
        return self.driver.options

    def optimize(
        self, graph: Graph, report: "Report | None" = None, observer: "Observer | None" = None
    ) -> Graph:
        """The graph after the passes of the driver's pipeline."""
        return self.driver.optimize(graph, report, observer)

    def build(
        self, graph: Graph, binding: Mapping[str, int], report: "Report | None" = None
    ) -> Built:
        """What runs an optimized graph for sizes of its symbols."""
        return self.load(self.driver.build(graph, binding, report))

    def build_dynamic(self, graph: Graph, report: "Report | None" = None) -> Built:
        """What runs an optimized graph for all sizes: `built.module.bound(sizes)`. Raises what
        `Driver.build_dynamic` does."""
        return self.load(self.driver.build_dynamic(graph, report))

    def load(self, code: Code, made: Sequence[Callable] | None = None) -> Built:
        """Code in memory. `made` gives stages the code that was made for them before, as
        `load_stages` takes it."""
        if code.stages is not None:
            from .staged import load_stages  # few models have stages, which need the passes

            return load_stages(code, self, made)
        program, updates = code.program, dict(code.graph.updates)
        assert program is not None  # it is where there are no stages
        module = self.loader.load(code.record, program, program.outputs, updates)
        return Built(
            dict(code.binding), module, code.record, code.graph, program, is_dynamic=code.is_dynamic
        )
