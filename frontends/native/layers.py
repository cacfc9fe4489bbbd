"""Layers, under the names that PyTorch and Keras users know.

Images are [N,C,H,W]. Weights: Linear [in,out]; Conv2d [out,in/groups,kh,kw].
"""

import math
from collections.abc import Sequence

import numpy as np

from ...compiler.errors import UsageError
from . import functional as F
from .initializers import Initializer, glorot_uniform, he_uniform, normal
from .module import Module, Scope
from .tracing import Array


class Linear(Module):
    """y = x @ weight + bias, on the last axis."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        initializer: Initializer = glorot_uniform,
    ):
        self.in_features, self.out_features = in_features, out_features
        self.bias, self.initializer = bias, initializer

    def parameters(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        i, o = self.in_features, self.out_features
        p = {"weight": self.initializer(rng, (i, o), i, o)}
        return p | ({"bias": np.zeros(o, np.float32)} if self.bias else {})

    def forward(self, s: Scope, x: Array) -> Array:
        y = x @ s.weight
        return y + s.bias if s.has("bias") else y


class Conv2d(Module):
    """Convolution. `padding`: an int, a pair (vertical, horizontal), or "same" (stride 1)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        initializer: Initializer = he_uniform,
    ):
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel, self.strides, self.dilations = map(_pair, (kernel_size, stride, dilation))
        self.pads = _pads(padding, self.kernel, self.dilations)
        self.bias, self.initializer = bias, initializer

    def parameters(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel)
        area = math.prod(self.kernel)
        fans = shape[1] * area, self.out_channels // self.groups * area
        p = {"weight": self.initializer(rng, shape, *fans)}
        return p | ({"bias": np.zeros(self.out_channels, np.float32)} if self.bias else {})

    def forward(self, s: Scope, x: Array) -> Array:
        bias = [s.bias] if s.has("bias") else []
        return F.conv(
            x,
            s.weight,
            *bias,
            strides=self.strides,
            pads=self.pads,
            dilations=self.dilations,
            group=self.groups,
        )


class MaxPool2d(Module):
    """The largest of each window; the stride defaults to the window."""

    op = staticmethod(F.max_pool)

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] | str = 0,
    ):
        self.kernel = _pair(kernel_size)
        self.strides = self.kernel if stride is None else _pair(stride)
        self.pads = _pads(padding, self.kernel, (1, 1))

    def forward(self, s: Scope, x: Array) -> Array:
        return self.op(
            x, kernel=self.kernel, strides=self.strides, pads=self.pads, dilations=(1, 1)
        )


class AvgPool2d(MaxPool2d):
    """The mean of each window."""

    op = staticmethod(F.average_pool)


class BatchNorm2d(Module):
    """Normalise each channel: over the batch in training, by running statistics in inference.

    running = (1 - momentum) * running + momentum * batch, with the biased variance.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1):
        self.num_features, self.eps, self.momentum = num_features, eps, momentum

    def parameters(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        n = self.num_features
        return {"weight": np.ones(n, np.float32), "bias": np.zeros(n, np.float32)}

    def statistics(self) -> dict[str, np.ndarray]:
        n = self.num_features
        return {"mean": np.zeros(n, np.float32), "variance": np.ones(n, np.float32)}

    def forward(self, s: Scope, x: Array) -> Array:
        if not s.training:
            return F.batch_norm(x, s.weight, s.bias, s.mean, s.variance, epsilon=self.eps)
        mean = x.mean((0, 2, 3), keepdims=True)
        centred = x - mean
        variance = (centred * centred).mean((0, 2, 3), keepdims=True)
        for name, batch in (("mean", mean), ("variance", variance)):
            batch = F.stop_gradient(batch.reshape(self.num_features))
            s.update(name, batch * self.momentum + s[name] * (1 - self.momentum))
        column = (self.num_features, 1, 1)
        scale = F.rsqrt(variance + self.eps) * F.reshape(x.b.array(s.weight), shape=column)
        return centred * scale + F.reshape(x.b.array(s.bias), shape=column)


class LayerNorm(Module):
    """Normalise the last axes, of shape `normalized_shape`, of each sample."""

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5):
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.shape, self.eps = tuple(shape), eps

    def parameters(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"weight": np.ones(self.shape, np.float32), "bias": np.zeros(self.shape, np.float32)}

    def forward(self, s: Scope, x: Array) -> Array:
        return F.layer_norm(x, s.weight, s.bias, axis=-len(self.shape), epsilon=self.eps)


class Embedding(Module):
    """Rows of a table by their index."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, initializer: Initializer | None = None
    ):
        self.shape = num_embeddings, embedding_dim
        self.initializer = normal(1.0) if initializer is None else initializer

    def parameters(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"weight": self.initializer(rng, self.shape, *self.shape)}

    def forward(self, s: Scope, x: Array) -> Array:
        return F.gather(s.weight, x, axis=0)


class Flatten(Module):
    """Join all axes behind the first."""

    def forward(self, s: Scope, x: Array) -> Array:
        return x.reshape((x.shape[0], -1))


class ReLU(Module):
    def forward(self, s: Scope, x: Array) -> Array:
        return F.relu(x)


class GELU(Module):
    """`approximate`: "none" (erf) or "tanh"."""

    def __init__(self, approximate: str = "none"):
        self.approximate = approximate

    def forward(self, s: Scope, x: Array) -> Array:
        return F.gelu(x, approximate=self.approximate)


class Tanh(Module):
    def forward(self, s: Scope, x: Array) -> Array:
        return F.tanh(x)


class Sequential(Module):
    """Layers one after the other; their parameters are named "0", "1", …"""

    def __init__(self, *layers: Module):
        self.layers = layers

    def parts(self) -> dict[str, Module]:
        return {str(i): layer for i, layer in enumerate(self.layers)}

    def forward(self, s: Scope, x: Array) -> Array:
        for name in self.parts():
            x = s[name](x)
        return x


def _pair(x: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(x, int):
        return x, x
    if isinstance(x, str) or len(x) != 2:
        raise UsageError(
            "images have two axes",
            expected="a number, or a pair (vertical, horizontal)",
            received=repr(x),
        )
    return x[0], x[1]


def _pads(
    padding: int | Sequence[int] | str, kernel: Sequence[int], dilations: Sequence[int]
) -> tuple[int, ...]:
    """(top, left, bottom, right)"""
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilations)]
        return (*(t // 2 for t in total), *(t - t // 2 for t in total))
    if isinstance(padding, str):
        raise UsageError(
            "unknown padding",
            expected='a number, a pair (vertical, horizontal), or "same"',
            received=repr(padding),
        )
    return _pair(padding) * 2
