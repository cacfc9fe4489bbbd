"""Operators in ONNX's domain that the standard of the model's opset does not have.

ONNX Runtime's optimiser leaves LayerNormalization in models of any opset, and its simplified form,
which never was in the standard. The others were experimental once: files of ONNX 1.0 to 1.4 have
them.
"""

import numpy as np

from ..read.call import Call
from .ai_onnx.elementwise import unary
from .ai_onnx.move import slice_
from .com_microsoft.norm import layer_norm, simplified_layer_norm


def affine(c: Call):
    return c.x(0) * c.attr("alpha", 1.0) + c.attr("beta", 0.0)


def scale(c: Call):
    return c.x(0) * c.attr("scale", 1.0)


def image_scaler(c: Call):
    """x [N, C, H, W] · scale + one bias per channel."""
    x = c.x(0)
    bias = np.asarray(c.attr("bias"), np.float32).reshape(-1, 1, 1)
    return x * c.attr("scale", 1.0) + bias


def crop(c: Call):
    """x [N, C, H, W] without `border` (left, top, right, bottom), or `scale` (height, width) of
    it from its upper left corner."""
    x = c.x(0)
    left, top, right, bottom = c.attr("border")
    sizes = c.attr("scale", None)
    if sizes is None:
        sizes = (x.shape[2] - top - bottom, x.shape[3] - left - right)
    return c.b.emit("slice", x, axes=(2, 3), starts=(top, left), steps=(1, 1), sizes=tuple(sizes))


def parametric_softplus(c: Call):
    return c.b.emit("softplus", c.x(0) * c.attr("beta")) * c.attr("alpha")


def scaled_tanh(c: Call):
    return c.b.emit("tanh", c.x(0) * c.attr("beta")) * c.attr("alpha")


def mean_variance_norm(c: Call):
    """(x - mean) / deviation over images and their spatial axes, and `across_channels`."""
    x = c.x(0)
    axes = (0, 1, 2, 3) if c.attr("across_channels", 0) else (0, 2, 3)
    centred = x - x.mean(axes, keepdims=True)
    if not c.attr("normalize_variance", 1):
        return centred
    return centred * c.b.emit("rsqrt", (centred * centred).mean(axes, keepdims=True) + 1e-9)


def dynamic_slice(c: Call):
    """Slice as it became in opset 10, without steps."""
    c.version, c.inputs = 10, [c[i] for i in range(4)]
    return slice_(c)


def no_meaning(c: Call):
    raise c.unsupported(
        f"{c.op_type} calls a library that tessel does not contain",
        fix="export the model again, with the operators of ONNX",
    )


TABLE = {
    "LayerNormalization": layer_norm,
    "SimplifiedLayerNormalization": simplified_layer_norm,
    "Affine": affine,
    "Scale": scale,
    "ImageScaler": image_scaler,
    "Crop": crop,
    "ParametricSoftplus": parametric_softplus,
    "ScaledTanh": scaled_tanh,
    "ThresholdedRelu": unary("thresholded_relu", alpha=1.0),
    "MeanVarianceNormalization": mean_variance_norm,
    "DynamicSlice": dynamic_slice,
    "ATen": no_meaning,
}
