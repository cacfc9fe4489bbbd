"""Writing what samples, transforms and folds: GridSample, regions, DeformConv, Col2Im, DFT, Det."""

import numpy as np

from ...compiler.ir import Node
from ...compiler.types import I64
from .proto import ELEMENT_TYPE_OF
from .write_common import need_static, operands, plain, results, simple
from .writer import Writer


def fold(w: Writer, node: Node):
    need_static(node, "sizes", "pads")
    attrs = {k: plain(node.attrs[k]) for k in ("strides", "pads", "dilations") if node.attrs[k]}
    inputs = [*operands(w, node), w.ints(node.attrs["sizes"]), w.ints(node.attrs["kernel"])]
    w.op("Col2Im", inputs, results(w, node), **attrs)


def deform_conv(w: Writer, node: Node):
    need_static(node, "pads")
    attrs = {k: plain(node.attrs[k]) for k in ("strides", "pads", "dilations") if node.attrs[k]}
    groups = {k: node.attrs[k] for k in ("group", "offset_group")}
    inputs = ["" if v is None else w.name(v) for v in node.inputs]
    w.op("DeformConv", inputs, results(w, node), **attrs, **groups)


def roi_align(w: Writer, node: Node):
    a = node.attrs
    height, width = a["size"]
    x, rois, batch = operands(w, node)
    if node.inputs[2].dtype != I64:
        batch = w.op("Cast", [batch], to=ELEMENT_TYPE_OF[I64])
    w.op(
        "RoiAlign",
        [x, rois, batch],
        results(w, node),
        output_height=height,
        output_width=width,
        spatial_scale=a["scale"],
        sampling_ratio=a["sampling"],
        mode=a["mode"],
        coordinate_transformation_mode="half_pixel" if a["half_pixel"] else "output_half_pixel",
    )


def dft(w: Writer, node: Node):
    a = node.attrs
    scalar = w.constant(np.zeros(0, np.int64))
    length = w.op("Reshape", [w.ints([a["length"]]), scalar])
    w.op(
        "DFT",
        [*operands(w, node), length, w.constant(np.int64(a["axis"]))],
        results(w, node),
        inverse=int(a["inverse"]),
        onesided=int(a["onesided"]),
    )


TABLE = {
    "grid_sample": simple(
        "GridSample", mode="mode", padding_mode="padding", align_corners="align_corners"
    ),
    "fold": fold,
    "deform_conv": deform_conv,
    "roi_align": roi_align,
    "roi_max_pool": simple("MaxRoiPool", pooled_shape="size", spatial_scale="scale"),
    "det": simple("Det"),
    "dft": dft,
}
