"""Padding as a step of its own: a convolution that reads inside its input only.

    %y = conv(%x, %w) {pads=[1,1,1,1]}   =>   %p = pad(%x) {pads=[0,1,1,0, 0,1,1,0]}
                                              %y = conv(%p, %w) {pads=[0,0,0,0]}

For CPUs: without a border every read of the inner loop is a plain address. The pad costs little,
since whatever computes %x stores into the padded memory directly (`loops/lower.py`).
"""

from dataclasses import dataclass
from typing import ClassVar

from ..ir import Graph, Node
from ..ops import registry
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
                nodes.append(_pad_node(node, pads))
                node.inputs[0] = nodes[-1].output
                node.attrs["pads"] = (0,) * len(pads)
                report.apply("conv(x, w) {pads} => conv(pad(x), w)", node.where)
                changed = True
            nodes.append(node)
        graph.nodes = nodes
        return changed


def _spatial_pads(node: Node) -> tuple | None:
    if node.op.name != "conv":
        return None
    pads = node.attrs["pads"]
    if not all(isinstance(p, int) and p >= 0 for p in pads) or not any(pads):
        return None
    return pads


def _pad_node(conv: Node, pads: tuple) -> Node:
    x = conv.inputs[0]
    half = len(pads) // 2
    first, last = ((0,), (0,)) if conv.attrs["channels_last"] else ((0, 0), ())
    every = (*first, *pads[:half], *last, *first, *pads[half:], *last)
    op = registry.get("pad")
    attrs = op.bind({"pads": every, "mode": "constant"}, conv.where)
    types = op.infer([x.type], attrs)
    return Node(op, [x], attrs, types, [f"{conv.output.name}.padded"], conv.origin)
