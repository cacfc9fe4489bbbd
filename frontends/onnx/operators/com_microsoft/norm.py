"""com.microsoft: activations with biases, and normalisations with what precedes them."""

from .....compiler.ir.types import BOOL, F32, I32
from ...read.call import Call

SMALL_EPSILON = 1e-12  # what these operators add to a variance unless told otherwise


def gelu(c: Call):
    return c.b.emit("gelu", c.x(0))


def bias_gelu(c: Call):
    return c.b.emit("gelu", c.x(0) + c.x(1))


def fast_gelu(c: Call):
    x = c.x(0) if c[1] is None else c.x(0) + c.x(1)
    return c.b.emit("gelu", x, approximate="tanh")


def quick_gelu(c: Call):
    x = c.x(0)
    return x * c.b.emit("sigmoid", x * c.attr("alpha", 1.702))


def bias_split_gelu(c: Call):
    """x + bias in two halves of its last axis: left · gelu(right)."""
    x = c.x(0) + c.x(1)
    half = x.shape[-1] // 2
    left, right = c.b.emit("split", x, axis=-1, sizes=(half, half))
    return left * c.b.emit("gelu", right)


def bias_add(c: Call):
    return c.x(0) + c.x(1) + c.x(2)


def bias_softmax(c: Call):
    """softmax(x + bias) over all axes from `axis` on. How bias is repeated follows from shapes."""
    c.ignore("is_inner_broadcast")
    x = c.x(0) + c.x(1)
    axis = c.attr("axis", 1) % x.rank
    if axis == x.rank - 1:
        return c.b.emit("softmax", x, axis=-1)
    return c.b.emit("softmax", x.reshape((*x.shape[:axis], -1)), axis=-1).reshape(x.shape)


def bias_dropout(c: Call):
    """Inference: x + bias + residual, and a mask of ones."""
    c.ignore("seed")
    training = c.known(4) if c[4] is not None else None
    if c[4] is not None and training is None:
        raise c.value_dependence(4, "training_mode")
    if training is not None and bool(training.reshape(())):
        raise c.unsupported("BiasDropout in training mode draws random numbers")
    y = c.x(0) + c.x(1)
    if c[2] is not None:
        y = y + c.x(2)
    mask = c.b.emit("expand", c.scalar(1, BOOL), shape=y.shape) if c.wants(1) else None
    return [y, mask]


# -- layer norms ---------------------------------------------------------------------------


def wide(x):
    """Half types in f32, as ONNX Runtime sums them: rounded once, at the end."""
    return x.cast(F32) if x.dtype.bits < 32 else x


def _sum(c: Call, *operands: int):
    total = None
    for i in operands:
        if c[i] is not None:
            x = wide(c.x(i))
            total = x if total is None else total + x
    return total


def skip_layer_norm(c: Call):
    """layer_norm(x + skip + bias), the mean, 1 / deviation, the sum."""
    total = _sum(c, 0, 1, 4)
    epsilon = c.attr("epsilon", SMALL_EPSILON)
    scale, bias = wide(c.x(2)), None if c[3] is None else wide(c.x(3))
    y = c.b.emit("layer_norm", total, scale, bias, axis=-1, epsilon=epsilon)
    mean = deviation = None
    if c.wants(1) or c.wants(2):
        mean = total.mean(-1, keepdims=True)
        centred = total - mean
        variance = (centred * centred).mean(-1, keepdims=True)
        deviation = c.b.emit("rsqrt", variance + epsilon).cast(F32)
        mean = mean.cast(F32)
    return [y.cast(c.x().dtype), mean, deviation, total.cast(c.x().dtype)]


def skip_rms_norm(c: Call):
    """rms_norm(x + skip + bias), nothing, 1 / root of the mean square, the sum."""
    total = _sum(c, 0, 1, 3)
    epsilon = c.attr("epsilon", SMALL_EPSILON)
    y = c.b.emit("rms_norm", total, wide(c.x(2)), axis=-1, epsilon=epsilon)
    root = None
    if c.wants(2):
        square = (total * total).mean(-1, keepdims=True)
        root = c.b.emit("rsqrt", square + epsilon).cast(F32)
    return [y.cast(c.x().dtype), None, root, total.cast(c.x().dtype)]


def simplified_layer_norm(c: Call):
    """rms_norm, and 1 / root of the mean square. The domain is ONNX's, the operator is not."""
    c.ignore("stash_type")
    x = wide(c.x(0))
    axis = c.axis(-1)
    epsilon = c.attr("epsilon", 1e-5)
    y = c.b.emit("rms_norm", x, wide(c.x(1)), axis=axis, epsilon=epsilon)
    root = None
    if c.wants(1):
        square = (x * x).mean(tuple(range(axis, x.rank)), keepdims=True)
        root = c.b.emit("rsqrt", square + epsilon)
    return [y.cast(c.x(1).dtype), root]


def layer_norm(c: Call):
    """LayerNormalization with its statistics: the mean and 1 / deviation over axes from `axis`."""
    c.ignore("stash_type")
    x = wide(c.x(0))
    axis = c.axis(-1)
    epsilon = c.attr("epsilon", 1e-5)
    scale, bias = (None if c[i] is None else wide(c.x(i)) for i in (1, 2))
    y = c.b.emit("layer_norm", x, scale, bias, axis=axis, epsilon=epsilon)
    mean = deviation = None
    if c.wants(1) or c.wants(2):
        axes = tuple(range(axis, x.rank))
        mean = x.mean(axes, keepdims=True)
        centred = x - mean
        variance = (centred * centred).mean(axes, keepdims=True)
        deviation = c.b.emit("rsqrt", variance + epsilon)
    return [y.cast(c.x().dtype), mean, deviation]


def _rows(c: Call, table, at):
    """Rows of a table; none counts from its end."""
    return c.b.emit("gather", table, c.within(at, 0, table.shape[0]), axis=0)


def embed_layer_norm(c: Call):
    """layer_norm(word + position + segment), how many words count, the sum."""
    c.ignore("mask_index_type")
    b, ids = c.b, c.x(0)
    total = _rows(c, c.x(2), ids)
    positions = c.x(3)
    if c[8] is not None:
        total = total + _rows(c, positions, c.x(8))
    else:
        total = total + b.emit(
            "slice", positions, axes=(0,), starts=(0,), steps=(1,), sizes=(ids.shape[1],)
        )
    if c[1] is not None:
        total = total + _rows(c, c.x(4), c.x(1))
    epsilon = c.attr("epsilon", SMALL_EPSILON)
    y = b.emit("layer_norm", total, c.x(5), c.x(6), axis=-1, epsilon=epsilon)
    if c[7] is None:
        count = b.emit("expand", c.scalar(0, I32), shape=(ids.shape[0],))
    else:
        count = b.emit("equal", c.x(7), c.scalar(1, I32)).cast(I32).sum(1)
    return [y, count, total]


def _groups(c: Call, x, scale, bias):
    """Group norm of data channels last or first, and SiLU where `activation` is 1."""
    last = c.attr("channels_last", 1)
    channels_first = x.transpose((0, x.rank - 1, *range(1, x.rank - 1))) if last else x
    c.only("activation", 0, 1)
    y = c.b.emit(
        "group_norm",
        wide(channels_first),
        wide(scale),
        wide(bias),
        groups=c.attr("groups"),
        epsilon=c.attr("epsilon", 1e-5),
    )
    if c.attr("activation"):
        y = c.b.emit("silu", y)
    if last:
        y = y.transpose((0, *range(2, x.rank), 1))
    return y.cast(x.dtype)


def group_norm(c: Call):
    return _groups(c, *c.tensors)


def skip_group_norm(c: Call):
    """group_norm(x + skip + bias) and the sum; skip may be one row per image, [N, C]."""
    x, skip = c.x(0), c.x(3)
    last = c.attr("channels_last", 1)
    if skip.rank == 2:
        n, channels = skip.shape
        ones = (1,) * (x.rank - 2)
        skip = skip.reshape((n, *ones, channels) if last else (n, channels, *ones))
    total = x + skip
    if c[4] is not None:
        bias = c.x(4)
        total = total + (bias if last else bias.reshape((*bias.shape, *(1,) * (x.rank - 2))))
    return [_groups(c, total, c.x(1), c.x(2)), total]


TABLE = {
    "Gelu": gelu,
    "FastGelu": fast_gelu,
    "BiasGelu": bias_gelu,
    "QuickGelu": quick_gelu,
    "BiasSplitGelu": bias_split_gelu,
    "BiasAdd": bias_add,
    "BiasSoftmax": bias_softmax,
    "BiasDropout": bias_dropout,
    "SkipLayerNormalization": skip_layer_norm,
    "SkipSimplifiedLayerNormalization": skip_rms_norm,
    "EmbedLayerNormalization": embed_layer_norm,
    "GroupNorm": group_norm,
    "SkipGroupNorm": skip_group_norm,
}
