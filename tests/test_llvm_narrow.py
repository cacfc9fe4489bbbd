"""Narrow dtypes on the CPU: a byte (or two) in memory, converted as ml_dtypes converts.

Every code of a type goes to f32 and back; numbers are rounded to nearest even, once.
"""

import numpy as np
import pytest
from tessel.compiler.backends.llvm.narrow import FORMATS
from tessel.compiler.backends.numpy import cast_array
from tessel.compiler.loops import expr as s
from tessel.compiler.ops.registry import OPS
from tessel.compiler.types import DTYPES, F32, dtype_of

from .kernels import both, buffer_of, native, program_of, store
from .test_ops import BACKENDS, graph_of

FLOATS = [DTYPES[n] for n in FORMATS]
SMALL_INTS = [DTYPES["i4"], DTYPES["u4"]]
OTHERS = [DTYPES[n] for n in ("f64", "f16", "i64", "i8", "u8", "i32", "bool")]
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30, -1e-30, 3.4e38, 1e-45]


def convert(x, dtype):
    """Machine code's `cast`, on its own."""
    a = buffer_of("a", x)
    program = program_of(store(x.shape, lambda i: s.cast(a[i], dtype), dtype), {a: x})
    return native(program)([x], 1)[0]


def codes(dtype):
    return np.arange(2**dtype.bits, dtype=f"u{dtype.bytes}").view(dtype.numpy)


def bits(x):
    return x.view(f"u{x.itemsize}")


def is_nan(x):
    return np.isnan(x.astype(np.float32))


def same_bits(received, expected, given):
    """Equal codes; NaN in any spelling."""
    wrong = (bits(received) != bits(expected)) & ~(is_nan(received) & is_nan(expected))
    assert not wrong.any(), (given[wrong][:5], received[wrong][:5], expected[wrong][:5])


def numbers():
    """Random f32 bit patterns, and what lies around every float8's rounding points."""
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 2**32, 50_000, dtype=np.uint32).view(np.float32)
    usual = rng.standard_normal(5000) * 10.0 ** rng.integers(-6, 5, 5000)
    values = [anything, usual.astype(np.float32), np.array(SPECIAL, np.float32)]
    for dtype in FLOATS[1:]:
        every = np.unique(codes(dtype).astype(np.float32))
        every = every[np.isfinite(every)]
        for ties in (every, (every[1:] + every[:-1]) / 2):
            values += [ties, np.nextafter(ties, np.float32(9e9)), np.nextafter(ties, -ties)]
    return np.concatenate(values)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_code_of_a_narrow_float_widens_exactly(dtype):
    x = codes(dtype)
    received = convert(x, F32)
    same_bits(received, x.astype(np.float32), x)
    same_bits(convert(received, dtype), x, x)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_number_is_rounded_as_ml_dtypes_rounds_it(dtype):
    x = numbers()
    with np.errstate(all="ignore"):
        same_bits(convert(x, dtype), x.astype(dtype.numpy), x)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_op_cast_saturates_float8(dtype):
    x = numbers()
    sample = type("Sample", (), {"inputs": (x,), "attrs": {"dtype": dtype}})
    (received,) = BACKENDS["llvm"](*graph_of(OPS["cast"], sample))
    same_bits(received, OPS["cast"].ref(x, dtype=dtype), x)


@pytest.mark.parametrize("other", OTHERS, ids=str)
@pytest.mark.parametrize("dtype", FLOATS[1:], ids=str)
def test_float8_to_and_from_other_types(dtype, other):
    x = codes(dtype)
    x = x[np.isfinite(x.astype(np.float32))]
    with np.errstate(all="ignore"):
        expected = cast_array(x.astype(np.float32), other)
        np.testing.assert_array_equal(convert(x, other), expected)
        back = expected.astype(np.float32).astype(dtype.numpy)
        same_bits(convert(expected, dtype), back, expected)


@pytest.mark.parametrize("dtype", SMALL_INTS, ids=str)
@pytest.mark.parametrize("other", ["i8", "u8", "i64", "f32", "f64", "f16", "bool"])
def test_four_bits_to_and_from_other_types(dtype, other):
    other, x = DTYPES[other], codes(dtype)
    np.testing.assert_array_equal(convert(x, other), x.astype(other.numpy))
    wide = np.arange(-300, 300).astype(other.numpy)
    received = convert(wide, dtype)
    np.testing.assert_array_equal(bits(received), bits(cast_array(wide, dtype)))


@pytest.mark.parametrize("dtype", SMALL_INTS, ids=str)
def test_numbers_become_four_bits_by_truncation_and_saturation(dtype):
    x = numbers()
    with np.errstate(invalid="ignore"):
        expected = cast_array(x, dtype)
    np.testing.assert_array_equal(bits(convert(x, dtype)), bits(expected))


@pytest.mark.parametrize("dtype", SMALL_INTS, ids=str)
def test_four_bits_wrap_around_in_sums(dtype):
    x = np.tile(codes(dtype), 5)
    a = buffer_of("a", x)
    received, _ = both(store(x.shape, lambda i: a[i] + a[i], dtype), {a: x})
    np.testing.assert_array_equal(received, x + x)
    assert bits(received).max() < 16


@pytest.mark.parametrize("dtype", [*FLOATS, *SMALL_INTS], ids=str)
@pytest.mark.parametrize("n", [1, 3, 17])
def test_moves_keep_the_bits(dtype, n):
    x = np.resize(codes(dtype), (7, n))
    a = buffer_of("a", x)
    received, _ = both(store((n, 7), lambda i, j: a[j, i], dtype), {a: x})
    np.testing.assert_array_equal(bits(received), bits(np.ascontiguousarray(x.T)))
    assert dtype_of(received) == dtype


@pytest.mark.parametrize("dtype", [*FLOATS, *SMALL_INTS], ids=str)
def test_a_constant_of_a_narrow_type(dtype):
    x = np.zeros((5,), np.float32)
    a = buffer_of("a", x)
    kernel = store(
        (5,), lambda i: s.select(i < 3, s.const(1.5 if dtype.is_float else 3, dtype),
                                 s.cast(a[i], dtype)), dtype
    )  # fmt: skip
    received, expected = both(kernel, {a: x})
    np.testing.assert_array_equal(bits(received), bits(expected))
