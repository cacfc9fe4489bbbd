"""Normalisations. Statistics of lower or higher precision than the data are cast centrally."""

from ...compiler.types import F32, normalize_axis
from .call import Call
from .functions import inline_standard


def batch_norm(c: Call):
    x, scale, bias, mean, variance = c.tensors[:5]
    epsilon = c.attr("epsilon", 1e-5)
    momentum = c.attr("momentum", 0.9)
    c.ignore("is_test")
    b = c.b
    dtype = x.dtype
    if c.version < 9 and not c.attr("spatial", 1):
        shifted = (x - mean) * b.emit("rsqrt", variance + epsilon)
        return shifted * scale + bias
    if len({t.dtype for t in c.tensors}) > 1:
        x, scale, bias, mean, variance = (t.cast(F32) for t in c.tensors[:5])
    statistics = []
    if c.version >= 14 and c.attr("training_mode", 0):
        old_mean, old_variance = mean, variance
        axes = (0, *range(2, x.rank))
        mean = b.emit("reduce_mean", x, axes=axes, keepdims=False)
        centred = x - mean.reshape((mean.shape[0],) + (1,) * (x.rank - 2))
        variance = b.emit("reduce_mean", centred * centred, axes=axes, keepdims=False)
        statistics = [
            (old * momentum + new * (1 - momentum)).cast(given.dtype)
            for old, new, given in [(old_mean, mean, c.x(3)), (old_variance, variance, c.x(4))]
        ]
    y = b.emit("batch_norm", x, scale, bias, mean, variance, epsilon=epsilon).cast(dtype)
    return [y, *statistics]


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
    x = c.x(0)
    c.ignore("stash_type")
    axis = normalize_axis(c.attr("axis", -1), x.rank)
    return c.b.emit("rms_norm", x, c[1], axis=axis, epsilon=c.attr("epsilon", 1e-5))


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
    "LRN": lrn,
}
