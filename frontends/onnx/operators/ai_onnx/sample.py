"""Reads at computed places: GridSample, RoiAlign, MaxRoiPool, DeformConv, Col2Im."""

from ...read.call import Call
from .window import kernel_of, window


def grid_sample(c: Call):
    """Before opset 20 the modes are called bilinear and bicubic."""
    mode = c.attr("mode", "linear" if c.version >= 20 else "bilinear")
    return c.b.emit(
        "grid_sample",
        c.x(0),
        c.x(1),
        mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode),
        padding=c.attr("padding_mode", "zeros"),
        align_corners=bool(c.attr("align_corners", 0)),
    )


def col2im(c: Call):
    sizes, kernel = c.symbols(1, "image_shape"), c.ints(2, "block_shape")
    return c.b.emit(
        "fold",
        c.x(0),
        sizes=tuple(sizes),
        kernel=tuple(kernel),
        strides=tuple(c.attr("strides", ())),
        pads=tuple(c.attr("pads", ())),
        dilations=tuple(c.attr("dilations", ())),
    )


def deform_conv(c: Call):
    x, w = c.x(0), c.x(1)
    kernel = kernel_of(c, w)
    return c.b.emit(
        "deform_conv",
        *(c[i] for i in range(5)),
        group=c.attr("group", 1),
        offset_group=c.attr("offset_group", 1),
        **window(c, x, kernel),
    )


def roi_align(c: Call):
    """Before opset 16 coordinates are not moved by half a pixel."""
    half = "half_pixel" if c.version >= 16 else "output_half_pixel"
    coordinates = c.attr("coordinate_transformation_mode", half)
    return c.b.emit(
        "roi_align",
        c.x(0),
        c.x(1),
        c.x(2),
        size=(c.attr("output_height", 1), c.attr("output_width", 1)),
        scale=c.attr("spatial_scale", 1.0),
        sampling=c.attr("sampling_ratio", 0),
        mode=c.attr("mode", "avg").lower(),
        half_pixel=coordinates == "half_pixel",
    )


def max_roi_pool(c: Call):
    size = tuple(c.attr("pooled_shape"))
    scale = c.attr("spatial_scale", 1.0)
    return c.b.emit("roi_max_pool", c.x(0), c.x(1), size=size, scale=scale)


TABLE = {
    "GridSample": grid_sample,
    "Col2Im": col2im,
    "DeformConv": deform_conv,
    "RoiAlign": roi_align,
    "MaxRoiPool": max_roi_pool,
}
