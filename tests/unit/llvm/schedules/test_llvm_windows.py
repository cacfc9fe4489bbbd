"""Machine code of sums over small windows (depthwise convolutions) against numpy.

The values are small integers, so that a result is the same in whatever order it is summed.
"""

import numpy as np
import pytest
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.backends.llvm.schedules.window import POINTS, WindowSchedule
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.types import DTYPES

from ....support.kernels import both, buffer_of, native, program_of, scheduled, store

RNG = np.random.default_rng(0)


def whole(shape, dtype="f32"):
    return RNG.integers(0 if dtype.startswith("u") else -4, 5, shape).astype(DTYPES[dtype].numpy)


def depthwise(
    size=(5, 20),
    channels=20,
    taps=(3, 3),
    stride=1,
    dilation=1,
    dtype="f32",
    epilogue=lambda x, c: x,
    out=None,
):
    """(kernel, arrays) of y[i, j, c] = epilogue(sum over (p, q) of x[…, c] * w[p, q, c])."""
    reach = [(d - 1) * stride + (k - 1) * dilation + 1 for d, k in zip(size, taps)]
    x, w = whole((*reach, channels), dtype), whole((*taps, channels), dtype)
    a, b = buffer_of("x", x), buffer_of("w", w)
    acc = dtype if dtype.startswith("f") else "i32"

    def body(i, j, c):
        def term(p, q):
            seen = a[i * stride + p * dilation, j * stride + q * dilation, c]
            return s.cast(seen, acc) * s.cast(b[p, q, c], acc)

        return epilogue(s.reduce("sum", taps, term, acc), c)

    return store((*size, channels), body, acc if out is None else out), {a: x, b: w}


def check(kernel, arrays):
    assert isinstance(scheduled(program_of(kernel, arrays)), WindowSchedule)
    received, expected = both(kernel, arrays)
    np.testing.assert_array_equal(received, expected)


@pytest.mark.sweep(4)
@pytest.mark.parametrize("line", [2, 7, 8, 9, 33])
@pytest.mark.parametrize("channels", [16, 17, 40])
def test_lines_and_channels_of_any_length(line, channels):
    check(*depthwise((3, line), channels))


@pytest.mark.sweep(4)
@pytest.mark.parametrize("taps", [(1, 3), (3, 3), (5, 5), (7, 7), (2, 4)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (2, 2)])
def test_windows(taps, stride, dilation):
    check(*depthwise(taps=taps, stride=stride, dilation=dilation))


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "u8", "i8"])
def test_dtypes(dtype):
    check(*depthwise(dtype=dtype))


@pytest.mark.parametrize("channels", [8, 17])
@pytest.mark.parametrize(("dtype", "packs"), [("f32", False), ("u8", True), ("i8", True)])
def test_constant_weights_are_packed_where_they_are_widened(dtype, packs, channels):
    kernel, arrays = depthwise(channels=channels, dtype=dtype)
    w = next(b for b in arrays if b.name == "w")
    program = program_of(kernel, arrays, constants=(w,))
    plan = scheduled(program)
    assert isinstance(plan, WindowSchedule) and plan.packs == packs
    x = arrays[next(b for b in arrays if b.name == "x")]
    expected = both(kernel, arrays)[1]
    np.testing.assert_array_equal(native(program)([x], 1)[0], expected)


def test_what_follows_is_computed_in_place():
    bias = buffer_of("bias", whole((20,)))
    kernel, arrays = depthwise(epilogue=lambda x, c: s.maximum(x + bias[c], 0.0))
    check(kernel, arrays | {bias: np.arange(20, dtype=np.float32)})


@pytest.mark.parametrize("name", NAMED)
def test_points_are_as_many_as_a_line_has(name):
    kernel, arrays = depthwise((3, 5), 64)
    plan = scheduled(program_of(kernel, arrays), NAMED[name])
    assert plan.points == 5 < POINTS
    assert plan.units == 3


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 3},
        {"taps": (9, 9)},
        {"stride": 1, "dilation": 2},
        {"taps": (3, 1)},
        {"size": (1, 1)},
        {"dtype": "f16"},
    ],
    ids=[
        "few channels",
        "many taps",
        "points that share nothing",
        "taps across the line",
        "one point",
        "halves",
    ],
)
def test_what_is_left_to_other_schedules(options):
    kernel, arrays = depthwise(**options)
    assert not isinstance(scheduled(program_of(kernel, arrays)), WindowSchedule)
    received, expected = both(kernel, arrays)
    np.testing.assert_allclose(received, expected, rtol=1e-2)


def test_every_number_of_threads_gives_the_same_bits():
    kernel, arrays = depthwise((40, 40), 48)
    arrays = {b: RNG.standard_normal(a.shape).astype(np.float32) for b, a in arrays.items()}
    module = native(program_of(kernel, arrays))
    module.code.parallel = True
    one = module(list(arrays.values()), 1)[0]
    for threads in (2, 3):
        assert module(list(arrays.values()), threads)[0].tobytes() == one.tobytes()
