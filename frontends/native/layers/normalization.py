"""Normalisations: over the batch, over a sample, over groups of channels."""

from collections.abc import Sequence

import numpy as np

from .. import functional as F
from ..module import Module, Scope
from ..tracing import Array


class BatchNorm(Module):
    """Normalise each channel of [N,C,…]: over the batch in training, by running statistics else.

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
        axes = (0, *range(2, x.rank))
        mean = x.mean(axes, keepdims=True)
        centred = x - mean
        variance = (centred * centred).mean(axes, keepdims=True)
        for name, batch in (("mean", mean), ("variance", variance)):
            batch = F.stop_gradient(batch.reshape(self.num_features))
            s.update(name, batch * self.momentum + s[name] * (1 - self.momentum))
        column = (self.num_features, *[1] * (x.rank - 2))
        scale = F.rsqrt(variance + self.eps) * F.reshape(x.b.array(s.weight), shape=column)
        return centred * scale + F.reshape(x.b.array(s.bias), shape=column)


class BatchNorm1d(BatchNorm):
    """`BatchNorm` of [N,C] or [N,C,L]."""


class BatchNorm2d(BatchNorm):
    """`BatchNorm` of images [N,C,H,W]."""


class BatchNorm3d(BatchNorm):
    """`BatchNorm` of volumes [N,C,D,H,W]."""


class LayerNorm(Module):
    """Normalise the last axes, of shape `normalized_shape`, of each sample."""

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5):
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.shape, self.eps = tuple(shape), eps

    def parameters(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"weight": np.ones(self.shape, np.float32), "bias": np.zeros(self.shape, np.float32)}

    def forward(self, s: Scope, x: Array) -> Array:
        return F.layer_norm(x, s.weight, s.bias, axis=-len(self.shape), epsilon=self.eps)


class RMSNorm(LayerNorm):
    """x / sqrt(mean(x^2) + eps) * weight over the last axes (Zhang, Sennrich 2019)."""

    def parameters(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"weight": np.ones(self.shape, np.float32)}

    def forward(self, s: Scope, x: Array) -> Array:
        return F.rms_norm(x, s.weight, axis=-len(self.shape), epsilon=self.eps)


class GroupNorm(Module):
    """Normalise each sample over groups of channels (Wu, He 2018)."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5):
        self.groups, self.num_features, self.eps = num_groups, num_channels, eps

    parameters = BatchNorm.parameters  # type: ignore[assignment]

    def forward(self, s: Scope, x: Array) -> Array:
        return F.group_norm(x, s.weight, s.bias, groups=self.groups, epsilon=self.eps)


class InstanceNorm(BatchNorm):
    """Normalise each channel of each sample; there are no statistics."""

    def statistics(self) -> dict[str, np.ndarray]:
        return {}

    def forward(self, s: Scope, x: Array) -> Array:
        return F.instance_norm(x, s.weight, s.bias, epsilon=self.eps)
