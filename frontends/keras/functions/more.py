"""numpy's less common functions, made of the others."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ....compiler.errors import UnsupportedError
from .elementwise import OPERATIONS, as_float
from .movement import (
    concatenate,
    diag,
    diagonal,
    moveaxis,
    pad,
    ravel,
    stack,
    take_along_axis,
    where,
)
from .reduction import TABLE, argsort, reduced, sort
from .traced import TracedArray, cast, emit, find, joined, lift


def select(conditions: Any, choices: Any, default: Any = 0) -> TracedArray:
    """The choice of the first condition that holds."""
    result = default
    for condition, choice in zip(reversed(list(conditions)), reversed(list(choices))):
        result = where(condition, choice, result)
    return result


def _beside_nan(name: str) -> Callable:
    """fmax, fmin: the number where the other is NaN."""

    def apply(x: Any, y: Any) -> TracedArray:
        x, y = joined(x, y)
        if not x.array.dtype.is_float:
            return OPERATIONS[name](x, y)
        other = where(emit("isnan", y), x, OPERATIONS[name](x, y))
        return where(emit("isnan", x), y, other)

    return apply


def _but_nan(name: str, worst: float) -> Callable:
    """nanmax, nanmin: NaN where all are."""

    def apply(x: TracedArray, axis: Any = None, keepdims: bool = False, **_: Any) -> TracedArray:
        x = as_float(x)
        is_nan = emit("isnan", x)
        found = TABLE[name](where(is_nan, np.array(worst, x.dtype), x), axis, keepdims=keepdims)
        return where(TABLE["all"](is_nan, axis, keepdims=keepdims), np.nan, found)

    return apply


def signbit(x: TracedArray) -> TracedArray:
    """Also of -0.0."""
    if not x.array.dtype.is_float:
        return x < 0
    wide = cast(x, "float64")
    return emit("bit_cast", wide, dtype="int64") < 0


def arctan2(y: Any, x: Any) -> TracedArray:
    """The angle of (x, y), with the signs of zeros, and of infinite ones."""
    y, x = joined(y, x, floating=True)
    one = np.ones((), x.dtype)
    both = emit("and", emit("isinf", x), emit("isinf", y))
    y, x = (where(both, emit("sign", v), v) for v in (y, x))
    flat = x == 0
    base = emit("atan", y / where(flat, one, x))
    half = np.array(np.pi, x.dtype)
    turn = where(signbit(y), -half, half)
    upright = where(y == 0, where(signbit(x), turn, y), turn * np.array(0.5, x.dtype))
    return where(flat, upright, where(x < 0, base + turn, base))


def diagflat(x: TracedArray, k: int = 0) -> TracedArray:
    return diag(ravel(x), k)


def corrcoef(x: TracedArray, *_: Any, **__: Any) -> TracedArray:
    x = as_float(x)
    x = x.reshape((1, -1)) if x.ndim == 1 else x
    centred = x - reduced("reduce_mean", x, -1, True)
    c = emit("matmul", centred, centred.T)
    d = emit("sqrt", diagonal(c))
    result = OPERATIONS["clip"](c / d.reshape((-1, 1)) / d, -1.0, 1.0)
    return result.reshape(()) if x.shape[0] == 1 else result


def correlate(x: Any, y: Any, mode: str = "valid") -> TracedArray:
    """sum over n of x[n + k] y[n]."""
    x, y = joined(x, y)
    if x.shape[0] < y.shape[0] and mode == "valid":
        return correlate(y, x, mode)[::-1]
    n, m = x.shape[0], y.shape[0]
    whole = pad(x, [(m - 1, m - 1)])
    places = np.arange(n + m - 1)[:, None] + np.arange(m)
    full = TABLE["sum"](emit("gather", whole, places, axis=0) * y, axis=-1)
    if mode == "full":
        return full
    long, short = max(n, m), min(n, m)
    if mode == "same":
        start = (short - 1) // 2
        return full[start : start + long]
    return full[m - 1 : n]


def slogdet(x: TracedArray) -> tuple[TracedArray, TracedArray]:
    d = emit("det", as_float(x))
    return emit("sign", d), emit("log", abs(d))


def nanquantile(
    x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False, **_: Any
) -> TracedArray:
    """Linear between the two neighbours among those that are numbers."""
    if method != "linear":
        raise UnsupportedError(f"nanquantile with method={method!r} is not traced")
    x = as_float(lift(find(x), x))
    axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in np.atleast_1d(axis))
    rest = [a for a in range(x.ndim) if a not in axes]
    y = TracedArray(x.array.transpose((*rest, *axes))).reshape((*(x.shape[a] for a in rest), -1))
    is_nan = emit("isnan", y)
    y = sort(where(is_nan, np.array(np.inf, y.dtype), y))
    count = TABLE["sum"](emit("not", is_nan), axis=-1, keepdims=True)
    last = cast(OPERATIONS["maximum"](count - 1, 0), y.dtype)
    shape = tuple(1 if a in axes else x.shape[a] for a in range(x.ndim) if keepdims or a in rest)
    results = []
    for p in np.ravel(np.asarray(q, np.float64)):
        at = last * float(p)
        low, high = emit("floor", at), emit("ceil", at)
        a, b = (take_along_axis(y, cast(i, "int64"), -1) for i in (low, high))
        between = where(low == high, a, a + (b - a) * (at - low))
        results.append(where(count == 0, np.nan, between).reshape(shape))
    return results[0] if np.ndim(q) == 0 else stack(results).reshape((*np.shape(q), *shape))


def argpartition(x: TracedArray, kth: int, axis: int = -1) -> TracedArray:
    return argsort(x, axis)


def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> TracedArray:
    start, stop = joined(start, stop, floating=True)
    part = np.linspace(0, 1, num, endpoint=endpoint).reshape((-1,) + (1,) * start.ndim)
    y = start * emit("pow", stop / start, lift(start, part, start.dtype))
    y = moveaxis(y, 0, axis)
    return y if dtype is None else cast(y, dtype)


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    start, stop = joined(start, stop, floating=True)
    part = np.linspace(0, 1, num, endpoint=endpoint).reshape((-1,) + (1,) * start.ndim)
    y = moveaxis(start + (stop - start) * lift(start, part, start.dtype), 0, axis)
    y = y if dtype is None else cast(y, dtype)
    steps = max(1, num - 1 if endpoint else num)
    return (y, (stop - start) / float(steps)) if retstep else y


def gcd(x: Any, y: Any) -> TracedArray:
    """Euclid's steps, as many as 64 bits need at most."""
    x, y = (abs(v) for v in joined(x, y))
    one = np.ones((), x.dtype)
    for _ in range(int(x.dtype.itemsize * 8 * 1.45)):
        done = y == 0
        rest = emit("mod", x, where(done, one, y))
        x, y = where(done, x, y), where(done, y, rest)
    return x


def lcm(x: Any, y: Any) -> TracedArray:
    x, y = (abs(v) for v in joined(x, y))
    d = gcd(x, y)
    return emit("mul", emit("div", x, where(d == 0, np.ones((), x.dtype), d)), y)


def unravel_index(x: TracedArray, shape: Any) -> tuple[TracedArray, ...]:
    strides = np.cumprod([1, *shape[:0:-1]])[::-1]
    return tuple((x // int(s)) % int(n) for s, n in zip(strides, shape))


def histogram(x: TracedArray, bins: Any = 10, range: Any = None, **_: Any) -> Any:
    """Counts and edges; with a number of bins, of a `range` or of what the data spans."""
    x = as_float(ravel(x))
    if isinstance(bins, (int, np.integer)):
        low, high = range if range is not None else (TABLE["min"](x), TABLE["max"](x))
        low, high = lift(x, low, x.dtype), lift(x, high, x.dtype)
        same = low == high
        low, high = where(same, low - 0.5, low), where(same, high + 0.5, high)
        edges = linspace(low, high, int(bins) + 1)
    else:
        edges = lift(x, bins, x.dtype)
    wide = x.reshape((-1, 1))
    inside = emit("and", wide >= edges[:-1], wide < edges[1:])
    last = wide[:, 0] == edges[-1]
    counts = TABLE["sum"](inside, axis=0)
    at_end = TABLE["sum"](last, axis=0).reshape((1,))
    return concatenate([counts[:-1], counts[-1:] + at_end]), edges


MORE: dict[str, Any] = {
    "select": select,
    "fmax": _beside_nan("maximum"),
    "fmin": _beside_nan("minimum"),
    "nanmax": _but_nan("max", -np.inf),
    "nanmin": _but_nan("min", np.inf),
    "signbit": signbit,
    "arctan2": arctan2,
    "angle": lambda x: where(signbit(x), np.pi, 0.0).astype(as_float(x).dtype),
    "diagflat": diagflat,
    "corrcoef": corrcoef,
    "correlate": correlate,
    "slogdet": slogdet,
    "nanquantile": nanquantile,
    "nanpercentile": lambda x, q, *a, **o: nanquantile(x, np.asarray(q) / 100, *a, **o),
    "nanmedian": lambda x, axis=None, keepdims=False: nanquantile(x, 0.5, axis, keepdims=keepdims),
    "argpartition": argpartition,
    "geomspace": geomspace,
    "linspace": linspace,
    "gcd": gcd,
    "lcm": lcm,
    "unravel_index": unravel_index,
    "histogram": histogram,
}
