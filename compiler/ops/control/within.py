"""What a run insists on: within (values in a range), impossible (a branch that cannot be meant).

And `barrier`, behind which things are computed again.
"""

import numpy as np

from ...errors import InputError, TypeMismatch
from ...expr import expr as s
from ...ir.limits import INDEX, Limit, check_values
from ...ir.op import Alias, Attr, Kernels, NotDifferentiable, register
from ..common import array, case


def _ref(x, *, low, high, what, column):
    check_values(x if column is None else x[..., column], low, high, what)
    return np.asarray(x)


def _shape(x, *, low, high, what, column):
    if column is not None and not (x.rank and 0 <= column < x.shape[-1]):
        raise TypeMismatch("there is no such column", expected=f"a place in {x}", received=column)
    return x.shape


def _limits(x, *, low, high, what, column):
    return [Limit(0, low, high, what, column)]


register(
    "within",
    "x: T -> T",
    """x itself. A run in which an element is not low, …, high - 1 fails.

    With `column`, only the elements at that place of the last axis are looked at. Of floats, the
    whole part is.
    """,
    attrs={
        "low": Attr("dim", None, "the least allowed value; none: no limit"),
        "high": Attr("dim", None, "what all values are below; none: no limit"),
        "what": Attr("str", INDEX, "what an element is, in the error"),
        "column": Attr("int", None, "a place of the last axis; none: all"),
    },
    shape=_shape,
    ref=_ref,
    grad=lambda c, dy: [dy],
    loops=Alias(),
    samples=lambda: [
        case(array([[0, 3], [2, -4]], "i64"), low=-4, high=4),
        case(array([7, 1], "i32"), low=0),
        case(array([[9, 0], [-9, 1]], "i64"), low=0, high=2, column=1),
        case(np.zeros((0,), np.int32), low=0, high=0),
        case(array([[0.5, 7], [-0.5, 9]]), low=0, high=1, column=0),
    ],
    group="control",
    limits=_limits,
    T="numeric",
)


register(
    "barrier",
    "x: T -> T",
    "x itself, as another value: what is computed from it is computed again.",
    shape=lambda x: x.shape,
    ref=lambda x: np.asarray(x),
    grad=lambda c, dy: [dy],
    loops=Alias(),
    samples=lambda: [
        case(array([[0.5, -3.0]])),
        case(array([1, 2], "i64")),
        case(np.zeros((0, 2), bool)),
    ],
    group="control",
    T="any",
)


def _impossible_ref(*, shape, dtype, reason):
    raise InputError(reason)


def _nothing(k, out, *, shape, dtype, reason):
    """What memory holds where a run goes on for its error: NaN, or zeros."""
    nothing = s.const(float("nan") if out.dtype.is_float else 0, out.dtype.compute)
    k.store(out.shape, lambda *i: (i, s.cast(nothing, out.dtype)))


def _impossible_shape(*, shape, dtype, reason):
    return shape


register(
    "impossible",
    "-> @dtype",
    """Stands for what cannot be computed: a run that comes to it fails with `reason`.

    A branch that contradicts the shapes of a model's inputs consists of these.
    """,
    attrs={
        "shape": Attr("dims"),
        "dtype": Attr("dtype"),
        "reason": Attr("str", doc="the error's message"),
    },
    shape=_impossible_shape,
    ref=_impossible_ref,
    grad=NotDifferentiable("it has no value"),
    loops=Kernels(_nothing),
    samples=tuple,
    group="control",
    pure=False,
)
