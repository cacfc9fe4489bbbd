"""`tessel inspect`, the file itself: what an ONNX file says, whether tessel can read all of it or
not."""

from collections import Counter
from collections.abc import Iterator

import onnx

from ..compiler.errors import TesselError
from ..frontends.onnx.file import proto as pb
from ..frontends.onnx.file.external import names_of_files
from ..frontends.onnx.read.overridable import overridable
from .common.tables import size, table
from .common.terminal import Console

SHOWN = 60  # operators


def print_file(loaded: pb.Loaded, out: Console) -> None:
    """Versions, who made it, inputs, outputs, weights and the files that they are in, operators."""
    model, graph = loaded.model, loaded.model.graph
    opsets = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import)
    out.print(f"  ONNX, IR version {model.ir_version}, opset {opsets or 'none'}")
    maker = f"{model.producer_name} {model.producer_version}".strip()
    out.print(f"  made by {maker}" if maker else "  it does not say what made it")
    weights = {t.name for t in graph.initializer} | {
        t.values.name for t in graph.sparse_initializer
    }
    optional = {i.name for i in overridable(model)}
    for info in graph.input:
        if info.name not in weights:
            out.print(f"  in   {info.name}: {type_text(info.type)}")
    for info in graph.input:
        if info.name in optional:
            out.print(f"  in   {info.name}: {type_text(info.type)} (optional)")
    for info in graph.output:
        out.print(f"  out  {info.name}: {type_text(info.type)}")
    _print_weights(loaded, out)
    for p in model.metadata_props:
        out.print(f"  {p.key}={p.value}", style="dim")
    _print_operators(model, out)


def _print_weights(loaded: pb.Loaded, out: Console) -> None:
    tensors = list(loaded.model.graph.initializer)
    held: Counter = Counter()
    for t in tensors:
        held[_dtype_text(t.data_type)] += _bytes(t)
    kinds = ", ".join(f"{n} {size(b)}" for n, b in held.most_common())
    out.print(f"  {len(tensors)} initializers ({kinds or 'none'})")
    for name in names_of_files(loaded.model):
        path = None if loaded.folder is None else loaded.folder.path / name
        try:
            found = "not looked for" if path is None else size(path.stat().st_size)
        except (OSError, ValueError):
            found = "missing"
        out.print(f"  file {name}: {found}")


def _bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's elements, by what it declares."""
    count = 1
    for d in tensor.dims:
        count *= max(d, 0)
    try:
        return pb.file_bytes(count, pb.dtype_of_element(tensor.data_type, tensor.name))
    except TesselError:  # strings of numbers that nobody knows
        return 0


def _print_operators(model: onnx.ModelProto, out: Console) -> None:
    counts = Counter(
        f"{n.domain}:{n.op_type}" if n.domain not in ("", "ai.onnx") else n.op_type
        for n in _nodes(model)
    )
    t = table("nodes", "operator", right="nodes")
    for name, n in counts.most_common(SHOWN):
        t.add_row(str(n), name)
    out.print(f"\n{sum(counts.values())} nodes in the file", style="bold")
    out.print(t)
    if len(counts) > SHOWN:
        out.print(f"… and {len(counts) - SHOWN} operators more", style="dim")


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node, also of bodies and functions."""
    stack = [model.graph, *model.functions]
    while stack:
        for node in stack.pop().node:
            yield node
            for a in node.attribute:
                stack += [a.g] if a.HasField("g") else []
                stack += a.graphs


def type_text(type: onnx.TypeProto) -> str:
    """f32[N,3], seq(f32[?]), …; ? for what is not said."""
    match type.WhichOneof("value"):
        case "tensor_type":
            t = type.tensor_type
            if not t.HasField("shape"):
                return f"{_dtype_text(t.elem_type)}[…]"
            dims = (
                str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?"
                for d in t.shape.dim
            )
            return f"{_dtype_text(t.elem_type)}[{','.join(dims)}]"
        case "sequence_type":
            return f"seq({type_text(type.sequence_type.elem_type)})"
        case "optional_type":
            return f"optional({type_text(type.optional_type.elem_type)})"
        case "map_type":
            key, value = type.map_type.key_type, type.map_type.value_type
            return f"map({_dtype_text(key)}, {type_text(value)})"
        case kind:
            return "?" if kind is None else kind.removesuffix("_type")


def _dtype_text(number: int) -> str:
    try:
        return pb.dtype_of_element(number, "").name
    except TesselError:
        known = number in onnx.TensorProto.DataType.values()
        return onnx.TensorProto.DataType.Name(number).lower() if known else f"dtype {number}"
