"""Floats that are cut to a short type's limits and rounded: every bit, on every way through."""

import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.emit.rounding import rounded
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.expr import Buffer
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.types import TensorType, dtype_of

EDGES = [0.0, -0.0, np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, 2147483648.0, -2147483904.0]


def values(limits: np.iinfo) -> np.ndarray:
    """Whole numbers and halves around the limits, and what lies next to them."""
    ends = np.concatenate([np.arange(-4, 5), np.arange(-4, 5) + limits.max, [limits.min, 97]])
    near = np.concatenate([ends + d for d in (0, 0.5, -0.5, 0.25)]).astype(np.float32)
    up, down = np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))
    return np.concatenate([near, up, down, np.float32(EDGES)])


@pytest.mark.parametrize("dtype", ["u8", "i8", "u16", "i16"])
@pytest.mark.parametrize("zero", [0, 1, 120, -3])
def test_quantizing_rounds_as_numpy_does(dtype, zero):
    limits = np.iinfo(dtype_of(dtype).numpy)
    if not limits.min <= zero <= limits.max:
        return
    x = values(limits) - np.float32(zero)
    for count in (1, 7, x.size):  # a scalar, part of a vector, vectors
        b = Builder()
        v = b.input("x", f"f32[{count}]")
        y = b.quantize_linear(v, b.constant(np.float32(1)), b.constant(zero, dtype), dtype=dtype)
        b.output("y", y)
        for part in (x[:count], x[-count:]):
            with np.errstate(all="ignore"):
                expected = tessel.compile(b.graph, target="numpy")(part)
            np.testing.assert_array_equal(tessel.compile(b.graph)(part), expected)


X = s.load(Buffer("x", TensorType(dtype_of("f32"), (9,))), [s.const(3)])


def cut(x, low, high, dtype):
    number = lambda n: s.const(n, x.dtype)
    return s.cast(s.apply("min", s.apply("max", x, number(low)), number(high)), dtype)


def test_what_is_recognized():
    round = s.apply("round", X)
    assert rounded(cut(round, 0, 255, "u8")) == (X, 0, 0, 255)
    assert rounded(cut(round + s.const(7.0, X.dtype), -128, 127, "i8")) == (X, 7, -128, 127)


@pytest.mark.parametrize(
    "e",
    [
        s.cast(s.apply("round", X), "u8"),
        cut(X, 0, 255, "u8"),
        cut(s.apply("round", X), 0, 300, "u8"),
        cut(s.apply("round", X), 5, 255, "u8"),
        cut(s.apply("round", X), 0, 254.5, "u8"),
        cut(s.apply("round", X), 0, 255, "i32"),
        cut(s.apply("round", X) + s.const(0.5, X.dtype), 0, 255, "u8"),
    ],
    ids=["uncut", "not rounded", "beyond", "no zero", "a half", "long", "half a zero point"],
)
def test_what_is_not(e):
    assert rounded(e) is None
