"""What entries of the writer share: operands, results, static attributes."""

from ...compiler.dims import is_static
from ...compiler.errors import UnsupportedError
from ...compiler.ir import Node
from .writer import Writer


def simple(op_type: str, **renamed: str):
    """One ONNX node with the same operands; `renamed` maps ONNX attributes to ours."""

    def entry(w: Writer, node: Node):
        attrs = {onnx_name: plain(node.attrs[ours]) for onnx_name, ours in renamed.items()}
        w.op(op_type, operands(w, node), results(w, node), **attrs)

    return entry


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
