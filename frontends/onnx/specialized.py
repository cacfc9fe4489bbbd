"""Models whose nodes can only be read once the inputs are known: their sizes (branches of different
shapes, chosen by a size), or the values of those that decide shapes (`Reshape` to an input).

    model = specialized_model("model.onnx", None, error)      # None: values would not help
    model.graph                                   # the inputs and outputs that the file declares
    model({"N": 2}, {"shape": array, …})          # the Graph for these sizes and values
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from ...compiler.errors import InputError, TesselError, UnsupportedError
from ...compiler.ir.graph import Graph, Value
from ...compiler.ir.metadata.dims_apart import KEY as APART
from ...compiler.ir.metadata.optional_inputs import remember_optional
from ...compiler.ir.types import AnyRank, TensorType
from .file import proto as pb
from .importer import read
from .operators.table import OPERATORS
from .read.dependence import SizeDependence, needed
from .read.folded import FoldingBuilder
from .read.inputs import (
    StructureDependence,
    declared_type,
    named_dims,
    optional_types,
    read_inputs,
    true_inputs,
)
from .read.reader import Reader
from .read.scope import Scope


class ShapeSpecialized:
    """A model that is read anew for each combination of what it lacks.

    `values` names the inputs whose values are part of it. Reading with them can show that further
    ones are needed, so it may grow. `sized` says which nodes need sizes, and why.
    """

    by_structure: Literal[False] = False

    def __init__(self, model, graph: Graph, values: set[str], error: TesselError):
        self.model, self.graph = model, graph
        self.sized = tuple(
            f"{e.where}: {e.message}" for e in error.findings if isinstance(e, SizeDependence)
        )
        self.values = self._ordered(values)

    def _ordered(self, names: set[str]) -> tuple[str, ...]:
        return tuple(v.name for v in self.graph.inputs if v.name in names)

    def __call__(self, binding: Mapping[str, int], inputs: Mapping[str, np.ndarray]) -> Graph:
        tensors = [v for v in self.graph.inputs if isinstance(v.type, TensorType)]
        shapes = {v.name: v.type.substitute(binding).shape for v in tensors}
        while True:
            values = {n: inputs[n] for n in self.values}
            try:
                return read(self.model, shapes=shapes, values=values)
            except UnsupportedError as error:
                more = needed(error)
                if not more:
                    raise
                self.values = self._ordered(more | set(self.values))
            except InputError:
                raise
            except TesselError as error:
                sizes = {v.name: shapes[v.name] for v in tensors if not v.type.is_static}
                raise _senseless(error, values, sizes=sizes) from error


def _senseless(
    error: TesselError,
    values: Mapping[str, np.ndarray],
    lists: Mapping[str, tuple] | None = None,
    sizes: Mapping[str, tuple] | None = None,
) -> TesselError:
    """The error of a model that contradicts itself; because of the inputs, if given."""
    if not (values or lists or sizes) or not error.findings:
        return error
    received = [f"{n} = {shown(a)}" for n, a in values.items()]
    received += [f"{n}: {len(structure)} items" for n, structure in (lists or {}).items()]
    received += [
        f"{n}[{','.join(map(str, d))}]" for n, d in (sizes or {}).items() if n not in values
    ]
    return InputError(
        "the model does not make sense with these inputs",
        received=", ".join(received),
        findings=error.findings,
    )


def shown(array: np.ndarray) -> str:
    return " ".join(str(array.tolist()).split())


class StructureSpecialized:
    """A model whose inputs or outputs are not all tensors, which is read anew for each structure.

        model(structures, arrays)      # the Graph; `arrays` are by the names of the graph's tensors

    `values` names the tensors whose values are part of what it is read for, `sized` says whether
    the shapes of all tensors are. Reading can show that more is needed, so both may grow.
    """

    by_structure: Literal[True] = True

    def __init__(self, model, graph: Graph, values: set[str], shapes):
        self.model, self.graph, self.shapes = model, graph, dict(shapes or {})
        self.values: tuple[str, ...] = tuple(values)
        self.sized = False

    def __call__(self, structures: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> Graph:
        while True:
            sizes = {n: a.shape for n, a in arrays.items() if hasattr(a, "shape")}
            values = {n: arrays[n] for n in self.values if n in arrays}
            try:
                return read(
                    self.model,
                    shapes=sizes if self.sized else self.shapes,
                    values=values,
                    structures=structures,
                )
            except UnsupportedError as error:
                more = needed(error)
                if more is None or (self.sized and more <= set(values)):
                    raise
                self.sized |= more <= set(values)
                self.values = tuple(dict.fromkeys([*self.values, *more]))
            except InputError:
                raise
            except TesselError as error:
                lists = {n: x for n, x in structures.items() if isinstance(x, tuple)}
                raise _senseless(error, values, lists) from error


def specialized_model(
    model, shapes, error: TesselError
) -> ShapeSpecialized | StructureSpecialized | None:
    """The model, if reading it failed with `error` for no other reason than missing knowledge.

    None if something else is wrong.
    """
    values = set() if isinstance(error, StructureDependence) else needed(error)
    if values is None:
        return None
    graph = declare(model, shapes)
    if isinstance(error, StructureDependence) or not all(map(_is_tensor, graph.outputs)):
        return StructureSpecialized(model, graph, values, shapes)
    if not (values or graph.symbols()):
        return None
    return ShapeSpecialized(model, graph, values, error)


def _is_tensor(value: Value) -> bool:
    return isinstance(value.type, (TensorType, AnyRank))


def declare(model, shapes=None) -> Graph:
    """A graph without nodes: the inputs and outputs that the file declares.

    It may have inputs that no graph with nodes has: sequences, optionals, of unknown rank.
    """
    reader = Reader(pb.load(model), OPERATORS)
    source = reader.model.graph
    shapes = dict(shapes or {})
    graph = Graph(name=source.name or "main")
    taken = named_dims(source)
    types = {
        i.name: declared_type(i.type, i.name, f"input {i.name}", taken) for i in true_inputs(source)
    }
    if all(isinstance(t, TensorType) for t in types.values()):
        builder = FoldingBuilder(name=source.name or "main")
        read_inputs(source, Scope(builder, reader._opsets()), reader.where, shapes, {}, {})
        graph = builder.graph
    else:
        graph.inputs = [Value(n, t) for n, t in types.items()]
    remember_optional(graph, optional_types(reader.model))
    graph.metadata |= {p.key: p.value for p in reader.model.metadata_props if p.key == APART}
    for info in source.output:
        type = declared_type(info.type, info.name, f"output {info.name}")
        graph.output_names.append(info.name)
        graph.outputs.append(Value(info.name, type))
    return graph
