"""Models whose nodes can only be read once the inputs are known: their sizes (branches of different
shapes, chosen by a size), or the values of those that decide shapes (`Reshape` to an input).

    model = defer("model.onnx", None, error)      # None: values would not help
    model.graph                                   # the inputs and outputs that the file declares
    model({"N": 2}, {"shape": array, …})          # the Graph for these sizes and values
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...compiler import dims
from ...compiler.errors import InputError, TesselError, UnsupportedError
from ...compiler.ir import Graph, Value
from ...compiler.types import DType, TensorType
from . import proto as pb
from .needs import needed
from .reader import Reader, read
from .scope import Scope
from .values import KnownBuilder


@dataclass(frozen=True)
class AnyRank:
    """The type of an output of which the file does not say the rank."""

    dtype: DType

    def __str__(self):
        return f"{self.dtype.name}[…]"

    def substitute(self, binding) -> "AnyRank":
        return self


class Deferred:
    """A model that is read anew for each combination of what it lacks.

    `values` names the inputs whose values are part of it. Reading with them can show that further
    ones are needed, so it may grow.
    """

    def __init__(self, model, graph: Graph, values: set[str]):
        self.model, self.graph = model, graph
        self.values = self._ordered(values)

    def _ordered(self, names: set[str]) -> tuple[str, ...]:
        return tuple(v.name for v in self.graph.inputs if v.name in names)

    def __call__(self, binding: Mapping[str, int], inputs: Mapping[str, np.ndarray]) -> Graph:
        shapes = {v.name: v.type.substitute(binding).shape for v in self.graph.inputs}
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
                if not values or not error.findings:
                    raise
                raise InputError(
                    "the model does not make sense with these inputs",
                    received=", ".join(f"{n} = {shown(a)}" for n, a in values.items()),
                    findings=error.findings,
                ) from error


def shown(array: np.ndarray) -> str:
    return " ".join(str(array.tolist()).split())


def defer(model, shapes, error: TesselError) -> Deferred | None:
    """The model, if reading it failed with `error` for no other reason than missing knowledge.

    None if something else is wrong, or an output is no tensor.
    """
    values = needed(error)
    if values is None:
        return None
    graph = declare(model, shapes)
    if graph is None or not (values or graph.symbols()):
        return None
    return Deferred(model, graph, values)


def declare(model, shapes=None) -> Graph | None:
    """A graph without nodes: the inputs and outputs that the file declares.

    None if an output is no tensor.
    """
    reader = Reader(pb.load(model))
    source = reader.model.graph
    builder = KnownBuilder(name=source.name or "main")
    reader._inputs(source, Scope(builder, reader._opsets()), dict(shapes or {}))
    graph = builder.graph
    for info in source.output:
        tensor = info.type.tensor_type
        if not info.type.HasField("tensor_type"):
            return None
        dtype = pb.dtype_of_element(tensor.elem_type, f"output {info.name}")
        graph.output_names.append(info.name)
        if not tensor.HasField("shape"):
            graph.outputs.append(Value(info.name, AnyRank(dtype)))
            continue
        shape = [
            d.dim_value or dims.Sym.named(dims.symbol_name(d.dim_param or f"{info.name}_{i}"))
            for i, d in enumerate(tensor.shape.dim)
        ]
        graph.outputs.append(Value(info.name, TensorType(dtype, shape)))
    return graph
