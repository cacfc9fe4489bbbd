"""numpy's functions that reduce, scan, sort or contract axes."""

from typing import Any

import numpy as np

from .elementwise import OPERATIONS, as_float, truth
from .movement import diagonal, flip, moveaxis, ravel, stack, take_along_axis, where
from .traced import TracedArray, cast, emit, find, joined, lift


def _axes(x: TracedArray, axis: Any) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(x.ndim))
    return tuple(int(a) % x.ndim for a in np.atleast_1d(axis)) if x.ndim else ()


def reduced(op: str, x: TracedArray, axis: Any = None, keepdims: bool = False) -> TracedArray:
    axes = _axes(x, axis)
    return emit(op, x, axes=axes, keepdims=bool(keepdims)) if axes else x


def _summable(x: TracedArray, dtype: Any) -> TracedArray:
    if dtype is not None:
        return cast(x, dtype)
    if x.dtype.kind in "iu" and x.dtype.itemsize < 4:
        return cast(x, "int32" if x.dtype.kind == "i" else "uint32")
    return cast(x, "int32") if x.dtype == bool else x


def sum_(
    x: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False, **_: Any
) -> TracedArray:
    if not isinstance(x, TracedArray):
        x = lift(find(x), x)
    return reduced("reduce_sum", _summable(x, dtype), axis, keepdims)


def prod(
    x: TracedArray,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    **_: Any,
) -> TracedArray:
    return reduced("reduce_prod", _summable(x, dtype), axis, keepdims)


def mean(
    x: TracedArray, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False
) -> TracedArray:
    return reduced("reduce_mean", as_float(x if dtype is None else cast(x, dtype)), axis, keepdims)


def var(
    x: TracedArray,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    ddof: int = 0,
    keepdims: bool = False,
) -> TracedArray:
    x = as_float(x if dtype is None else cast(x, dtype))
    centred = x - mean(x, axis, keepdims=True)
    return mean(centred * centred, axis, keepdims=keepdims)


def std(x: TracedArray, axis: Any = None, **options: Any) -> TracedArray:
    return emit("sqrt", var(x, axis, **options))


def _extreme(op: str, other: str) -> Any:
    def apply(
        x: TracedArray,
        axis: Any = None,
        out: None = None,
        keepdims: bool = False,
        initial: Any = None,
        **_: Any,
    ) -> TracedArray:
        narrow = x.dtype == bool
        y = reduced(op, cast(x, "int32") if narrow else x, axis, keepdims)
        y = cast(y, bool) if narrow else y
        return y if initial is None else OPERATIONS[other](y, initial)

    return apply


amax, amin = _extreme("reduce_max", "maximum"), _extreme("reduce_min", "minimum")


def any_(x: TracedArray, axis: Any = None, out: None = None, keepdims: bool = False) -> TracedArray:
    return amax(truth(x), axis, keepdims=keepdims)


def all_(x: TracedArray, axis: Any = None, out: None = None, keepdims: bool = False) -> TracedArray:
    return amin(truth(x), axis, keepdims=keepdims)


def count_nonzero(x: TracedArray, axis: Any = None, keepdims: bool = False) -> TracedArray:
    return sum_(truth(x), axis, keepdims=keepdims)


def _place(op: str) -> Any:
    def apply(x: TracedArray, axis: Any = None, out: None = None, keepdims: bool = False) -> Any:
        rank = x.ndim
        x = cast(x, "int32") if x.dtype == bool else x
        if axis is None:
            y = emit(op, ravel(x), axis=0, keepdims=False)
            return y.reshape((1,) * rank) if keepdims else y
        return emit(op, x, axis=int(axis) % rank, keepdims=bool(keepdims))

    return apply


def argsort(x: TracedArray, axis: Any = -1, **_: Any) -> TracedArray:
    if axis is None:
        x, axis = ravel(x), -1
    x = cast(x, "int32") if x.dtype == bool else x
    return moveaxis(emit("argsort", moveaxis(x, axis, -1)), -1, axis)


def sort(x: TracedArray, axis: Any = -1, **_: Any) -> TracedArray:
    if axis is None:
        x, axis = ravel(x), -1
    return take_along_axis(x, argsort(x, axis), axis)


def _running(op: str) -> Any:
    def apply(x: TracedArray, axis: Any = None, dtype: Any = None) -> TracedArray:
        if axis is None:
            x, axis = ravel(x), 0
        return emit(op, _summable(x, dtype), axis=int(axis) % x.ndim)

    return apply


def diff(x: TracedArray, n: int = 1, axis: int = -1) -> TracedArray:
    for _ in range(n):
        before = (slice(None),) * (axis % x.ndim)
        x = x[(*before, slice(1, None))] - x[(*before, slice(None, -1))]
    return x


def _without_nan(f: Any, value: float) -> Any:
    def apply(x: TracedArray, *args: Any, **options: Any) -> TracedArray:
        x = as_float(x)
        return f(where(emit("isnan", x), np.array(value, x.dtype), x), *args, **options)

    return apply


def nanmean(x: TracedArray, axis: Any = None, keepdims: bool = False, **_: Any) -> TracedArray:
    x = as_float(x)
    count = sum_(emit("not", emit("isnan", x)), axis, keepdims=keepdims)
    return TABLE["nansum"](x, axis, keepdims=keepdims) / cast(count, x.dtype)


def nanvar(x: TracedArray, axis: Any = None, keepdims: bool = False, **_: Any) -> TracedArray:
    centred = as_float(x) - nanmean(x, axis, keepdims=True)
    return nanmean(centred * centred, axis, keepdims)


def average(x: Any, axis: Any = None, weights: Any = None, **_: Any) -> TracedArray:
    if weights is None:
        return mean(x, axis)
    x, weights = joined(x, weights, floating=True)
    if weights.ndim != x.ndim:
        weights = weights.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    weights = TracedArray(weights.array.expand(x.shape))
    return sum_(x * weights, axis) / sum_(weights, axis)


def quantile(
    x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False, **_: Any
) -> TracedArray:
    like = find(x, q)
    x = as_float(lift(like, x))
    axes = _axes(x, axis)
    rest = [a for a in range(x.ndim) if a not in axes]
    y = sort(
        TracedArray(x.array.transpose((*rest, *axes))).reshape((*(x.shape[a] for a in rest), -1))
    )
    n = y.shape[-1]
    results = []
    for p in np.ravel(np.asarray(q, np.float64)):
        at = float(p) * (n - 1)
        low, high = int(np.floor(at)), int(np.ceil(at))
        part = {
            "lower": 0.0,
            "higher": 1.0,
            "midpoint": 0.5,
            "nearest": float(np.round(at) - low),
            "linear": at - low,
        }[method]
        results.append(y[..., low] * (1 - part) + y[..., high] * part)
    shape = tuple(1 if a in axes else x.shape[a] for a in range(x.ndim) if keepdims or a in rest)
    results = [r.reshape(shape) for r in results]
    return results[0] if np.ndim(q) == 0 else stack(results, 0).reshape((*np.shape(q), *shape))


def median(x: TracedArray, axis: Any = None, keepdims: bool = False, **_: Any) -> TracedArray:
    return quantile(x, 0.5, axis, keepdims=keepdims)


def percentile(x: Any, q: Any, axis: Any = None, **options: Any) -> TracedArray:
    return quantile(x, np.asarray(q) / 100, axis, **options)


def einsum(subscripts: str, *xs: Any, **_: Any) -> TracedArray:
    return emit("einsum", *joined(*xs), equation=subscripts)


def dot(x: Any, y: Any) -> TracedArray:
    x, y = joined(x, y)
    if x.ndim == 0 or y.ndim == 0:
        return x * y
    if y.ndim <= 2:
        return emit("matmul", x, y)
    return tensordot(x, y, axes=[[x.ndim - 1], [y.ndim - 2]])


def tensordot(x: Any, y: Any, axes: Any = 2) -> TracedArray:
    x, y = joined(x, y)
    if isinstance(axes, (int, np.integer)):
        left, right = list(range(x.ndim - axes, x.ndim)), list(range(axes))
    else:
        left, right = (np.atleast_1d(a).tolist() for a in axes)
    left, right = [a % x.ndim for a in left], [a % y.ndim for a in right]
    rows = [a for a in range(x.ndim) if a not in left]
    columns = [a for a in range(y.ndim) if a not in right]
    inner = int(np.prod([x.shape[a] for a in left], dtype=np.int64))
    a = TracedArray(x.array.transpose((*rows, *left)) if x.ndim else x.array)
    b = TracedArray(y.array.transpose((*right, *columns)) if y.ndim else y.array)
    shape = (*(x.shape[r] for r in rows), *(y.shape[c] for c in columns))
    return emit("matmul", a.reshape((-1, inner)), b.reshape((inner, -1))).reshape(shape)


def inner(x: Any, y: Any) -> TracedArray:
    x, y = joined(x, y)
    return x * y if not (x.ndim and y.ndim) else tensordot(x, y, [[x.ndim - 1], [y.ndim - 1]])


def outer(x: Any, y: Any) -> TracedArray:
    x, y = joined(x, y)
    return x.reshape((-1, 1)) * y.reshape((1, -1))


def vdot(x: Any, y: Any) -> TracedArray:
    x, y = joined(x, y)
    return sum_(ravel(x) * ravel(y))


def kron(x: Any, y: Any) -> TracedArray:
    x, y = joined(x, y)
    rank = max(x.ndim, y.ndim)
    x = x.reshape((1,) * (rank - x.ndim) + tuple(x.shape))
    y = y.reshape((1,) * (rank - y.ndim) + tuple(y.shape))
    left = x.reshape([n for s in x.shape for n in (s, 1)])
    right = y.reshape([n for s in y.shape for n in (1, s)])
    return (left * right).reshape([a * b for a, b in zip(x.shape, y.shape)])


def trace(x: TracedArray, offset: int = 0, axis1: int = 0, axis2: int = 1, **_: Any) -> TracedArray:
    return sum_(diagonal(x, offset, axis1, axis2), -1)


def cross(
    x: Any, y: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None
) -> Any:
    axisa, axisb, axisc = (axis,) * 3 if axis is not None else (axisa, axisb, axisc)
    x, y = joined(x, y)
    x, y = moveaxis(x, axisa, -1), moveaxis(y, axisb, -1)
    (x0, x1), (y0, y1) = (x[..., 0], x[..., 1]), (y[..., 0], y[..., 1])
    third = x0 * y1 - x1 * y0
    if x.shape[-1] == y.shape[-1] == 2:
        return third
    x2 = x[..., 2] if x.shape[-1] == 3 else np.zeros((), x.dtype)
    y2 = y[..., 2] if y.shape[-1] == 3 else np.zeros((), x.dtype)
    return moveaxis(stack([x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, third], -1), -1, axisc)


def searchsorted(a: Any, v: Any, side: str = "left", **_: Any) -> TracedArray:
    a, v = joined(a, v)
    wide = v.reshape((*v.shape, 1))
    return sum_(a < wide if side == "left" else a <= wide, -1)


def digitize(x: Any, bins: Any, right: bool = False) -> TracedArray:
    return searchsorted(bins, x, "left" if right else "right")


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> TracedArray:
    like = find(y, x, dx)
    y = moveaxis(as_float(lift(like, y)), axis, -1)
    step = (
        dx
        if x is None
        else diff(moveaxis(lift(like, x), axis if lift(like, x).ndim > 1 else 0, -1))
    )
    return sum_((y[..., 1:] + y[..., :-1]) * step * 0.5, -1)


def vander(x: TracedArray, N: int | None = None, increasing: bool = False) -> TracedArray:
    n = x.shape[0] if N is None else N
    powers = np.arange(n)
    ones = np.ones((), x.dtype)
    wide = emit("cumprod", where(powers == 0, ones, x.reshape((-1, 1))), axis=1)
    return wide if increasing else flip(wide, 1)


def isin(x: Any, table: Any, assume_unique: bool = False, invert: bool = False) -> TracedArray:
    x, table = joined(x, table)
    found = any_(x.reshape((*x.shape, 1)) == ravel(table), -1)
    return emit("not", found) if invert else found


def allclose(x: Any, y: Any, *args: Any, **options: Any) -> TracedArray:
    return all_(OPERATIONS["isclose"](x, y, *args, **options))


def bincount(x: Any, weights: Any = None, minlength: int = 0) -> TracedArray:
    like = find(x, weights)
    x = cast(lift(like, x), "int64")
    places = np.arange(minlength)
    hits = x.reshape((*x.shape, 1)) == places
    if weights is None:
        return sum_(hits, -2)
    weights = lift(like, weights)
    return sum_(where(hits, weights.reshape((*weights.shape, 1)), np.zeros((), weights.dtype)), -2)


TABLE: dict[str, Any] = {
    "sum": sum_,
    "prod": prod,
    "mean": mean,
    "var": var,
    "std": std,
    "max": amax,
    "min": amin,
    "amax": amax,
    "amin": amin,
    "any": any_,
    "all": all_,
    "ptp": lambda x, axis=None, **o: amax(x, axis, **o) - amin(x, axis, **o),
    "count_nonzero": count_nonzero,
    "argmax": _place("arg_max"),
    "argmin": _place("arg_min"),
    "argsort": argsort,
    "sort": sort,
    "cumsum": _running("cumsum"),
    "cumprod": _running("cumprod"),
    "diff": diff,
    "nansum": _without_nan(sum_, 0),
    "nanprod": _without_nan(prod, 1),
    "nanmax": _without_nan(amax, -np.inf),
    "nanmin": _without_nan(amin, np.inf),
    "nanargmax": _without_nan(_place("arg_max"), -np.inf),
    "nanargmin": _without_nan(_place("arg_min"), np.inf),
    "nancumsum": _without_nan(_running("cumsum"), 0),
    "nancumprod": _without_nan(_running("cumprod"), 1),
    "nanmean": nanmean,
    "nanvar": nanvar,
    "nanstd": lambda *args, **options: emit("sqrt", nanvar(*args, **options)),
    "average": average,
    "quantile": quantile,
    "median": median,
    "percentile": percentile,
    "einsum": einsum,
    "dot": dot,
    "tensordot": tensordot,
    "inner": inner,
    "outer": outer,
    "vdot": vdot,
    "kron": kron,
    "trace": trace,
    "cross": cross,
    "searchsorted": searchsorted,
    "digitize": digitize,
    "trapezoid": trapezoid,
    "vander": vander,
    "isin": isin,
    "allclose": allclose,
    "bincount": bincount,
}
