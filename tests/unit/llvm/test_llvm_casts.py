"""Casts in machine code: between all types as numpy converts, to and from narrow ones as ml_dtypes.

Every code of a narrow type goes to f32 and back; numbers are rounded to nearest even. Machines
without instructions for f16 convert it by arithmetic: x86-64-v2 stands for them.
"""

import numpy as np
import pytest
from tessel.compiler.backends.llvm.base.target import NAMED, host, runs_here
from tessel.compiler.backends.llvm.emit.narrow_floats import FORMATS, POWER
from tessel.compiler.backends.numpy import cast_array
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.op import OPS
from tessel.compiler.ir.types import DTYPES, F16, F32, dtype_of

from ...support.kernels import both, buffer_of, native, program_of, store
from ..ops.test_ops import BACKENDS, graph_of

FLOATS = [DTYPES[n] for n in (*FORMATS, POWER)]  # f16, bf16, four float8, float6, …
FLOAT8 = FLOATS[2:6]
SMALL_INTS = [DTYPES[n] for n in ("i4", "u4", "i2", "u2")]
ALL = [d for d in DTYPES.values() if d.kind != "s"]
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30, -1e-30, 3.4e38, 1e-45]


def convert(x, dtype, target=None):
    """Machine code's `cast`, on its own."""
    a = buffer_of("a", x)
    program = program_of(store(x.shape, lambda i: s.cast(a[i], dtype), dtype), {a: x})
    return native(program, target)([x], 1)[0]


def codes(dtype):
    return np.arange(2**dtype.bits, dtype=f"u{dtype.bytes}").view(dtype.numpy)


def some(dtype):
    """Numbers of every size that the type has, and beyond what narrower types hold."""
    if dtype.bits <= 16:
        return codes(dtype) if dtype.bits > 1 else np.array([True, False, True])
    if dtype.is_float:
        return np.concatenate([numbers()[::50], numbers()[-500:], SPECIAL]).astype(dtype.numpy)
    rng = np.random.default_rng(1)
    shifts = rng.integers(0, dtype.bits, 500).astype(dtype.numpy)
    low, high = np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max
    values = rng.integers(low, high, 500, dtype=dtype.numpy, endpoint=True) >> shifts
    return np.concatenate([values, np.array([low, high, 0, 1, 65519, 65520, 65521], dtype.numpy)])


def bits(x):
    return x.view(f"u{x.itemsize}")


def is_nan(x):
    with np.errstate(invalid="ignore"):  # some of ml_dtypes' comparisons raise the flag
        return x != x


def same_bits(received, expected, given):
    """Equal codes; NaN in any spelling, and zero for it in any sign where there is none."""
    wrong = (bits(received) != bits(expected)) & ~(is_nan(received) & is_nan(expected))
    if dtype_of(received).name in ("f4e2m1", "f6e2m3", "f6e3m2"):
        size = bits(received) & (2 ** (dtype_of(received).bits - 1) - 1)
        wrong &= ~(is_nan(given) & (size == 0))
    assert not wrong.any(), (given[wrong][:5], received[wrong][:5], expected[wrong][:5])


def numbers():
    """Random f32 bit patterns, and what lies around every float8's rounding points."""
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 2**32, 50_000, dtype=np.uint32).view(np.float32)
    usual = rng.standard_normal(5000) * 10.0 ** rng.integers(-6, 5, 5000)
    values = [anything, usual.astype(np.float32), np.array(SPECIAL, np.float32)]
    for dtype in FLOATS[2:]:
        every = np.unique(codes(dtype).astype(np.float32))
        every = every[np.isfinite(every)]
        for ties in (every, (every[1:] + every[:-1]) / 2):
            values += [ties, np.nextafter(ties, np.float32(9e9)), np.nextafter(ties, -ties)]
    return np.concatenate(values)


def rounded(x: np.ndarray, dtype) -> np.ndarray:
    """x as ml_dtypes rounds it, but for powers of two, which it rounds wrongly below the normal."""
    with np.errstate(all="ignore"):
        return cast_array(x, dtype) if dtype.name == POWER else x.astype(dtype.numpy)


@pytest.fixture(params=["host", "x86-64-v2"])
def target(request):
    target = NAMED.get(request.param, host())
    reason = runs_here(target)
    if reason is not None:
        pytest.skip(reason)
    return target


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_code_of_a_narrow_float_widens_exactly(dtype, target):
    x = codes(dtype)
    received = convert(x, F32, target)
    same_bits(received, x.astype(np.float32), x)
    same_bits(convert(received, dtype, target), x, x)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_number_is_rounded_as_ml_dtypes_rounds_it(dtype, target):
    x = numbers()
    same_bits(convert(x, dtype, target), rounded(x, dtype), x)


def test_f64_becomes_f16_in_one_rounding(target):
    every = codes(F16).astype(np.float64)
    every = np.unique(every[np.isfinite(every)])
    ties = (every[1:] + every[:-1]) / 2
    x = np.concatenate(
        [
            every,
            ties,
            np.nextafter(ties, 1e9),
            np.nextafter(ties, -1e9),
            SPECIAL,
            [65520 - 1e-9, -65520.0, 2**-25 + 2**-70, 1e300, 1e-300],
        ]
    )
    with np.errstate(all="ignore"):
        same_bits(convert(x, F16, target), x.astype(np.float16), x)


@pytest.mark.sweep(9, suite=9)
@pytest.mark.parametrize("source", ALL, ids=str)
def test_every_type_becomes_every_other(source):
    x = some(source)
    a = buffer_of("a", x)
    for some_types in (ALL[:10], ALL[10:]):  # more at once would start processes
        kernels = [store(x.shape, lambda i, d=d: s.cast(a[i], d), d) for d in some_types]
        for received, expected in both(kernels, {a: x}):
            same_bits(received, expected, x)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_op_cast_saturates_float8(dtype):
    x = numbers()
    sample = type("Sample", (), {"inputs": (x,), "attrs": {"dtype": dtype}})
    (received,) = BACKENDS["llvm"](*graph_of(OPS["cast"], sample))
    same_bits(received, OPS["cast"].ref(x, dtype=dtype), x)


@pytest.mark.parametrize("dtype", SMALL_INTS, ids=str)
def test_numbers_become_few_bits_by_truncation_and_saturation(dtype):
    x = numbers()
    with np.errstate(invalid="ignore"):
        expected = cast_array(x, dtype)
    np.testing.assert_array_equal(bits(convert(x, dtype)), bits(expected))


@pytest.mark.parametrize("dtype", SMALL_INTS, ids=str)
def test_few_bits_wrap_around_in_sums(dtype):
    x = np.tile(codes(dtype), 5)
    a = buffer_of("a", x)
    received, _ = both(store(x.shape, lambda i: a[i] + a[i], dtype), {a: x})
    np.testing.assert_array_equal(received, x + x)
    assert bits(received).max() < 2**dtype.bits


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
        (5,),
        lambda i: s.select(
            i < 3, s.const(1.5 if dtype.is_float else 3, dtype), s.cast(a[i], dtype)
        ),
        dtype,
    )
    received, expected = both(kernel, {a: x})
    np.testing.assert_array_equal(bits(received), bits(expected))


@pytest.mark.parametrize("source", ["f32", "f64"])
def test_large_numbers_among_small_ones_become_longs(source):
    """Vectors of small numbers only, and such in which one lane is not."""
    large = [2.0**31, -(2.0**31), 2.0**51, -(2.0**52), 1e18, -1e18, 1e19, -1e19]
    large += [np.inf, -np.inf, np.nan]
    x = np.random.default_rng(0).uniform(-1e6, 1e6, 8 * len(large) + 5)
    x[::8][: len(large)] = large
    x = np.concatenate([x, [-0.0, -0.9, 0.9, -1.5, 2**31 - 200.0, -(2**31) + 200.0], x[1:9]])
    x = x.astype(DTYPES[source].numpy)
    a = buffer_of("a", x)
    received, expected = both(store(x.shape, lambda i: a[i], "i64"), {a: x})
    np.testing.assert_array_equal(received, expected)
    assert received[np.isnan(x)] == 0
    assert received.max() == 2**63 - 1
    assert received.min() == -(2**63)


@pytest.mark.parametrize("dtype", ["u32", "u64"])
@pytest.mark.parametrize("source", ["f32", "f64"])
def test_floats_around_the_ends_of_unsigned_types(source, dtype):
    kind = DTYPES[source].numpy.type
    ends = np.array([2.0**31, 2.0**32, 2.0**51, 2.0**52, 2.0**63, 2.0**64], kind)
    near = [ends, np.nextafter(ends, kind(0)), np.nextafter(ends, kind(np.inf)), ends / 2 + 1]
    given = np.concatenate([*near, np.array([0.5, -0.5, -1.0, 7.9, *SPECIAL], kind)])
    high = 2 ** DTYPES[dtype].bits - 1
    expected = [0 if np.isnan(v) or v < 1 else high if v > high else int(v) for v in given.tolist()]
    assert convert(given, DTYPES[dtype]).tolist() == expected
