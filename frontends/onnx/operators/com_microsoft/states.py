"""com.microsoft: layers of language models that carry a state instead of a cache: causal
convolutions, linear attention, and their norms."""

import math

from .....compiler.ir.builder import Builder, Tensor
from ...read.call import Call
from .norm import wide


def causal_conv(c: Call):
    """A depthwise convolution along the last axis that sees the past only, [y, state].

    x [B,C,L] follows a state [B,C,P] of (k - 1) · dilation positions, zeros where there is none;
    the next state is the end of both.
    """
    b = c.b
    for name, value in [
        ("ndim", 1),
        ("state_window", 0),
        ("state_update_capacity", 0),
        ("state_length", 0),
        ("input_channels", 0),
        ("input_channel_offset", 0),
        ("state_channels_last", -1),
    ]:
        c.only(name, value)
    last = c.attr("channels_last", 0)
    given = c.x(0).shape
    x, state = c.x(0), c[3]
    if last:
        x, state = (None if t is None else _channels_first(t) for t in (x, state))
    w, dilation = c.x(1), c.attr("dilation", 1)
    past = (w.shape[2] - 1) * dilation
    if state is None:
        both = b.emit("pad", x, pads=(0, 0, past, 0, 0, 0)) if past else x
    else:
        both = b.emit("concat", state, x, axis=2)
    channels = w.shape[0]
    y = b.emit(
        "conv", both, w, c[2], group=channels, strides=(1,), pads=(0, 0), dilations=(dilation,)
    )
    activation = c.attr("activation", "none")
    if activation in ("silu", "swish"):
        y = b.emit("silu", y)
    elif activation != "none":
        raise c.unsupported("a fused activation is not known", received=activation)
    end = b.emit("slice", both, axes=(2,), starts=(x.shape[2],), steps=(1,), sizes=(past,))
    if last:
        end_shape = (given[0], past, *given[2:])
        return [y.transpose((0, 2, 1)).reshape(given), end.transpose((0, 2, 1)).reshape(end_shape)]
    return [y, end]


def _channels_first(t):
    """[B, L, *channels] → [B, C, L]."""
    return t.reshape((*t.shape[:2], -1)).transpose((0, 2, 1))


# -- linear attention ----------------------------------------------------------------------

_RULES = {  # has a decay, corrects what the state says of a key
    "linear": (False, False),
    "gated": (True, False),
    "delta": (False, True),
    "gated_delta": (True, True),
}


def linear_attention(c: Call):
    """A recurrence over tokens with a state S [B,G,K,V] of key-value products, [y, S].

    S ← e^g S + k ⊗ β (v - e^g Sᵀ k);  y = scale · Sᵀ q, without e^g or β (… - …) by `update_rule`.
    """
    b = c.b
    c.only("state_window", 0)
    c.ignore("chunk_size")
    rule = c.attr("update_rule", "gated_delta")
    gated, corrects = _RULES[rule]
    heads, groups = c.attr("q_num_heads"), c.attr("kv_num_heads")
    batch, tokens, _ = c.x(0).shape
    q, k, v = (_steps(c.x(i), n) for i, n in enumerate((heads, groups, groups)))
    width, values = k.shape[-1], v.shape[-1]
    scale = c.attr("scale", 0.0) or 1 / math.sqrt(q.shape[-1])
    scanned = [q * scale, k, v]
    if gated:
        scanned.append(_steps(c.x(4), groups))
    if corrects:
        beta = wide(c.x(5)).transpose((1, 0, 2))
        scanned.append(beta.reshape((*beta.shape, 1)))
    if c[3] is None:
        state = b.scalar(0, q.dtype).expand((batch, groups, width, values))
    else:
        state = wide(c.x(3))
    body = _token(state, scanned, gated, corrects)
    state, y = b.emit("scan", state, *scanned, body=body, states=1, scans=len(scanned))
    y = y.transpose((1, 0, 2, 3)).reshape((batch, tokens, max(heads, groups) * values))
    return [y.cast(c.x(0).dtype), state.cast(c.x(0).dtype if c[3] is None else c.x(3).dtype)]


def _steps(x, heads: int):
    """[B,T,H·D] → [T,B,H,D] in f32."""
    batch, tokens, width = x.shape
    return wide(x).reshape((batch, tokens, heads, width // heads)).transpose((1, 0, 2, 3))


def _token(state: Tensor, scanned: list[Tensor], gated: bool, corrects: bool):
    """The graph of one token: (S, q, k, v, decay?, beta?) → (S, y)."""
    body = Builder(name="token")
    s = body.input("state", state.type)
    q, k, v, *more = (
        body.input(f"x{i}", t.type.with_shape(t.shape[1:])) for i, t in enumerate(scanned)
    )
    column = lambda t: t.reshape((*t.shape, 1))
    if gated:
        s = s * column(body.exp(more.pop(0)))
    if corrects:
        v = (v - (s * column(k)).sum(2)) * more.pop(0)
    s = s + column(k) * v.reshape((*v.shape[:2], 1, v.shape[2]))
    (batch, heads, width), groups = q.shape, s.shape[1]
    if heads >= groups:
        queries = q.reshape((batch, groups, heads // groups, width, 1))
        y = (queries * s.reshape((batch, groups, 1, *s.shape[2:]))).sum(3)
    else:
        queries = q.reshape((batch, heads, 1, width, 1))
        y = (queries * s.reshape((batch, heads, groups // heads, *s.shape[2:]))).sum(3)
    body.output("next", s)
    body.output("y", y.reshape((batch, max(heads, groups), s.shape[3])))
    return body.graph


# -- norms ---------------------------------------------------------------------------------


def gated_rms_norm(c: Call):
    """rms_norm of each group of as many numbers as scale has, times silu or sigmoid of a gate."""
    x, scale, gate = (wide(t) for t in c.tensors)
    activation = c.attr("activation", "silu")
    if activation not in ("silu", "swish", "sigmoid"):
        raise c.unsupported("a gate's activation", received=activation)
    groups = x.reshape((*x.shape[:-1], -1, scale.shape[0]))
    y = c.b.emit("rms_norm", groups, scale, axis=-1, epsilon=c.attr("epsilon", 1e-5))
    gate = c.b.emit("sigmoid" if activation == "sigmoid" else "silu", gate)
    return (y.reshape(x.shape) * gate).cast(c.x(0).dtype)


def branchwise_rms_norm(c: Call):
    """rms_norm of each branch of x [..., C, H] or [..., C·H], scaled by [H], [C,H] or [C·H]."""
    x = wide(c.x(0))
    branches = c.attr("num_branches", 0)
    grouped = x.reshape((*x.shape[:-1], branches, -1)) if branches else x
    y = c.b.emit("rms_norm", grouped, axis=-1, epsilon=c.attr("epsilon", 1e-5))
    if c[1] is not None:
        scale = wide(c.x(1))
        if scale.rank == 1 and scale.shape != y.shape[-1:]:
            scale = scale.reshape(y.shape[-2:])
        y = y * scale
    return y.reshape(x.shape).cast(c.x(0).dtype)


TABLE = {
    "CausalConvWithState": causal_conv,
    "LinearAttention": linear_attention,
    "GatedRMSNorm": gated_rms_norm,
    "BranchwiseRMSNorm": branchwise_rms_norm,
}
