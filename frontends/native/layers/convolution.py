"""Convolutions and pooling over one, two or three axes: [N,C,L], [N,C,H,W], [N,C,D,H,W].

Weights: convolutions [out,in/groups,*kernel], transposed ones [in,out/groups,*kernel]. A size is a
number, or one for each axis; `padding` may be "same" where the stride is 1.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....compiler.errors import UsageError
from .. import functional as F
from ..initializers import Initializer, he_uniform
from ..module import Module, Scope
from ..tracing import Array

Sizes = int | Sequence[int]


class Convolution(Module):
    """What convolutions share; `axes` is how many they slide over."""

    axes = 2
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        initializer: Initializer = he_uniform,
    ):
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel, self.strides, self.dilations = (
            sizes(x, self.axes) for x in (kernel_size, stride, dilation)
        )
        self.pads = pads(padding, self.kernel, self.dilations)
        self.bias, self.initializer = bias, initializer

    def parameters(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        first, second = self.out_channels, self.in_channels
        if self.transposed:
            first, second = second, first
        shape = (first, second // self.groups, *self.kernel)
        area = math.prod(self.kernel)
        fans = self.in_channels // self.groups * area, self.out_channels // self.groups * area
        p = {"weight": self.initializer(rng, shape, *fans)}
        return p | ({"bias": np.zeros(self.out_channels, np.float32)} if self.bias else {})

    def forward(self, s: Scope, x: Array) -> Array:
        bias = [s.bias] if s.has("bias") else []
        return self._convolve(
            x,
            s.weight,
            *bias,
            strides=self.strides,
            pads=self.pads,
            dilations=self.dilations,
            group=self.groups,
        )

    def _convolve(self, *inputs: Array, **options: Any) -> Array:
        return F.conv(*inputs, **options)


class Conv1d(Convolution):
    """Convolution over sequences [N,C,L]."""

    axes = 1


class Conv2d(Convolution):
    """Convolution over images [N,C,H,W]."""


class Conv3d(Convolution):
    """Convolution over volumes [N,C,D,H,W]."""

    axes = 3


class ConvTranspose(Convolution):
    """The gradient of a convolution by its input: (n - 1) * stride - 2 * padding + kernel +
    output_padding places of n."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        initializer: Initializer = he_uniform,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            initializer,
        )
        self.output_padding = sizes(output_padding, self.axes)

    def _convolve(self, *inputs: Array, **options: Any) -> Array:
        return F.conv_transpose(*inputs, output_padding=self.output_padding, **options)


class ConvTranspose1d(ConvTranspose):
    """Transposed convolution over sequences [N,C,L]."""

    axes = 1


class ConvTranspose2d(ConvTranspose):
    """Transposed convolution over images [N,C,H,W]."""


class ConvTranspose3d(ConvTranspose):
    """Transposed convolution over volumes [N,C,D,H,W]."""

    axes = 3


class Pool(Module):
    """What pooling layers share; the stride defaults to the window."""

    axes = 2
    op = staticmethod(F.max_pool)

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes | str = 0):
        self.kernel = sizes(kernel_size, self.axes)
        self.strides = self.kernel if stride is None else sizes(stride, self.axes)
        self.pads = pads(padding, self.kernel, (1,) * self.axes)

    def forward(self, s: Scope, x: Array) -> Array:
        return self.op(
            x,
            kernel=self.kernel,
            strides=self.strides,
            pads=self.pads,
            dilations=(1,) * self.axes,
        )


class MaxPool2d(Pool):
    """The largest of each window of images."""


class MaxPool1d(MaxPool2d):
    """The largest of each window of sequences."""

    axes = 1


class MaxPool3d(MaxPool2d):
    """The largest of each window of volumes."""

    axes = 3


class AvgPool2d(Pool):
    """The mean of each window of images."""

    op = staticmethod(F.average_pool)


class AvgPool1d(AvgPool2d):
    """The mean of each window of sequences."""

    axes = 1


class AvgPool3d(AvgPool2d):
    """The mean of each window of volumes."""

    axes = 3


class GlobalAvgPool(Module):
    """The mean over all axes behind the channels: [N,C,…] to [N,C]."""

    def forward(self, s: Scope, x: Array) -> Array:
        return x.mean(tuple(range(2, x.rank)))


class GlobalMaxPool(Module):
    """The largest over all axes behind the channels: [N,C,…] to [N,C]."""

    def forward(self, s: Scope, x: Array) -> Array:
        return x.max(tuple(range(2, x.rank)))


NAMES = {1: "sequences have one axis", 2: "images have two axes", 3: "volumes have three axes"}
EXPECTED = {
    1: "a number",
    2: "a number, or a pair (vertical, horizontal)",
    3: "one or three numbers",
}


def sizes(x: Sizes, axes: int) -> tuple[int, ...]:
    """A number for each axis."""
    if isinstance(x, int):
        return (x,) * axes
    if isinstance(x, str) or len(x) != axes:
        raise UsageError(NAMES[axes], expected=EXPECTED[axes], received=repr(x))
    return tuple(x)


def pads(padding: Sizes | str, kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """What is added before each axis, then behind each."""
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilations)]
        return (*(t // 2 for t in total), *(t - t // 2 for t in total))
    if isinstance(padding, str):
        raise UsageError(
            "unknown padding",
            expected=f'{EXPECTED[len(kernel)]}, or "same"',
            received=repr(padding),
        )
    return sizes(padding, len(kernel)) * 2
