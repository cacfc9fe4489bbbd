"""com.microsoft: matrix products and convolutions with something fused to them."""

from ...read.call import Call
from ..ai_onnx.contract import gemm
from ..ai_onnx.window import conv, conv_transpose, kernel_of, window

# ONNX's name of an activation → ours, and its parameters in the order of `activation_params`.
ACTIVATIONS = {
    "Relu": ("relu", ()),
    "Tanh": ("tanh", ()),
    "Sigmoid": ("sigmoid", ()),
    "Softplus": ("softplus", ()),
    "Softsign": ("softsign", ()),
    "HardSwish": ("hard_swish", ()),
    "LeakyRelu": ("leaky_relu", ("alpha",)),
    "ThresholdedRelu": ("thresholded_relu", ("alpha",)),
    "Elu": ("elu", ("alpha",)),
    "Celu": ("celu", ("alpha",)),
    "HardSigmoid": ("hard_sigmoid", ("alpha", "beta")),
    "Selu": ("selu", ("alpha", "gamma")),
}


def activate(c: Call, y, given: dict):
    """The node's `activation` of y; `given` are its parameters by name."""
    name = c.attr("activation", "")
    if name == "":
        return y
    if name not in ACTIVATIONS:
        raise c.unsupported(
            "a fused activation is not known",
            expected=" or ".join(ACTIVATIONS),
            received=repr(name),
        )
    op, parameters = ACTIVATIONS[name]
    return c.b.emit(op, y, **{k: given[k] for k in parameters if given.get(k) is not None})


def _named_parameters(c: Call) -> dict:
    return {k: c.attr(f"activation_{k}", None) for k in ("alpha", "beta", "gamma")}


def fused_matmul(c: Call):
    """alpha · a' b'. transBatchA takes a as [M, batch…, K], and as [K, batch…, M] with transA."""
    a = _turned(c.x(0), c.attr("transA", 0), c.attr("transBatchA", 0))
    b = _turned(c.x(1), c.attr("transB", 0), c.attr("transBatchB", 0))
    alpha = c.attr("alpha", 1.0)
    y = c.b.emit("matmul", a, b)
    return y if alpha == 1 else y * alpha


def _turned(x, last: int, batch: int):
    order = list(range(x.rank))
    if batch and x.rank > 2:
        order = [*order[1:-1], 0, order[-1]]
    if last and x.rank > 1:
        order[-2:] = order[:-3:-1]
    return x.transpose(order)


def fused_matmul_activation(c: Call):
    c.only("activation_axis", 0, -1)
    return activate(c, fused_matmul(c), _named_parameters(c))


def fused_gemm(c: Call):
    return activate(c, gemm(c), _named_parameters(c))


def gemm_fast_gelu(c: Call):
    y = c.b.emit("matmul", c.x(0), c.x(1))
    return c.b.emit("gelu", y if c[2] is None else y + c.x(2), approximate="tanh")


def _activated(c: Call, y, z):
    """activation(y + z); z is a residual or None."""
    if z is not None:
        y = y + z
    parameters = c.attr("activation_params", [])
    if c.attr("activation", "") == "Clip":
        low, high = (c.scalar(v, y.dtype) for v in parameters)
        return c.b.emit("clip", y, low, high)
    names = ACTIVATIONS.get(c.attr("activation", ""), ("", ()))[1]
    return activate(c, y, dict(zip(names, parameters)))


def fused_conv(c: Call):
    return _activated(c, conv(c), c[3])


def nhwc_fused_conv(c: Call):
    """Data channels last, weights as in Conv."""
    x, w = c.x(0), c.x(1)
    channels_first = x.transpose((0, x.rank - 1, *range(1, x.rank - 1)))
    kernel = kernel_of(c, w)
    attrs = window(c, channels_first, kernel)
    y = c.b.emit("conv", channels_first, w, c[2], group=c.attr("group", 1), **attrs)
    return _activated(c, y.transpose((0, *range(2, x.rank), 1)), c[3])


def conv_transpose_with_dynamic_pads(c: Call):
    """ConvTranspose whose pads are operand 2: they must be known while reading."""
    pads = c.ints(2, "Pads")
    if pads is not None:
        c.attrs = c.attrs | {"pads": pads}
    c.inputs = [c[0], c[1], c[3]]
    y = conv_transpose(c)
    c.ignore("pads")
    return y


def matmul_integer16(c: Call):
    """Sums of 16-bit products in 32 bits."""
    dtype = "u32" if {c.x(0).dtype.kind, c.x(1).dtype.kind} == {"u"} else "i32"
    return c.b.emit("matmul", c.x(0).cast(dtype), c.x(1).cast(dtype))


TABLE = {
    "FusedMatMul": fused_matmul,
    "TransposeMatMul": fused_matmul,
    "FusedMatMulActivation": fused_matmul_activation,
    "FusedGemm": fused_gemm,
    "GemmFastGelu": gemm_fast_gelu,
    "FusedConv": fused_conv,
    "NhwcFusedConv": nhwc_fused_conv,
    "NhwcConv": nhwc_fused_conv,
    "ConvTransposeWithDynamicPads": conv_transpose_with_dynamic_pads,
    "MatMulInteger16": matmul_integer16,
}
