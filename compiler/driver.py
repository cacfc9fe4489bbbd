"""`Driver`: graph, options and target to code. What is made is data; the runtime makes it run.

    driver = Driver(open_target("cpu"), Options(strict=True))
    graph = driver.optimize(graph)              the passes of its level
    code = driver.build(graph, {"N": 4})        Code for these sizes
    code = driver.build_dynamic(graph)             Code for all sizes, or an error that `is_refusal`

Whatever is compiled anywhere goes through a driver. Loading a package needs no compiler: the passes
and the lowering are imported where they are used.
"""

from collections.abc import Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from .classes import dataclass
from .errors import CheckFailed, TesselError, is_callers
from .ir.graph import Graph, Node, constants
from .options import Options, not_supported
from .system.mapped import check_files
from .system.progress import Listener, counting
from .targets.base import Target

if TYPE_CHECKING:
    from .kernels.kernel import Program
    from .passes.base import Observer, Pipeline, Report
    from .passes.stages import HostStage, Stage


@dataclass(frozen=True, eq=False)
class Code:
    """What was made of a graph for the sizes of a `binding`, or (`is_dynamic`) for all.

    `record` is the target's own (the CPU's is a `NativeCode`), None where the program is all there
    is. A graph whose data decides sizes has `stages` instead of a program, each with the graphs
    that are compiled for it; there are none where nothing is left to compute.
    """

    graph: Graph
    binding: Mapping[str, int] = field(default_factory=dict)
    program: "Program | None" = None
    record: Any = None
    is_dynamic: bool = False
    stages: "tuple[tuple[Stage | HostStage, tuple[Graph, ...]], ...] | None" = None


@dataclass(frozen=True)
class StagedCode:
    """Stands for the code of stages, whose executables see to sizes; `conditions` are what their
    graph takes sizes to be."""

    conditions: tuple = ()
    equations: tuple = ()
    agrees: bool = True


@dataclass(eq=False)
class Driver:
    """`progress` hears of passes and kernels of all that is compiled; `verified` counts the
    accesses that were shown to stay inside their buffers, where that is asked for."""

    target: Target
    options: Options = field(default_factory=Options)
    progress: Listener | None = None
    verified: int = 0

    def __post_init__(self) -> None:
        precision, known = self.options.precision, self.target.precisions
        if precision is not None and precision not in known:
            raise not_supported("precision", precision, self.target.name, known)
        if self.options.passes is not None:
            self.pipeline  # raises now for what is none  # noqa: B018

    # -- graph to graph ---------------------------------------------------------------------

    @property
    def pipeline(self) -> "Pipeline":
        """The passes that every graph goes through. Raises UsageError for `passes` that there are
        not."""
        from .pipelines import default_pipeline, known_passes

        level = default_pipeline(
            self.options.opt_level,
            channels_last=self.target.channels_last,
            vector_bytes=self.target.vector_bytes,
        )
        if self.options.quantize is not None:
            from .compress.on_compile import with_quantization

            level = with_quantization(level, self.options.quantize, self._predicted)
        if self.options.passes is None:
            return level
        from .passes.named import parse_passes

        return parse_passes(self.options.passes, known_passes(), level)

    def optimize(
        self, graph: Graph, report: "Report | None" = None, observer: "Observer | None" = None
    ) -> Graph:
        """The graph after the passes. `report` hears what they did, `observer` sees each."""
        from .passes.base import run_pipeline

        pipeline = self.pipeline
        observer = counting(self.progress, len(pipeline.steps), observer)
        return run_pipeline(graph, pipeline, report=report, observer=observer)

    def specialize(self, graph: Graph, binding: Mapping[str, int]) -> Graph:
        """The graph for these sizes, optimized again: most passes find nothing to do."""
        from .ir.specialize import specialize

        return self.optimize(specialize(graph, binding))

    def prepare(self, graph: Graph, report: "Report | None" = None) -> Graph:
        """The graph as the target wants it lowered."""
        from .passes.base import run_pipeline

        pipeline = self.target.pipeline(self.options)
        return graph if pipeline is None else run_pipeline(graph, pipeline, report=report)

    # -- graph to code ----------------------------------------------------------------------

    def build(
        self, graph: Graph, binding: Mapping[str, int], report: "Report | None" = None
    ) -> Code:
        """The code of an optimized graph for sizes of its symbols. Raises TesselError."""
        from .ir.hosted import has_stages
        from .lowering.lower import lower
        from .passes.checks import with_checks

        check_files(constants(graph))
        if binding:
            graph = self.specialize(graph, binding)
        graph = with_checks(graph, not self.options.unchecked)
        if has_stages(graph):
            return self.stages(graph, binding)
        chains, joins = self.target.takes_chains(self.options), self.target.joins_products
        program = lower(self.prepare(graph, report), chains=chains, joins=joins)
        return Code(graph, binding, program, self._compile(program, graph))

    def estimate(self, graph: Graph) -> list | None:
        """How long each kernel of an optimized graph of known sizes should take, without code for
        it; None where nothing says so."""
        from .ir.hosted import has_stages
        from .lowering.lower import lower
        from .passes.checks import with_checks

        graph = with_checks(graph, not self.options.unchecked)
        if has_stages(graph):
            return None
        program = lower(self.prepare(graph), chains=self.target.takes_chains(self.options))
        return self.target.estimate(program, graph.updates)

    def _predicted(self, graph: Graph) -> float | None:
        """ms of a run of a graph as it is, as `estimate` says."""
        plain = Driver(self.target, replace(self.options, quantize=None, passes=None))
        found = plain.estimate(plain.optimize(graph))
        return None if found is None else sum(p.ns * p.rounds for p in found) / 1e6

    def build_dynamic(self, graph: Graph, report: "Report | None" = None) -> Code:
        """Code for all sizes of an optimized graph's symbols.

        Raises TypeError or TesselError where it cannot be made without them: see `is_refusal`.
        """
        from .analysis.all_sizes import size_hints_of, sizes_agree
        from .analysis.equations import equal_sizes, equations
        from .demands import check_graph
        from .ir.bounds import size_hints
        from .ir.hosted import has_stages
        from .ir.nonempty import conditions
        from .lowering.lower import lower
        from .passes.checks import with_checks

        check_files(constants(graph))
        check_graph(graph, self.options.strict)
        graph = with_checks(graph, not self.options.unchecked)
        if has_stages(graph):
            return self.stages(graph, {}, is_dynamic=True)
        found = equations(graph)
        same, solution = equal_sizes(graph, found)
        if solution:
            same = self.optimize(same, report)
        with size_hints(size_hints_of(same)):
            chains, joins = self.target.takes_chains(self.options), self.target.joins_products
            same_prepared = self.prepare(same, report)
            program = lower(same_prepared, dynamic_shapes=True, chains=chains, joins=joins)
            record = self._compile(program, same)
        record.equations = tuple(found | dict.fromkeys(record.equations))
        record.conditions = tuple(dict.fromkeys((*record.conditions, *conditions(graph))))
        record.agrees = sizes_agree(graph, record, solution)
        return Code(same, {}, program, record, is_dynamic=True)

    def _compile(self, program: "Program", graph: Graph) -> Any:
        if self.options.strict:
            from .demands import refuse_host_callbacks

            refuse_host_callbacks(program)
        if self.options.verify_bounds:
            from .kernels.bounds import verify_bounds

            self.verified += verify_bounds(program)
        return self.target.compile(program, graph.updates, self.options, self.progress)

    def stages(self, graph: Graph, binding: Mapping[str, int], *, is_dynamic: bool = False) -> Code:
        """The stages of a graph whose data decides sizes; sizes that turn out to be constants are
        put in, and where all do, it is code like any other."""
        from .demands import check_graph
        from .ir.hosted import has_stages
        from .ir.nonempty import conditions
        from .passes.stages import HostStage, known_sizes, split_stages

        record = StagedCode(conditions(graph))
        while sizes := known_sizes(graph):
            graph = self.specialize(graph, sizes)
            graph.nodes = [n for n in graph.nodes if n.op.name != "bind_dims" or not _is_known(n)]
        if not has_stages(graph):
            code = self.build(graph, {})
            return Code(code.graph, binding, code.program, code.record)
        check_graph(graph, self.options.strict)
        stages = tuple(
            (s, tuple(map(self.optimize, s.graphs) if isinstance(s, HostStage) else [s.graph]))
            for s in split_stages(graph)
        )
        return Code(graph, binding, None, record, is_dynamic, stages)


def _is_known(bind_dims: Node) -> bool:
    """Whether its sizes have been put in."""
    from .ir import dims

    source = bind_dims.inputs[0]
    assert source is not None
    node, symbols = source.node, bind_dims.attrs["symbols"]
    known = node is not None and node.op.name == "dims" and node.attrs["values"] == symbols
    return dims.is_static(symbols) or known


def what_needs_sizes(error: Exception) -> str:
    """Why there is no code for all sizes, for readers who do not know the code."""
    from .ir.bounds import DynamicSize

    if isinstance(error, TesselError):
        return error.message if error.where is None else f"{error.where}: {error.message}"
    return str(error) if isinstance(error, DynamicSize) else "a kernel is made for numbers"


def is_refusal(error: Exception) -> bool:
    """Whether `build_dynamic` has refused this graph, which may be compiled for each of its sizes:
    not what was asked for (a check, the caller's own code), and no fault of the compiler's."""
    from .demands import NotCompiled
    from .ir.bounds import needs_sizes

    if isinstance(error, (CheckFailed, NotCompiled)) or is_callers(error):
        return False
    return isinstance(error, TesselError) or needs_sizes(error)
