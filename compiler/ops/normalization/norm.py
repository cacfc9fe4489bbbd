"""Normalisations. Half types are widened to f32 first and rounded once at the end.

Variances are of centred values: mean((x - mean(x))²), which loses nothing where the mean is large.
"""

import numpy as np

from ...errors import TypeMismatch
from ...ir import dims
from ...ir.bounds import assume_equal, assume_equal_shapes
from ...ir.op import Attr, Expand, register
from ...ir.types import broadcast, normalize_axis
from ..common import FLOAT_SAMPLES, case, floats, reference, same_shape, through_expansion, wide

EPSILON = Attr("float", 1e-5, "added to the variance")
AXIS = Attr("int", -1, "the first normalised axis")


def _norm_shape(x, *parameters, axis, epsilon):
    axis = normalize_axis(axis, x.rank)
    for p in parameters:
        rest = x.shape[axis:]
        if p is not None and not assume_equal_shapes(broadcast(p.shape, rest), rest):
            raise TypeMismatch(
                "a scale or bias does not fit the normalised axes",
                expected=f"[{','.join(map(str, x.shape[axis:]))}]",
                received=p,
            )
    return x.shape


def _axes(x, axis):
    return tuple(
        range(normalize_axis(axis, x.ndim if isinstance(x, np.ndarray) else x.rank), len(x.shape))
    )


def _normalized(b, x, axes, epsilon):
    """(x - mean) / sqrt(variance + epsilon) over `axes`, and 1 / sqrt(…)."""
    centred = x - b.reduce_mean(x, axes=axes)
    r = b.rsqrt(b.reduce_mean(centred * centred, axes=axes) + epsilon)
    return centred * r, r


def _normalized_ref(x, axes, epsilon):
    if not x.size:
        return x
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


# -- layer_norm, rms_norm ------------------------------------------------------------------


def _layer_norm_ref(x, scale=None, bias=None, *, axis, epsilon):
    y = _normalized_ref(x, _axes(x, axis), epsilon)
    y = y if scale is None else y * scale
    return y if bias is None else y + bias


def _layer_norm(b, x, scale=None, bias=None, *, axis, epsilon):
    y, _ = _normalized(b, wide(x), _axes(x, axis), epsilon)
    y = y if scale is None else y * wide(scale)
    y = y if bias is None else y + wide(bias)
    return y.cast(x.dtype)


def _layer_norm_gradient(c, g):
    """dx = r * (h - mean(h) - n * mean(h * n)), n being the normalised x and h = g * scale."""
    x, scale, _ = c.inputs
    b, axes = c.b, _axes(x, c.attrs["axis"])
    n, r = _normalized(b, wide(x), axes, c.attrs["epsilon"])
    h = wide(g) if scale is None else wide(g) * wide(scale)
    mean = lambda t: b.reduce_mean(t, axes=axes)
    dx = r * (h - mean(h) - n * mean(h * n))
    return dx.cast(x.dtype), (wide(g) * n).cast(x.dtype), g


def _rms(b, x, axis, epsilon):
    return b.rsqrt(b.reduce_mean(x * x, axes=_axes(x, axis)) + epsilon)


def _rms_norm_ref(x, scale=None, *, axis, epsilon):
    if not x.size:
        return x
    y = x / np.sqrt(np.mean(x * x, _axes(x, axis), keepdims=True) + epsilon)
    return y if scale is None else y * scale


def _rms_norm(b, x, scale=None, *, axis, epsilon):
    h = wide(x)
    y = h * _rms(b, h, axis, epsilon)
    return (y if scale is None else y * wide(scale)).cast(x.dtype)


def _rms_norm_gradient(c, g):
    """dx = r * (h - n * mean(h * n)), n being the normalised x and h = g * scale."""
    x, scale = c.inputs
    b, axis = c.b, c.attrs["axis"]
    r = _rms(b, wide(x), axis, c.attrs["epsilon"])
    n = wide(x) * r
    h = wide(g) if scale is None else wide(g) * wide(scale)
    dx = r * (h - n * b.reduce_mean(h * n, axes=_axes(x, axis)))
    return dx.cast(x.dtype), (wide(g) * n).cast(x.dtype)


def _layer_norm_samples(parameters):
    for dtype in FLOAT_SAMPLES:
        yield case(*_with(parameters, (3, 8), (8,), dtype))
    for axis in (1, 2, -2):
        x = floats((2, 3, 4), 1)
        yield case(*_with(parameters, x.shape, x.shape[axis:], "f32"), axis=axis)
    yield case(floats((2, 3, 5), 2))
    yield case(floats((2, 6), 2), floats((6,), 3), epsilon=0.1)
    yield case(floats((4, 16), 3, 1000.0, 1001.0), grad=False, rtol=1e-3, atol=1e-3)
    yield case(floats((0, 4)), axis=-1)


def _with(parameters, shape, normalised, dtype):
    return (
        floats(shape, 1, dtype=dtype),
        *(floats(normalised, 2 + i, dtype=dtype) for i in range(parameters)),
    )


register(
    "layer_norm",
    "x: T, scale: T?, bias: T? -> T",
    "(x - mean) / sqrt(variance + epsilon) * scale + bias over the axes from `axis` on.",
    T="float",
    shape=_norm_shape,
    attrs={"axis": AXIS, "epsilon": EPSILON},
    ref=reference(_layer_norm_ref),
    grad=_layer_norm_gradient,
    loops=Expand(_layer_norm),
    samples=lambda: _layer_norm_samples(2),
    group="norm",
)

register(
    "rms_norm",
    "x: T, scale: T? -> T",
    "x / sqrt(mean(x²) + epsilon) * scale over the axes from `axis` on.",
    T="float",
    shape=_norm_shape,
    attrs={"axis": AXIS, "epsilon": EPSILON},
    ref=reference(_rms_norm_ref),
    grad=_rms_norm_gradient,
    loops=Expand(_rms_norm),
    samples=lambda: _layer_norm_samples(1),
    group="norm",
)


# -- batch_norm, instance_norm, group_norm: parameters per channel ---------------------------


def _channels_shape(x, *parameters, epsilon, channels_last=False, groups=1):
    if x.rank < 2:
        raise TypeMismatch("expected batch and channel axes", expected="rank 2 or more", received=x)
    channels = x.shape[-1 if channels_last else 1]
    for p in parameters:
        if not assume_equal_shapes(p.shape, (channels,)):
            raise TypeMismatch(
                "a parameter per channel is needed", expected=f"[{channels}]", received=p
            )
    if not assume_equal(channels % groups, 0):
        raise TypeMismatch(
            "groups must divide the channels", expected=f"a divisor of {channels}", received=groups
        )
    return x.shape


def _along_channels(x, p, channels_last=False):
    """A parameter [C] in the shape that broadcasts against x."""
    after = 0 if channels_last else len(x.shape) - 2
    return p.reshape((p.shape[0],) + (1,) * after)


def _batch_norm_ref(x, scale, bias, mean, variance, *, epsilon, channels_last):
    scale, bias, mean, variance = (
        _along_channels(x, p, channels_last) for p in (scale, bias, mean, variance)
    )
    return (x - mean) / np.sqrt(variance + epsilon) * scale + bias


def _batch_norm(b, x, scale, bias, mean, variance, *, epsilon, channels_last):
    # x * a + c: with constant parameters one multiplication, which folds into a convolution.
    a = wide(scale) * b.rsqrt(wide(variance) + epsilon)
    c = wide(bias) - wide(mean) * a
    a, c = (_along_channels(x, p, channels_last) for p in (a, c))
    return (wide(x) * a + c).cast(x.dtype)


def _batch_norm_samples():
    def parameters(n, dtype="f32"):
        make = [floats((n,), 10 + i, dtype=dtype) for i in range(3)]
        return *make, floats((n,), 13, 0.5, 2.0, dtype)

    for dtype in FLOAT_SAMPLES:
        yield case(floats((2, 3, 4), 1, dtype=dtype), *parameters(3, dtype))
    yield case(floats((2, 3, 4, 5), 2), *parameters(3), epsilon=0.1)
    yield case(floats((2, 4, 5, 3), 3), *parameters(3), channels_last=True)
    yield case(floats((4, 3), 4), *parameters(3))
    yield case(floats((0, 3, 2), 4), *parameters(3))


register(
    "batch_norm",
    "x: T, scale: T, bias: T, mean: T, variance: T -> T",
    "(x - mean) / sqrt(variance + epsilon) * scale + bias, with given statistics per channel.",
    T="float",
    shape=_channels_shape,
    attrs={"epsilon": EPSILON, "channels_last": Attr("bool", False)},
    ref=reference(_batch_norm_ref),
    grad=through_expansion,
    loops=Expand(_batch_norm),
    samples=_batch_norm_samples,
    group="norm",
)


def _instance_norm_ref(x, scale, bias, *, epsilon):
    y = _normalized_ref(x, tuple(range(2, x.ndim)), epsilon)
    return y * _along_channels(x, scale) + _along_channels(x, bias)


def _instance_norm(b, x, scale, bias, *, epsilon):
    y, _ = _normalized(b, wide(x), range(2, x.rank), epsilon)
    y = y * _along_channels(x, wide(scale)) + _along_channels(x, wide(bias))
    return y.cast(x.dtype)


def _group_norm_ref(x, scale, bias, *, groups, epsilon):
    y = _normalized_ref(x.reshape((x.shape[0], groups, -1)), (2,), epsilon).reshape(x.shape)
    return y * _along_channels(x, scale) + _along_channels(x, bias)


def _group_norm(b, x, scale, bias, *, groups, epsilon):
    n, channels, *spatial = x.shape
    grouped = wide(x).reshape((n, groups, dims.prod(spatial) * (channels // groups)))
    y, _ = _normalized(b, grouped, (2,), epsilon)
    y = y.reshape(x.shape)
    y = y * _along_channels(x, wide(scale)) + _along_channels(x, wide(bias))
    return y.cast(x.dtype)


def _group_samples(**attrs):
    for dtype in FLOAT_SAMPLES:
        x = floats((2, 6, 3), 1, dtype=dtype)
        yield case(x, floats((6,), 2, dtype=dtype), floats((6,), 3, dtype=dtype), **attrs)
    yield case(floats((2, 6, 3, 2), 1), floats((6,), 2), floats((6,), 3), epsilon=0.1, **attrs)


register(
    "instance_norm",
    "x: T, scale: T, bias: T -> T",
    "x [N,C,…] normalised over its spatial axes, times scale plus bias per channel.",
    T="float",
    shape=_channels_shape,
    attrs={"epsilon": EPSILON},
    ref=reference(_instance_norm_ref),
    grad=through_expansion,
    loops=Expand(_instance_norm),
    samples=_group_samples,
    group="norm",
)

register(
    "group_norm",
    "x: T, scale: T, bias: T -> T",
    "x [N,C,…] normalised over groups of channels, times scale plus bias per channel.",
    T="float",
    shape=_channels_shape,
    attrs={"groups": Attr("int"), "epsilon": EPSILON},
    ref=reference(_group_norm_ref),
    grad=through_expansion,
    loops=Expand(_group_norm),
    samples=lambda: _group_samples(groups=3),
    group="norm",
)


# -- lrn -------------------------------------------------------------------------------------


def _lrn_ref(x, *, size, alpha, beta, bias):
    total = np.zeros_like(x)
    for c in range(x.shape[1]):
        low, high = c - (size - 1) // 2, c + size // 2 + 1
        total[:, c] = np.sum(x[:, max(0, low) : high] ** 2, axis=1)
    return x / (bias + alpha / size * total) ** beta


def _lrn(b, x, *, size, alpha, beta, bias):
    h = wide(x)
    before, after = (size - 1) // 2, size // 2
    if isinstance(x.shape[1], int):  # there is nothing to sum beyond the channels
        before, after = min(before, x.shape[1] - 1), min(after, x.shape[1] - 1)
    rest = [0] * (x.rank - 2)
    square = b.pad(h * h, None, pads=[0, before, *rest, 0, after, *rest], mode="constant")
    total = None
    for start in range(before + after + 1):
        part = b.slice(square, axes=[1], starts=[start], steps=[1], sizes=[x.shape[1]])
        total = part if total is None else total + part
    scale = total * (alpha / size) + bias
    return (h * b.exp(b.log(scale) * -beta)).cast(x.dtype)


register(
    "lrn",
    "x: T -> T",
    "x / (bias + alpha / size * sum of x² over `size` neighbouring channels)^beta",
    T="float",
    shape=same_shape,
    attrs={
        "size": Attr("int", low=1),
        "alpha": Attr("float", 1e-4),
        "beta": Attr("float", 0.75),
        "bias": Attr("float", 1.0),
    },
    ref=reference(_lrn_ref),
    grad=through_expansion,
    loops=Expand(_lrn),
    samples=lambda: [
        case(floats((2, 7, 3)), size=5, alpha=0.5),
        case(floats((1, 4, 2, 2)), size=2, alpha=0.7, beta=0.5, bias=2.0),
        case(floats((2, 3, 2), dtype="f64"), size=3, alpha=0.5),
        case(floats((2, 3, 2), dtype="f16"), size=3, alpha=0.5),
    ],
    group="norm",
)
