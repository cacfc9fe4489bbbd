"""Ops of users whose kernel is a C function: `tessel.ops.CFunction`.

The function is Python's behind a C interface, so that no compiler is needed; that of libc is in
examples/custom_ops.py.
"""

import ctypes

import numpy as np
import pytest
import tessel
from tessel import ops
from tessel.compiler.errors import TypeMismatch, UsageError
from tessel.compiler.ir.op import OPS

FLOATS = ctypes.POINTER(ctypes.c_float)
SCALE = ctypes.CFUNCTYPE(None, FLOATS, FLOATS, FLOATS, ctypes.c_int64, ctypes.c_float)


def scale_and_shift(x, shift, out, n, by):
    for i in range(n):
        out[i] = x[i] * by + (shift[0] if shift else 0.0)


@pytest.fixture
def in_c():
    """y = x * by + shift, as a C function would have it: registers it, for one test."""
    function = SCALE(scale_and_shift)

    def make(arguments="x, shift, out, x.size, by", function=function, **changes):
        return ops.register(
            "twice",
            "x: T, shift: T? -> T",
            "x * by + shift",
            T="float",
            attrs={"by": ops.Attr("float", 2.0)},
            shape=lambda x, shift=None, *, by: x.shape,
            ref=lambda x, shift, *, by: np.asarray(x * by + (0 if shift is None else shift)),
            grad=lambda c, dy: (dy * c.attrs["by"], None if c.inputs[1] is None else dy),
            loops=ops.CFunction(function, arguments),
            samples=lambda: [
                ops.Sample((np.arange(6, dtype=np.float32).reshape(2, 3),)),
                ops.Sample((np.ones(4, np.float32), np.float32([5.0])), {"by": 0.5}),
            ],
            **changes,
        )

    yield make
    if "twice" in OPS:
        ops.unregister("twice")


def test_a_c_function_with_a_gradient(in_c):
    in_c()
    assert "sample 1: gradient" in ops.check("twice")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    f = tessel.jit(lambda x: (tessel.native.functional.twice(x * 1, by=4.0) + 1).sum())
    assert f(x) == 15 * 4 + 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("x, out", "5 argtypes"),
        ("x, shift, out, x.length, by", "no such argument of the C function"),
        ("x, shift, y, x.size, by", "received: y"),
        ("x, shift, out, x.size, by.size", "received: by.size"),
    ],
)
def test_arguments_that_make_no_sense(in_c, arguments, message):
    with pytest.raises(UsageError) as caught:
        in_c(arguments)
    assert message in str(caught.value)


def test_a_c_function_without_argtypes(in_c):
    with pytest.raises(UsageError, match="no argtypes"):
        in_c(function=scale_and_shift)


def test_a_c_function_of_other_floats_is_not_called(in_c):
    in_c()
    f = tessel.jit(lambda x: tessel.native.functional.twice(x))
    with pytest.raises(TypeMismatch, match="another dtype than the C function takes"):
        f(np.ones(3, np.float64))
