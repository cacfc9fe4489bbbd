"""Layers that draw random numbers in training; in inference they hand on what they get.

The seed is state, which each step of training counts up: the same state gives the same numbers, so
what is saved with it goes on exactly. `init_state(rng)` gives each layer a seed of its own.
"""

import zlib

import numpy as np

from .. import functional as F
from ..module import Module, Scope
from ..tracing import Array


class Random(Module):
    """A module with a seed."""

    def init_state(self, rng: np.random.Generator | None = None) -> dict:
        seed = 0 if rng is None else rng.integers(2**62)
        return {"seed": np.asarray(seed, np.int64), **super().init_state(rng)}

    def draw(self, s: Scope, x: Array) -> tuple[Array, int]:
        """(seed, stream) for this call: the next one gets another seed, other layers other
        streams."""
        seed = x.b.array(s.seed)
        s.update("seed", seed + 1)
        return seed, zlib.crc32(s.path.encode())


class Dropout(Random):
    """x / (1 - rate), or 0 with the probability `rate` (Srivastava et al. 2014)."""

    def __init__(self, rate: float = 0.5):
        self.rate = rate

    def noise_shape(self, x: Array) -> tuple:
        """The shape of what is kept or dropped together."""
        return tuple(x.shape)

    def forward(self, s: Scope, x: Array) -> Array:
        if not s.training or self.rate == 0:
            return x
        seed, stream = self.draw(s, x)
        u = F.random_uniform(seed, shape=self.noise_shape(x), stream=stream)
        return F.where(u >= self.rate, x * (1 / (1 - self.rate)), 0.0)


class SpatialDropout(Dropout):
    """Whole channels of [N,C,…] are dropped."""

    def noise_shape(self, x: Array) -> tuple:
        return (*x.shape[:2], *[1] * (x.rank - 2))


class DropPath(Dropout):
    """Whole samples are dropped: stochastic depth, for the branch of a residual (Huang 2016)."""

    def noise_shape(self, x: Array) -> tuple:
        return (x.shape[0], *[1] * (x.rank - 1))


class GaussianNoise(Random):
    """x plus normal numbers of the standard deviation `scale`."""

    def __init__(self, scale: float):
        self.scale = scale

    def forward(self, s: Scope, x: Array) -> Array:
        if not s.training or self.scale == 0:
            return x
        seed, stream = self.draw(s, x)
        noise = F.random_normal(
            seed, shape=tuple(x.shape), stream=stream, scale=self.scale, dtype=x.dtype
        )
        return x + noise
