"""Functions at inf, NaN, the smallest and the largest numbers of the float types, as in numpy."""

import ml_dtypes
import numpy as np
import pytest
import tessel
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.types import DTYPES

# fmt: off
FUNCTIONS = [
    "exp", "log", "tanh", "erf", "gelu", "sigmoid", "silu", "rsqrt", "reciprocal", "sin", "cos",
    "tan", "atan", "sinh", "asinh", "softplus", "elu",
]
# fmt: on
TOLERANCE = {"f32": 1e-6, "f64": 1e-14, "f16": 2e-3, "bf16": 1e-2}


def extremes(dtype) -> np.ndarray:
    info = ml_dtypes.finfo(dtype)
    sizes = [info.smallest_subnormal, info.tiny / 4, info.tiny, info.eps, info.max / 2, info.max]
    sizes = [*map(float, sizes), 0.0, 0.5, 1, 10, 20.5, 30, 88, 100, 104, 1e3, np.inf, np.nan]
    return np.array([*sizes, *(-v for v in sizes)]).astype(dtype)


@pytest.mark.parametrize("name", TOLERANCE)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, about what is asked here
def test_functions_at_extremes(name):
    dtype = DTYPES[name].numpy
    x, smallest = extremes(dtype), float(ml_dtypes.finfo(dtype).tiny)
    b = Builder(name="extremes")
    given = b.input("x", f"{name}[{x.size}]")
    for function in FUNCTIONS:
        b.output(function, b.emit(function, given))
    wanted = interpret(b.graph, [x])
    exe = tessel.compile(b.graph, cache=False)
    for function, want, got in zip(FUNCTIONS, wanted, exe.run({"x": x}).values()):
        want, got = want.astype(np.float64), got.astype(np.float64)
        # Results below the normal range may be flushed (sigmoid).
        np.testing.assert_allclose(got, want, TOLERANCE[name], smallest, err_msg=function)
        number = ~np.isnan(want)
        same = np.signbit(got[number]) == np.signbit(want[number])
        assert same.all(), (function, x[number][~same])
