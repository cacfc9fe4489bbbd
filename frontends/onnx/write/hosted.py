"""`host_if` and `host_loop` as If and Loop, which in ONNX may have results of any size."""

from onnx import helper

from ....compiler.ir.graph import Node
from ....compiler.ir.types import BOOL, I64, TensorType
from .common import results
from .composite import if_
from .writer import Writer, type_proto


def host_if(w: Writer, node: Node):
    if_(w, node)
    w.bind_shapes(node.outputs, node.attrs["symbols"])


def host_loop(w: Writer, node: Node):
    """A Loop without a trip count. Rows that come in pieces are a state, to which each turn joins
    its own."""
    n = node.attrs["states"]
    go, *states = node.inputs[: 1 + n]
    body = w.region(node.attrs["body"], n, node.inputs[1 + n :], node.attrs["turn"])
    turn, own_go = w.unique("turn"), w.unique("go")
    inputs = list(body.input)
    del body.input[:]
    for name, type in ((turn, TensorType(I64, ())), (own_go, TensorType(BOOL, ()))):
        body.input.append(helper.make_value_info(name, type_proto(type)))
    body.input.extend(inputs)
    given = ["", w.name(go), *map(w.name, states)]
    if node.attrs["pieces"]:
        given += [_joined(w, body, 1 + n + i, v) for i, v in enumerate(node.outputs[n:])]
    w.op("Loop", given, results(w, node), body=body)
    w.bind_shapes(node.outputs, node.attrs["symbols"])


def _joined(w: Writer, body, at: int, result) -> str:
    """Make output `at` of the body a state that grows; the name of its empty beginning."""
    before, after, type = w.unique("rows"), w.unique("rows"), type_proto(result.type)
    piece = body.output[at].name
    body.node.append(helper.make_node("Concat", [before, piece], [after], axis=0))
    body.input.append(helper.make_value_info(before, type))
    body.output[at].CopyFrom(helper.make_value_info(after, type))
    zero = w.constant(result.dtype.numpy.type(0))
    return w.op("Expand", [zero, w.ints((0, *result.shape[1:]))])
