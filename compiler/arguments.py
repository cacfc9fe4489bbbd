"""Arguments of public functions that are not of the kind that is expected.

    require("values", x, Mapping, "arrays by input name")

Each is a UsageError that says what was received, what is expected, and the fix where one is known;
whoever gives a function where a model belongs is told of `tessel.jit`.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from .errors import UsageError


def received(x: Any) -> str:
    """A value in an error: its kind, and as much of itself as anyone reads."""
    kind = type(x).__name__
    name = getattr(x, "__qualname__", None) or getattr(x, "__name__", None)
    if isinstance(name, str):
        return f"{kind} {name}"
    if hasattr(x, "dtype") and hasattr(x, "shape"):
        return f"{kind} {x.dtype}{list(x.shape)}"
    text = repr(x) if isinstance(x, (str, bytes, bool, int, float, tuple, list, dict)) else ""
    return f"{kind} {text if len(text) <= 60 else text[:59] + '…'}".rstrip()


def wrong(what: str, x: Any, expected: str, fix: str | None = None) -> UsageError:
    """The error for an argument `what` of another kind."""
    return UsageError(
        f"{what}: not what is expected", expected=expected, received=received(x), fix=fix
    )


def require(what: str, x: Any, kinds: type | tuple, expected: str, fix: str | None = None) -> None:
    """Raise UsageError unless `x` is one of these kinds."""
    if not isinstance(x, kinds):
        raise wrong(what, x, expected, fix)


def require_path(what: str, x: Any, fix: str | None = None) -> None:
    """Raise UsageError for what names no file."""
    require(what, x, (str, bytes, os.PathLike), "a path", fix)


def require_function(what: str, f: Any) -> None:
    """Raise UsageError for what cannot be called."""
    if not callable(f):
        raise wrong(what, f, "a function")


def require_shapes(shapes: Any) -> None:
    """Raise UsageError for what gives no sizes by input."""
    expected, fix = "sizes by input, None where one stays open", "shapes={'x': (1, 3, 224, 224)}"
    if shapes is None:
        return
    require("shapes", shapes, Mapping, expected, fix)
    for name, shape in shapes.items():
        is_text = isinstance(shape, (str, bytes))
        sized = hasattr(shape, "__len__") and hasattr(shape, "__iter__") and not is_text
        if not isinstance(name, str) or not sized:
            raise wrong(f"shapes of {name!r}", shape, expected, fix)
        for d in shape:
            if isinstance(d, (bool, float, bytes, Sequence)) and not isinstance(d, str):
                raise wrong(f"shapes of {name!r}", d, "a size, or None", fix)


def require_places(what: str, x: Any) -> None:
    """Raise UsageError for what names no positional arguments."""
    several = x if isinstance(x, Iterable) and not isinstance(x, str) else (x,)
    if not all(isinstance(i, Integral) and not isinstance(i, bool) for i in several):
        raise wrong(what, x, "a place among the positional arguments, or several")
