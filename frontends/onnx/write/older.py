"""A model in an older opset than those that tessel writes, where its operators are in it.

    older(model, arrays, 13)        the model, changed in place; UnsupportedError where one is not

Operators that only say differently what they said before are written as before (axes of reductions,
attributes that have their defaults). What the older opset has no word for is refused by name.
"""

from collections.abc import Iterator, MutableMapping

import numpy as np
import onnx
from onnx import helper

from ....compiler.errors import GraphError, UnsupportedError
from .file import check

OLDEST = 13  # from which on weights may have scales per channel
AXES_AS_INPUT = 18  # of reductions
# ReduceSum has had them as an input from 13 on.
KINDS = ("Max", "Min", "Mean", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
REDUCTIONS = frozenset(f"Reduce{n}" for n in KINDS)
DEFAULTS = {
    "block_size": 0,
    "output_dtype": 0,
    "precision": 0,
    "saturate": 1,
    "allowzero": 0,
    "num_outputs": None,  # of Split, whose sizes are an input
    "stash_type": 1,
}

Arrays = MutableMapping[str, np.ndarray]


def older(model: onnx.ModelProto, arrays: Arrays, opset: int) -> onnx.ModelProto:
    """`arrays` are the model's initializers. Raises UnsupportedError naming a node that the opset
    has no word for."""
    for node in _nodes(model.graph):
        if node.domain in ("", "ai.onnx"):
            _write(node, arrays, opset)
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = opset
    known = [o for o in model.opset_import if o.domain in ("", "ai.onnx.ml")]
    model.ir_version = helper.find_min_ir_version_for(known)
    try:
        check(model, arrays)
    except GraphError as error:
        raise UnsupportedError(
            f"the model cannot be written in opset {opset}",
            received=error.message,
            fix=f"leave out opset={opset}",
        ) from None
    return model


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for a in node.attribute:
            for g in (*((a.g,) if a.HasField("g") else ()), *a.graphs):
                yield from _nodes(g)


def _write(node: onnx.NodeProto, arrays: Arrays, opset: int) -> None:
    if node.op_type in REDUCTIONS and opset < AXES_AS_INPUT and len(node.input) > 1:
        _axes_as_attribute(node, arrays, opset)
    if node.op_type == "QuantizeLinear" and len(node.input) < 3:
        _zero_as_input(node, arrays)
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        raise _refused(node, opset, f"there is no {node.op_type}") from None
    for a in list(node.attribute):
        if a.name in schema.attributes:
            continue
        if a.name not in DEFAULTS or DEFAULTS[a.name] not in (None, helper.get_attribute_value(a)):
            raise _refused(node, opset, f"{node.op_type} has no {a.name}")
        node.attribute.remove(a)
    if len(node.input) > schema.max_input:
        raise _refused(node, opset, f"{node.op_type} has at most {schema.max_input} inputs")
    for name in node.input:
        narrow = name in arrays and arrays[name].dtype.name in ("int4", "uint4", "int2", "uint2")
        if narrow:
            raise _refused(node, opset, f"there are no weights of {arrays[name].dtype}")


def _axes_as_attribute(node: onnx.NodeProto, arrays: Arrays, opset: int) -> None:
    axes = arrays.get(node.input[1])
    if axes is None:
        raise _refused(node, opset, f"axes of {node.op_type} are constants")
    del node.input[1:]
    node.attribute.append(helper.make_attribute("axes", [int(i) for i in axes]))


def _zero_as_input(node: onnx.NodeProto, arrays: Arrays) -> None:
    """The type of the numbers is that of their zero point."""
    kind = next((a for a in node.attribute if a.name == "output_dtype"), None)
    if kind is None or not kind.i:
        return
    dtype = helper.tensor_dtype_to_np_dtype(kind.i)
    scale = arrays.get(node.input[1])
    name = f"{node.output[0]}_zero"
    arrays[name] = np.zeros(() if scale is None else scale.shape, dtype)
    node.input.append(name)
    node.attribute.remove(kind)


def _refused(node: onnx.NodeProto, opset: int, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"opset {opset} cannot say this: {why}",
        where=node.name or node.op_type,
        fix="leave out opset, or choose another recipe (weights of 8 bits)",
    )
