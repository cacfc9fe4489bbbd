"""com.microsoft: mixtures of experts, MoE and QMoE.

A router's logits [R,E] choose k of E experts for each of R rows; an expert is two products with an
activation in between:

    y[r] = Σ_j share[r,j] · (w2[e] f(w1[e] x[r] + b1[e]) + b2[e])      e = chosen[r,j]

Products are written as sums of what is gathered, not as matmuls, which would have their operands
in memory: so weights are read in place, and only those that are chosen.
"""

from .....compiler.ir.types import DTYPES, F32
from ...read.call import Call
from .norm import wide
from .weights import repeated, unpacked

U8 = DTYPES["u8"]


def moe(c: Call):
    _float_features_only(c)
    w = {n: None if c[i] is None else wide(c.x(i)) for n, i in enumerate((2, 4, 6))}
    bias = {n: c[i] for n, i in enumerate((3, 5, 7))}
    shares = _routed(c, among_all=not c.attr("normalize_routing_weights", 0))
    return _mixture(c, lambda n, e: _rows_of(w[n], e), w, bias, shares)


def qmoe(c: Call):
    """MoE of integers scale · (q - zero), in blocks along their rows or with a scale per row."""
    _float_features_only(c)
    c.only("quant_type", "int")
    c.only("weights_prepacked", -1, 0)
    c.ignore("accuracy_level")
    bits = c.attr("expert_weight_bits", 4)
    block = c.attr("block_size", 0)
    if bits not in (2, 4, 8):
        raise c.unsupported("QMoE of these bits", expected="2, 4 or 8", received=bits)
    for name in ("fc1_expert_weight_bits", "fc2_expert_weight_bits", "fc3_expert_weight_bits"):
        c.only(name, bits)
    packed = {n: c[i] for n, i in enumerate((2, 5, 8))}
    q = {n: None if t is None else unpacked(t, bits) for n, t in packed.items()}
    scale = {n: c[i] for n, i in enumerate((3, 6, 9))}
    zero = {n: c[i] for n, i in enumerate((11, 12, 13))}
    bias = {n: c[i] for n, i in enumerate((4, 7, 10))}

    def weights(n: int, e):
        values = _rows_of(q[n], e).cast(F32) - _zeros(c, zero[n], scale[n], e, bits, values=q[n])
        return values * _along_row(_rows_of(wide(scale[n]), e), block, q[n].shape[-1])

    def _zeros(c, zero, scale, e, bits, values):
        if zero is None:
            return c.b.scalar(1 << bits - 1, F32)
        zero = unpacked(zero, bits)
        if zero.shape != scale.shape:
            size = scale.shape[-1]
            axis = zero.rank - 1
            zero = c.b.emit("slice", zero, axes=(axis,), starts=(0,), steps=(1,), sizes=(size,))
        return _along_row(_rows_of(zero, e).cast(F32), block, values.shape[-1])

    return _mixture(c, weights, q, bias, _routed(c, routing=c[14]))


def _float_features_only(c: Call) -> None:
    c.only("use_sparse_mixer", 0)
    c.only("swiglu_limit_after_activation", 0)


def _rows_of(t, chosen):
    """t[e] for chosen experts [R,k]."""
    return t.b.emit("gather", t, chosen, axis=0)


def _along_row(t, block: int, size: int):
    """A parameter per row [R,k,N], or per block of it, for each of its elements [R,k,N,K]."""
    if t.rank == 3:
        return t.reshape((*t.shape, 1))
    return repeated(t, 3, block or size // t.shape[3], size)


def _mixture(c: Call, weights, given, bias, routed):
    """`weights(n, chosen)` are those of product n of the chosen experts, [R,k,N,K] in f32."""
    x = wide(c.x(0))
    rows = x.reshape((-1, 1, 1, x.shape[-1]))
    shares, chosen = routed

    def product(n: int, t):
        y = (weights(n, chosen) * t).sum(-1)
        return y if bias[n] is None else y + _rows_of(wide(bias[n]), chosen)

    inner = _activated(c, product(0, rows), product(2, rows) if given[2] is not None else None)
    y = product(1, inner.reshape((*inner.shape[:-1], 1, inner.shape[-1])))
    total = (y * shares.reshape((*shares.shape, 1))).sum(1)
    return total.reshape(x.shape).cast(c.x(0).dtype)


def _routed(c: Call, *, among_all: bool = False, routing=None):
    """(shares [R,k], chosen experts [R,k]).

    Shares are a softmax among the chosen, or among all experts; or those that `routing` [R,E]
    gives, scaled to a sum of 1 where `normalize_routing_weights`.
    """
    b, logits, k = c.b, wide(c.x(1)), c.attr("k", 1)
    normalise = c.attr("normalize_routing_weights", 0)
    top, chosen = b.emit("top_k", logits, k=k, axis=1)
    if routing is not None:
        shares = b.emit("gather_elements", wide(routing), chosen, axis=1)
        shares = shares / shares.sum(1, keepdims=True) if normalise else shares
    elif among_all:
        shares = b.emit("gather_elements", b.emit("softmax", logits, axis=1), chosen, axis=1)
    else:
        shares = b.emit("softmax", top, axis=1)
    return shares, chosen


def _activated(c: Call, y, up):
    """f(y), times `up` where there is a third product; SwiGLU's two halves may be one product."""
    b, name = c.b, c.attr("activation_type", "relu")
    fusion = c.attr("swiglu_fusion", 0)
    alpha, beta = c.attr("activation_alpha", 1.0), c.attr("activation_beta", 0.0)
    limit = c.attr("swiglu_limit", None)
    if name == "swiglu":
        return _swiglu(c, y, up, fusion, alpha, beta, limit)
    if name not in ("relu", "gelu", "silu", "identity"):
        raise c.unsupported(
            "an activation of experts",
            expected="relu, gelu, silu, swiglu or identity",
            received=name,
        )
    if name != "identity":
        y = b.emit(name, y, **({"approximate": "tanh"} if name == "gelu" else {}))
    return y if up is None else y * up


def _swiglu(c: Call, y, up, fusion: int, alpha: float, beta: float, limit):
    b = c.b
    if fusion == 1:
        pairs = y.reshape((*y.shape[:-1], y.shape[-1] // 2, 2))
        y, up = pairs[..., 0], pairs[..., 1]
    elif fusion == 2:
        half = y.shape[-1] // 2
        y, up = b.emit("split", y, axis=-1, sizes=(half, half))
    elif up is None:
        raise c.unsupported("swiglu of one product that is not fused")
    if limit is not None:
        high, low = b.scalar(limit, F32), b.scalar(-limit, F32)
        y, up = b.emit("minimum", y, high), b.emit("clip", up, low, high)
    return y * b.emit("sigmoid", y * alpha) * (up + beta)


TABLE = {"MoE": moe, "QMoE": qmoe}
