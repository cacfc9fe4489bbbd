"""Windows as columns: unfold (im2col) and its adjoint fold (col2im).

    unfold   y[n, c K + k, l] = x[n, c, p * stride + k * dilation - begin]   for window l at p
    fold     x[n, c, i] = sum of y[n, c K + k, l] over the taps k of windows l that see i

K is the number of taps of a window; windows and taps are counted in row-major order.
"""

import math

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir import dims
from ...ir.bounds import assume_equal
from ...ir.op import Attr, Pull, register
from ...ir.types import NUMERIC
from ..common import case, floats, ints, reference
from ..contraction.windows import (
    accumulator,
    padded,
    patches,
    spatial_pads,
    window_attrs,
    window_index,
    window_sizes,
)
from ..pooling.windows import PATCH_ATTRS


def _windows(sizes, kernel, strides, pads, dilations):
    """Strides, pads, dilations filled in, and how many windows each axis has."""
    rank = len(sizes)
    if not kernel or len(kernel) != rank:
        raise TypeMismatch(
            "a kernel needs a size for each spatial axis", expected=rank, received=list(kernel)
        )
    strides, pads, dilations = window_attrs(rank, kernel, strides, pads, dilations)
    return strides, pads, dilations, window_sizes(sizes, kernel, strides, pads, dilations)


def unfold_shape(x, *, kernel, **attrs):
    counts = _windows(x.shape[2:], kernel, **attrs)[-1]
    return (x.shape[0], x.shape[1] * math.prod(kernel), dims.prod(counts))


def unfold_ref(x, *, kernel, **attrs):
    strides, pads, dilations, counts = _windows(x.shape[2:], kernel, **attrs)
    n = len(kernel)
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:n], pads[n:])])
    seen = np.stack([v for _, v in patches(x, kernel, strides, counts, dilations, 2)], 2)
    return seen.reshape(x.shape[0], x.shape[1] * math.prod(kernel), math.prod(counts))


def _unfold(out, x, *, kernel, **attrs):
    strides, pads, dilations, counts = _windows(x.shape[2:], kernel, **attrs)
    view, taps = padded(x, spatial_pads(pads, len(x.shape), False), 0), math.prod(kernel)

    def at(n, row, column):
        k, p = s.unflatten(row % taps, kernel), s.unflatten(column, counts)
        return view[(n, row // taps, *window_index(p, k, strides, dilations))]

    return at


register(
    "unfold",
    "x: T -> T",
    "The windows of x [N,C,*S] as columns [N, C·K, L]; padding is 0.",
    attrs=PATCH_ATTRS,
    shape=unfold_shape,
    ref=unfold_ref,
    grad=lambda c, dy: (c.b.fold(dy, sizes=c.inputs[0].shape[2:], **c.attrs),),
    loops=Pull(_unfold),
    samples=lambda: [
        case(floats((2, 2, 4, 5)), kernel=(2, 3)),
        case(
            floats((1, 2, 5, 6)), kernel=(3, 2), strides=(2, 1), pads=(1, 0, 2, 1), dilations=(1, 2)
        ),
        case(ints((2, 1, 7)), kernel=(3,), strides=(2,), pads=(1, 1)),
    ],
    group="move",
    T=NUMERIC,
)


def fold_shape(x, *, sizes, kernel, **attrs):
    counts = _windows(sizes, kernel, **attrs)[-1]
    taps, columns = math.prod(kernel), dims.prod(counts)
    fits = x.rank == 3 and assume_equal(x.shape[2], columns) and assume_equal(x.shape[1] % taps, 0)
    if not fits:
        raise TypeMismatch(
            "fold takes [N, C·K, L], a column for each window",
            expected=f"[N, C·{taps}, {columns}]",
            received=x,
        )
    return (x.shape[0], x.shape[1] // taps, *sizes)


def fold_ref(x, *, sizes, kernel, **attrs):
    strides, pads, dilations, counts = _windows(sizes, kernel, **attrs)
    n, channels = len(kernel), x.shape[1] // math.prod(kernel)
    x = x.reshape(x.shape[0], channels, math.prod(kernel), *counts)
    shape = [b + d + e for b, d, e in zip(pads[:n], sizes, pads[n:])]
    y = np.zeros((x.shape[0], channels, *shape), x.dtype)
    for i, (_, seen) in enumerate(patches(y, kernel, strides, counts, dilations, 2)):
        seen += x[:, :, i]  # a view of y
    return y[(..., *(slice(b, b + d) for b, d in zip(pads[:n], sizes)))]


def _fold(out, x, *, sizes, kernel, **attrs):
    """Each element looks at the windows that see it."""
    strides, pads, dilations, counts = _windows(sizes, kernel, **attrs)
    taps, acc = math.prod(kernel), accumulator(x.dtype)

    def at(n, channel, *i):
        def term(*k):
            inside, window = s.const(True, "bool"), []
            for place, tap, count, stride, begin, dilation in zip(
                i, k, counts, strides, pads, dilations
            ):
                reach = place + begin - tap * dilation
                q = reach // stride
                inside = inside & s.eq(reach % stride, 0) & (q >= 0) & (q < count)
                window.append(s.minimum(s.maximum(q, 0), count - 1))
            row, column = channel * taps + s.flatten(k, kernel), s.flatten(window, counts)
            return s.select(inside, s.cast(x[(n, row, column)], acc), s.const(0, acc))

        if 0 in counts:
            return s.const(0, acc)
        return s.reduce("sum", kernel, term, acc)

    return at


register(
    "fold",
    "x: T -> T",
    "The columns [N, C·K, L] of windows summed into the image [N,C,*sizes] that they saw.",
    attrs={"sizes": Attr("dims", doc="the spatial sizes of the image"), **PATCH_ATTRS},
    shape=fold_shape,
    ref=reference(fold_ref),
    grad=lambda c, dy: (c.b.unfold(dy, **{k: v for k, v in c.attrs.items() if k != "sizes"}),),
    loops=Pull(_fold),
    samples=lambda: [
        case(floats((2, 12, 9)), sizes=(4, 5), kernel=(2, 3)),
        case(
            floats((1, 12, 15)),
            sizes=(5, 6),
            kernel=(3, 2),
            strides=(2, 1),
            pads=(1, 0, 2, 1),
            dilations=(1, 2),
        ),
        case(ints((2, 3, 4), dtype="i32"), sizes=(7,), kernel=(3,), strides=(2,), pads=(1, 1)),
        case(floats((1, 4, 4), dtype="f16"), sizes=(3, 3), kernel=(2, 2), atol=4e-3),
        case(ints((1, 8, 4), dtype="u8"), sizes=(2, 3, 3), kernel=(2, 2, 2)),
    ],
    group="pool",
    T=NUMERIC,
)
