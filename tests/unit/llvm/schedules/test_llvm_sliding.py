"""Machine code of windows that slide along the contiguous axis (pools, depthwise convolutions with
channels first) against numpy."""

import numpy as np
import pytest
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.backends.llvm.kernel.codegen import kernel_module, schedule_kernel
from tessel.compiler.backends.llvm.kernel.objects import object_code
from tessel.compiler.backends.llvm.schedules.base import Given, Refusal
from tessel.compiler.backends.llvm.schedules.sliding.schedule import SlidingSchedule
from tessel.compiler.backends.llvm.schedules.sliding.segments import Segments
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.types import DTYPES
from tessel.compiler.kernels.simplify import merge_axes, split_axes
from tessel.compiler.ops.contraction.windows import padded

from ....support.kernels import both, buffer_of, close, native, program_of, scheduled, store

RNG = np.random.default_rng(0)


def values(shape, dtype="f32"):
    """Small whole numbers, so that a result is the same in whatever order it is summed."""
    return RNG.integers(0 if dtype.startswith("u") else -9, 9, shape).astype(DTYPES[dtype].numpy)


def pool(
    size=(9, 20),
    taps=(3, 3),
    stride=(1, 1),
    pads=1,
    dilation=(1, 1),
    combiner="max",
    dtype="f32",
    channels=3,
    weights=False,
    epilogue=lambda x, c: x,
    out=None,
    seed=None,
):
    """(kernel, arrays) of y[c, …] = epilogue(combine over taps of x[c, … * stride + tap] [* w])."""
    pads = (pads,) * len(taps) if isinstance(pads, int) else pads
    reach = [
        (n - 1) * st + (k - 1) * d + 1 - 2 * p
        for n, st, k, d, p in zip(size, stride, taps, dilation, pads)
    ]
    x, w = values((channels, *reach), dtype), values((channels, *taps), dtype)
    a, b = buffer_of("x", x), buffer_of("w", w)
    acc = DTYPES[dtype].compute
    lowest = s.identity(combiner, DTYPES[dtype])
    view = padded(a, (0, *pads, 0, *pads), lowest)

    def body(c, *at):
        def term(*k):
            place = (i * st + j * d for i, st, j, d in zip(at, stride, k, dilation))
            seen = s.cast(view[(c, *place)], acc)
            return seen * s.cast(b[(c, *k)], acc) if weights else seen

        return epilogue(s.reduce(combiner, taps, term, acc), c)

    return store((channels, *size), body, out or dtype), {a: x} | ({b: w} if weights else {})


def check(kernel, arrays, **options):
    assert isinstance(scheduled(program_of(kernel, arrays)), SlidingSchedule)
    received, expected = both(kernel, arrays, **options)
    np.testing.assert_array_equal(received, expected)


@pytest.mark.sweep(5)
@pytest.mark.parametrize("width", [4, 7, 8, 9, 15, 17, 35])
@pytest.mark.parametrize("height", [1, 2, 9])
def test_rows_of_any_length(width, height):
    check(*pool((height, width), pads=(1 if height > 2 else 0, 1)))


@pytest.mark.sweep(4)
@pytest.mark.parametrize("taps", [(1, 3), (3, 1), (2, 2), (5, 5), (7, 3)])
@pytest.mark.parametrize("combiner", ["max", "min", "sum"])
def test_windows(taps, combiner):
    check(*pool((14, 21), taps, pads=tuple((k - 1) // 2 for k in taps), combiner=combiner))


@pytest.mark.sweep(4)
@pytest.mark.parametrize("stride", [(1, 2), (2, 2), (3, 3), (2, 4), (5, 1)])
@pytest.mark.parametrize(("taps", "pads"), [((2, 2), 0), ((3, 3), 1), ((5, 4), 1)])
def test_strides(stride, taps, pads):
    check(*pool((6, 19), taps, stride, pads))


@pytest.mark.parametrize(
    ("dilation", "stride"), [((2, 2), (1, 1)), ((1, 3), (3, 2)), ((3, 2), (2, 2))]
)
def test_dilations(dilation, stride):
    check(*pool((7, 12), (3, 3), stride, 2, dilation))


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize(
    ("size", "taps"),
    [((33,), (3,)), ((70,), (9,)), ((5, 6, 18), (3, 3, 3)), ((4, 4, 4), (2, 1, 3))],
)
def test_one_and_three_axes(size, taps, weights):
    pads = tuple((k - 1) // 2 for k in taps)
    ones = (1,) * len(size)
    check(*pool(size, taps, ones, pads, ones, "sum", weights=weights))


@pytest.mark.sweep(4)
@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "i32", "u8", "i8"])
@pytest.mark.parametrize("stride", [1, 2])
def test_dtypes(dtype, stride):
    check(*pool(stride=(stride, stride), dtype=dtype))


@pytest.mark.sweep(3)
@pytest.mark.parametrize("taps", [(3, 3), (5, 4), (2, 7)])
@pytest.mark.parametrize(("stride", "pads"), [(1, 0), (1, 1), (2, 1), (3, 0)])
def test_weights_that_all_places_share(taps, stride, pads):
    pads = tuple(min(pads, k // 2) for k in taps)
    check(*pool((11, 18), taps, (stride,) * 2, pads, combiner="sum", weights=True))


@pytest.mark.parametrize("width", [8, 12, 17, 25, 33, 40])
def test_weights_that_several_vectors_share(width):
    """Of a single line."""
    check(*pool((width,), (5,), (1,), 2, (1,), "sum", weights=True))


def test_what_follows_knows_its_place():
    """The mean over the taps inside: their number depends on the place."""
    size = (9, 20)

    def mean(total, at):
        inside = [s.minimum(i + 2, n) - s.maximum(i - 1, 0) for i, n in zip(at, size)]
        return total / s.cast(inside[0] * inside[1], "f32")

    x = values((3, *size))
    a = buffer_of("x", x)
    view = padded(a, (0, 1, 1, 0, 1, 1), 0)

    def body(c, i, j):
        return mean(s.reduce("sum", (3, 3), lambda k, m: view[c, i + k, j + m], "f32"), (i, j))

    kernel, arrays = store((3, *size), body), {a: x}
    assert isinstance(scheduled(program_of(kernel, arrays)), SlidingSchedule)
    close(*both(kernel, arrays))


def test_nan_wins():
    kernel, arrays = pool()
    (x,) = arrays.values()
    x[0, 3, 4] = x[1, 0, 0] = x[2, -1, -1] = np.nan
    received, expected = both(kernel, arrays)
    np.testing.assert_array_equal(received, expected)
    assert np.isnan(received).sum() == 9 + 4 + 4


@pytest.mark.parametrize("taps", [(3, 3), (2, 2)])
def test_channels_that_are_contiguous(taps):
    """The vectors run along an axis that the window does not slide along."""
    x = values((9, 10, 20))
    a = buffer_of("x", x)
    view = padded(a, (1, 1, 0, 1, 1, 0), -np.inf)
    size = (11 - taps[0] + 1, 12 - taps[1] + 1, 20)
    kernel = store(
        size, lambda i, j, c: s.reduce("max", taps, lambda k, m: view[i + k, j + m, c], "f32")
    )
    check(kernel, {a: x})


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("stride", [1, 2])
def test_every_target_has_code(name, stride):
    for options in ({}, {"combiner": "sum", "weights": True}):
        kernel, _ = pool((20, 40), (3, 3), (stride, stride), **options)
        code = schedule_kernel(merge_axes(split_axes(kernel)), NAMED[name], frozenset(), False)
        assert isinstance(code.schedule, SlidingSchedule)
        assert object_code(kernel_module(code, NAMED[name]), NAMED[name])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"size": (9, 3)}, "its output has no axis that fills a vector"),
        ({"taps": (17, 17), "pads": 8, "size": (17, 17)}, "its window has more than 256 places"),
        ({"stride": (1, 5)}, "what its vectors are made of lies too far apart"),
        ({"combiner": "prod"}, "there are no windows of prod:f32"),
    ],
)
def test_what_is_left_to_other_schedules(options, why):
    kernel, arrays = pool(**options)
    found = SlidingSchedule.propose(Given(merge_axes(split_axes(kernel)), NAMED["x86-64-v3"]))
    assert isinstance(found, Refusal)
    assert found.reason == why
    close(*both(kernel, arrays))


def test_every_number_of_threads_gives_the_same_bits():
    kernel, arrays = pool((40, 41), channels=1, combiner="sum", weights=True)
    arrays = {b: RNG.standard_normal(a.shape).astype(np.float32) for b, a in arrays.items()}
    module = native(program_of(kernel, arrays))
    module.code.parallel = True
    one = module(list(arrays.values()), 1)[0]
    for threads in (2, 3):
        assert module(list(arrays.values()), threads)[0].tobytes() == one.tobytes()


@pytest.mark.parametrize("extent", range(8, 40))
def test_a_row_is_cut_into_vectors_that_cover_it(extent):
    for low in range(10):
        for high in range(low, extent + 1):
            cut = Segments.of(extent, 8, low, high)
            starts = list(cut.edges)
            if cut.first is not None:
                between = {min(v, cut.last) for v in range(cut.first, cut.last + 8, 8)}
                assert all(low <= v and v + 8 <= high for v in between)
                assert len(between) == cut.vectors
                starts += between
            assert all(0 <= v <= extent - 8 for v in starts)
            assert {v + n for v in starts for n in range(8)} == set(range(extent))


@pytest.mark.parametrize(("side", "shares"), [(10, True), (112, False)])
def test_rows_share_places_where_these_are_near(side, shares):
    """A large image comes from far, and a core foresees few places that lie side by side."""
    x = np.zeros((2 * side + 1, 2 * side + 1, 64), np.float32)
    a = buffer_of("x", x)
    view = padded(a, (0,) * 6, s.identity("max", DTYPES["f32"]))

    def body(h, w, c):
        return s.reduce("max", (3, 3), lambda i, j: view[(2 * h + i, 2 * w + j, c)], DTYPES["f32"])

    found = scheduled(program_of(store((side, side, 64), body), {a: x}), NAMED["x86-64-v3"])
    assert isinstance(found, SlidingSchedule) and (found.height > 1) is shares
