"""Sliding windows, shared by convolutions and pools.

A window of `kernel` taps, `dilations` apart, moves by `strides` over a spatial axis of size S that
`pads` = (begin…, end…) extend. Along one axis

    extent = dilation * (kernel - 1) + 1
    output = (S + begin + end - extent) // stride + 1
"""

from collections.abc import Sequence

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir import dims
from ...ir.types import I32, DType, TensorType


def accumulator(dtype: DType) -> DType:
    """The type that sums of `dtype` are kept in: f32 for halves, i32 for 8 and 16 bits."""
    return I32 if dtype.is_int and dtype.bits < 32 else dtype.compute


class Padded:
    """An operand with `pads` = (begin…, end…) on all its axes, filled with `value`.

    Reads stay inside the operand: the index is clamped under the select.
    """

    def __init__(self, x, pads: Sequence[int], value):
        rank = len(x.shape)
        self.x, self.value, self.dtype = x, value, x.dtype
        self.begin = tuple(pads[:rank])
        self.shape = tuple(b + d + e for b, d, e in zip(pads[:rank], x.shape, pads[rank:]))
        self.type = TensorType(x.dtype, self.shape)

    def __getitem__(self, index) -> s.Expr:
        index = index if isinstance(index, tuple) else (index,)
        fill = self.value if isinstance(self.value, s.Expr) else s.const(self.value, self.dtype)
        if 0 in self.x.shape:
            return fill
        inside, source = s.const(True, "bool"), []
        for i, begin, d in zip(index, self.begin, self.x.shape):
            i = (i if isinstance(i, s.Expr) else s.const(i)) - begin
            inside = inside & (i >= 0) & (i < d)
            source.append(s.minimum(s.maximum(i, 0), d - 1))
        return s.select(inside, self.x[tuple(source)], fill)


def padded(x, pads: Sequence[int], value):
    """`x` with pads on all axes (negative ones crop); `x` itself where they are zero."""
    return Padded(x, pads, value) if any(pads) else x


def spatial_pads(pads: Sequence, rank: int, channels_last: bool) -> tuple:
    """Pads of the spatial axes as pads of all axes of [N, C, *S] or [N, *S, C]."""
    n = rank - 2
    before, after = ((0,), (0,)) if channels_last else ((0, 0), ())
    return (*before, *pads[:n], *after, *before, *pads[n:], *after)


def window_attrs(rank: int, kernel, strides, pads, dilations) -> tuple[tuple, tuple, tuple]:
    """Strides, pads and dilations with defaults for what is empty. Raises TypeMismatch."""
    strides = tuple(strides) or (1,) * rank
    dilations = tuple(dilations) or (1,) * rank
    pads = tuple(pads) or (0,) * (2 * rank)
    lengths = (len(kernel), len(strides), len(dilations), len(pads))
    if lengths != (rank, rank, rank, 2 * rank):
        raise TypeMismatch(
            "window attributes do not fit the spatial axes",
            expected=f"{rank} kernel sizes, strides and dilations, {2 * rank} pads",
            received="{} kernel sizes, {} strides, {} dilations, {} pads".format(*lengths),
        )
    if any(v < 1 for v in strides + dilations):
        raise TypeMismatch(
            "strides and dilations must be positive",
            received=f"strides={list(strides)}, dilations={list(dilations)}",
        )
    return strides, pads, dilations


def window_sizes(sizes, kernel, strides, pads, dilations, ceil_mode=False) -> tuple:
    """Output size along each spatial axis.

    With `ceil_mode` a last window that is not full counts, if it starts before the end padding.
    """
    result, n = [], len(kernel)
    for d, k, stride, begin, end, dilation in zip(
        sizes, kernel, strides, pads[:n], pads[n:], dilations
    ):
        free = d + begin + end - (dilation * (k - 1) + 1)
        if ceil_mode:
            size = dims.dim_min(dims.ceil_div(free, stride) + 1, dims.ceil_div(d + begin, stride))
        else:
            size = free // stride + 1
        if isinstance(size, int) and size < 0:  # as dynamic dims, whose formula this is, refuse it
            raise TypeMismatch(
                "the window is larger than the axis that it moves over",
                expected=f"at least {dilation * (k - 1) + 1 - stride} elements",
                received=f"{d + begin + end}, padding included",
            )
        result.append(size)
    return tuple(result)


def patches(x: np.ndarray, kernel, strides, sizes, dilations, first: int):
    """(tap, slice of `x` that it sees) for each tap; the spatial axes begin at `first`."""
    for tap in np.ndindex(*kernel):
        cut = tuple(
            slice(t * dilation, t * dilation + (size - 1) * stride + 1 if size else 0, stride)
            for t, dilation, stride, size in zip(tap, dilations, strides, sizes)
        )
        yield tap, x[(slice(None),) * first + cut]


def last_to_first(rank: int) -> tuple[int, ...]:
    """The permutation [N, *S, C] → [N, C, *S]."""
    return (0, rank - 1, *range(1, rank - 1))


def first_to_last(rank: int) -> tuple[int, ...]:
    """The permutation [N, C, *S] → [N, *S, C]."""
    return (0, *range(2, rank), 1)


def window_index(at: Sequence, taps: Sequence, strides, dilations) -> tuple:
    """Where in the padded input each tap of the window at `at` lies."""
    return tuple(
        i * stride + k * dilation for i, k, stride, dilation in zip(at, taps, strides, dilations)
    )
