"""numpy as Keras' backend sees it: its own functions for arrays, ours where one is traced."""

import functools
from collections.abc import Callable, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy

from ....compiler.errors import UnsupportedError
from ...native.tracing import user_line
from . import movement
from .elementwise import OPERATIONS
from .more import MORE
from .reduction import TABLE
from .traced import TracedArray, cast, emit, find, promoted, values

_MOVEMENT = """
    append array array_split broadcast_to concatenate diag diagonal dstack expand_dims flip full
    full_like hstack meshgrid moveaxis ones_like pad ravel repeat reshape roll rot90 split squeeze
    stack swapaxes take take_along_axis tile transpose tril triu vstack where zeros_like
"""
_METHODS = """
    all any argmax argmin argsort clip copy cumprod cumsum diagonal dot max mean min prod
    ravel repeat round squeeze std sum swapaxes take trace var
"""

NUMPY: dict[str, Callable] = {
    **OPERATIONS,
    **TABLE,
    **MORE,
    **{name: getattr(movement, name) for name in _MOVEMENT.split()},
    "asarray": movement.array,
    "empty_like": movement.zeros_like,
    "fliplr": lambda x: movement.flip(x, 1),
    "flipud": lambda x: movement.flip(x, 0),
    "hsplit": lambda x, n: movement.split(x, n, 1 if x.ndim > 1 else 0),
    "vsplit": lambda x, n: movement.split(x, n, 0),
    "dsplit": lambda x, n: movement.split(x, n, 2),
    "copy": lambda x, **_: x,
    "ndim": lambda x: x.ndim,
    "result_type": lambda *xs: promoted(*xs),
    "shape": lambda x: x.shape,
    "size": lambda x: x.size,
}
METHODS: Mapping[str, Callable] = {name: NUMPY[name] for name in _METHODS.split()} | {
    "transpose": lambda x, *axes: movement.transpose(
        x, axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes or None
    ),
    "flatten": movement.ravel,
    "cast": cast,
}


def dispatched(original: Callable, ours: Callable | None, name: str) -> Callable:
    """`original` for arrays, `ours` where an argument is traced."""

    @functools.wraps(original, updated=())
    def function(*args: Any, **kwargs: Any) -> Any:
        if find(args, kwargs) is None:
            return original(*args, **kwargs)
        if ours is None:
            raise not_traced(name)
        return ours(*values(args), **values(kwargs))

    return function


def _with_dtype(ours: Callable) -> Callable:
    """A ufunc's `dtype`: that in which it computes."""

    def function(*args: Any, dtype: Any = None, **kwargs: Any) -> Any:
        if dtype is not None:
            args = tuple(cast(x, dtype) if isinstance(x, TracedArray) else x for x in args)
        return ours(*args, **kwargs)

    return function


def not_traced(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name} is not traced yet",
        where=user_line(),
        received="a tensor of a step that is being compiled",
        fix="compute it before the step, or compose it of other keras.ops",
    )


class TracedNumpy(ModuleType):
    """What `np` is in the files of Keras' numpy backend."""

    def __init__(self) -> None:
        super().__init__("numpy")

    def __getattr__(self, name: str) -> Any:
        value = getattr(numpy, name)
        if isinstance(value, type) or not callable(value):
            if name == "linalg":
                value = SimpleNamespace(
                    **{
                        n: dispatched(f, LINALG.get(n), f"numpy.linalg.{n}")
                        for n, f in vars(value).items()
                        if callable(f) and not isinstance(f, type)
                    }
                )
        else:
            ours = NUMPY.get(name)
            ufunc = value if isinstance(value, numpy.ufunc) else None
            if ufunc is not None and ours is not None:
                ours = _with_dtype(ours)
            value = dispatched(value, ours, f"numpy.{name}")
            if ufunc is not None:
                for method in ("accumulate", "at", "outer", "reduce"):
                    setattr(value, method, getattr(ufunc, method))
        setattr(self, name, value)
        return value


def _norm(x: TracedArray, ord: Any = None, axis: Any = None, keepdims: bool = False) -> TracedArray:
    """Of vectors, and of matrices those that are sums of elements."""
    if ord is None and axis is None:
        x = movement.ravel(x).reshape((*(1,) * (x.ndim - 1), -1)) if keepdims else movement.ravel(x)
        axis = -1
    axis = axis if axis is not None else tuple(range(x.ndim))
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    options = {"axis": axes, "keepdims": keepdims}
    if ord in (None, "fro") or (ord == 2 and len(axes) == 1):
        return NUMPY["sqrt"](NUMPY["sum"](x * x, **options))
    if len(axes) > 1:
        if ord in (1, -1, float("inf"), -float("inf")):
            summed, other = axes if abs(ord) == 1 else axes[::-1]
            sums = NUMPY["sum"](abs(x), axis=summed, keepdims=True)
            least = NUMPY["min" if ord < 0 else "max"](sums, axis=other, keepdims=True)
            return least if keepdims else movement.squeeze(least, axes)
        raise not_traced(f"the norm {ord!r} of matrices")
    if ord in (float("inf"), -float("inf")):
        return NUMPY["max" if ord > 0 else "min"](abs(x), **options)
    if ord == 0:
        return cast(NUMPY["sum"](x != 0, **options), x.dtype)
    return NUMPY["power"](NUMPY["sum"](NUMPY["power"](abs(x), ord), **options), 1 / ord)


LINALG: dict[str, Callable] = {
    "norm": _norm,
    "slogdet": MORE["slogdet"],
    "det": lambda x: emit("det", x),
}
