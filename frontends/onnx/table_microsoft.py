"""The com.microsoft domain: what ONNX Runtime's tools leave in files."""

from .call import Call


def qlinear_add(c: Call):
    return c.b.emit("qlinear_add", *[c[i] for i in range(8)])


def gelu(c: Call):
    return c.b.emit("gelu", c.x(0))


def fast_gelu(c: Call):
    x = c.x(0) if c[1] is None else c.x(0) + c.x(1)
    return c.b.emit("gelu", x, approximate="tanh")


def bias_gelu(c: Call):
    return c.b.emit("gelu", c.x(0) + c.x(1))


def quick_gelu(c: Call):
    x = c.x(0)
    return x * c.b.emit("sigmoid", x * c.attr("alpha", 1.702))


def fused_matmul(c: Call):
    """alpha · a' b', the last two axes swapped where transA or transB."""
    c.only("transBatchA", 0)
    c.only("transBatchB", 0)
    a, b = c.x(0), c.x(1)
    alpha = c.attr("alpha", 1.0)
    if c.attr("transA", 0):
        a = _swapped(a)
    if c.attr("transB", 0):
        b = _swapped(b)
    y = c.b.emit("matmul", a, b)
    return y if alpha == 1 else y * alpha


def _swapped(x):
    order = list(range(x.rank))
    order[-2:] = order[:-3:-1]
    return x.transpose(order)


def skip_layer_norm(c: Call):
    """layer_norm(x + skip + bias); the sum is the fourth output."""
    if c.wants(1) or c.wants(2):
        raise c.unsupported("the mean and deviation of SkipLayerNormalization")
    total = c.x(0) + c.x(1)
    if c[4] is not None:
        total = total + c.x(4)
    y = c.b.emit("layer_norm", total, c[2], c[3], axis=-1, epsilon=c.attr("epsilon", 1e-12))
    return [y, None, None, total]


TABLE = {
    "QLinearAdd": qlinear_add,
    "Gelu": gelu,
    "FastGelu": fast_gelu,
    "BiasGelu": bias_gelu,
    "QuickGelu": quick_gelu,
    "FusedMatMul": fused_matmul,
    "SkipLayerNormalization": skip_layer_norm,
}
