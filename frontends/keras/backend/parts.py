"""Change a module of Keras' numpy backend: its public functions see traced tensors."""

import functools
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ....compiler.ir.interpret import interpret
from ....compiler.ir.types import as_tensor_type
from ...native.tracing import Tracer
from ..functions.table import TracedNumpy, dispatched
from ..functions.traced import TracedArray, find
from . import core, math, nn, numpy, random, rnn

OURS: dict[str, dict[str, Callable]] = {
    "core": core.FUNCTIONS,
    "math": math.FUNCTIONS,
    "nn": nn.FUNCTIONS,
    "numpy": numpy.FUNCTIONS,
    "random": random.FUNCTIONS,
    "rnn": rnn.FUNCTIONS,
}
# Keras' numpy backend computes these with jax: of arrays, they are ours as well, by numpy.
EAGER = {
    "nn": {
        "average_pool",
        "conv",
        "conv_transpose",
        "depthwise_conv",
        "max_pool",
        "separable_conv",
    },
}


def change(module: ModuleType, part: str) -> None:
    """Wrap the public functions of `module`, and let its `np` see traced tensors."""
    ours = OURS.get(part, {})
    for name, f in list(vars(module).items()):
        own = inspect.isfunction(f) and f.__module__ == module.__name__
        if not own or name.startswith("_") or name in core.UNTOUCHED:
            continue
        if name in EAGER.get(part, ()) and name in ours:
            f = _by_numpy(ours[name], f)
        if part == "random":
            setattr(module, name, random.seeded(f, ours.get(name), f"keras.random.{name}"))
        elif name in ours:
            setattr(module, name, dispatched(f, ours[name], f"keras.ops.{name}"))
    if hasattr(module, "np"):
        module.np = TracedNumpy()  # type: ignore[attr-defined]
    if part == "numpy":
        module.divide_no_nan = np.errstate(divide="ignore", invalid="ignore")(module.divide_no_nan)
    for name, make in core.REPLACED.get(part, {}).items():
        setattr(module, name, make(getattr(module, name)))


def _by_numpy(ours: Callable, original: Callable) -> Callable:
    """A function of traced tensors for arrays: its graph, interpreted by numpy."""

    @functools.wraps(original)
    def function(*args: Any, **kwargs: Any) -> np.ndarray:
        b, feeds = Tracer("eager"), []

        def traced(x: Any) -> Any:
            if hasattr(x, "assign_add"):
                x = np.asarray(x.value)
            if not isinstance(x, np.ndarray) or x.dtype == object:
                return x
            feeds.append(x)
            return TracedArray(b.input(f"x{len(feeds)}", as_tensor_type(x)))

        result = ours(*map(traced, args), **{k: traced(v) for k, v in kwargs.items()})
        if find(result) is None:
            return result
        b.output("y", result.array)
        return interpret(b.graph, feeds)[0]

    return function
