"""Constants moved into the weights of convolutions and matrix products.

    conv(x, w, b) · s + t => conv(x, w·s, b·s + t)       s, t per output channel
    batch_norm(x) = x · a + c,  a = scale / √(variance + ε),  c = bias - mean · a

Weights that no place of the result uses are left out: a tap that is dilated so far that it only
ever meets padding (atrous pyramids over small images).

New weights are computed in f64 and rounded once.
"""

import numpy as np

from ...ir.dims import is_static
from ...ir.types import dtype_of
from ..engine import Rule, rule
from ..pattern import Match, constants, node, op, optional, variables

x, b = variables("x b")
w, c, k = constants("w c k")
scale, bias, mean, variance = constants("scale bias mean variance")
maybe = optional(constants("c")[0])

CONV = op.conv(x, w, maybe)
TRANSPOSED = op.conv_transpose(x, w, maybe)


def _wide(t) -> np.ndarray:
    return t.constant.astype(np.float64)


def _per_channel(t, rank: int, channels, axis: int = 1) -> np.ndarray | None:
    """A constant that varies along `axis` of a tensor of `rank` at most, as [channels]."""
    a = t.constant
    if a.ndim > rank or not isinstance(channels, int):
        return None
    shape = (1,) * (rank - a.ndim) + a.shape
    if any(d != 1 for i, d in enumerate(shape) if i != axis) or shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(_wide(t).reshape(-1), (channels,))


def _channel_axis(n) -> int:
    return n.outputs[0].rank - 1 if n.attrs.get("channels_last") else 1


def _conv_of(m: Match):
    return m[CONV] if CONV in m else m[TRANSPOSED]


def _factor(m: Match) -> np.ndarray | None:
    n = _conv_of(m)
    axis = _channel_axis(n)
    out = n.outputs[0]
    return _per_channel(m.k, out.rank, out.shape[axis], axis)


def _fits_channels(m: Match) -> str | None:
    if m.x.dtype.is_int:
        return "an integer convolution"
    return None if _factor(m) is not None else f"{m.k.type} is not one number per output channel"


def _scaled_weights(n, w: np.ndarray, s: np.ndarray) -> np.ndarray:
    """w · s along its output channels: axis 0, last (channels last), or 1 in each group."""
    if n.op.name == "conv_transpose":
        group = n.attrs["group"]
        if n.attrs["channels_last"]:
            *taps, inputs, per_group = w.shape
            parts = w.reshape(*taps, group, inputs // group, per_group)
            return (parts * s.reshape(group, 1, per_group)).reshape(w.shape)
        inputs, per_group = w.shape[:2]
        parts = w.reshape(group, inputs // group, per_group, *w.shape[2:])
        s = s.reshape(group, 1, per_group, *(1,) * (w.ndim - 2))
        return (parts * s).reshape(w.shape)
    return w * s if n.attrs["channels_last"] else w * s.reshape(-1, *(1,) * (w.ndim - 1))


def _rebuilt(builder, m: Match, weights: np.ndarray, biases: np.ndarray):
    n, dtype = _conv_of(m), m.w.dtype
    return builder.emit(
        n.op.name,
        m.x,
        builder.constant(weights, dtype),
        builder.constant(biases, dtype),
        **n.attrs,
    )


def _bias(m: Match) -> np.ndarray | float:
    return 0.0 if m.c is None else _wide(m.c)


def _scale_conv(builder, m: Match):
    s = _factor(m)
    n = _conv_of(m)
    if m.c is None:
        new = builder.constant(_scaled_weights(n, _wide(m.w), s), m.w.dtype)
        return builder.emit(n.op.name, m.x, new, **n.attrs)
    return _rebuilt(builder, m, _scaled_weights(n, _wide(m.w), s), _wide(m.c) * s)


def _shift_conv(builder, m: Match):
    return _rebuilt(builder, m, m.w.constant, _bias(m) + _factor(m))


def _statistics(m: Match) -> tuple[np.ndarray, np.ndarray]:
    """a, c of x · a + c."""
    a = _wide(m.scale) / np.sqrt(_wide(m.variance) + m.attr("epsilon"))
    return a, _wide(m.bias) - _wide(m.mean) * a


def _batch_norm_conv(builder, m: Match):
    a, t = _statistics(m)
    n = _conv_of(m)
    return _rebuilt(builder, m, _scaled_weights(n, _wide(m.w), a), _bias(m) * a + t)


def _batch_norm_alone(builder, m: Match):
    a, t = _statistics(m)
    trailing = 0 if m.attr("channels_last") else m.x.rank - 2
    shape = (-1, *(1,) * trailing)
    y = m.x * builder.constant(a.reshape(shape), m.x.dtype)
    return y + builder.constant(t.reshape(shape), m.x.dtype)


# -- padding -----------------------------------------------------------------------------

PAD = op.pad(x, optional(b))
PADDED = op.conv(PAD, w, maybe)


def _spatial_pad(m: Match):
    """The pads of the spatial axes, or why they cannot move into the convolution."""
    pads, mode, rank = m[PAD].attrs["pads"], m[PAD].attrs["mode"], m.x.rank
    begin, end = pads[:rank], pads[rank:]
    fill = None if m.b is None else m.b.constant
    if mode != "constant" or (m.b is not None and (fill is None or np.any(fill != 0))):
        return "it pads with something else than zeros"
    channel = _channel_axis(m[PADDED])
    for axis in (0, channel):
        if begin[axis] != 0 or end[axis] != 0:
            return "it pads the batch or the channels"
    if not all(isinstance(p, int) and p >= 0 for p in pads):
        return "it crops, or pads by a size that is not known"
    spatial = [a for a in range(rank) if a not in (0, channel)]
    return [begin[a] for a in spatial] + [end[a] for a in spatial]


def _pad_into_conv(builder, m: Match):
    attrs = dict(m[PADDED].attrs)
    more = _spatial_pad(m)
    own = attrs["pads"] or (0,) * len(more)
    attrs["pads"] = [p + q for p, q in zip(own, more)]
    return builder.conv(m.x, m.w, m.c, **attrs)


# -- taps --------------------------------------------------------------------------------


def _window(n) -> tuple[slice, tuple, tuple, tuple]:
    """Where the weights of a convolution have their taps; strides, pads and dilations."""
    a, rank = n.attrs, n.inputs[0].rank - 2
    taps = slice(0, rank) if a["channels_last"] else slice(2, None)
    once = (1,) * rank
    return taps, a["strides"] or once, a["pads"] or (0,) * 2 * rank, a["dilations"] or once


def _meeting(n) -> list[tuple[int, int]]:
    """Along each spatial axis, the first tap that reads the image somewhere, and the one behind
    the last. Tap t reads place o·stride + t·dilation - pad for result o."""
    taps, strides, pads, dilations = _window(n)
    spatial = slice(1, -1) if n.attrs["channels_last"] else slice(2, None)
    found = []
    for i, (k, size, out) in enumerate(
        zip(n.inputs[1].shape[taps], n.inputs[0].shape[spatial], n.output.shape[spatial])
    ):
        offsets = [t * dilations[i] - pads[i] for t in range(k)]
        last = (out - 1) * strides[i]
        meets = [t for t, first in enumerate(offsets) if first < size and first + last >= 0]
        found.append((meets[0], meets[-1] + 1) if meets else (0, k))
    return found


def _meets_padding_only(m: Match) -> str | None:
    n = m[CONV]
    if not is_static((*m.x.shape[1:], *n.output.shape)) or m.x.dtype.is_int:
        return "its sizes are open, or it is of integers"
    found = _meeting(n)
    taps, _, pads, dilations = _window(n)
    if found == [(0, k) for k in m.w.shape[taps]]:
        return "each tap meets the image"
    if any(p < 0 for p in _pads_of(found, m.w.shape[taps], pads, dilations)):
        return "what is left begins inside of the image"
    return None if np.isfinite(m.w.constant).all() else "weights are not finite"


def _pads_of(found, kernel, pads, dilations) -> list[int]:
    begin = [p - first * d for (first, _), p, d in zip(found, pads, dilations)]
    ends = zip(found, kernel, pads[len(found) :], dilations)
    return begin + [p - (k - behind) * d for (_, behind), k, p, d in ends]


def _without_taps(builder, m: Match):
    n, found = m[CONV], _meeting(m[CONV])
    taps, _, pads, dilations = _window(n)
    cut = [slice(None)] * m.w.rank
    cut[taps] = [slice(*kept) for kept in found]
    kernel = np.ascontiguousarray(m.w.constant[tuple(cut)])
    left = _pads_of(found, m.w.shape[taps], pads, dilations)
    return builder.conv(m.x, builder.constant(kernel), m.c, **{**n.attrs, "pads": left})


# -- matrix products ---------------------------------------------------------------------

PRODUCT = x @ w


def _per_column(m: Match) -> str | None:
    if m.w.rank < 2 or m.x.dtype.is_int:
        return "the weights are a vector or ints"
    columns = m.w.shape[-1]
    if m.k.shape[-1:] in ((), (1,), (columns,)) and all(d == 1 for d in m.k.shape[:-1]):
        return None if m.k.rank <= m.root.output.rank else "the factor adds axes"
    return f"{m.k.type} is not one number per column"


def _row(t) -> np.ndarray:
    return _wide(t).reshape(-1)


def _scale_product(builder, m: Match):
    return m.x @ builder.constant(_wide(m.w) * _row(m.k), m.w.dtype)


def _scale_linear(builder, m: Match):
    y = m.x @ builder.constant(_wide(m.w) * _row(m.k), m.w.dtype)
    return y + builder.constant(_wide(m.c) * _row(m.k), m.w.dtype)


def _bias_varies_by_column(m: Match) -> str | None:
    if m.c.rank > 1 and any(d != 1 for d in m.c.shape[:-1]):
        return "the bias varies by row"
    return _per_column(m)


GEMM = node("gemm")


def product_and_sum(builder, m: Match):
    """α·(a @ b) + β·c in place of the `gemm` at the root."""
    a, b, *rest = (builder.tensor(v) for v in m.root.inputs)
    attrs = m.root.attrs
    a = a.transpose(1, 0) if attrs["trans_a"] else a
    b = b.transpose(1, 0) if attrs["trans_b"] else b
    y = a @ b
    if attrs["alpha"] != 1:
        y = y * builder.scalar(attrs["alpha"], y.dtype)
    if not rest:
        return y
    c = rest[0]
    return y + (c if attrs["beta"] == 1 else c * builder.scalar(attrs["beta"], c.dtype))


def _is_float(m: Match) -> str | None:
    floats = dtype_of(m.root.output.dtype).is_float
    return None if floats or m.attr("alpha") == m.attr("beta") == 1 else "integers with factors"


CONSTANT_STATISTICS = (scale, bias, mean, variance)

CONVS: tuple[Rule, ...] = (
    rule(
        "batch_norm(conv(x, w, b)) => conv(x, w·a, b·a + c)",
        op.batch_norm(CONV, *CONSTANT_STATISTICS),
        _batch_norm_conv,
    ),
    rule(
        "batch_norm(conv_transpose(x, w, b)) => conv_transpose(x, w·a, b·a + c)",
        op.batch_norm(TRANSPOSED, *CONSTANT_STATISTICS),
        _batch_norm_conv,
    ),
    rule("conv(x, w, b) * s => conv(x, w·s, b·s)", CONV * k, _scale_conv, _fits_channels),
    rule("conv(x, w, b) + t => conv(x, w, b + t)", CONV + k, _shift_conv, _fits_channels),
    rule(
        "conv_transpose(x, w, b) + t => conv_transpose(x, w, b + t)",
        TRANSPOSED + k,
        _shift_conv,
        _fits_channels,
    ),
    rule(
        "conv(pad(x), w) => conv(x, w) {pads}",
        PADDED,
        _pad_into_conv,
        lambda m: found if isinstance(found := _spatial_pad(m), str) else None,
    ),
    rule(
        "conv(x, w) => conv(x, w without taps that meet padding only)",
        CONV,
        _without_taps,
        _meets_padding_only,
    ),
    rule(
        "batch_norm(x) => x·a + c",
        op.batch_norm(x, *CONSTANT_STATISTICS),
        _batch_norm_alone,
    ),
    rule("(x @ w) * s => x @ (w·s)", PRODUCT * k, _scale_product, _per_column),
    rule(
        "(x @ w + b) * s => x @ (w·s) + b·s",
        (PRODUCT + c) * k,
        _scale_linear,
        _bias_varies_by_column,
    ),
)

GEMMS: tuple[Rule, ...] = (
    rule("gemm(a, b, c) => α·(a @ b) + β·c", GEMM, product_and_sum, _is_float),
)
