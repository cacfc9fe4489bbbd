"""What an ONNX file declares about its inputs and outputs, for models whose nodes can only be read
once the sizes of the inputs are known (branches of different shapes, chosen by a size)."""

from ...compiler import dims
from ...compiler.ir import Graph, Value
from ...compiler.types import TensorType
from . import proto as pb
from .reader import Reader
from .scope import Scope
from .values import KnownBuilder


def declare(model, shapes=None) -> Graph | None:
    """A graph without nodes: the inputs and outputs that the file declares.

    None if every size is known already, or the file does not say the rank of an output.
    """
    reader = Reader(pb.load(model))
    source = reader.model.graph
    builder = KnownBuilder(name=source.name or "main")
    reader._inputs(source, Scope(builder, reader._opsets()), dict(shapes or {}))
    graph = builder.graph
    for info in source.output:
        tensor = info.type.tensor_type
        if not info.type.HasField("tensor_type") or not tensor.HasField("shape"):
            return None
        dtype = pb.dtype_of_element(tensor.elem_type, f"output {info.name}")
        shape = [
            d.dim_value or dims.Sym.named(dims.symbol_name(d.dim_param or f"{info.name}_{i}"))
            for i, d in enumerate(tensor.shape.dim)
        ]
        graph.outputs.append(Value(info.name, TensorType(dtype, shape)))
        graph.output_names.append(info.name)
    return graph if graph.symbols() else None
