"""Padding as a step of its own: a convolution that reads inside its input only.

    %y = conv(%x, %w) {pads=[1,1,1,1]}   =>   %p = pad(%x) {pads=[0,1,1,0, 0,1,1,0]}
                                              %y = conv(%p, %w) {pads=[0,0,0,0]}

For CPUs: without a border every read of the inner loop is a plain address. The pad costs little,
since whatever computes %x stores into the padded memory directly (`lowering/lower.py`).

So does a maximum over windows of an image whose size is open: where sizes are known, its vectors
know where their lines end (`llvm/schedules/sliding/`).
"""

from typing import ClassVar

import numpy as np

from ...classes import dataclass
from ...ir.builder import Builder, Tensor
from ...ir.dims import Sym
from ...ir.editor import GraphEditor
from ...ir.graph import Graph, Node, Value
from ...ir.types import I16
from ..base import Pass, Report
from ..conv_cost import Convolution


@dataclass(frozen=True)
class SplitPadding(Pass):
    """conv(x, w) {pads} => conv(pad(x), w), and max_pool(x) of open sizes

    `wide`: bytes that a product sums are padded as 16 bits less their zero point, which CPUs that
    have no products of bytes would make of them for every tap."""

    name: ClassVar[str] = "split_padding"
    wide: bool = False

    def run(self, graph: Graph, report: Report) -> bool:
        changed, edit = False, GraphEditor(graph)
        for node in edit:
            for _, region in node.regions():
                changed |= self.run(region, report)
            pads = _spatial_pads(node)
            if pads is not None:
                if self.wide and _sums_products(node):
                    _widen(edit.b, node)
                node.inputs[0] = _padded(edit.b, node, pads).value
                node.attrs["pads"] = (0,) * len(pads)
                report.apply("conv(x, w) {pads} => conv(pad(x), w)", node.where)
                continue
            pads = _pads_of_open_windows(node)
            if pads is not None:
                dtype = node.inputs[0].dtype
                lowest = -np.inf if dtype.is_float else np.iinfo(dtype.numpy).min
                border = edit.b.scalar(lowest, dtype).value
                node.inputs[0] = _bordered(edit.b, node, pads, border).value
                node.attrs["pads"] = (0,) * len(pads)
                report.apply("max_pool(x) {pads} => max_pool(pad(x))", node.where)
        return changed or edit.changed


def _spatial_pads(node: Node) -> tuple | None:
    """The pads, if there are any and what they add is known: zero, or x_zero."""
    if node.op.name not in ("conv", "conv_integer"):
        return None
    pads = node.attrs["pads"]
    if not all(isinstance(p, int) and p >= 0 for p in pads) or not any(pads):
        return None
    if node.op.name == "conv" and not node.attrs["channels_last"]:
        sizes = Convolution.of(node)
        if sizes is not None and sizes.is_window:
            return None  # vectors along its lines know where they end
    zero = _zero(node)
    return pads if zero is None or (zero.constant is not None and zero.constant.size == 1) else None


def _pads_of_open_windows(node: Node) -> tuple | None:
    """The pads of a maximum over windows that slide along axes whose sizes are open."""
    if node.op.name != "max_pool" or node.attrs["ceil_mode"]:
        return None
    pads, shape = node.attrs["pads"], node.inputs[0].shape
    spatial = shape[1:-1] if node.attrs["channels_last"] else shape[2:]
    known = all(isinstance(p, int) and p >= 0 for p in pads) and any(pads)
    return pads if known and any(isinstance(n, Sym) for n in spatial) else None


def _sums_products(node: Node) -> bool:
    """Whether it is a convolution of bytes over all channels, of which pairs are multiplied."""
    if node.op.name != "conv_integer" or node.inputs[0].dtype.bits != 8:
        return False
    x, last = node.inputs[0], node.attrs["channels_last"]
    channels = x.shape[-1] if last else x.shape[1]
    return last and node.attrs["group"] == 1 and isinstance(channels, int) and channels % 2 == 0


def _widen(b: Builder, conv: Node) -> None:
    """x as 16 bits, less its zero point."""
    x, zero = b.tensor(conv.inputs[0]).cast(I16), _zero(conv)
    if zero is not None:
        x = x - b.constant(zero.constant.reshape(()).astype(np.int16))
        conv.inputs[2:] = [None, *conv.inputs[3:]] if conv.inputs[3:] else []
    conv.inputs[0] = x.value


def _zero(node: Node) -> Value | None:
    """The zero point of x."""
    if node.op.name != "conv_integer" or len(node.inputs) < 3:
        return None
    return node.inputs[2]


def _padded(b: Builder, conv: Node, pads: tuple) -> Tensor:
    """x with a border of zeros, or of its zero point."""
    zero = _zero(conv)
    if zero is None:
        return _bordered(b, conv, pads, None)
    name = f"{conv.output.name}.padded.value"
    return _bordered(b, conv, pads, b.constant(zero.constant.reshape(()), name=name).value)


def _bordered(b: Builder, node: Node, pads: tuple, value: Value | None) -> Tensor:
    """x with a border of one value (None: zero) around its spatial axes."""
    half = len(pads) // 2
    first, last = ((0,), (0,)) if node.attrs["channels_last"] else ((0, 0), ())
    every = (*first, *pads[:half], *last, *first, *pads[half:], *last)
    name = f"{node.output.name}.padded"
    return b.emit("pad", node.inputs[0], value, pads=every, mode="constant", outputs=[name])
