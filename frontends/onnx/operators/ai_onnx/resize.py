"""Resize and Upsample: output sizes and scales are resolved here."""

import math
from fractions import Fraction

from .....compiler.ir.dims import Sym
from .....compiler.ir.types import normalize_axes
from ...read.call import Call


def resize(c: Call):
    """Opset 10 has scales only and reads at i / scale, rounded down; later ones have modes."""
    x = c.x(0)
    if c.version < 11:
        return _legacy(c, c.floats(1, "scales"))
    antialias = bool(c.attr("antialias", 0))
    axes = normalize_axes(c.attr("axes", range(x.rank)), x.rank)
    mode = c.attr("coordinate_transformation_mode", "half_pixel")
    roi = c.floats(1, "roi") if mode == "tf_crop_and_resize" else None
    scales, sizes = c.floats(2, "scales") or None, None
    if scales is None:
        sizes = c.symbols(3, "sizes")
    if (sizes is None) == (scales is None):
        raise ValueError("a Resize needs either scales or sizes")
    policy = c.attr("keep_aspect_ratio_policy", "stretch")
    if sizes is not None and policy != "stretch":
        scales, sizes = _keep_aspect(c, [x.shape[a] for a in axes], sizes, policy)
    full_sizes, full_scales = list(x.shape), [1.0] * x.rank
    for i, a in enumerate(axes):
        if scales is not None:
            full_scales[a] = scales[i]
        full_sizes[a] = scaled(x.shape[a], scales[i]) if sizes is None else sizes[i]
    full_roi = [0.0] * x.rank + [1.0] * x.rank
    if roi:
        for i, a in enumerate(axes):
            full_roi[a], full_roi[x.rank + a] = roi[i], roi[len(axes) + i]
    return c.b.emit(
        "resize",
        x,
        sizes=tuple(full_sizes),
        mode=c.attr("mode", "nearest"),
        coordinate_mode=mode,
        nearest_mode=c.attr("nearest_mode", "round_prefer_floor"),
        scales=() if scales is None else tuple(full_scales),
        roi=tuple(full_roi) if roi else (),
        cubic_coeff=c.attr("cubic_coeff_a", -0.75),
        exclude_outside=bool(c.attr("exclude_outside", 0)),
        extrapolation_value=c.attr("extrapolation_value", 0.0),
        antialias=antialias,
    )


def scaled(d, scale: float):
    """floor(d · scale); scales such as f32 1.3333334 mean 4/3."""
    simple = Fraction(scale).limit_denominator(1000)
    if not isinstance(d, Sym):
        return math.floor(d * scale)
    return d * simple.numerator // simple.denominator


def _keep_aspect(c: Call, shape, sizes, policy: str):
    if any(isinstance(d, Sym) for d in (*shape, *sizes)):
        raise c.size_dependence("keep_aspect_ratio_policy with symbolic dims", received=sizes)
    choose = min if policy == "not_larger" else max
    scale = choose(s / d for s, d in zip(sizes, shape))
    return [scale] * len(shape), [math.floor(d * scale + 0.5) for d in shape]


def upsample(c: Call):
    if c.version < 7:
        scales = [1.0, 1.0, c.attr("height_scale"), c.attr("width_scale")]
    else:
        scales = c.attr("scales") if c.version < 9 else c.floats(1, "scales")
    return _legacy(c, scales)


def _legacy(c: Call, scales):
    x = c.x(0)
    mode = {"bilinear": "linear"}.get(c.attr("mode", "nearest"), c.attr("mode", "nearest"))
    return c.b.emit(
        "resize",
        x,
        sizes=tuple(scaled(d, s) for d, s in zip(x.shape, scales, strict=True)),
        mode=mode,
        coordinate_mode="asymmetric",
        nearest_mode="floor",
        scales=tuple(scales),
    )


TABLE = {"Resize": resize, "Upsample": upsample}
