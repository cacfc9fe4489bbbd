"""Arithmetic on arrays of dims: what ops give for operands whose elements are numbers and symbols.

    evaluate("add", [[N, 2], [1, 1]])  ->  [N+1, 3]

Shapes are computed so while a model is read. Symbols stand for sizes of at least 1 (those of sizes
that data decides 0), which decides most comparisons; where another result would follow from a size
of 0, that is noted (`nonempty.py`). Moves are the ops' own references, which take any elements.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import TypeMismatch
from . import bounds, dims, op
from .dims import Sym
from .nonempty import take_at_least, take_nonempty, take_positive


class Undecided(TypeMismatch):
    """The answer depends on a symbol."""

    def __init__(self, message: str = "a value depends on a symbolic dim", **details: Any):
        super().__init__(message, **{"fix": "give the dim a size with shapes=", **details})


def evaluate(
    name: str, arrays: Sequence[Any], attrs: Mapping[str, Any], floating: bool = False
) -> Any:
    """The result of an op, with its attributes bound, on arrays of ints and symbols (None where
    absent): an array, or a tuple of them.

    `floating`: the op's operands are floats, so that a quotient must come out even. Raises
    Undecided where the result is no expression of the symbols, TooLarge where it is too long.
    """
    if any(has_symbols(a) for a in arrays if a is not None):
        return _symbolic(name, list(arrays), attrs, floating)
    return op.get(name).ref(*map(_numbers, arrays), **attrs)


def has_symbols(array: np.ndarray) -> bool:
    """Whether an array has symbols among its elements."""
    return array.dtype == object and any(isinstance(e, Sym) for e in array.flat)


def _numbers(array: Any) -> Any:
    whole = array is not None and array.dtype == object
    return (
        array.astype(np.int64) if whole and all(isinstance(e, int) for e in array.flat) else array
    )


def lower_bound(d: Any) -> Any:
    """A number that `d` cannot be below, symbols being at least 1 (those of sizes that data
    decides 0); None if there is none."""
    return bounds.lower_bound(bounds.from_zero(d))


def at_least(a: Any, b: Any) -> bool:
    """Whether a >= b surely holds."""
    surely = bounds.at_least(bounds.from_zero(a), bounds.from_zero(b))
    if surely and not isinstance(a, float) and not isinstance(b, float):
        take_at_least(a - b, 0)
    return surely


def larger(a: Any, b: Any) -> Any:
    """max of two dims, without `max(…)` where symbols decide it."""
    return bounds.larger(a, b, at_least)


def smaller(a: Any, b: Any) -> Any:
    """min of two dims, without `min(…)` where symbols decide it."""
    return bounds.smaller(a, b, at_least)


def compare(a: Any, b: Any) -> int:
    """-1, 0 or 1 as a is below, equal to or above b. Raises Undecided."""
    difference = a - b
    if not isinstance(difference, Sym):
        return (difference > 0) - (difference < 0)
    low, high = lower_bound(difference), lower_bound(0 - difference)
    if low is not None and low > 0:
        take_at_least(difference, 1)
        return 1
    if high is not None and high > 0:
        take_at_least(0 - difference, 1)
        return -1
    raise Undecided


def _whole(x: Any) -> Any:
    """x as an exact int or Sym; numpy and Python floats only if integral."""
    if isinstance(x, Sym):
        return x
    if int(x) != x:
        raise Undecided
    return int(x)


def _divide(a: Any, b: Any) -> Any:
    a, b = _whole(a), _whole(b)
    if isinstance(b, Sym):
        take_nonempty(b)
        if a == b:
            return 1
        if not isinstance(a, Sym) or b not in _factors(a, b):
            raise Undecided
        return a // b
    if b == 0:
        raise Undecided
    if not isinstance(a, Sym):
        return -(abs(a) // abs(b)) if (a < 0) != (b < 0) else abs(a) // abs(b)
    if b < 0 or not at_least(a, 0):
        exact = a // b
        rounds = lower_bound(a % b) != 0 or isinstance(a % b, Sym)
        if rounds and (b < 0 or not _grows(a)):
            raise Undecided
        if rounds:
            take_positive(a + 1)
        return exact
    return a // b


def _grows(a: Sym) -> bool:
    """Whether only small sizes make it negative, as (h - 8) // 4 + 1 of a window that has to fit.
    Division there is towards 0, and is that of dims for all others."""
    return not any(map(dims.may_be_zero, a.symbols())) and all(
        c > 0 for monomial, c in a.terms.items() if monomial
    )


def _divide_exactly(a: Any, b: Any) -> Any:
    a, b = _whole(a), _whole(b)
    if (not isinstance(b, Sym) and b == 0) or isinstance(a % b, Sym) or a % b != 0:
        raise Undecided
    take_nonempty(b)
    return a // b


def _factors(a: Sym, b: Sym) -> Any:
    return (b,) if not isinstance(a % b, Sym) else ()


def _mod(a: Any, b: Any) -> Any:
    a, b = _whole(a), _whole(b)
    if (not isinstance(a, Sym) and a == 0) or (not isinstance(b, Sym) and b == 0):
        return 0
    if isinstance(b, Sym) or b < 0:
        raise Undecided
    return a % b


def _decided(test: Callable) -> Callable:
    return lambda a, b: test(compare(_whole(a), _whole(b)))


def _arithmetic(f: Callable) -> Callable:
    return lambda a, b: f(_whole(a), _whole(b))


_SCALAR: dict[str, Callable[..., Any]] = {
    "add": _arithmetic(lambda a, b: a + b),
    "sub": _arithmetic(lambda a, b: a - b),
    "mul": _arithmetic(lambda a, b: a * b),
    "div": _divide,
    "mod": _mod,
    "minimum": _arithmetic(smaller),
    "maximum": _arithmetic(larger),
    "equal": _decided(lambda c: c == 0),
    "not_equal": _decided(lambda c: c != 0),
    "less": _decided(lambda c: c < 0),
    "less_equal": _decided(lambda c: c <= 0),
    "greater": _decided(lambda c: c > 0),
    "greater_equal": _decided(lambda c: c >= 0),
    "neg": lambda a: 0 - _whole(a),
    "identity": lambda a: a,
    "relu": lambda a: larger(_whole(a), 0),
    "abs": lambda a: a if at_least(_whole(a), 0) else _undecided(),
    "floor": _whole,
    "ceil": _whole,
    "round": _whole,
}
_MOVES = {
    "reshape",
    "transpose",
    "expand",
    "slice",
    "concat",
    "split",
    "gather",
    "gather_elements",
    "gather_nd",
    "tile",
    "reverse",
    "pad",
}
_REDUCE = {
    "reduce_sum": "add",
    "reduce_prod": "mul",
    "reduce_max": "maximum",
    "reduce_min": "minimum",
}


def _undecided() -> Any:
    raise Undecided


def _symbolic(name: str, arrays: list[Any], attrs: Mapping[str, Any], floating: bool) -> Any:
    """`name` on arrays of dims. Raises Undecided where it cannot be said."""
    if name == "div" and floating:
        return np.frompyfunc(_divide_exactly, 2, 1)(*arrays)
    if name in _SCALAR:
        return np.frompyfunc(_SCALAR[name], len(arrays), 1)(*arrays)
    if name in _MOVES:
        return op.get(name).ref(*[_objects(name, i, a) for i, a in enumerate(arrays)], **attrs)
    if name in _REDUCE:
        f = np.frompyfunc(_SCALAR[_REDUCE[name]], 2, 1)
        x = arrays[0]
        axes = tuple(a % x.ndim for a in attrs["axes"]) if x.ndim else ()
        for axis in axes:
            x = f.reduce(x, axis=axis, keepdims=True)
        keep = [s for i, s in enumerate(x.shape) if attrs["keepdims"] or i not in axes]
        return np.asarray(x, object).reshape(keep)
    if name == "cast" and attrs["dtype"].kind in "iuf":
        if attrs["dtype"].kind != "f" and attrs["dtype"].bits < 32:
            raise Undecided
        return arrays[0]
    if name == "where" and arrays[0].dtype == np.bool_:
        condition, x, y = np.broadcast_arrays(*arrays)
        return np.where(condition, x.astype(object), y.astype(object))
    raise Undecided


def _objects(name: str, position: int, array: Any) -> Any:
    """Data operands as objects; index operands stay numbers."""
    if array is None or (name.startswith("gather") and position == 1):
        if array is not None and array.dtype == object:
            raise Undecided
        return array
    return array.astype(object)
