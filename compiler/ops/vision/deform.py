"""deform_conv: a convolution whose taps are moved by offsets that are data.

    y[n, o, p] = b[o] + sum_{c, k} w[o, c, k] m[n, g, k, p] x[n, c, q + d]

with q = p stride - begin + k dilation, d = offset[n, g, k, :, p], x read by linear interpolation
and 0 outside, m the mask (1 without one). The channels c of one offset group g share offsets and
mask. Sources: Dai et al., Deformable Convolutional Networks (2017); Zhu et al., Deformable ConvNets
v2 (2019).
"""

import itertools
import math

import numpy as np

from ...errors import TypeMismatch
from ...ir.bounds import assume_equal_shapes
from ...ir.dims import is_static
from ...ir.op import Attr, Expand, register
from ...ir.types import I32
from ..common import case, floats, reference, scalar_of_dim, through_expansion, wide
from ..contraction.conv import conv_shape
from ..contraction.windows import window_attrs
from .points import interpolate, linear_taps

DEFORM_ATTRS = {
    "strides": Attr("ints", ()),
    "pads": Attr("dims", (), "(begin…, end…) of the spatial axes"),
    "dilations": Attr("ints", ()),
    "group": Attr("int", 1),
    "offset_group": Attr("int", 1, "how many parts of the channels have offsets of their own"),
}


def deform_conv_shape(x, w, offset, b=None, mask=None, *, offset_group, **attrs):
    shape = conv_shape(x, w, b, **attrs)
    taps, axes = math.prod(w.shape[2:]), x.rank - 2
    wanted = [(offset, (x.shape[0], offset_group * taps * axes, *shape[2:]))]
    if mask is not None:
        wanted.append((mask, (x.shape[0], offset_group * taps, *shape[2:])))
    for given, expected in wanted:
        if not assume_equal_shapes(given.shape, expected):
            raise TypeMismatch(
                "the offsets or the mask of deform_conv have the wrong shape",
                expected=f"[{','.join(map(str, expected))}]",
                received=given,
            )
    if isinstance(x.shape[1], int) and x.shape[1] % offset_group:
        raise TypeMismatch(
            "the offset groups must divide the channels",
            received=f"{x.shape[1]} channels, offset_group={offset_group}",
        )
    return shape


def places_of(kernel, sizes, strides, pads, dilations) -> list[np.ndarray]:
    """For each spatial axis, where the taps lie without offsets: [K, *sizes] as it broadcasts."""
    taps, rank = np.indices(kernel).reshape(len(kernel), -1), len(kernel)
    result = []
    for d in range(rank):
        p = np.arange(sizes[d]) * strides[d] - pads[d]
        p = p.reshape(1, *[sizes[d] if e == d else 1 for e in range(rank)])
        result.append((taps[d] * dilations[d]).reshape(-1, *[1] * rank) + p)
    return result


def deform_conv_ref(
    x, w, offset, bias=None, mask=None, *, strides, pads, dilations, group, offset_group
):
    rank, (n, channels), sizes = x.ndim - 2, x.shape[:2], offset.shape[2:]
    kernel, taps = w.shape[2:], math.prod(w.shape[2:])
    strides, pads, dilations = window_attrs(rank, kernel, strides, pads, dilations)
    offset = offset.reshape(n, offset_group, taps, rank, *sizes)
    fixed = places_of(kernel, sizes, strides, pads, dilations)
    at = [offset[:, :, :, d] + fixed[d] for d in range(rank)]
    x = np.moveaxis(x.reshape(n, offset_group, channels // offset_group, *x.shape[2:]), 2, -1)
    batch = np.arange(n).reshape(-1, 1, 1, *[1] * rank)
    part = np.arange(offset_group).reshape(1, -1, 1, *[1] * rank)
    columns = 0
    for corner in itertools.product((0, 1), repeat=rank):
        low = [np.floor(p) for p in at]
        place = [p + step for p, step in zip(low, corner)]
        weight = np.prod(
            [1 - (p - q) if step == 0 else p - q for p, q, step in zip(at, low, corner)], axis=0
        )
        seen = np.logical_and.reduce([(p >= 0) & (p < d) for p, d in zip(place, x.shape[2:])])
        near = [np.clip(p, 0, d - 1).astype(int) for p, d in zip(place, x.shape[2:])]
        columns = columns + x[(batch, part, *near)] * (weight * seen)[..., None]
    if mask is not None:
        columns = columns * mask.reshape(n, offset_group, taps, *sizes)[..., None]
    columns = np.moveaxis(columns, -1, 2).reshape(n, group, -1, math.prod(sizes))
    rows = w.reshape(1, group, w.shape[0] // group, -1)
    y = np.matmul(rows, columns).reshape(n, w.shape[0], *sizes)
    y = y if bias is None else y + bias.reshape(-1, *[1] * rank)
    return y.astype(x.dtype)


def _fixed(b, d, kernel, sizes, strides, pads, dilations, dtype):
    """What `places_of` gives for axis d, as a tensor."""
    if is_static((sizes[d], pads[d])):
        known = [n if e == d else 1 for e, n in enumerate(sizes)]
        return b.constant(places_of(kernel, known, strides, pads, dilations)[d].astype(dtype.numpy))
    ones = [1] * len(sizes)
    taps = np.indices(kernel).reshape(len(kernel), -1)[d] * dilations[d]
    starts = b.iota(shape=(1, *ones[:d], sizes[d], *ones[d + 1 :]), axis=d + 1, dtype=dtype)
    starts = starts * strides[d] - scalar_of_dim(b, pads[d], dtype)
    return starts + b.constant(taps.reshape(-1, *ones).astype(dtype.numpy))


def _deform_conv(
    b, x, w, offset, bias=None, mask=None, *, strides, pads, dilations, group, offset_group
):
    rank, (n, channels), sizes = x.rank - 2, x.shape[:2], offset.shape[2:]
    kernel, taps, given = w.shape[2:], math.prod(w.shape[2:]), x.dtype
    strides, pads, dilations = window_attrs(rank, kernel, strides, pads, dilations)
    x, w, offset = wide(x), wide(w), wide(offset)
    offset = offset.reshape(n, offset_group, taps, rank, *sizes)
    places = [
        offset[:, :, :, d] + _fixed(b, d, kernel, sizes, strides, pads, dilations, offset.dtype)
        for d in range(rank)
    ]
    parts = x.reshape(n, offset_group, channels // offset_group, *x.shape[2:])
    ones = [1] * (rank + 1)
    outer = [
        b.iota(shape=(n, 1, *ones), axis=0, dtype=I32),
        b.iota(shape=(1, offset_group, *ones), axis=1, dtype=I32),
    ]
    columns = interpolate(
        b, parts, outer, places, axes=(0, 1, *range(3, rank + 3)), lead=2, taps=linear_taps
    )  # [N, G, C/G, K, *P]
    if mask is not None:
        columns = columns * wide(mask).reshape(n, offset_group, 1, taps, *sizes)
    columns = columns.reshape(n, group, channels // group * taps, math.prod(sizes))
    rows = w.reshape(1, group, w.shape[0] // group, channels // group * taps)
    y = b.matmul(rows, columns).reshape(n, w.shape[0], *sizes)
    y = y if bias is None else y + wide(bias).reshape(-1, *[1] * rank)
    return y.cast(given)


def _samples():
    def offsets(*shape, seed=3, **more):
        return floats(shape, seed, -1.5, 1.5, **more)

    yield case(floats((1, 2, 4, 5)), floats((3, 2, 2, 2), 1), offsets(1, 8, 3, 4), rtol=1e-4)
    yield case(
        floats((2, 4, 5, 5)),
        floats((6, 2, 3, 3), 1),
        offsets(2, 36, 3, 3),
        floats((6,), 2),
        floats((2, 18, 3, 3), 4, 0, 1),
        strides=(2, 2),
        group=2,
        pads=(1, 1, 1, 1),
        offset_group=2,
        rtol=1e-4,
    )
    yield case(floats((1, 1, 6)), floats((2, 1, 2), 1), offsets(1, 2, 4), dilations=(2,), rtol=1e-4)
    yield case(
        floats((1, 1, 3, 3, 3)), floats((1, 1, 2, 2, 2), 1), offsets(1, 24, 2, 2, 2), rtol=1e-4
    )
    yield case(
        floats((1, 2, 4, 4), dtype="f16"),
        floats((2, 2, 2, 2), 1, dtype="f16"),
        offsets(1, 8, 3, 3, dtype="f16"),
        atol=2e-2,
    )


register(
    "deform_conv",
    "x: T, w: T, offset: T, b: T?, mask: T? -> T",
    """Deformable convolution: x [N,C,*S], w [O,C/g,*K], offset [N,G·K·r,*P], mask [N,G·K,*P].

    An offset has r numbers, one per spatial axis, the first axis first.
    """,
    attrs=DEFORM_ATTRS,
    shape=deform_conv_shape,
    ref=reference(deform_conv_ref),
    grad=through_expansion,
    loops=Expand(_deform_conv),
    samples=_samples,
    group="composite",
    T="float",
)
