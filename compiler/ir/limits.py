"""What values of operands an op allows: indices inside of an axis, lengths up to a size.

An op's record says so (`Op.limits`), as a list of `Limit`s for the types of its operands:

    gather(x, indices) {axis=0}      Limit(1, -d, d), where d is the size of x's axis 0

The interpreter looks at arrays (`check_operands`). What is compiled looks at them once per run:
`passes/checks.py` puts a `within` before every operand that is not proven to meet its limits.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..classes import dataclass
from ..errors import InputError
from . import dims
from .dims import Dim
from .types import TensorType, Type

INDEX = "an index"


@dataclass(frozen=True)
class Limit:
    """low <= element < high for the elements of an operand; both are dims, None: no limit.

    With `column`, only for those at this place of the last axis. `what` they are, in errors.
    """

    operand: int
    low: Dim | None
    high: Dim | None
    what: str = INDEX
    column: int | None = None


Limits = Callable[..., Iterable[Limit]]


def index_limit(operand: int, size: Dim, column: int | None = None) -> Limit:
    """An index into an axis of that size; negative ones count from its end."""
    return Limit(operand, -size, size, INDEX, column)


def length_limits(operand: int) -> Limits:
    """The limits of a layer over x [T, …], that operand of which has the lengths of sequences."""

    def limits(x: TensorType, *_: Any, **__: Any) -> list[Limit]:
        return [Limit(operand, 0, x.shape[0] + 1, "a sequence length")]

    return limits


def out_of_range(
    what: str, value: Any, low: Dim | None, high: Dim | None, where: str | None = None
) -> InputError:
    """The error for a value that is not low, …, high - 1."""
    if high is None:
        expected = f"at least {low}"
    elif _is_empty(low, high):
        expected = "none: there is nothing to choose from"
    else:
        expected = f"{'…' if low is None else low} to {high - 1}"
    return InputError(
        f"{what} is out of range",
        where=where,
        expected=expected,
        received=int(value),
        fix="correct the input that it comes from",
    )


def _is_empty(low: Dim | None, high: Dim | None) -> bool:
    return isinstance(low, int) and isinstance(high, int) and high <= low


def offending(values: np.ndarray, low: int | None, high: int | None) -> int | None:
    """The value that an error names: the greatest of those below `low`; else the greatest."""
    below = values[values < low] if low is not None else values[:0]
    if below.size:
        return int(below.max())
    most = int(values.max()) if values.size else None
    return most if most is not None and high is not None and most >= high else None


def check_values(
    values: np.ndarray,
    low: Dim | None,
    high: Dim | None,
    what: str = INDEX,
    where: str | None = None,
) -> None:
    """Raises InputError where a value is not low, …, high - 1. Open bounds are not looked at."""
    values = np.asarray(values)
    low, high = (None if isinstance(d, dims.Sym) else d for d in (low, high))
    if values.dtype == object and any(isinstance(v, dims.Sym) for v in values.flat):
        return
    if values.dtype.kind != "i":
        values = np.trunc(np.nan_to_num(values.astype(np.float64)))
    found = offending(values, low, high)
    if found is not None:
        raise out_of_range(what, found, low, high, where)


def check_operands(
    limits: Limits,
    operands: Sequence[np.ndarray | None],
    types: Sequence[Type | None],
    attrs: Mapping[str, Any],
    where: str,
) -> None:
    """Raises InputError for operands that do not meet the limits of their op."""
    for limit in limits(*types, **attrs):
        values = operands[limit.operand]
        if values is None:
            continue
        if limit.column is not None:
            values = values[..., limit.column]
        check_values(values, limit.low, limit.high, limit.what, where)
