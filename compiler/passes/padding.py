"""Padding as a step of its own: a convolution that reads inside its input only.

    %y = conv(%x, %w) {pads=[1,1,1,1]}   =>   %p = pad(%x) {pads=[0,1,1,0, 0,1,1,0]}
                                              %y = conv(%p, %w) {pads=[0,0,0,0]}

For CPUs: without a border every read of the inner loop is a plain address. The pad costs little,
since whatever computes %x stores into the padded memory directly (`loops/lower.py`).
"""

from dataclasses import dataclass
from typing import ClassVar

from ..ir import Graph, Node, Value
from ..ops import registry
from ..types import TensorType
from .base import Pass, Report


@dataclass(frozen=True)
class SplitPadding(Pass):
    """conv(x, w) {pads} => conv(pad(x), w)"""

    name: ClassVar[str] = "split_padding"

    def run(self, graph: Graph, report: Report) -> bool:
        changed = False
        nodes: list[Node] = []
        for node in graph.nodes:
            for _, region in node.regions():
                changed |= self.run(region, report)
            pads = _spatial_pads(node)
            if pads is not None:
                nodes += _pad_nodes(node, pads)
                node.inputs[0] = nodes[-1].output
                node.attrs["pads"] = (0,) * len(pads)
                report.apply("conv(x, w) {pads} => conv(pad(x), w)", node.where)
                changed = True
            nodes.append(node)
        graph.nodes = nodes
        return changed


def _spatial_pads(node: Node) -> tuple | None:
    """The pads, if there are any and what they add is known: zero, or x_zero."""
    if node.op.name not in ("conv", "conv_integer"):
        return None
    pads = node.attrs["pads"]
    if not all(isinstance(p, int) and p >= 0 for p in pads) or not any(pads):
        return None
    zero = _zero(node)
    return pads if zero is None or (zero.constant is not None and zero.constant.size == 1) else None


def _zero(node: Node) -> Value | None:
    """The zero point of x."""
    return node.inputs[2] if node.op.name == "conv_integer" and len(node.inputs) > 2 else None


def _pad_nodes(conv: Node, pads: tuple) -> list[Node]:
    """The pad, after the constant that it adds (if that is not zero)."""
    x, zero, name = conv.inputs[0], _zero(conv), f"{conv.output.name}.padded"
    half = len(pads) // 2
    first, last = ((0,), (0,)) if conv.attrs["channels_last"] else ((0, 0), ())
    every = (*first, *pads[:half], *last, *first, *pads[half:], *last)
    op = registry.get("pad")
    attrs = op.bind({"pads": every, "mode": "constant"}, conv.where)
    nodes, inputs = [], [x]
    if zero is not None:
        fill = {"value": zero.constant.reshape(())}
        type = TensorType(zero.dtype, ())
        constant = Node(registry.get("constant"), [], fill, [type], [f"{name}.value"], conv.origin)
        nodes, inputs = [constant], [x, constant.output]
    types = op.infer([v.type for v in inputs], attrs)
    return [*nodes, Node(op, inputs, attrs, types, [name], conv.origin)]
