"""Protobuf to plain Python: files, dtypes, tensors, attributes. Damage becomes a ModelError."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, TensorProto, numpy_helper

from ....compiler.classes import dataclass
from ....compiler.errors import ModelError, UnsupportedError, UsageError
from ....compiler.ir.types import DTYPES, MAX_RANK, DType
from ....compiler.system import files
from ....compiler.system.budgets import Budget, Limits
from . import external, textual, wire
from .external import Folder

MAX_ELEMENTS = 1 << 40
_DAMAGED = "this is not an ONNX file, or it is damaged"
_PATH_FIX = "name a model's file: .onnx, or its text"

_ELEMENT_TYPES = {
    TensorProto.FLOAT: "f32",
    TensorProto.DOUBLE: "f64",
    TensorProto.FLOAT16: "f16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.FLOAT8E4M3FN: "f8e4m3fn",
    TensorProto.FLOAT8E4M3FNUZ: "f8e4m3fnuz",
    TensorProto.FLOAT8E5M2: "f8e5m2",
    TensorProto.FLOAT8E5M2FNUZ: "f8e5m2fnuz",
    TensorProto.FLOAT8E8M0: "f8e8m0",
    TensorProto.FLOAT6E2M3: "f6e2m3",
    TensorProto.FLOAT6E3M2: "f6e3m2",
    TensorProto.FLOAT4E2M1: "f4e2m1",
    TensorProto.INT64: "i64",
    TensorProto.INT32: "i32",
    TensorProto.INT16: "i16",
    TensorProto.INT8: "i8",
    TensorProto.INT4: "i4",
    TensorProto.INT2: "i2",
    TensorProto.UINT64: "u64",
    TensorProto.UINT32: "u32",
    TensorProto.UINT16: "u16",
    TensorProto.UINT8: "u8",
    TensorProto.UINT4: "u4",
    TensorProto.UINT2: "u2",
    TensorProto.BOOL: "bool",
    TensorProto.STRING: "str",
}
ELEMENT_TYPE_OF = {DTYPES[name]: number for number, name in _ELEMENT_TYPES.items()}


def dtype_of_element(number: int, where: str) -> DType:
    """The DType of a TensorProto.DataType. Raises UnsupportedError, or ModelError if none."""
    if number in _ELEMENT_TYPES:
        return DTYPES[_ELEMENT_TYPES[number]]
    if number in TensorProto.DataType.values() and number != TensorProto.UNDEFINED:
        name = TensorProto.DataType.Name(number)
        raise UnsupportedError(f"unsupported dtype {name}", where=where)
    raise ModelError("not an ONNX element type", where=where, received=number)


@dataclass(frozen=True)
class Loaded:
    """A model, the folder of its external data, its name in errors, the bytes of large
    initializers that were cut out of the model, and what it may cost."""

    model: ModelProto
    where: str
    folder: Folder | None = None
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    def budget(self) -> Budget:
        """What reading it may cost. Raises LimitError for graphs that are nested too deep."""
        own, depth = measure(self.model)
        budget = Budget(self.limits, own)
        budget.level(depth, self.where)
        return budget


class Source:
    """A model that is got in a way of its own."""

    def load(self) -> Loaded:
        raise NotImplementedError


@dataclass(frozen=True)
class Limited(Source):
    """A model with limits of its own. `source` is what `load` takes."""

    source: Any
    limits: Limits

    def load(self) -> Loaded:
        return replace(load(self.source), limits=self.limits)


def measure(model: ModelProto) -> tuple[int, int]:
    """How many nodes stand in a model, and how deep its graphs are nested."""
    count = deepest = 0
    stack = [(g, 0) for g in (model.graph, *model.functions)]
    while stack:
        graph, depth = stack.pop()
        deepest = max(deepest, depth)
        count += len(graph.node)
        for node in graph.node:
            for a in node.attribute:
                if a.HasField("g"):
                    stack.append((a.g, depth + 1))
                stack += [(g, depth + 1) for g in a.graphs]
    return count, deepest


def load(source) -> Loaded:
    """A model from a path, a file's bytes, a ModelProto, or a `Source`. Raises ModelError."""
    if isinstance(source, Source):
        return source.load()
    if isinstance(source, ModelProto):
        return Loaded(source, source.graph.name or "model")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Loaded(_parse(bytes(source), "model bytes"), "model bytes")
    if not isinstance(source, (str, os.PathLike)):
        raise UsageError(
            "this is no model",
            expected="a path, the bytes of a file, a ModelProto or a Graph",
            received=type(source).__name__,
        )
    path, where = Path(source), files.shown(source)
    with files.reading(path, ModelError, fix=_PATH_FIX) as file:
        size = files.size_of(file)
        if path.suffix in (".onnxtxt", ".onnxtext"):
            return Loaded(textual.parse("onnx", file.read(size), where), where, Folder(path.parent))
        if size < wire.LARGE:
            return Loaded(_parse(file.read(size), where), where, Folder(path.parent))
        data, places = wire.split(file)
        if not data:
            raise ModelError(_DAMAGED, where=where, expected="a ModelProto of less than 2 GiB")
        weights = {
            name: np.fromfile(file, np.uint8, length, offset=offset - file.tell())
            for name, (offset, length) in places.items()
        }
    return Loaded(_parse(data, where), where, Folder(path.parent), weights)


def _parse(data: bytes, where: str) -> ModelProto:
    for start, kind, fix in _FOREIGN:
        if data[: len(start)] == start:
            raise ModelError(f"the file is {kind}, not ONNX", where=where, fix=fix)
    if not data:
        raise ModelError("the file is empty", where=where)
    form = textual.form_of(data)
    try:
        model = ModelProto.FromString(data) if form is None else textual.parse(form, data, where)
    except DecodeError:
        raise ModelError(_DAMAGED, where=where, expected="a ModelProto") from None
    if any(isinstance(text, bytes) for text in _texts(model)):
        raise ModelError("a name in the file is not UTF-8: the file is damaged", where=where)
    return model


def _texts(model: ModelProto) -> Iterator:
    """All names; protobuf gives those that are not UTF-8 as bytes."""
    for opset in model.opset_import:
        yield opset.domain
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output)
        yield from (o.domain for o in function.opset_import)
        yield from _node_texts(function)
    yield from _graph_texts(model.graph)


def _graph_texts(graph) -> Iterator:
    yield graph.name
    yield from (t.name for t in graph.initializer)
    yield from (t.values.name for t in graph.sparse_initializer)
    for info in (*graph.input, *graph.output):
        yield info.name
        yield from (d.dim_param for d in info.type.tensor_type.shape.dim)
    yield from _node_texts(graph)


def _node_texts(graph) -> Iterator:
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for a in node.attribute:
            yield from (a.name, a.ref_attr_name)
            if a.type == AttributeProto.GRAPH:
                yield from _graph_texts(a.g)


_FOREIGN = [
    (b"\x1f\x8b", "compressed by gzip", "run gunzip on it"),
    (b"PK\x03\x04", "a zip archive", "unzip it"),
    (b"version https://git-lfs", "a Git LFS pointer", "run git lfs pull"),
]


def shape_of_tensor(tensor: TensorProto, where: str) -> tuple[int, ...]:
    shape = tuple(tensor.dims)
    if is_absurd(shape):
        raise ModelError("absurd dims of a tensor", where=where, received=short(shape))
    return shape


def is_absurd(shape: Sequence) -> bool:
    """Whether no array has such dims, also where some are 0; open ones do not count."""
    sizes = [d for d in shape if isinstance(d, int)]
    most = math.prod(max(d, 1) for d in sizes)
    return len(shape) > MAX_RANK or any(d < 0 for d in sizes) or most > MAX_ELEMENTS


def short(shape: Sequence) -> str:
    """Dims for an error, not all of them if there are many."""
    more = ", …" if len(shape) > 8 else ""
    return f"[{', '.join(map(str, shape[:8]))}{more}], rank {len(shape)}"


def to_array(tensor: TensorProto, folder: Folder | None, where: str, raw=None) -> np.ndarray:
    """The tensor as an array: a view of its raw bytes where possible.

    `raw` are its bytes where they were cut out of the model. Raises ModelError if bytes and dims
    do not fit, UnsupportedError for unknown dtypes.
    """
    dtype = dtype_of_element(tensor.data_type, where)
    shape = shape_of_tensor(tensor, where)
    if raw is not None:
        return from_bytes(raw, dtype, shape, where)
    if tensor.data_location == TensorProto.EXTERNAL:
        return external.read(tensor, dtype, shape, folder, where)
    if tensor.HasField("raw_data") and dtype.kind != "s":
        return from_bytes(tensor.raw_data, dtype, shape, where)
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, IndexError, UnicodeDecodeError) as error:
        raise ModelError(
            f"a tensor's data do not fit its type: {error}", where=where, expected=f"{shape}"
        ) from None
    if dtype.kind == "s":
        text = [b.decode("utf-8", "replace") if isinstance(b, bytes) else b for b in array.flat]
        out = np.empty(len(text), object)
        out[:] = text
        return out.reshape(shape)
    return array.astype(dtype.numpy, copy=False)


def is_packed(dtype: DType) -> bool:
    """Whether a file keeps elements without gaps, the first in the lowest bits."""
    return dtype.bits < 8 and dtype.kind != "b"


def file_bytes(count: int, dtype: DType) -> int:
    """Bytes of `count` elements in a file."""
    return -(-count * dtype.bits // 8) if is_packed(dtype) else count * dtype.bytes


def from_bytes(data, dtype: DType, shape: tuple, where: str) -> np.ndarray:
    """`data` (little-endian) seen as an array. Raises ModelError if the lengths differ."""
    count = math.prod(shape)
    expected = file_bytes(count, dtype)
    if len(data) != expected:
        raise ModelError(
            "a tensor's data are truncated or too long",
            where=where,
            expected=f"{expected} bytes for {dtype}[{','.join(map(str, shape))}]",
            received=f"{len(data)} bytes",
        )
    if is_packed(dtype):
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        bits = bits[: count * dtype.bits].reshape(count, dtype.bits)
        codes = np.packbits(bits, axis=1, bitorder="little")
        return codes.reshape(shape).view(dtype.numpy)
    return np.frombuffer(data, dtype.numpy.newbyteorder("<")).reshape(shape)


def densify(
    sparse: onnx.SparseTensorProto, folder: Folder | None, where: str, budget: Budget
) -> np.ndarray:
    """The dense array of a sparse tensor (COO, flat or by coordinates). Raises LimitError."""
    values = to_array(sparse.values, folder, where)
    indices = to_array(sparse.indices, folder, where)
    shape = tuple(sparse.dims)
    if is_absurd(shape):
        raise ModelError("absurd dims of a sparse tensor", where=where, received=short(shape))
    budget.dense(math.prod(shape) * values.dtype.itemsize, where)
    dense = np.zeros(shape, values.dtype)
    try:
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
    except (IndexError, ValueError) as error:
        raise ModelError(f"a sparse tensor's indices: {error}", where=where) from None
    return dense


def attribute(a: AttributeProto, folder: Folder | None, where: str, budget: Budget):
    """An attribute as a Python value: numbers, text, arrays, GraphProtos, lists of them."""
    kind = AttributeProto
    match a.type:
        case kind.FLOAT:
            return a.f
        case kind.INT:
            return a.i
        case kind.STRING:
            return a.s.decode("utf-8", "replace")
        case kind.TENSOR:
            return to_array(a.t, folder, f"{where}, attribute {a.name}")
        case kind.SPARSE_TENSOR:
            return densify(a.sparse_tensor, folder, f"{where}, attribute {a.name}", budget)
        case kind.GRAPH:
            return a.g
        case kind.FLOATS:
            return list(a.floats)
        case kind.INTS:
            return list(a.ints)
        case kind.STRINGS:
            return [s.decode("utf-8", "replace") for s in a.strings]
        case kind.GRAPHS:
            return list(a.graphs)
        case kind.TYPE_PROTO:
            return a.tp
    raise ModelError(f"attribute {a.name} has no usable type", where=where, received=a.type)
