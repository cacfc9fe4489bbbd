"""Where numbers are in a sorted table: search, require_found (label encoders of ai.onnx.ml)."""

import numpy as np

from ...errors import InputError, TypeMismatch
from ...expr import expr as s
from ...ir.op import Extern, NotDifferentiable, Pull, register
from ...ir.types import F32, F64, I16, I32, I64
from ..common import array, case, floats, ints
from ..contraction.scores import LABELS


def search_shape(x, keys):
    if keys.rank != 1 or not isinstance(keys.shape[0], int) or keys.shape[0] == 0:
        raise TypeMismatch("search needs a vector of keys", expected="[keys]", received=keys)
    return x.shape


def search_ref(x, keys):
    at = np.searchsorted(keys, x)  # NaN is sorted to the end
    at = np.minimum(at, len(keys) - 1)
    found = keys[at] == x
    if x.dtype.kind == "f":
        found |= np.isnan(x) & np.isnan(keys[at])
    return np.where(found, at, -1).astype(np.int64)


def _search(out, x, keys):
    """Halves the table as often as its size needs: no branch, the same for every element."""
    size = keys.shape[0]

    def at(*i):
        value, place, half = x[i], s.const(0), 1
        while half < size:
            half *= 2
        while half > 1:  # place is the number of keys below the value, of those looked at
            half //= 2
            probe = s.minimum(place + (half - 1), s.const(size - 1))
            below = (keys[probe] < value) & s.compare("lt", place + (half - 1), size)
            place = s.select(below, place + half, place)
        place = s.minimum(place, s.const(size - 1))
        found = s.select(s.eq(keys[place], value), place, s.const(-1))
        if not x.dtype.is_float:
            return found
        end = keys[s.const(size - 1)]
        nan = s.select(s.apply("isnan", end), s.const(size - 1), s.const(-1))
        return s.select(s.apply("isnan", value), nan, found)

    return at


def _samples():
    for n in (1, 2, 3, 4, 5, 8, 9):
        yield case(ints((40,), low=-4, high=10), array(np.arange(n), "i64"))
    yield case(ints((2, 7), low=-3, high=4, dtype="i32"), array([-3, -1, 0, 2, 3], "i32"))
    yield case(ints((7,), low=-3, high=4, dtype="i16"), array([-3, -1, 2], "i16"))
    x = np.round(floats((4, 5)))
    x[1, 2] = np.nan
    yield case(x, array([-2.0, 0.0, 1.0]), grad=False)
    yield case(x.astype(np.float64), array([-1.0, 0.0, np.nan], "f64"), grad=False)
    yield case(ints((0,)), array([1, 2], "i64"))


register(
    "search",
    "x: T, keys: T -> i64",
    """Where each element is among `keys`, which are sorted and differ, or -1.

    NaN is found at a NaN, which is sorted to the end.
    """,
    shape=search_shape,
    ref=search_ref,
    grad=LABELS,
    loops=Pull(_search),
    samples=_samples,
    group="ml",
    T={F32, F64, I64, I32, I16},
)


def require_found_ref(index):
    if (index < 0).any():
        raise InputError(
            "an element is of no known category",
            received=f"the element at {np.argwhere(index < 0)[0].tolist()}",
            fix="let the OneHotEncoder give zeros for it (zeros=1)",
        )
    return index


register(
    "require_found",
    "index: i64 -> i64",
    "The indices that a search gave. Raises InputError where one is -1.",
    shape=lambda index: index.shape,
    ref=require_found_ref,
    grad=NotDifferentiable("indices have no gradient"),
    loops=Extern(require_found_ref, "only Python can stop a run"),
    samples=lambda: [case(array([[0, 2], [1, 0]], "i64"))],
    group="ml",
)
