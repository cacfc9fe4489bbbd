"""What entries of the writer share: operands, results, static attributes."""

import numpy as np

from ....compiler.errors import UnsupportedError
from ....compiler.ir.dims import is_static
from ....compiler.ir.graph import Graph, Node
from ....compiler.ir.types import DType
from ..file.proto import ELEMENT_TYPE_OF
from .file import tensor
from .writer import Writer


def simple(op_type: str, **renamed: str):
    """One ONNX node with the same operands; `renamed` maps ONNX attributes to ours."""

    def entry(w: Writer, node: Node):
        attrs = {onnx_name: plain(node.attrs[ours]) for onnx_name, ours in renamed.items()}
        w.op(op_type, operands(w, node), results(w, node), **attrs)

    return entry


def named(domain: str, op_type: str):
    """A node of somebody's own domain: operands in order, attributes by their names in the record.

    A dtype is ONNX's number for it, as readers expect it; None is left out. What other programs
    make of the node is their affair: ONNX's checker takes any.
    """

    def entry(w: Writer, node: Node):
        attrs = {k: _attribute(node, k, v) for k, v in node.attrs.items()}
        w.op(op_type, operands(w, node), results(w, node), domain=domain, **attrs)

    return entry


def _attribute(node: Node, name: str, value):
    if isinstance(value, DType):
        return ELEMENT_TYPE_OF[value]
    if isinstance(value, np.ndarray):
        return tensor(name, value)
    if isinstance(value, Graph) or not is_static(value if isinstance(value, tuple) else (value,)):
        raise UnsupportedError(
            f"ONNX has no such attribute {name} of {node.op.name}",
            where=node.where,
            expected="numbers, text, arrays",
            received=value,
        )
    return plain(value)


def operands(w: Writer, node: Node) -> list[str]:
    return [w.name(v) for v in node.inputs]


def results(w: Writer, node: Node) -> list[str]:
    return [w.name(v) for v in node.outputs]


def plain(value):
    if isinstance(value, bool):
        return int(value)
    return list(value) if isinstance(value, tuple) else value


def need_static(node: Node, *names: str) -> None:
    for name in names:
        if not is_static(node.attrs[name]):
            raise UnsupportedError(
                f"ONNX has no symbolic {name} of {node.op.name}",
                where=node.where,
                received=node.attrs[name],
            )


def around(w: Writer, node: Node, x: str, rank: int, emit) -> None:
    """`emit(x)` in channels-first layout between transposes."""
    first = [0, rank - 1, *range(1, rank - 1)]
    last = [0, *range(2, rank), 1]
    y = emit(w.op("Transpose", [x], perm=first))
    w.op("Transpose", [y], results(w, node), perm=last)
