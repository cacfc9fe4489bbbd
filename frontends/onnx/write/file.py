"""ONNX files: initializers, checks, external data; a file appears whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from ....compiler.errors import GraphError, UsageError
from ....compiler.ir.types import dtype_of
from ....compiler.system import files
from ..file.proto import ELEMENT_TYPE_OF, is_packed

SMALL = 1024  # bytes of weights up to which they stay in the model
ALIGNMENT = 4096  # of weights in a file, so that it can be mapped


def tensor(name: str, array: np.ndarray) -> TensorProto:
    """An initializer; text as strings, types below 8 bits packed."""
    dtype = dtype_of(array)
    kind = ELEMENT_TYPE_OF[dtype]
    if dtype.kind == "s":
        return helper.make_tensor(name, kind, array.shape, [str(e).encode() for e in array.flat])
    if is_packed(dtype):
        packed = _pack(array, dtype.bits)
        return helper.make_tensor(name, kind, array.shape, packed, raw=True)
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return helper.make_tensor(name, kind, array.shape, little.tobytes(), raw=True)


def _pack(array: np.ndarray, bits: int) -> bytes:
    """Elements of `bits` bits, the first in the lowest ones; zeros fill the last byte."""
    codes = np.ascontiguousarray(array).reshape(-1, 1).view(np.uint8)
    each = np.unpackbits(codes, axis=1, bitorder="little")[:, :bits]
    return np.packbits(each.reshape(-1), bitorder="little").tobytes()


def check(model: onnx.ModelProto, arrays: Mapping[str, np.ndarray]) -> None:
    """Run ONNX's checker on `model` with these initializers; of large ones it sees the types."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    for name, array in arrays.items():
        if array.nbytes < SMALL:
            whole.graph.initializer.append(tensor(name, array))
        else:
            kind = ELEMENT_TYPE_OF[dtype_of(array)]
            whole.graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))
    try:
        onnx.checker.check_model(whole, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphError(f"the written model is not valid ONNX: {error}") from error


def _bytes(name: str, array: np.ndarray):
    """What a file holds of it; of most types the array's own memory."""
    if dtype_of(array).bits < 8:
        return tensor(name, array).raw_data
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return little.reshape(-1).view(np.uint8).data


def write_external(path: Path, model: onnx.ModelProto, arrays: Mapping[str, np.ndarray]) -> None:
    """The model at `path`, its larger weights in `<path>.data`, which is written through."""
    location = path.name + ".data"
    with files.replacing(path, UsageError) as whole:
        with files.replacing(path.parent / location, UsageError) as file:
            for name, array in arrays.items():
                if array.nbytes < SMALL or array.dtype == object:
                    model.graph.initializer.append(tensor(name, array))
                    continue
                file.write(b"\0" * (-file.tell() % ALIGNMENT))
                start = file.tell()
                file.write(_bytes(name, array))
                proto = model.graph.initializer.add(
                    name=name,
                    data_type=ELEMENT_TYPE_OF[dtype_of(array)],
                    dims=array.shape,
                    data_location=TensorProto.EXTERNAL,
                )
                place = {"location": location, "offset": start, "length": file.tell() - start}
                for key, value in place.items():
                    proto.external_data.add(key=key, value=str(value))
        whole.write(model.SerializeToString())
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphError(f"the written model is not valid ONNX: {error}") from error
