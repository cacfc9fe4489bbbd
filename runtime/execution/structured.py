"""Executables of models whose inputs or outputs are not all tensors.

    exe.run({"xs": [a, b], "o": None}) -> {"y": [c]}

Machine code takes tensors. The lists and optionals of a run have a *structure*: how long each list
is, which optionals are there, of which rank the tensors are whose rank the model leaves open. For
each structure there is an ordinary `Executable` of the tensors that they consist of; the last ones
are kept. Where lengths or presence of outputs depend on values or sizes of inputs, these are part
of the key.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ...compiler.errors import InputError, TesselError, UsageError, entrance
from ...compiler.ir.graph import Graph
from ...compiler.ir.metadata.structure import (
    Group,
    Structure,
    grow,
    leaves,
    structure_of,
    structure_tree,
)
from ...compiler.ir.parse import parse_type
from ...compiler.ir.types import AnyRank, MapType, OptionalType, SequenceType, TensorType, Type
from ...compiler.system.concurrency import give_lock
from ..base.build import Built
from ..base.signature import Port, Signature, fixed_default, receive
from .executable import KEPT, Executable

if TYPE_CHECKING:
    from .session import Session


class Reader(Protocol):
    """Reads a model for the structure of its inputs; `values` and `sized` say what else it read."""

    by_structure: Literal[True]
    graph: Graph
    values: tuple[str, ...]
    sized: bool

    @entrance
    def __call__(
        self, structures: Mapping[str, object], arrays: Mapping[str, np.ndarray]
    ) -> Graph: ...


class Structured(Executable):
    """A compiled model with sequences, optionals or tensors of unknown rank."""

    def __init__(
        self,
        graph: Graph | Callable[[], Graph],
        session: "Session",
        read: Reader | None,
        signature: Signature,
        threads: int | None = None,
    ):
        """`read` gives the graph of a structure; without it there are those of `add`, and no
        others."""
        super().__init__(graph, session, signature=signature, threads=threads)
        self._read, self._structures = read, OrderedDict[tuple, tuple[Executable, Structure]]()
        self._only: Executable | None = None
        self._structure: Structure | None = None
        self._reading = give_lock(self, "_reading")

    @staticmethod
    def of(read: Reader, session: "Session", threads: int | None = None) -> "Structured":
        """The executable of a model that is read when a run shows the structure."""
        return Structured(read.graph, session, read, Signature.of(read.graph), threads)

    @staticmethod
    def only(exe: Executable, structure: Structure) -> "Structured":
        """The executable of tensors `exe`, for the one structure that its `structure` says."""
        inputs, outputs = (
            [Port(g.name, parse_type(g.type)) for g in groups]
            for groups in (structure.inputs, structure.outputs)
        )
        made = Structured(
            lambda: exe.graph,
            exe.session,
            None,
            Signature(inputs, outputs, {}, optional=exe.signature.optional),
            exe.threads,
        )
        made._only, made._structure = exe, structure
        made.notes, made.report = exe.notes, exe.report
        return made

    # -- running --------------------------------------------------------------------------

    @entrance
    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        exe, arrays, structure = self.resolve(inputs)
        tensors = exe.run(arrays)
        return {g.name: grow(g.tree, tensors) for g in structure.outputs}

    @entrance
    def __call__(self, *inputs: Any) -> Any:
        if len(inputs) != len(self._names):
            raise InputError(
                "wrong number of inputs",
                received=len(inputs),
                expected=f"{len(self._names)}: {', '.join(self._names)}",
            )
        outputs = tuple(self.run(dict(zip(self._names, inputs))).values())
        return outputs[0] if len(outputs) == 1 else outputs

    @entrance
    def ready(self, inputs: Mapping[str, Any]) -> None:
        exe, arrays, _ = self.resolve(inputs)
        exe.ready(arrays)

    def resolve(self, inputs: Mapping) -> tuple[Executable, dict[str, np.ndarray], Structure]:
        """The executable for the structure of `inputs`, the tensors that it takes, and how they and
        its results belong together. Raises InputError for inputs that do not fit."""
        if (other := self._overridden(inputs)) is not None:
            assert isinstance(other, Structured), other
            return other.resolve(inputs)
        fixed = [n for n in self.signature.optional if isinstance(inputs, Mapping) and n in inputs]
        if fixed:
            raise fixed_default(fixed[0])
        structures, arrays = take(self.signature.inputs, inputs)
        if self._only is not None and self._structure is not None:
            self._check_structure(structures, self._structure)
            return self._only, arrays, self._structure
        found = self._structures.get(self._structure_key(structures, arrays))
        if found is None:
            with self._reading:
                found = self._structures.get(self._structure_key(structures, arrays))
                if found is None:
                    found = self._make(structures, arrays)
        exe, structure = found
        return exe, arrays, structure

    def _check_structure(self, structures: Mapping[str, object], structure: Structure) -> None:
        findings = [
            InputError(
                "another structure",
                where=f"input {g.name}",
                expected=_shown(g.tree),
                received=_shown(structure_tree(g.name, structures[g.name])),
            )
            for g in structure.inputs
            if structure_tree(g.name, structures[g.name]) != g.tree
        ]
        if findings:
            raise InputError(
                "this was compiled for inputs of another structure",
                findings=findings,
                fix="compile the model itself: it takes every structure",
            )

    def _structure_key(self, structures: Mapping, arrays: Mapping) -> tuple:
        assert self._read is not None
        values = [arrays[n].tobytes() for n in self._read.values if n in arrays]
        sizes = [a.shape for a in arrays.values()] if self._read.sized else []
        return tuple(structures.values()), tuple(values), tuple(sizes)

    def _make(self, structures: Mapping, arrays: Mapping) -> tuple[Executable, Structure]:
        assert self._read is not None
        graph = self._read(structures, arrays)
        exe = Executable(self.session.optimize(graph), self.session, threads=self.threads)
        exe.open()
        made = exe, structure_of(graph.metadata) or _plain(graph)
        self._structures[self._structure_key(structures, arrays)] = made
        while len(self._structures) > KEPT:
            self._structures.popitem(last=False)
        return made

    # -- what an executable is asked --------------------------------------------------------

    def bind(self, name: str, array: Any) -> np.ndarray:
        raise UsageError(
            "inputs of a model with sequences or optionals cannot be bound", received=name
        )

    def specialization(
        self, binding: Mapping[str, int], inputs: Sequence[np.ndarray] | None = None
    ) -> Built:
        exe = self._single("compiled for given sizes")
        return exe.specialization(binding, inputs)

    @property
    def specializations(self) -> list[Built]:
        return [b for exe in self._executables() for b in exe.specializations]

    @entrance
    def save(self, path: str | PathLike[str]) -> None:
        """Write a package of the one structure that there is. Raises UsageError if there are
        others."""
        self._single("saved").save(path)

    @property
    def alone(self) -> Executable | None:
        """The executable of tensors, if there is one structure only."""
        return self._only

    def _executables(self) -> list[Executable]:
        if self._only is not None:
            return [self._only]
        return [exe for exe, _ in self._structures.values()]

    def _single(self, what: str) -> Executable:
        found = self._executables()
        if len(found) != 1:
            raise UsageError(
                f"this model is compiled for each structure of its inputs: one alone can be {what}",
                received=f"{len(found)} structures",
                fix="run it once before, with inputs of that structure",
            )
        return found[0]


def _plain(graph: Graph) -> Structure:
    inputs = tuple(Group(v.name, str(v.type), v.name) for v in graph.inputs)
    outputs = zip(graph.output_names, graph.outputs)
    return Structure(inputs, tuple(Group(n, str(v.type), n) for n, v in outputs))


def _shown(tree: Any) -> str:
    if isinstance(tree, list):
        return f"[{', '.join(map(_shown, tree))}]"
    return "none" if tree is None else "a value"


def take(
    ports: Sequence[Port], feeds: Mapping[str, Any]
) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """The structure of each input, and the tensors that they consist of by their names in the
    graph.

    Raises one InputError for everything that does not fit.
    """
    if not isinstance(feeds, Mapping):
        raise InputError(
            "run takes a dict of values by input name",
            received=type(feeds).__name__,
            expected=", ".join(map(str, ports)),
        )
    names = [p.name for p in ports]
    findings: list[TesselError] = [
        *(InputError(f"unexpected: {n}") for n in feeds if n not in names),
        *(InputError(f"missing: {n}") for n in names if n not in feeds),
    ]
    structures: dict[str, object] = {}
    arrays: dict[str, np.ndarray] = {}
    for port in ports:
        if port.name not in feeds:
            continue
        try:
            structure, flat = _take(port.type, feeds[port.name], port.name)
        except InputError as error:
            findings.append(error)
            continue
        structures[port.name] = structure
        arrays |= zip(leaves(structure_tree(port.name, structure)), flat)
    if findings:
        raise InputError(
            "the inputs do not fit the model",
            findings=findings,
            expected=", ".join(map(str, ports)) or "no inputs",
        )
    return structures, arrays


def _take(type: Type, x: Any, name: str) -> tuple[object, list[Any]]:
    """The structure of a value and its tensors."""
    match type:
        case OptionalType(element):
            return (None, []) if x is None else _take(element, x, name)
        case SequenceType(element) if not _is_map(element):
            if not isinstance(x, (list, tuple)):
                raise InputError(
                    "a sequence is a list",
                    where=f"input {name}",
                    expected=type,
                    received=x.__class__.__name__,
                )
            items = [_take(element, item, f"{name}[{i}]") for i, item in enumerate(x)]
            return tuple(structure for structure, _ in items), [
                t for _, flat in items for t in flat
            ]
        case AnyRank(dtype):
            own = np.asarray(x) if x is not None else None
            if own is None:
                raise InputError("this input is not optional", where=f"input {name}")
            array = receive(Port(name, TensorType(dtype, own.shape)), own)
            return array.ndim, [array]
        case TensorType():
            return type.rank, [receive(Port(name, type), x)]
    return "map", [receive(Port(name, type), x)]


def _is_map(type: Type) -> bool:
    return isinstance(type, MapType) or (isinstance(type, SequenceType) and _is_map(type.element))


def with_structure(exe: Executable, metadata: Mapping[str, str]) -> Executable:
    """`exe` itself, or what takes and gives lists if the metadata of its graph say so.

    Where the graph has other inputs or outputs by now (gradients), it stays as it is.
    """
    structure = structure_of(metadata)
    if structure is None:
        return exe
    sides = (structure.inputs, exe.signature.inputs), (structure.outputs, exe.outputs)
    if any(
        [n for g in groups for n in leaves(g.tree)] != [p.name for p in ports]
        for groups, ports in sides
    ):
        return exe
    return Structured.only(exe, structure)
