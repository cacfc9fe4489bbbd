"""Models whose data decides sizes: executables run one after the other.

    built = load_stages(code, session)           # what `Driver.stages` made
    module = built.module
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
from typing import TYPE_CHECKING, Any

import numpy as np

from ...compiler.driver import Code
from ...compiler.errors import InputError, PackageError
from ...compiler.ir import dims
from ...compiler.ir.graph import Graph, Value
from ...compiler.passes.stages import HostStage, Kept, Stage
from ..base.build import Built
from .executable import EACH, Executable
from .host import HostStep

if TYPE_CHECKING:
    from .session import Session


def load_stages(code: Code, session: "Session", made: Sequence[Callable] | None = None) -> Built:
    """What runs in stages, each an executable.

    `made`: for each of these, a function that gives it the code that was made for it before. Raises
    PackageError if that is for other stages.
    """
    assert code.stages is not None
    graph, stages = code.graph, [stage for stage, _ in code.stages]
    compiled = [[StageExecutable(g, session) for g in graphs] for _, graphs in code.stages]
    executables = [exe for own in compiled for exe in own]
    if made is not None and len(made) != len(executables):
        raise PackageError(
            "the stages are not those that code was made for",
            expected=len(made),
            received=len(executables),
        )
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
    notes = [_HOSTED + s.node.where for s in stages if isinstance(s, HostStage)]
    notes += [n for exe in executables for n in exe.notes if n.startswith((_HOSTED, EACH))]
    return Built(
        dict(code.binding),
        module,
        code.record,
        graph,
        None,
        stages=tuple(executables),
        is_dynamic=code.is_dynamic,
        notes=tuple(notes),
    )


SIZES = 512  # combinations of sizes that a stage's code for all has at hand
_HOSTED = "run by the host, not compiled as a whole, since its shapes depend on data: "


class StageExecutable(Executable):
    """One stage. Its inputs are arrays that other stages made, or the model's, checked already."""

    def open(self, built: Built | None = None) -> None:
        super().open(built)
        if self.for_all_sizes is not None:  # other sizes are a few numbers, and no code
            self._kept = SIZES

    def call(
        self, arrays: Sequence[np.ndarray], threads: int, sizes: Mapping[str, int] = {}
    ) -> list:
        """The results, for arrays whose shapes follow from `sizes`, as far as these are known."""
        built = self._known(arrays)
        if built is None and all(s in sizes for s in self.signature.symbols):
            self.specialization({s: sizes[s] for s in self.signature.symbols}, arrays)
            built = self._known(arrays)
        if built is None:
            arrays, binding = self.signature.check(dict(zip(self.signature.names, arrays)))
            built = self.specialization(binding, arrays)
        return built.module(arrays, threads)


class StagedModule:
    """Callable from several threads at once.

    Values that later stages read have a number each, those of the model's inputs first: a run keeps
    their arrays in a list.
    """

    def __init__(self, graph: Graph, stages: Sequence[Stage | HostStage], steps: Sequence):
        self.graph, self.stages, self.steps = graph, list(stages), list(steps)
        self.sizes: dict[str, int] = {}
        numbers: dict[Value, int] = {v: i for i, v in enumerate(graph.inputs)}
        made = [[numbers.setdefault(v, len(numbers)) for v in s.results] for s in self.stages]
        self._slots = len(numbers)
        self._outputs = [numbers[v] for v in graph.outputs]
        self._turns = [
            (step, isinstance(s, HostStage), tuple(_argument(x, numbers) for x in s.sources),
             tuple(results), s.bound if isinstance(s, Stage) else (), gone)
            for s, step, results, gone in zip(self.stages, self.steps, made, self._gone(numbers))
        ]  # fmt: skip

    def bound(self, sizes: Mapping[str, int]) -> "StagedModule":
        """What runs for these sizes of the symbolic dims."""
        module = copy.copy(self)
        module.sizes = dict(sizes)
        return module

    def _gone(self, numbers: Mapping[Value, int]) -> list[list[int]]:
        """What may be forgotten after each stage."""
        last: dict[int, int] = {}
        for i, stage in enumerate(self.stages):
            for source in stage.sources:
                if isinstance(source, Kept):
                    last[numbers[source.value]] = i
        for n in self._outputs:
            last.pop(n, None)
        return [[n for n, at in last.items() if at == i] for i in range(len(self.stages))]

    def __call__(self, inputs: Sequence[np.ndarray], threads: int) -> list:
        held: list[Any] = [*inputs, *[None] * (self._slots - len(inputs))]
        sizes = dict(self.sizes)
        for step, hosted, sources, made, bounds, gone in self._turns:
            arrays = [
                held[source] if isinstance(source, int) else source(held, sizes)
                for source in sources
            ]
            if hosted:
                results, found = step(arrays, threads)
                sizes |= found
            else:
                results = step.call(arrays, threads, sizes)
                for bound in bounds:
                    sizes |= _sizes(bound, results[bound.output])
            for n, result in zip(made, results):
                held[n] = result
            for n in gone:
                held[n] = None
        outputs, taken = [], {id(x) for x in inputs}
        for n in self._outputs:
            y = held[n]
            if id(y) in taken:
                y = y.copy()
            outputs.append(y)
            taken.add(id(y))
        for i, j in self.graph.updates.items():
            inputs[j][...] = outputs[i]
            outputs[i] = inputs[j]
        return outputs


def _argument(source: Any, numbers: Mapping[Value, int]) -> int | Callable[[list, dict], Any]:
    """A source as a number of what is held, or what makes an array of all that and of sizes."""
    if not isinstance(source, Kept):
        return lambda held, sizes: np.empty((0, sizes[source.symbol]), np.bool_)
    number, size = numbers[source.value], source.size
    if size is None:
        return number
    if isinstance(size, dims.Sym) and size == dims.Sym.named(str(size)):
        name = str(size)
        return lambda held, sizes: held[number][: sizes[name]]
    return lambda held, sizes: held[number][: dims.substitute(size, sizes)]


def _sizes(bound: Any, found: np.ndarray) -> dict[str, int]:
    """The sizes that a stage found. Raises InputError for those that are none."""
    sizes = found.tolist()
    if min(sizes, default=0) < 0:
        raise InputError(
            "a size that the model computes from these inputs is negative",
            where=bound.where,
            expected="≥ 0",
            received=sizes,
        )
    return dict(zip(map(str, bound.symbols), sizes))
