"""Initial values of parameters, from an explicit numpy Generator.

An initializer is a function (rng, shape, fan_in, fan_out) -> f32 array. The fans are the sizes of
what a unit sums over and of what it feeds.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator

Initializer = Callable[[Generator, tuple, int, int], np.ndarray]


def he_normal(rng: Generator, shape: tuple, fan_in: int, fan_out: int) -> np.ndarray:
    """N(0, 2 / fan_in), for layers before a ReLU (He et al. 2015)."""
    return _normal(rng, shape, math.sqrt(2 / fan_in))


def he_uniform(rng: Generator, shape: tuple, fan_in: int, fan_out: int) -> np.ndarray:
    """U(-a, a) with a = sqrt(6 / fan_in): the variance of `he_normal`."""
    return _uniform(rng, shape, math.sqrt(6 / fan_in))


def glorot_normal(rng: Generator, shape: tuple, fan_in: int, fan_out: int) -> np.ndarray:
    """N(0, 2 / (fan_in + fan_out)), for layers before tanh or softmax (Glorot, Bengio 2010)."""
    return _normal(rng, shape, math.sqrt(2 / (fan_in + fan_out)))


def glorot_uniform(rng: Generator, shape: tuple, fan_in: int, fan_out: int) -> np.ndarray:
    """U(-a, a) with a = sqrt(6 / (fan_in + fan_out)): the variance of `glorot_normal`."""
    return _uniform(rng, shape, math.sqrt(6 / (fan_in + fan_out)))


def normal(std: float = 0.02) -> Initializer:
    """N(0, std^2), whatever the fans."""
    return lambda rng, shape, fan_in, fan_out: _normal(rng, shape, std)


def zeros(rng: Generator, shape: tuple, fan_in: int, fan_out: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def ones(rng: Generator, shape: tuple, fan_in: int, fan_out: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def _normal(rng: Generator, shape: tuple, std: float) -> np.ndarray:
    return (rng.standard_normal(shape) * std).astype(np.float32)


def _uniform(rng: Generator, shape: tuple, bound: float) -> np.ndarray:
    return rng.uniform(-bound, bound, shape).astype(np.float32)
