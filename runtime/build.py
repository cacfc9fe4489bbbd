"""From a graph with known sizes to something that runs, for each kind of target.

    target = open_target("cpu:x86-64-v3")
    built = target.build(graph)                   # Built: built.module(arrays, threads) -> outputs

Loading a package needs no compiler: the passes and the lowering are imported where they are used.

A module takes contiguous arrays in the graph's order and returns fresh ones; for each entry of
`graph.updates` it writes into the input's array and returns that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..compiler.concurrency import lazy
from ..compiler.errors import (
    CheckFailed,
    TesselError,
    UnsupportedError,
    UsageError,
    is_callers,
)
from ..compiler.ir import Graph, constants
from ..compiler.known_values import IMPOSSIBLE
from ..compiler.mapped import check_files, files_behind
from ..compiler.progress import Listener, Steps, counting
from .demands import NotCompiled, check_demands, check_graph

if TYPE_CHECKING:
    from ..compiler.loops.nest import Program
    from ..compiler.passes.base import Report

TARGETS = "cpu, cpu:NAME, numpy, cuda, cuda:sm_NN"


class Module(Protocol):
    """Code in memory; callable from several threads at once."""

    def __call__(self, inputs: Sequence[np.ndarray], threads: int) -> list: ...


@dataclass(eq=False)
class Built:
    """One specialisation of a model: its graph and program, its code, and what runs it.

    `program` and `graph` are None where the code was loaded from a package. `code` is the
    target's own record (the CPU's is `NativeCode`), None for numpy. It is right for these `values`
    of inputs only. Where it `is_open`, code and program are those of all sizes.
    """

    binding: dict[str, int]
    module: Module
    code: Any = None
    graph: Graph | None = None
    program: "Program | None" = None
    values: dict[str, np.ndarray] = field(default_factory=dict)
    is_open: bool = False
    stages: tuple = ()  # executables run one after the other (`staged.py`); `program` is then None
    notes: tuple[str, ...] = ()  # what the user should know of how it runs
    read: Callable[[], Graph] | None = None  # its graph, where it was loaded and is not read yet

    @property
    def said(self) -> list[str]:
        """The notes, and what its graph says of branches."""
        where = None if self.graph is None else self.graph.metadata.get(IMPOSSIBLE)
        return [*self.notes, *([] if where is None else [f"a branch is {IMPOSSIBLE} ({where})"])]


class Deferred(Protocol):
    """A model whose graph depends on sizes and values of its inputs.

    `values` names the inputs whose values decide; a call can find out that there are more. `sized`
    says which nodes need sizes, and why.
    """

    values: tuple[str, ...]
    sized: tuple[str, ...]

    def __call__(self, binding: Mapping[str, int], inputs: Mapping[str, np.ndarray]) -> Graph: ...


class Target(Protocol):
    """`name` is what the user wrote; `channels_last` whether convolutions are converted to it;
    `open_sizes` whether its code can take sizes when it runs; `checked` whether a run looks for
    values that are out of range."""

    name: str
    channels_last: bool
    open_sizes: bool
    checked: bool
    progress: Listener | None  # hears of passes and kernels of all that is compiled
    verified: int | None  # accesses shown to stay inside their buffers, where that is asked for

    def prepare(
        self, graph: Graph, *, exact: bool = False, report: "Report | None" = None
    ) -> Graph:
        """What this target wants done before lowering; `exact` keeps sums as they are. `report`
        hears of it."""

    def build(self, graph: Graph, program: "Program") -> tuple[Module, Any]: ...


def check_options(opt_level, **options) -> None:
    """Raise UsageError for options of `tessel.compile` that cannot be met."""
    if isinstance(opt_level, bool) or opt_level not in (0, 1, 2, 3):
        raise UsageError("unknown optimisation level", expected="0, 1, 2, 3", received=opt_level)
    for name, value in options.items():
        if value is not None:
            raise UsageError(
                f"{name} is not supported", expected="None: as the model says",
                received=repr(value), fix="convert the model with its own tools before compiling",
            )  # fmt: skip


def object_cache(cache):
    """The cache of compiled kernels: None the user's, False none, else a folder."""
    from ..compiler.backends.llvm.cache import ObjectCache, cache_folder

    if cache is None:
        return ObjectCache(cache_folder() / "objects")
    return ObjectCache(None if cache is False else Path(cache))


def package_folder(cache) -> Path | None:
    """Where packages of earlier compilations are, for `cache` as `object_cache` takes it."""
    from ..compiler.backends.llvm.cache import cache_folder

    if cache is False:
        return None
    return (cache_folder() if cache is None else Path(cache)) / "packages"


def optimize(graph: Graph, level: int, target: Target, report: "Report | None" = None, **options):
    """The graph after the passes of `-O{level}`."""
    from ..compiler.passes.base import run_pipeline
    from ..compiler.passes.pipelines import default_pipeline

    pipeline = default_pipeline(level, channels_last=target.channels_last)
    observer = counting(target.progress, len(pipeline.steps), options.pop("observer", None))
    return run_pipeline(graph, pipeline, report=report, observer=observer, **options)


def build(
    graph: Graph, binding: dict[str, int], level: int, target: Target, strict: bool,
    report: "Report | None" = None,
) -> Built:  # fmt: skip
    """A specialisation: sizes are put in, what follows from them is folded, code is made.

    `graph` has been optimized already; most passes find nothing to do, so this costs little.
    """
    from ..compiler.hosted import has_stages
    from ..compiler.loops.lower import lower
    from ..compiler.passes.checks import with_checks
    from ..compiler.passes.specialize import specialize

    check_files(constants(graph))
    if binding:
        graph = optimize(specialize(graph, binding), level, target)
    graph = with_checks(graph, target.checked)
    if has_stages(graph):
        from .staged import build_staged

        return build_staged(graph, binding, level, target, strict)
    program = lower(target.prepare(graph, exact=strict or level < 2, report=report))
    check_demands(program, target, strict)
    module, code = target.build(graph, program)
    return Built(binding, module, code, graph, program)


def build_open(
    graph: Graph, level: int, target: Target, strict: bool, report: "Report | None" = None
) -> Built:
    """Code for all sizes of the symbolic dims: `built.module.bound(sizes)` runs it.

    Raises TypeError or TesselError where it cannot be made without them.
    """
    from ..compiler.hosted import has_stages
    from ..compiler.loops.lower import lower
    from ..compiler.nonempty import conditions
    from ..compiler.passes.checks import with_checks
    from ..compiler.sizes import expected
    from .all_sizes import sizes_agree, sizes_to_expect

    check_files(constants(graph))
    check_graph(graph, strict)
    graph = with_checks(graph, target.checked)
    if has_stages(graph):
        from .staged import build_staged

        return build_staged(graph, {}, level, target, strict, is_open=True)
    from ..compiler.passes.equations import equal_sizes, equations

    found = equations(graph)
    same, solution = equal_sizes(graph, found)
    if solution:
        same = optimize(same, level, target, report)
    with expected(sizes_to_expect(same)):
        prepared = target.prepare(same, exact=strict or level < 2, report=report)
        program = lower(prepared, open_sizes=True)
        check_demands(program, target, strict)
        module, code = target.build(same, program)
    code.equations = tuple(found | dict.fromkeys(code.equations))
    code.conditions = tuple(dict.fromkeys((*code.conditions, *conditions(graph))))
    code.agrees = sizes_agree(graph, code, solution)
    return Built({}, module, code, same, program, is_open=True)


def what_needs_sizes(error: Exception) -> str:
    """Why there is no code for all sizes, for readers who do not know the code."""
    from ..compiler.sizes import OpenSize

    if isinstance(error, TesselError):
        return error.message if error.where is None else f"{error.where}: {error.message}"
    return str(error) if isinstance(error, OpenSize) else "a kernel is made for numbers"


def is_refusal(error: Exception) -> bool:
    """Whether `build_open` has refused this graph, which may be compiled for each of its sizes: not
    what was asked for (a check, the caller's own code), and no fault of the compiler's."""
    from ..compiler.sizes import needs_sizes

    if isinstance(error, (CheckFailed, NotCompiled)) or is_callers(error):
        return False
    return isinstance(error, TesselError) or needs_sizes(error)


class NumpyTarget:
    """Interprets the loops: slow, and the oracle."""

    name = "numpy"
    checked = True
    channels_last = False
    open_sizes = False
    verified: int | None = None
    progress: Listener | None = None

    def prepare(self, graph: Graph, *, exact: bool = False, report=None) -> Graph:
        return graph

    def build(self, graph: Graph, program: "Program"):
        from ..compiler.backends.numpy import NumpyModule

        inner = NumpyModule(program)
        updates, files = dict(graph.updates), files_behind(program.weights)

        def module(inputs, threads):
            for file in files:
                file.check()
            outputs = inner(inputs)
            for i, j in updates.items():
                inputs[j][...] = outputs[i]
                outputs[i] = inputs[j]
            return outputs

        return module, None


class CpuTarget:
    """LLVM machine code; its schedules measured where there is a `Tuning`."""

    channels_last = True
    checked = True
    verified: int | None = None
    progress: Listener | None = None

    @property
    def open_sizes(self) -> bool:
        """Schedules are measured for sizes that are known."""
        return self.tuning is None

    def __init__(self, name: str, cache, tuning=None):
        self.name, self.cache, self.tuning = name, cache, tuning
        if name != "cpu":
            self.machine  # raises for unknown names  # noqa: B018

    @lazy
    def machine(self):
        """The CPU. This one is looked at when something is compiled for it."""
        from ..compiler.backends.llvm.target import parse_target

        return parse_target(self.name)

    def prepare(self, graph: Graph, *, exact: bool = False, report=None) -> Graph:
        from ..compiler.passes.base import run_pipeline
        from ..compiler.passes.pipelines import cpu_pipeline

        # Seven products have not been found faster than eight where vectors are wider.
        width = self.machine.vector_bytes
        pipeline = cpu_pipeline(
            winograd=not exact, strassen=not exact and width < 64, vector_bytes=width
        )
        return run_pipeline(graph, pipeline, report=report)

    def build(self, graph: Graph, program: "Program"):
        from ..compiler.backends.llvm.backend import compile_program
        from ..compiler.backends.llvm.target import runs_here

        winners = None
        if self.tuning is not None:
            self.tuning.search(program, self.machine, graph.updates, self.cache)
            winners = self.tuning.known
        steps = None if self.progress is None else Steps(self.progress, "kernels")
        code = compile_program(
            program, self.machine, graph.updates, self.cache, steps, winners=winners
        )
        if self.tuning is not None:
            self.tuning.note_used(code.plan, self.machine)
        reason = runs_here(self.machine)
        if reason is not None:
            return Foreign(self.name, reason), code
        return self.load(code, program.outputs, graph.updates), code

    def load(self, code, output_types: Sequence, updates: dict[int, int]) -> Module:
        from .native import NativeModule

        return NativeModule(code, output_types, updates)


class Foreign:
    """Stands for code that this machine cannot run: it can be saved, not called."""

    def __init__(self, name: str, reason: str):
        self.name, self.reason = name, reason

    def __call__(self, inputs, threads):
        raise UsageError(
            f"code for {self.name} does not run on this machine", received=self.reason,
            fix="save it with exe.save(…) and load it there; target='cpu' is this machine",
        )  # fmt: skip


def open_target(name: str, cache=None, tuning=None) -> Target:
    """The target of a name. Raises UsageError for unknown ones, and for those without schedules to
    measure where there is a `Tuning`."""
    kind = str(name).partition(":")[0]
    if tuning is not None and kind in ("numpy", "cuda"):
        raise UsageError(
            "there is nothing to tune", expected="target='cpu' or 'cpu:NAME'", received=name,
            fix="leave out tune",
        )  # fmt: skip
    if name == "numpy":
        return NumpyTarget()
    if kind == "cpu":
        return CpuTarget(name, cache, tuning)
    if kind == "cuda":
        return _cuda(name)
    raise UsageError("unknown target", expected=TARGETS, received=name)


def _cuda(name: str) -> Target:
    try:
        from .device import CudaTarget
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            "this installation has no GPU support", received=f"no module {error.name}",
            fix="pip install 'tessel[gpu]'; target='cpu' runs everywhere",
        ) from error  # fmt: skip
    return CudaTarget(name)
