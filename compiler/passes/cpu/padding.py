"""Padding as a step of its own: a convolution that reads inside its input only.

    %y = conv(%x, %w) {pads=[1,1,1,1]}   =>   %p = pad(%x) {pads=[0,1,1,0, 0,1,1,0]}
                                              %y = conv(%p, %w) {pads=[0,0,0,0]}

For CPUs: without a border every read of the inner loop is a plain address. The pad costs little,
since whatever computes %x stores into the padded memory directly (`lowering/lower.py`).
"""

from dataclasses import dataclass
from typing import ClassVar

from ...ir.builder import Builder, Tensor
from ...ir.editor import GraphEditor
from ...ir.graph import Graph, Node, Value
from ..base import Pass, Report


@dataclass(frozen=True)
class SplitPadding(Pass):
    """conv(x, w) {pads} => conv(pad(x), w)"""

    name: ClassVar[str] = "split_padding"

    def run(self, graph: Graph, report: Report) -> bool:
        changed, edit = False, GraphEditor(graph)
        for node in edit:
            for _, region in node.regions():
                changed |= self.run(region, report)
            pads = _spatial_pads(node)
            if pads is not None:
                node.inputs[0] = _padded(edit.b, node, pads).value
                node.attrs["pads"] = (0,) * len(pads)
                report.apply("conv(x, w) {pads} => conv(pad(x), w)", node.where)
        return changed or edit.changed


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


def _padded(b: Builder, conv: Node, pads: tuple) -> Tensor:
    """x with a border of zeros, or of its zero point."""
    x, zero, name = conv.inputs[0], _zero(conv), f"{conv.output.name}.padded"
    half = len(pads) // 2
    first, last = ((0,), (0,)) if conv.attrs["channels_last"] else ((0, 0), ())
    every = (*first, *pads[:half], *last, *first, *pads[half:], *last)
    value = None if zero is None else b.constant(zero.constant.reshape(()), name=f"{name}.value")
    return b.emit("pad", x, value, pads=every, mode="constant", outputs=[name])
