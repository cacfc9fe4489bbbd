"""Transposed convolution: the adjoint of `conv` in its input.

    y[n, o, q*stride + k*dilation - begin] += x[n, c, q] w[c, o, k]

x [N, C, *S], w [C, O/g, *K]. Output size: (S - 1) * stride + extent - begin - end + output_padding.
The CPU runs it as convolutions of stride 1 (`passes/cpu/phases.py`).
"""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.bounds import assume_equal
from ...ir.op import Attr, Pull, register
from ...ir.types import FLOATS
from ..common import case, floats, reference, require_shape
from .conv import CONV_ATTRS, conv_weight_gradient
from .windows import accumulator, first_to_last, last_to_first, patches, window_attrs


def weights_first(rank: int) -> tuple[int, ...]:
    """The permutation [*K, C, O/g] → [C, O/g, *K] of weights for x of so many axes."""
    return (rank - 2, rank - 1, *range(rank - 2))


def transpose_attrs(kernel, strides, pads, dilations, output_padding) -> tuple:
    """The attributes with defaults for what is empty. Raises TypeMismatch."""
    n = len(kernel)
    strides, pads, dilations = window_attrs(n, kernel, strides, pads, dilations)
    output_padding = tuple(output_padding) or (0,) * n
    if len(output_padding) != n:
        raise TypeMismatch("one output_padding per spatial axis", received=output_padding)
    return strides, pads, dilations, output_padding


def _transpose_sizes(sizes, kernel, strides, pads, dilations, output_padding) -> tuple:
    n = len(kernel)
    return tuple(
        (d - 1) * stride + dilation * (k - 1) + 1 - begin - end + more
        for d, k, stride, begin, end, dilation, more in zip(
            sizes, kernel, strides, pads[:n], pads[n:], dilations, output_padding
        )
    )


def conv_transpose_shape(
    x, w, b=None, *, strides, pads, dilations, output_padding, group, channels_last=False
):
    if x.rank < 3 or w.rank != x.rank:
        raise TypeMismatch(
            "conv_transpose: x needs a batch axis, channels and spatial axes, w as many axes",
            received=f"x {x}, w {w}",
        )
    (*kernel, rows, outputs) = w.shape if channels_last else (*w.shape[2:], *w.shape[:2])
    channels = x.shape[-1 if channels_last else 1]
    fits = group >= 1 and assume_equal(channels, rows) and assume_equal(channels % group, 0)
    if not fits:
        raise TypeMismatch(
            "conv_transpose: the channels of x are the rows of w and split into groups",
            received=f"x {x}, w {w}, group={group}",
        )
    attrs = transpose_attrs(kernel, strides, pads, dilations, output_padding)
    require_shape("conv_transpose", "b", b, (outputs * group,))
    sizes = _transpose_sizes(x.shape[1:-1] if channels_last else x.shape[2:], kernel, *attrs)
    found = (outputs * group,)
    return (x.shape[0], *sizes, *found) if channels_last else (x.shape[0], *found, *sizes)


def conv_transpose_ref(
    x, w, b=None, *, strides, pads, dilations, output_padding, group, channels_last=False
):
    """By scattering each input element through the kernel."""
    if channels_last:
        x, w = x.transpose(last_to_first(x.ndim)), w.transpose(weights_first(w.ndim))
    n, kernel, sizes = x.ndim - 2, w.shape[2:], x.shape[2:]
    strides, pads, dilations, more = transpose_attrs(
        kernel, strides, pads, dilations, output_padding
    )
    shape = _transpose_sizes(sizes, kernel, strides, pads, dilations, more)
    x = x.reshape(x.shape[0], group, x.shape[1] // group, *sizes)
    w = w.reshape(group, w.shape[0] // group, *w.shape[1:])
    full = [p + begin + max(end, 0) for p, begin, end in zip(shape, pads[:n], pads[n:])]
    full = [
        max(f, (d - 1) * t + e * (k - 1) + 1)
        for f, d, k, t, e in zip(full, sizes, kernel, strides, dilations)
    ]
    y = np.zeros((x.shape[0], group, w.shape[2], *full), x.dtype)
    for tap, place in patches(y, kernel, strides, sizes, dilations, 3):
        place += np.einsum("ngc...,gco->ngo...", x, w[(..., *tap)])
    y = y.reshape(y.shape[0], group * y.shape[2], *full)
    lacks = [max(-begin, 0) for begin in pads[:n]]
    y = np.pad(y, [(0, 0), (0, 0), *((d, 0) for d in lacks)])
    cut = zip(pads[:n], lacks, shape)
    y = y[(..., *(slice(begin + d, begin + d + p) for begin, d, p in cut))]
    y = y if b is None else y + b.reshape(-1, *[1] * n)
    return y.transpose(first_to_last(y.ndim)) if channels_last else y


class Turned:
    """An operand under permuted axes: element i of it is element i[perm[0]], i[perm[1]], … of x
    as axis k of it is axis perm[k] of x."""

    def __init__(self, x, perm):
        self.x, self.perm, self.dtype = x, perm, x.dtype
        self.shape = tuple(x.shape[p] for p in perm)

    def __getitem__(self, index):
        back = sorted(range(len(self.perm)), key=self.perm.__getitem__)
        return self.x[tuple(index[k] for k in back)]


def _conv_transpose(
    out, x, w, b=None, *, strides, pads, dilations, output_padding, group, channels_last
):
    acc, n = accumulator(x.dtype), len(x.shape) - 2
    if channels_last:
        x, w = Turned(x, last_to_first(n + 2)), Turned(w, weights_first(n + 2))
    per_group, per_output_group, kernel = x.shape[1] // group, w.shape[1], w.shape[2:]
    attrs = transpose_attrs(kernel, strides, pads, dilations, output_padding)
    strides, pads, dilations, _ = attrs

    def at(batch, o, *p):
        base, o_in_group = 0, o
        if group > 1:
            base, o_in_group = (o // per_output_group) * per_group, o % per_output_group

        def term(c, *k):
            inside, source = s.const(True, "bool"), []
            for i, t, d, stride, begin, dilation in zip(
                p, k, x.shape[2:], strides, pads[:n], dilations
            ):
                # The element at q reached i through tap t: q * stride + t * dilation - begin = i.
                reach = i + begin - t * dilation
                q = reach // stride
                inside = inside & s.eq(reach % stride, 0) & (q >= 0) & (q < d)
                source.append(s.minimum(s.maximum(q, 0), d - 1))
            value = s.select(inside, x[(batch, c + base, *source)], s.const(0, x.dtype))
            return s.cast(value, acc) * s.cast(w[(c + base, o_in_group, *k)], acc)

        total = s.reduce("sum", [per_group, *kernel], term, acc)
        return total if b is None else total + s.cast(b[o], acc)

    return (lambda batch, *po: at(batch, po[-1], *po[:-1])) if channels_last else at


def conv_transpose_grad(c, dy):
    """dx is the convolution of dy, dw that of `conv` with the sides exchanged."""
    (x, w, bias), a, b = c.inputs, c.attrs, c.b
    last, rank = a["channels_last"], x.rank
    if last:
        x, dy = x.transpose(last_to_first(rank)), dy.transpose(last_to_first(rank))
        w = w.transpose(weights_first(rank))
    strides, pads, dilations, _ = transpose_attrs(
        w.shape[2:], a["strides"], a["pads"], a["dilations"], a["output_padding"]
    )
    window = {"strides": strides, "pads": pads, "dilations": dilations, "group": a["group"]}
    dx = b.conv(dy, w, **window)
    if dx.shape != x.shape:
        n = rank - 2
        sizes = x.shape[2:]
        dx = b.slice(dx, axes=range(2, n + 2), starts=[0] * n, steps=[1] * n, sizes=sizes)
    dw = conv_weight_gradient(dy, x, w.shape[2:], **window)
    dbias = None if bias is None else dy.sum([0, *range(2, rank)])
    if last:
        dx, dw = dx.transpose(first_to_last(rank)), dw.transpose(*range(2, rank), 0, 1)
    return [dx, dw, dbias]


register(
    "conv_transpose",
    "x: T, w: T, b: T? -> T",
    "Transposed convolution: the gradient of `conv` in its input. x [N,C,*S], w [C,O/g,*K].",
    attrs={
        **CONV_ATTRS,
        "channels_last": Attr("bool", False, "x [N,*S,C], w [*K,C,O/g]"),
        "output_padding": Attr("dims", ()),
    },
    shape=conv_transpose_shape,
    ref=reference(conv_transpose_ref),
    grad=conv_transpose_grad,
    loops=Pull(_conv_transpose),
    samples=lambda: [
        case(floats((1, 2, 4, 3)), floats((2, 3, 3, 3), seed=1)),
        case(
            floats((2, 3, 4, 3)),
            floats((3, 2, 3, 2), seed=1),
            floats((2,), seed=2),
            strides=(2, 3),
            pads=(1, 0, 1, 1),
        ),
        case(
            floats((1, 4, 5)),
            floats((4, 3, 3), seed=1),
            strides=(2,),
            dilations=(2,),
            output_padding=(1,),
            group=2,
            pads=(1, 2),
        ),
        case(floats((1, 3, 4)), floats((3, 1, 2), seed=1), strides=(2,), group=3),
        case(
            floats((2, 4, 3, 4)),
            floats((3, 2, 4, 1), seed=1),
            floats((2,), seed=2),
            strides=(2, 1),
            pads=(1, 0, 0, 1),
            group=2,
            channels_last=True,
        ),
        case(floats((1, 2, 3), dtype="f64"), floats((2, 1, 2), seed=1, dtype="f64")),
        case(
            floats((1, 2, 3, 3), dtype="f16"),
            floats((2, 2, 2, 2), seed=1, dtype="f16"),
            strides=(2, 2),
            atol=2e-2,
        ),
    ],
    group="contract",
    T=FLOATS,
)
