"""Models whose data decides sizes: executables run one after the other.

    module = StagedModule(graph, stages, executables)
    module([x], threads)        stage 0 -> how many there are -> stage 1 -> …

Each stage (`compiler/passes/stages.py`) is an `Executable` of its own: its code takes sizes when it
runs, or is compiled for those that it meets. After a stage the sizes that it found are read, and
bind the symbols of those that follow. What a stage makes for later ones is handed on as an array;
where those want its first rows only, as a view of them.

Branches and loops in which data decides sizes stand between stages; their graphs are executables,
too (`host.py`).
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..compiler import dims
from ..compiler.errors import InputError, PackageError
from ..compiler.hosted import has_stages
from ..compiler.ir import Graph, Node, Value
from ..compiler.nonempty import conditions
from ..compiler.passes.specialize import specialize
from ..compiler.passes.stages import HostStage, Kept, Stage, known_sizes, split_stages
from .build import Built, Target, build, optimize
from .demands import check_graph
from .executable import EACH, Executable
from .host import HostStep


def build_staged(
    graph: Graph, binding: dict[str, int], level: int, target: Target, strict: bool,
    made: Sequence[Callable] | None = None, *, is_open: bool = False,
) -> Built:  # fmt: skip
    """A specialisation that runs in stages, or (`is_open`) what runs for all sizes. Sizes that turn
    out to be constants are put in.

    `made`: for each stage, a function that gives its executable the code that was made for it
    before. Raises PackageError if that is for other stages.
    """
    code = StagedCode(conditions(graph))
    while sizes := known_sizes(graph):
        graph = optimize(specialize(graph, sizes), level, target)
        graph.nodes = [n for n in graph.nodes if n.op.name != "bind_dims" or not _is_known(n)]
    if not has_stages(graph):
        built = build(graph, {}, level, target, strict)
        return Built(binding, built.module, built.code, built.graph, built.program)
    stages = split_stages(graph)
    hosted = [s for s in stages if isinstance(s, HostStage)]
    check_graph(graph, strict)
    compiled = [
        [StageExecutable(g, target, level=level, strict=strict) for g in _graphs(s, level, target)]
        for s in stages
    ]
    executables = [exe for own in compiled for exe in own]
    if made is not None and len(made) != len(executables):
        raise PackageError("the stages are not those that code was made for",
                           expected=len(made), received=len(executables))  # fmt: skip
    for exe, fill in zip(executables, () if made is None else made):
        fill(exe)
    for exe in executables:
        if exe.for_all_sizes is None:
            exe.open()
        if not exe.signature.symbols and not exe.specializations:
            exe.specialization({})
    steps = [
        HostStep(s.node, own) if isinstance(s, HostStage) else own[0]
        for s, own in zip(stages, compiled)
    ]
    module = StagedModule(graph, stages, steps)
    notes = [_HOSTED + s.node.where for s in hosted]
    notes += [n for exe in executables for n in exe.notes if n.startswith((_HOSTED, EACH))]
    return Built(binding, module, code, graph, None, stages=tuple(executables),
                 is_open=is_open, notes=tuple(notes))  # fmt: skip


_HOSTED = "run by the host, not compiled as a whole, since its shapes depend on data: "


def _graphs(stage: Stage | HostStage, level: int, target: Target) -> list[Graph]:
    """What is compiled for a stage."""
    if isinstance(stage, Stage):
        return [stage.graph]
    return [optimize(graph, level, target) for graph in stage.graphs]


@dataclass(frozen=True)
class StagedCode:
    """Stands for the code of stages, whose executables see to sizes; `conditions` are what their
    graph takes sizes to be."""

    conditions: tuple = ()
    equations: tuple = ()
    agrees: bool = True


def _is_known(bind_dims: Node) -> bool:
    """Whether its sizes have been put in."""
    source = bind_dims.inputs[0]
    known = source.node is not None and source.node.op.name == "dims"
    return dims.is_static(bind_dims.attrs["symbols"]) or (
        known and source.node.attrs["values"] == bind_dims.attrs["symbols"]
    )


class StageExecutable(Executable):
    """One stage. Its inputs are arrays that other stages made, or the model's, checked already."""

    def call(self, arrays: Sequence[np.ndarray], threads: int) -> list:
        built = self._known(arrays)
        if built is None:
            arrays, binding = self.signature.check(dict(zip(self.signature.names, arrays)))
            built = self.specialization(binding, arrays)
        return built.module(arrays, threads)


class StagedModule:
    """Callable from several threads at once."""

    def __init__(self, graph: Graph, stages: Sequence[Stage | HostStage], steps: Sequence):
        self.graph, self.stages, self.steps = graph, list(stages), list(steps)
        self.sizes: dict[str, int] = {}
        self._last = self._last_uses()

    def bound(self, sizes: Mapping[str, int]) -> "StagedModule":
        """What runs for these sizes of the symbolic dims."""
        module = copy.copy(self)
        module.sizes = dict(sizes)
        return module

    def _last_uses(self) -> list[list[Value]]:
        """What may be forgotten after each stage."""
        last: dict[Value, int] = {}
        for i, stage in enumerate(self.stages):
            for source in stage.sources:
                if isinstance(source, Kept):
                    last[source.value] = i
        for v in self.graph.outputs:
            last.pop(v, None)
        return [[v for v, at in last.items() if at == i] for i in range(len(self.stages))]

    def __call__(self, inputs: Sequence[np.ndarray], threads: int) -> list:
        env: dict[Value, np.ndarray] = dict(zip(self.graph.inputs, inputs))
        sizes = dict(self.sizes)
        for stage, step, gone in zip(self.stages, self.steps, self._last):
            arrays = [_argument(source, env, sizes, inputs) for source in stage.sources]
            if isinstance(stage, HostStage):
                results, found = step(arrays, threads)
                sizes |= found
            else:
                results = step.call(arrays, threads)
                for bound in stage.bound:
                    sizes |= _sizes(bound, results[bound.output])
            env |= zip(stage.results, results)
            for v in gone:
                del env[v]
        outputs, taken = [], {id(x) for x in inputs}
        for v in self.graph.outputs:
            outputs.append(env[v].copy() if id(env[v]) in taken else env[v])
            taken.add(id(outputs[-1]))
        for i, j in self.graph.updates.items():
            inputs[j][...] = outputs[i]
            outputs[i] = inputs[j]
        return outputs


def _argument(source, env: dict, sizes: dict[str, int], inputs) -> np.ndarray:
    if not isinstance(source, Kept):
        return np.empty((0, sizes[source.symbol]), np.bool_)
    array = env[source.value]
    return array if source.size is None else array[: dims.substitute(source.size, sizes)]


def _sizes(bound, found: np.ndarray) -> dict[str, int]:
    """The sizes that a stage found. Raises InputError for those that are none."""
    sizes = [int(size) for size in found]
    if any(size < 0 for size in sizes):
        raise InputError(
            "a size that the model computes from these inputs is negative", where=bound.where,
            expected="≥ 0", received=sizes,
        )  # fmt: skip
    return dict(zip(map(str, bound.symbols), sizes))
