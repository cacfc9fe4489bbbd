"""Reads at computed places, transforms and determinants in ONNX."""

from ....compiler.errors import UnsupportedError
from ....compiler.ir.builder import Builder
from ....compiler.ir.dims import Sym, prod
from ....compiler.ir.graph import Node
from ....compiler.ir.types import I64
from ....compiler.ops.contraction.windows import window_attrs, window_sizes
from ..file.proto import ELEMENT_TYPE_OF
from .common import operands, results
from .rules import slices_of_taps
from .writer import Writer


def grid_sample(w: Writer, node: Node):
    a = node.attrs
    attrs = {"mode": a["mode"], "padding_mode": a["padding"]}
    align = int(a["align_corners"])
    w.op("GridSample", operands(w, node), results(w, node), align_corners=align, **attrs)


def gather_points(b: Builder, x, *indices, axes, lead):
    """GatherND of the named axes, which come first; indices are limited to their axes."""
    axes = [a % x.rank for a in axes]
    rest = [d for d in range(x.rank) if d not in axes]
    # shapes broadcast through a sum: sizes may be symbols
    common = indices[0].cast(I64)
    for i in indices[1:]:
        common = common + i.cast(I64)
    places, rank = common.shape, common.rank
    limited = [
        b.minimum(b.maximum(i.cast(I64), b.scalar(0, I64)), _last(b, x.shape[a]))
        for i, a in zip(indices, axes)
    ]
    columns = [i.expand(places).reshape((*places, 1)) for i in limited]
    where = columns[0] if len(columns) == 1 else b.concat(*columns, axis=rank)
    y = b.gather_nd(x.transpose(*axes, *rest), where)
    return y.transpose(*range(lead), *range(rank, rank + len(rest)), *range(lead, rank))


def _last(b: Builder, size):
    """The last index of an axis, as a scalar."""
    if not isinstance(size, Sym):
        return b.scalar(size - 1, I64)
    return b.dims(values=(size - 1,)).reshape(())


def deform_conv(w: Writer, node: Node):
    a = node.attrs
    names = ("strides", "pads", "dilations")
    attrs = {n: list(a[n]) for n in names if a[n]}
    if any(isinstance(p, Sym) for p in a["pads"]):
        w.expand(node)
        return
    x, weights, offset, bias, mask = [*operands(w, node), "", ""][:5]
    w.op(
        "DeformConv",
        [x, weights, offset, bias, mask],
        results(w, node),
        group=a["group"],
        offset_group=a["offset_group"],
        **attrs,
    )


def roi_align(w: Writer, node: Node):
    a = node.attrs
    x, rois, batch = operands(w, node)
    if node.inputs[2].dtype != I64:
        batch = w.op("Cast", [batch], to=ELEMENT_TYPE_OF[I64])
    w.op(
        "RoiAlign",
        [x, rois, batch],
        results(w, node),
        output_height=a["size"][0],
        output_width=a["size"][1],
        spatial_scale=a["scale"],
        sampling_ratio=a["sampling"],
        mode=a["mode"],
        coordinate_transformation_mode="half_pixel" if a["half_pixel"] else "output_half_pixel",
    )


def roi_max_pool(w: Writer, node: Node):
    attrs = {"pooled_shape": list(node.attrs["size"]), "spatial_scale": node.attrs["scale"]}
    w.op("MaxRoiPool", operands(w, node), results(w, node), **attrs)


def dft(w: Writer, node: Node):
    """Of one side, ONNX before opset 28 has the forward transform only."""
    a = node.attrs
    if a["inverse"] and a["onesided"]:
        w.expand(node)
        return
    (x,) = operands(w, node)
    extra = [w.scalar(a["length"]), w.scalar(a["axis"])]
    flags = {n: int(a[n]) for n in ("inverse", "onesided")}
    w.op("DFT", [x, *extra], results(w, node), **flags)


def unfold(b: Builder, x, *, kernel, strides, pads, dilations):
    """A slice for each tap of the window, side by side."""
    n = x.rank - 2
    strides, pads, dilations = window_attrs(n, kernel, strides, pads, dilations)
    sizes = window_sizes(x.shape[2:], kernel, strides, pads, dilations)
    taps = slices_of_taps(b, x, kernel, strides, pads, dilations, sizes)
    columns = [t.reshape(*x.shape[:2], 1, prod(sizes)) for _, t in taps]
    y = columns[0] if len(columns) == 1 else b.concat(*columns, axis=2)
    return y.reshape(x.shape[0], x.shape[1] * prod(kernel), prod(sizes))


def fold(w: Writer, node: Node):
    a = node.attrs
    if any(isinstance(p, Sym) for p in a["pads"]):
        raise UnsupportedError("ONNX has no symbolic pads of fold", where=node.where)
    attrs = {n: list(a[n]) for n in ("strides", "pads", "dilations") if a[n]}
    inputs = [*operands(w, node), w.ints(a["sizes"]), w.ints(a["kernel"])]
    w.op("Col2Im", inputs, results(w, node), **attrs)


def cache_update(w: Writer, node: Node):
    """Beyond the end of a cache that is not circular ours drops updates; ONNX leaves that open."""
    a = node.attrs
    mode = "circular" if a["circular"] else "linear"
    w.op("TensorScatter", operands(w, node), results(w, node), axis=a["axis"], mode=mode)
