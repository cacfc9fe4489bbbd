"""Reads at computed places: GridSample, RoiAlign, MaxRoiPool, DeformConv, Col2Im."""

from .call import Call
from .table_window import window


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
    kernel = c.attr("kernel_shape", list(w.shape[2:]))
    if tuple(kernel) != tuple(w.shape[2:]):
        raise ValueError(f"kernel_shape {kernel} does not fit the weights {w.type}")
    return c.b.emit(
        "deform_conv",
        *(c[i] for i in range(5)),
        group=c.attr("group", 1),
        offset_group=c.attr("offset_group", 1),
        **window(c, x, kernel),
    )


TABLE = {"GridSample": grid_sample, "Col2Im": col2im, "DeformConv": deform_conv}
