"""Change a module of Keras' numpy backend: its public functions see traced tensors."""

import functools
import inspect
from collections.abc import Callable, Iterator
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
# Parameters that decide shapes: their values have to be known while a step is traced.
KNOWN = {"bins", "indices_or_sections", "q", "repeats", "shape"}
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
            f = by_numpy(ours[name], f)
        if part == "random":
            setattr(module, name, random.seeded(f, ours.get(name), f"keras.random.{name}"))
        elif name in ours:
            setattr(module, name, dispatched(f, ours[name], f"keras.ops.{name}"))
        elif part == "numpy" and _takes_an_array(f):
            setattr(module, name, _of_lists(f))
    if hasattr(module, "np"):
        module.np = TracedNumpy()  # type: ignore[attr-defined]
    if part == "numpy":
        module.divide_no_nan = np.errstate(divide="ignore", invalid="ignore")(module.divide_no_nan)
    for name, make in core.REPLACED.get(part, {}).items():
        setattr(module, name, make(getattr(module, name)))


def _takes_an_array(f: Callable) -> bool:
    return next(iter(inspect.signature(f).parameters), "") == "x"


def _of_lists(f: Callable) -> Callable:
    """A function of an array for a list of traced ones, too: they are stacked."""

    @functools.wraps(f)
    def function(x: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(x, (list, tuple)) and find(x) is not None:
            x = core.convert_to_tensor(x)
        return f(x, *args, **kwargs)

    return function


def by_numpy(ours: Callable, original: Callable) -> Callable:
    """A function of traced tensors for arrays: its graph, interpreted by numpy."""

    parameters = inspect.signature(original)

    @functools.wraps(original)
    def function(*args: Any, **kwargs: Any) -> Any:
        if find(args, kwargs) is not None:
            return ours(*args, **kwargs)
        b, feeds = Tracer("eager"), []

        def traced(x: Any) -> Any:
            if type(x) in (list, tuple):
                return type(x)(map(traced, x))
            x = np.asarray(x.value) if hasattr(x, "assign_add") else x
            if not isinstance(x, np.ndarray) or x.dtype.kind in "OUSc":
                return x
            feeds.append(x)
            return TracedArray(b.input(f"x{len(feeds)}", as_tensor_type(x)))

        bound = parameters.bind(*args, **kwargs)
        bound.arguments = {k: v if k in KNOWN else traced(v) for k, v in bound.arguments.items()}
        result = ours(*bound.args, **bound.kwargs)
        found: list[TracedArray] = []
        _collect(result, found)
        for i, x in enumerate(found):
            b.output(f"y{i}", x.array)
        computed = iter(interpret(b.graph, feeds)) if found else iter(())
        return _replaced(result, computed)

    return function


def _collect(x: Any, found: list[TracedArray]) -> None:
    if isinstance(x, TracedArray):
        found.append(x)
    elif isinstance(x, (list, tuple)):
        for e in x:
            _collect(e, found)


def _replaced(x: Any, computed: Iterator) -> Any:
    if isinstance(x, TracedArray):
        return next(computed)
    if isinstance(x, (list, tuple)):
        parts = [_replaced(e, computed) for e in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    return x
