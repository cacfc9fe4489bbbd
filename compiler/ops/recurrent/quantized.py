"""An LSTM of 8-bit weights: inputs and states are quantised as they come.

    x [T,B,I], w [D,I,4*H], r [D,H,4*H], scales and zero points [D] or [D,4*H]  ->  y [T,D,B,H]

As in com.microsoft.DynamicQuantizeLSTM, all inputs share one scale, and so do the states of all
sequences at one step. Products are sums of integers; everything else is the LSTM of `recurrent`.
"""

import numpy as np

from ...errors import TypeMismatch
from ...ir.bounds import assume_equal_shapes
from ...ir.limits import length_limits
from ...ir.op import Attr, Expand, register
from ...ir.types import F32, I8, U8, TensorType
from ..common import array, case, dynamic_quantize, floats, ints, wide
from ..quantization.quant import NO_GRADIENT
from .cells import (
    COMMON,
    REVERSED,
    activations,
    clipped,
    layer,
    lstm_cell,
    lstm_step,
    part,
    shapes,
)


def _shape(x, w, r, w_scale, w_zero, r_scale, r_zero, *others, **attrs):
    def as_floats(t):
        return TensorType(F32, (t.shape[0], t.shape[2], t.shape[1]))

    columns = (w.shape[0], w.shape[2])
    for t in (w_scale, w_zero, r_scale, r_zero):
        if t.rank == 0 or not assume_equal_shapes(t.shape, columns[: t.rank]):
            raise TypeMismatch(
                "dynamic_quantize_lstm: a scale or zero point has the wrong shape",
                expected=f"[{columns[0]}] or [{columns[0]},{columns[1]}]",
                received=t,
            )
    return shapes("lstm")(x, as_floats(w), as_floats(r), *others, **attrs)


def _product(x, w, w_scale, w_zero):
    """x @ ((w - w_zero) * w_scale) for x [M,K] quantised on the way."""
    q, scale, zero = dynamic_quantize(x)
    return x.b.matmul_integer(q, w, zero, w_zero).cast(F32) * (scale * w_scale)


def _rule(
    b,
    x,
    w,
    r,
    w_scale,
    w_zero,
    r_scale,
    r_zero,
    bias=None,
    lens=None,
    h0=None,
    c0=None,
    p=None,
    **attrs,
):
    def multiply(flat, d):
        return _product(flat, part(w, d), part(w_scale, d), part(w_zero, d))

    def weights(d, rb):
        used = [part(t, d) for t in (r, r_scale, r_zero)]
        return used if p is None else [*used, wide(part(p, d))]

    def step(body, gates, states, weights, activate):
        h, c = states
        gates = gates + _product(h, *weights[:3])
        return lstm_cell(gates, c, weights[3] if len(weights) == 4 else None, activate, attrs)

    return layer(b, "lstm", x, multiply, bias, lens, [h0, c0], attrs, weights, step)


def _product_ref(x, w, w_scale, w_zero):
    """The same for x [M,K], after the definition of DynamicQuantizeLinear."""
    low, high = min(x.min(initial=0), 0), max(x.max(initial=0), 0)
    scale = np.float32(1) if low == high else np.float32((np.float32(high) - low) / 255)
    zero = np.clip(np.rint(-np.float32(low) / scale), 0, 255).astype(np.int32)
    q = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.int32)
    total = (q - zero) @ (w.astype(np.int32) - w_zero.astype(np.int32))
    return total.astype(np.float32) * (scale * w_scale)


def _ref(
    x, w, r, w_scale, w_zero, r_scale, r_zero, b=None, lens=None, h0=None, c0=None, p=None, **attrs
):
    (steps, batch, _), (n, hidden, gates) = x.shape, r.shape
    b = np.zeros((n, 2 * gates), np.float32) if b is None else b
    p = np.zeros((n, 3 * hidden), np.float32) if p is None else p
    lens = np.full(batch, steps) if lens is None else lens
    y = np.zeros((steps, n, batch, hidden), np.float32)
    last_h, last_c = (
        np.zeros((n, batch, hidden), np.float32) if s is None else s.copy() for s in (h0, c0)
    )
    clip = np.inf if attrs["clip"] is None else attrs["clip"]
    chosen = activations("lstm", attrs)
    for d, reverse in enumerate(REVERSED[attrs["direction"]]):
        act = clipped(chosen[d], clip)
        xw = _product_ref(x.reshape(steps * batch, -1), w[d], w_scale[d], w_zero[d])
        xw = (xw + b[d, :gates]).reshape(steps, batch, gates)
        for t in reversed(range(steps)) if reverse else range(steps):
            hr = _product_ref(last_h[d], r[d], r_scale[d], r_zero[d])
            for k in np.flatnonzero(lens > t):
                none = np.zeros((gates, hidden), np.float32)
                h, c = last_h[d, k], last_c[d, k]
                h, c = lstm_step(xw[t, k] + hr[k], h, c, none, b[d, gates:], p[d], act, attrs)
                y[t, d, k], last_h[d, k], last_c[d, k] = h, h, c
    return y, last_h, last_c


def _samples():
    def operands(n, kind, per_column):
        shape = (n, 8) if per_column else (n,)
        low, high = (-128, 128) if kind == "i8" else (0, 256)
        scale, zero = floats(shape, 5, 0.002, 0.004), ints(shape, 6, low // 9, high // 9)
        return (
            floats((4, 3, 3), 1, -1, 1),
            ints((n, 3, 8), 2, low, high, kind),
            ints((n, 2, 8), 3, low, high, kind),
            scale,
            zero.astype(kind_of[kind]),
            scale * 2,
            zero.astype(kind_of[kind]),
            floats((n, 16), 4, -1, 1),
        )

    kind_of = {"i8": np.int8, "u8": np.uint8}
    close = {"hidden_size": 2, "atol": 1e-4}
    yield case(*operands(1, "i8", False), **close)
    yield case(*operands(1, "u8", True), **close, direction="reverse")
    both = operands(2, "i8", True)
    yield case(*both, array([4, 2, 1], "i32"), **close, direction="bidirectional")
    h0, c0, p = (floats(s, 7 + i, -1, 1) for i, s in enumerate([(1, 3, 2), (1, 3, 2), (1, 6)]))
    yield case(*operands(1, "u8", False), None, h0, c0, p, **close, clip=0.5)


register(
    "dynamic_quantize_lstm",
    """x: f32, w: W, r: R, w_scale: f32, w_zero: W, r_scale: f32, r_zero: R, b: f32?,
    sequence_lens: i32?, initial_h: f32?, initial_c: f32?, p: f32? -> f32, f32, f32""",
    "lstm with w = w_scale * (w - w_zero), and r alike; its products are those of bytes.",
    shape=_shape,
    attrs=COMMON | {"input_forget": Attr("bool", False, "f = 1 - i")},
    ref=_ref,
    grad=NO_GRADIENT,
    loops=Expand(_rule),
    limits=length_limits(8),
    samples=_samples,
    group="recurrent",
    W={I8, U8},
    R={I8, U8},
)
