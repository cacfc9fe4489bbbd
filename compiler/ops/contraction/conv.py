"""Convolution, in floats and in 8-bit integers.

    y[n, o, p] = b[o] + sum_{c, k} x[n, c, p * stride + k * dilation - begin] w[o, c, k]

`group` splits the channels: group j of the outputs sees only group j of the inputs.
`pads` = (begin…, end…) of the spatial axes. Empty strides, pads and dilations are 1, 0 and 1.
"""

import math

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.bounds import assume_equal
from ...ir.dims import Sym
from ...ir.op import Attr, NotDifferentiable, Pull, register
from ...ir.types import F32, FLOATS, I8, I16, I32, I64, U8
from ..common import case, floats, ints, reference, require_shape
from .windows import (
    accumulator,
    first_to_last,
    last_to_first,
    padded,
    patches,
    spatial_pads,
    window_attrs,
    window_index,
    window_sizes,
)

CONV_ATTRS = {
    "strides": Attr("ints", ()),
    "pads": Attr("dims", (), "(begin…, end…) of the spatial axes"),
    "dilations": Attr("ints", ()),
    "group": Attr("int", 1),
    "channels_last": Attr("bool", False, "x [N,*S,C], w [*K,C/g,O]"),
}


def _clash(what: str, x, w, group) -> TypeMismatch:
    return TypeMismatch(f"conv: {what}", received=f"x {x}, w {w}, group={group}")


def _check_channels(channels, per_group, outputs, x, w, group):
    if not assume_equal(channels, per_group * group):
        raise _clash("the channels of x are not those of w times group", x, w, group)
    if group < 1 or not assume_equal(outputs % group, 0):
        raise _clash("the output channels cannot be split into groups", x, w, group)


def conv_shape(x, w, b=None, *_, strides, pads, dilations, group, channels_last=False):
    if x.rank < 3 or w.rank != x.rank:
        raise _clash("x and w need a batch or output axis, channels and spatial axes", x, w, group)
    kernel, per_group, outputs = (
        (w.shape[:-2], w.shape[-2], w.shape[-1])
        if channels_last
        else (w.shape[2:], w.shape[1], w.shape[0])
    )
    channels = x.shape[-1] if channels_last else x.shape[1]
    _check_channels(channels, per_group, outputs, x, w, group)
    spatial = x.shape[1:-1] if channels_last else x.shape[2:]
    strides, pads, dilations = window_attrs(x.rank - 2, kernel, strides, pads, dilations)
    sizes = window_sizes(spatial, kernel, strides, pads, dilations)
    require_shape("conv", "b", b, (outputs,))
    return (x.shape[0], *sizes, outputs) if channels_last else (x.shape[0], outputs, *sizes)


def conv_ref(x, w, b=None, *, strides, pads, dilations, group, channels_last=False):
    if channels_last:
        x = x.transpose(last_to_first(x.ndim))
        w = w.transpose(w.ndim - 1, w.ndim - 2, *range(w.ndim - 2))
    n, kernel, outputs = x.ndim - 2, w.shape[2:], w.shape[0]
    strides, pads, dilations = window_attrs(n, kernel, strides, pads, dilations)
    sizes = window_sizes(x.shape[2:], kernel, strides, pads, dilations)
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:n], pads[n:])])
    x = x.reshape(x.shape[0], group, x.shape[1] // group, *x.shape[2:])
    w = w.reshape(group, outputs // group, *w.shape[1:])
    y = np.zeros((x.shape[0], group, outputs // group, *sizes), x.dtype)
    for tap, seen in patches(x, kernel, strides, sizes, dilations, 3):
        columns = seen.reshape(*seen.shape[:3], math.prod(sizes))
        y += np.matmul(w[(..., *tap)], columns).reshape(y.shape)
    y = y.reshape(x.shape[0], outputs, *sizes)
    if b is not None:
        y = y + b.reshape(-1, *[1] * n)
    return y.transpose(first_to_last(y.ndim)) if channels_last else y


def convolve(x, w, acc, *, strides, pads, dilations, group, channels_last):
    """The sum over channels and taps at an output index, as a function of that index."""
    n = len(x.shape) - 2
    kernel = w.shape[:-2] if channels_last else w.shape[2:]
    per_group, outputs = (w.shape[-2], w.shape[-1]) if channels_last else (w.shape[1], w.shape[0])
    strides, pads, dilations = window_attrs(n, kernel, strides, pads, dilations)
    x = padded(x, spatial_pads(pads, n + 2, channels_last), 0)
    per_output_group = outputs // group

    def seen(p, k):
        return window_index(p, k, strides, dilations)

    def first(batch, o, *p):
        base = (o // per_output_group) * per_group if group > 1 else 0
        return s.reduce(
            "sum",
            [per_group, *kernel],
            lambda c, *k: (
                s.cast(x[(batch, c + base, *seen(p, k))], acc) * s.cast(w[(o, c, *k)], acc)
            ),
            acc,
        )

    def last(batch, *po):
        p, o = po[:-1], po[-1]
        base = (o // per_output_group) * per_group if group > 1 else 0
        return s.reduce(
            "sum",
            [*kernel, per_group],
            lambda *kc: (
                s.cast(x[(batch, *seen(p, kc[:-1]), kc[-1] + base)], acc) * s.cast(w[(*kc, o)], acc)
            ),
            acc,
        )

    return last if channels_last else first


def _conv(out, x, w, b=None, **attrs):
    acc = accumulator(x.dtype)
    product = convolve(x, w, acc, **attrs)
    if b is None:
        return product
    channel = -1 if attrs["channels_last"] else 1
    return lambda *i: product(*i) + s.cast(b[i[channel]], acc)


def conv_weight_gradient(x, dy, kernel, strides, pads, dilations, group):
    """dw[o, c, k] = sum_{n, p} x[n, c, p*stride + k*dilation - begin] dy[n, o, p].

    Itself a convolution: batch and channels change places, dy is the kernel, strides and
    dilations change places. Channels first; returns [O, C/g, *K].
    """
    b, n = x.b, x.rank - 2
    batch, channels, outputs = x.shape[0], x.shape[1], dy.shape[1]
    spatial = x.shape[2:]
    x = x.reshape(batch, group, channels // group, *spatial)
    x = x.transpose(2, 1, 0, *range(3, x.rank))
    x = x.reshape(channels // group, group * batch, *spatial)
    dy = dy.transpose(1, 0, *range(2, dy.rank))
    dw = b.conv(x, dy, strides=dilations, dilations=strides, pads=pads, group=group)
    if dw.shape[2:] != tuple(kernel):  # input that no full window reached
        dw = b.slice(dw, axes=range(2, n + 2), starts=[0] * n, steps=[1] * n, sizes=kernel)
    assert dw.shape[1] == outputs
    return dw.transpose(1, 0, *range(2, dw.rank))


def _rest(sizes, outputs, kernel, strides, pads, dilations) -> list:
    """Per spatial axis, how much of the input lies behind the last window."""
    n = len(kernel)
    return [
        d - ((p - 1) * stride + dilation * (k - 1) + 1 - begin - end)
        for d, p, k, stride, begin, end, dilation in zip(
            sizes, outputs, kernel, strides, pads[:n], pads[n:], dilations
        )
    ]


def conv_grad(c, dy):
    """dx is the transposed convolution of dy, dw a convolution of x with dy."""
    (x, w, bias), a, b = c.inputs, c.attrs, c.b
    rank, last, group = x.rank, a["channels_last"], a["group"]
    if last:
        x, dy = x.transpose(last_to_first(rank)), dy.transpose(last_to_first(rank))
        w = w.transpose(rank - 1, rank - 2, *range(rank - 2))
    kernel = w.shape[2:]
    strides, pads, dilations = window_attrs(
        rank - 2, kernel, a["strides"], a["pads"], a["dilations"]
    )
    window = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    rest = _rest(x.shape[2:], dy.shape[2:], kernel, strides, pads, dilations)
    dx = b.conv_transpose(dy, w, output_padding=rest, **window)
    dw = conv_weight_gradient(x, dy, kernel, **window)
    if last:
        dx = dx.transpose(first_to_last(rank))
        dw = dw.transpose(*range(2, rank), 1, 0)
    dbias = None if bias is None else dy.sum([0, *range(2, rank)])
    return [dx, dw, dbias]


def _conv_samples():
    def last(x, w, *b, **attrs):
        x = x.transpose(first_to_last(x.ndim))
        w = w.transpose(*range(2, w.ndim), 1, 0)
        return case(x, w, *b, channels_last=True, **attrs)

    yield case(floats((1, 2, 5, 5)), floats((3, 2, 3, 3), seed=1))
    yield case(
        floats((2, 3, 6, 5)),
        floats((4, 3, 3, 2), seed=1),
        floats((4,), seed=2),
        strides=(2, 1),
        pads=(1, 0, 2, 1),
    )
    yield case(
        floats((2, 4, 7)),
        floats((6, 2, 3), seed=1),
        strides=(2,),
        dilations=(2,),
        pads=(2, 2),
        group=2,
    )
    yield case(
        floats((1, 3, 5, 5)),
        floats((3, 1, 3, 3), seed=1),
        floats((3,), seed=2),
        pads=(1, 1, 1, 1),
        group=3,
    )
    yield case(floats((1, 2, 3, 4, 3)), floats((2, 2, 2, 2, 2), seed=1), pads=(0, 1, 0, 1, 0, 0))
    yield case(floats((1, 4, 3, 3)), floats((5, 4, 1, 1), seed=1), strides=(2, 2))
    yield case(
        floats((1, 2, 4, 4), dtype="f16"),
        floats((2, 2, 3, 3), seed=1, dtype="f16"),
        pads=(1, 1, 1, 1),
        atol=2e-2,
    )
    yield case(floats((1, 2, 4), dtype="f64"), floats((2, 2, 3), seed=1, dtype="f64"))
    yield case(floats((0, 2, 4)), floats((3, 2, 3), seed=1))
    yield case(ints((1, 2, 4), dtype="i32"), ints((2, 2, 3), seed=1, dtype="i32"), pads=(1, 1))
    yield last(
        floats((2, 3, 6, 5)),
        floats((4, 3, 3, 2), seed=1),
        floats((4,), seed=2),
        strides=(2, 1),
        pads=(1, 0, 2, 1),
    )
    yield last(floats((1, 4, 5, 5)), floats((4, 1, 3, 3), seed=1), pads=(1, 1, 1, 1), group=4)
    yield last(floats((1, 4, 7)), floats((2, 2, 3), seed=1), dilations=(2,), group=2)


register(
    "conv",
    "x: T, w: T, b: T? -> T",
    "Convolution (cross-correlation) of any number of spatial axes, with groups.",
    attrs=CONV_ATTRS,
    shape=conv_shape,
    ref=reference(conv_ref),
    grad=conv_grad,
    loops=Pull(_conv),
    samples=_conv_samples,
    group="contract",
    T=FLOATS | {I32, I64},
)

# -- conv_integer --------------------------------------------------------------------------


def conv_integer_shape(x, w, x_zero=None, w_zero=None, **attrs):
    outputs = w.shape[-1] if attrs["channels_last"] else w.shape[0]
    require_shape("conv_integer", "x_zero", x_zero, (), (1,))
    require_shape("conv_integer", "w_zero", w_zero, (), (outputs,), (1,))
    return conv_shape(x, w, **attrs)


def conv_integer_ref(x, w, x_zero=None, w_zero=None, **attrs):
    x, w = x.astype(np.int64), w.astype(np.int64)
    if x_zero is not None:
        x = x - x_zero.astype(np.int64).reshape(())
    if w_zero is not None:
        last = attrs["channels_last"]
        w = w - w_zero.astype(np.int64).reshape(-1, *[1] * (0 if last else w.ndim - 1))
    return conv_ref(x, w, **attrs).astype(np.int32)


class Shifted:
    """An integer operand less its zero point: a scalar, or one per index of `axis`. In i32, or in
    another dtype that holds such differences."""

    def __init__(self, x, zero, axis: int, dtype=I32):
        self.x, self.zero, self.axis, self.shape, self.dtype = x, zero, axis, x.shape, dtype
        self.type = x.type.with_dtype(dtype)

    def __getitem__(self, index):
        value = s.cast(self.x[index], self.dtype)
        if self.zero is None:
            return value
        one = all(d == 1 for d in self.zero.shape)
        at = tuple(s.const(0) for _ in self.zero.shape) if one else (index[self.axis],)
        return value - s.cast(self.zero[at], self.dtype)


EXACT = 2**24 // (255 * 255)  # products of differences of bytes whose sum f32 holds exactly


def _conv_integer(out, x, w, x_zero=None, w_zero=None, **attrs):
    """Sums of a few products, as those of depthwise convolutions are, are computed in f32, whose
    vectors multiply and add at once: every partial sum is an integer that f32 holds."""
    last = attrs["channels_last"]
    products = math.prod(w.shape[:-1] if last else w.shape[1:])
    few = (
        attrs["group"] > 1
        and x.dtype.bits == 8
        and not isinstance(products, Sym)
        and products <= EXACT
    )
    acc = F32 if few else I32
    total = convolve(
        Shifted(x, x_zero, 0, acc), Shifted(w, w_zero, -1 if last else 0, acc), acc, **attrs
    )
    return (lambda *i: s.cast(total(*i), I32)) if few else total


register(
    "conv_integer",
    "x: A, w: B, x_zero: A?, w_zero: B? -> i32",
    """`conv` of (x - x_zero) and (w - w_zero) in i32, which wraps around; w_zero is a scalar or one
    per output channel. An x of 16 bits is one whose zero point was subtracted before.""",
    attrs=CONV_ATTRS,
    shape=conv_integer_shape,
    ref=conv_integer_ref,
    grad=NotDifferentiable("integers have no gradient"),
    loops=Pull(_conv_integer),
    samples=lambda: [
        case(
            ints((1, 2, 5, 4), high=255, dtype="u8"),
            ints((3, 2, 3, 3), seed=1, dtype="i8"),
            np.uint8(3),
            pads=(1, 1, 1, 1),
        ),
        case(
            ints((1, 4, 5), dtype="i8"),
            ints((4, 2, 2), seed=1, dtype="i8"),
            np.int8(3),
            ints((4,), seed=2, dtype="i8"),
            strides=(2,),
            group=2,
        ),
        case(ints((1, 2, 4), dtype="u8"), ints((1, 2, 3), seed=1, dtype="u8")),
        case(
            ints((1, 5, 4), high=99, dtype="u8"),
            ints((2, 2, 4), seed=1, dtype="i8"),
            np.uint8(3),
            ints((4,), seed=2, dtype="i8"),
            channels_last=True,
            group=2,
            pads=(1, 0),
        ),
    ],
    group="contract",
    A={I8, U8, I16},
    B={I8, U8},
)
