"""Which types ONNX allows where: the schemas' lists, wider dtypes, newer opsets, TypeProtos."""

from functools import cache

import onnx
from onnx import TensorProto, helper

from ....compiler.ir.dims import Sym
from ....compiler.ir.types import DTYPES, F32, I32, I64, DType, MapType, SequenceType, Type
from ..file.proto import ELEMENT_TYPE_OF

# what is the same modulo 2^64, so that u64 may be computed as i64
_MODULO = {"add", "sub", "mul", "pow", "neg", "matmul", "reduce_sum", "reduce_prod", "cumsum"}
# what moves or names elements: a cast around it would be another such op
_PLAIN = {"cast", "bit_cast", "identity", "constant", "quantize_linear", "dequantize_linear"}


class NewerOpset(Exception):
    """The graph can be said in a newer opset only."""

    def __init__(self, opset: int):
        super().__init__(opset)
        self.opset = opset


@cache
def schema_types(domain: str, op_type: str, version: int) -> tuple[list, list] | None:
    """The types allowed for each operand and result; None if that opset lacks the operator."""
    try:
        schema = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None
    return [i.types for i in schema.inputs], [o.types for o in schema.outputs]


def refused(node: onnx.NodeProto, dtypes: dict[str, DType], version: int) -> DType | None:
    """A dtype of the named values that this opset does not allow in `node`."""
    schema = schema_types(node.domain, node.op_type, version)
    for names, formal in [(node.input, schema[0]), (node.output, schema[1])]:
        for i, name in enumerate(names):
            allowed = formal[min(i, len(formal) - 1)] if formal else ()
            if name in dtypes and _type_text(dtypes[name]) not in allowed:
                return dtypes[name]
    return None


def newer_opset(node: onnx.NodeProto, dtypes: dict[str, DType], version: int) -> int | None:
    """The first later opset of ai.onnx that has this node with these dtypes."""
    if node.domain != "":
        return None
    for later in range(version + 1, onnx.defs.onnx_opset_version() + 1):
        if schema_types("", node.op_type, later) and refused(node, dtypes, later) is None:
            return later
    return None


def _type_text(dtype: DType) -> str:
    return f"tensor({TensorProto.DataType.Name(ELEMENT_TYPE_OF[dtype]).lower()})"


def wider(op: str, dtype: DType) -> DType | None:
    """A dtype in which `op` gives the same result, cast back."""
    if op in _PLAIN:
        return None
    if op == "shift_left":
        return DTYPES.get(f"u{dtype.bits}") if dtype.kind == "i" else None
    if dtype.is_float and dtype.bits < 32:
        return F32
    if dtype.is_int and dtype.bits < 32:
        return I32
    if dtype.kind == "u" and (dtype.bits == 32 or op in _MODULO):
        return I64
    return None


def type_proto(type: Type) -> onnx.TypeProto:
    if isinstance(type, SequenceType):
        return helper.make_sequence_type_proto(type_proto(type.element))
    if isinstance(type, MapType):
        return helper.make_map_type_proto(ELEMENT_TYPE_OF[type.key], type_proto(type.value))
    shape = [str(d) if isinstance(d, Sym) else d for d in type.shape]
    return helper.make_tensor_type_proto(ELEMENT_TYPE_OF[type.dtype], shape)
