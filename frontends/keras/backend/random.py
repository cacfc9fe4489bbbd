"""Keras' random functions with a seed that is traced: other numbers in each step.

The state of a `keras.random.SeedGenerator` is u32[2]; its two halves are the i64 seed of tessel's
random ops, which are functions without state.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..functions import movement
from ..functions.elementwise import OPERATIONS
from ..functions.table import not_traced
from ..functions.traced import TracedArray, cast, emit, find, lift, values


def key_of(seed: Any) -> TracedArray | None:
    """The i64[] seed that a Keras seed stands for, or None if it is known while tracing."""
    from keras.src.random.seed_generator import draw_seed

    state = seed if isinstance(seed, (TracedArray, np.ndarray)) else draw_seed(seed)
    if not isinstance(state, TracedArray):
        return None
    parts = cast(state, "int64")
    return parts[0] * (2**32) + parts[1]


def _sizes(shape: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in shape)


def _float(dtype: Any) -> str:
    from keras.src.backend.config import floatx

    return dtype or floatx()


def _key(seed: Any, like: Any = None) -> TracedArray:
    """The seed in the trace; one that is a number gives the same numbers in each step."""
    from keras.src.random.seed_generator import draw_seed

    state = draw_seed(seed)
    if isinstance(state, TracedArray):
        return key_of(state)
    high, low = (int(n) for n in np.asarray(state))
    return lift(find(like), np.asarray(((high << 32) + low) % 2**63, np.int64))


def uniform(
    shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None
) -> TracedArray:
    dtype = _float(dtype)
    key = _key(seed, (minval, maxval))
    x = emit("random_uniform", key, shape=_sizes(shape), dtype="float32")
    return cast(x * (maxval - minval) + minval, dtype)


def normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
) -> TracedArray:
    key = _key(seed, (mean, stddev))
    x = emit("random_normal", key, shape=_sizes(shape), dtype="float32")
    return cast(x * stddev + mean, _float(dtype))


def truncated_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
) -> TracedArray:
    """Within two deviations, by the inverse of the distribution's function."""
    edge = 0.9544997361036416  # erf(2 / sqrt(2))
    u = uniform(shape, -edge, edge, "float32", seed)
    x = erfinv(u) * float(np.sqrt(2))
    return cast(OPERATIONS["clip"](x, -2.0, 2.0) * stddev + mean, _float(dtype))


def erfinv(x: Any) -> TracedArray:
    """The inverse error function: Giles' two polynomials (2012), and a step of Newton."""
    x = cast(lift(find(x), x), "float64")
    w = -emit("log", (1.0 - x) * (1.0 + x))
    near = _polynomial(w - 2.5, _NEAR)
    far = _polynomial(emit("sqrt", movement.where(w < 5.0, 5.0, w)) - 3.0, _FAR)
    y = movement.where(w < 5.0, near, far) * x
    slope = emit("exp", -y * y) * float(2 / np.sqrt(np.pi))
    return cast(y - (emit("erf", y) - x) / slope, "float32")


_NEAR = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_FAR = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)


def _polynomial(x: TracedArray, coefficients: tuple) -> TracedArray:
    y: Any = coefficients[0]
    for c in coefficients[1:]:
        y = x * y + c
    return y


def randint(shape: Any, minval: Any, maxval: Any, dtype: Any = "int32", seed: Any = None) -> Any:
    u = uniform(shape, 0.0, 1.0, "float32", seed)
    return cast(emit("floor", u * float(maxval - minval)), dtype) + minval


def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> TracedArray:
    if rate == 0.0:
        return inputs
    like = find(inputs)
    if like is None:
        inputs = np.asarray(inputs)
    shape = inputs.shape
    if noise_shape is not None:
        shape = tuple(shape[i] if n is None else n for i, n in enumerate(noise_shape))
    key = _key(seed, inputs)
    keep = emit("random_uniform", key, shape=_sizes(shape), dtype="float32") >= float(rate)
    x = lift(key, inputs)
    scaled = x * np.asarray(1 / (1 - rate) if rate < 1 else 0, x.dtype)
    return movement.where(keep, scaled, np.zeros((), x.dtype))


def categorical(logits: Any, num_samples: int, dtype: Any = "int64", seed: Any = None) -> Any:
    """The largest of logits with noise of Gumbel's distribution."""
    key = _key(seed, logits)
    logits = lift(key, logits)
    rows, classes = logits.shape
    u = emit("random_uniform", key, shape=(rows, int(num_samples), classes), dtype="float32")
    noise = -emit("log", -emit("log", u * (1 - 2e-7) + 1e-7))
    noisy = noise + logits.reshape((rows, 1, classes))
    return cast(noisy.argmax(axis=-1), dtype)


def shuffle(x: Any, axis: int = 0, seed: Any = None) -> TracedArray:
    key = _key(seed, x)
    x = lift(key, x)
    u = emit("random_uniform", key, shape=(x.shape[axis],), dtype="float32")
    return emit("gather", x, emit("argsort", u), axis=axis % x.ndim)


def seeded(original: Callable, ours: Callable | None, name: str) -> Callable:
    """`original`, unless a seed (or another argument) is traced."""

    @functools.wraps(original)
    def function(*args: Any, **kwargs: Any) -> Any:
        seed = kwargs.get("seed")
        state = getattr(seed, "state", None)
        if find(args, kwargs, state, _global_state() if seed is None else None) is None:
            return original(*args, **kwargs)
        if ours is None:
            raise not_traced(name)
        return ours(*values(args), **kwargs)

    return function


def _global_state() -> Any:
    from keras.src.backend.common import global_state

    generator = global_state.get_global_attribute("global_seed_generator")
    return None if generator is None else generator.state


FUNCTIONS: dict[str, Callable] = {
    "uniform": uniform,
    "normal": normal,
    "truncated_normal": truncated_normal,
    "randint": randint,
    "dropout": dropout,
    "categorical": categorical,
    "shuffle": shuffle,
}
