"""Normalisations. Statistics of lower or higher precision than the data are cast centrally."""

from .....compiler.ir.types import F32, F64, normalize_axes, normalize_axis
from ...read.call import Call
from ...read.functions import inline_standard


def batch_norm(c: Call):
    """In training the batch's own statistics, and the running ones moved towards them.

    `training_mode` says so, before opset 14 that the statistics are asked for. Without `spatial`
    (before opset 9) they are of each element over the batch, else of each channel.
    """
    given = c.tensors[:5]
    dtype, epsilon, momentum = c.x(0).dtype, c.attr("epsilon", 1e-5), c.attr("momentum", 0.9)
    c.ignore("is_test")
    spatial = c.version >= 9 or bool(c.attr("spatial", 1))
    if c.version >= 14:
        training = bool(c.attr("training_mode", 0))
    else:
        training = any(c.wants(i) for i in range(1, 5))
    if len({t.dtype for t in given}) > 1:
        common = F64 if any(t.dtype == F64 for t in given) else F32
        given = [t.cast(common) for t in given]
    x, scale, bias, mean, variance = given
    statistics = []
    if training:
        old = (mean, variance)
        mean, variance = _moments(c, x, (0, *range(2, x.rank)) if spatial else (0,))
        new = (mean.reshape(old[0].shape), variance.reshape(old[1].shape))
        moved = [was * momentum + now * (1 - momentum) for was, now in zip(old, new)]
        statistics = [*moved, *new] if c.version < 14 else moved
        statistics = [t.cast(c.x(3 + i % 2).dtype) for i, t in enumerate(statistics)]
        mean, variance = new
    if not spatial:
        y = (x - mean) * c.b.emit("rsqrt", variance + epsilon) * scale + bias
    else:
        y = c.b.emit("batch_norm", x, scale, bias, mean, variance, epsilon=epsilon)
    return [y.cast(dtype), *statistics]


def _moments(c: Call, x, axes):
    """Mean and variance over axes, which stay with size 1."""
    mean = c.b.emit("reduce_mean", x, axes=axes, keepdims=True)
    centred = x - mean
    return mean, c.b.emit("reduce_mean", centred * centred, axes=axes, keepdims=True)


def instance_norm(c: Call):
    return c.b.emit("instance_norm", *c.tensors, epsilon=c.attr("epsilon", 1e-5))


def group_norm(c: Call):
    """Before opset 21, scale and bias belong to groups; later to channels."""
    x, scale, bias = c.tensors
    groups = c.attr("num_groups")
    c.ignore("stash_type")
    if c.version < 21:
        each = x.shape[1] // groups
        scale, bias = (
            t.reshape((groups, 1)).expand((groups, each)).reshape((x.shape[1],))
            for t in (scale, bias)
        )
    return c.b.emit("group_norm", x, scale, bias, groups=groups, epsilon=c.attr("epsilon", 1e-5))


def layer_norm(c: Call):
    import onnx

    x = c.x(0)
    axis = normalize_axis(c.attr("axis", -1), x.rank)
    if c.wants(1) or c.wants(2):
        return inline_standard(c, onnx.defs.get_schema("LayerNormalization", c.version))
    c.ignore("stash_type")
    return c.b.emit("layer_norm", x, c[1], c[2], axis=axis, epsilon=c.attr("epsilon", 1e-5))


def rms_norm(c: Call):
    """The result has the dtype of the scale, which may be another one than x's."""
    x, scale = c.x(0), c.x(1)
    c.ignore("stash_type")
    axis = normalize_axis(c.attr("axis", -1), x.rank)
    attrs = {"axis": axis, "epsilon": c.attr("epsilon", 1e-5)}
    if x.dtype == scale.dtype:
        return c.b.emit("rms_norm", x, scale, **attrs)
    common = F64 if F64 in (x.dtype, scale.dtype) else F32
    return c.b.emit("rms_norm", x.cast(common), scale.cast(common), **attrs).cast(scale.dtype)


def mean_variance_norm(c: Call):
    """(x - mean) / (deviation + 1e-9)"""
    x = c.x(0)
    axes = normalize_axes(c.attr("axes", [0, 2, 3]), x.rank)
    h = x.cast(x.dtype.compute)
    mean, variance = _moments(c, h, axes)
    return ((h - mean) / (c.b.emit("sqrt", variance) + 1e-9)).cast(x.dtype)


def lrn(c: Call):
    return c.b.emit(
        "lrn",
        c.x(0),
        size=c.attr("size"),
        alpha=c.attr("alpha", 1e-4),
        beta=c.attr("beta", 0.75),
        bias=c.attr("bias", 1.0),
    )


TABLE = {
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    "LayerNormalization": layer_norm,
    "RMSNormalization": rms_norm,
    "MeanVarianceNormalization": mean_variance_norm,
    "LRN": lrn,
}
