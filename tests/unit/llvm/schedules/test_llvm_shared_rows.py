"""Machine code of places and weights that an axis has in common: computed once, before its loop."""

import numpy as np
import pytest
from tessel.compiler.backends.llvm.backend import compile_program
from tessel.compiler.backends.llvm.base.target import NAMED, host
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.types import DTYPES, F32, I32, I64

from ....support.kernels import NO_CACHE, both, buffer_of, close, program_of, scheduled, store

PIXELS = 60


def warped(channels: int, points: int, dtype="f32", taps: int = 0):
    """Images read between two pixels, at points that data say; or the sum of `taps` of them."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 99, (channels, PIXELS)).astype(DTYPES[dtype].numpy)
    grid = rng.uniform(-3, PIXELS + 3, points).astype(np.float32)
    a, g = buffer_of("a", x), buffer_of("g", grid)

    def between(c, place):
        low = s.make("floor", (place,), None, F32)
        pixel = s.cast(s.cast(low, I32), I64)
        at = lambda i: s.cast(a[c, s.minimum(s.maximum(i, 0), PIXELS - 1)], F32)
        t = place - low
        inside = (place >= 0.0) & (place <= float(PIXELS))
        return s.select(inside, at(pixel) * (1.0 - t) + at(pixel + 1) * t, s.const(0.0, F32))

    def body(c, i):
        if taps == 0:
            return between(c, g[i])
        return s.reduce_sum([taps], lambda k: between(c, g[i] + s.cast(k, F32) * 0.37))

    return store((channels, points), body, dtype), {a: x, g: grid}


@pytest.mark.sweep(4)
@pytest.mark.parametrize("points", [4, 7, 8, 9, 100, 1024, 1500, 2051])
@pytest.mark.parametrize("channels", [4, 6])
def test_points_are_found_once_for_all_channels(channels, points):
    kernel, arrays = warped(channels, points)
    again = scheduled(program_of(kernel, arrays)).again
    assert again is not None
    assert again.extent == channels
    for threads in (1, 2):
        received, expected = both(kernel, arrays, threads=threads)
        close(received, expected)


@pytest.mark.parametrize("dtype", ["f64", "f16", "u8", "i64"])
def test_images_of_other_types(dtype):
    kernel, arrays = warped(5, 75, dtype)
    received, expected = both(kernel, arrays)
    close(received, expected)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("taps", [2, 3, 20])
@pytest.mark.parametrize("points", [7, 50])
def test_taps_have_rows_of_their_own(taps, points):
    kernel, arrays = warped(8, points, taps=taps)
    assert scheduled(program_of(kernel, arrays)).again is not None
    received, expected = both(kernel, arrays)
    close(received, expected, rtol=1e-4)


def test_an_image_of_one_channel_shares_nothing():
    kernel, arrays = warped(1, 100)
    assert scheduled(program_of(kernel, arrays)).again is None
    received, expected = both(kernel, arrays)
    close(received, expected)


def test_rows_that_would_be_long_are_computed_where_they_are_read():
    kernel, arrays = warped(4, 40, taps=3000)
    schedule = scheduled(program_of(kernel, arrays))
    assert schedule.again is None or schedule.scratch_bytes(kernel) <= 1 << 18
    received, expected = both(kernel, arrays)
    close(received, expected, rtol=1e-3)


@pytest.mark.parametrize("target", sorted(NAMED))
def test_every_target_has_code(target):
    kernel, arrays = warped(5, 75)
    assert compile_program(program_of(kernel, arrays), NAMED[target], cache=NO_CACHE)


def test_scratch_memory_holds_the_rows_of_a_block():
    kernel, arrays = warped(4, 5000)
    program = program_of(kernel, arrays)
    schedule = scheduled(program)
    (call,) = program.steps
    assert schedule.block == 1024
    rows = schedule.shared(call.kernel).rows
    each = (schedule.block + host().lanes(32)) * 4
    assert len(rows) * each // 4 <= schedule.scratch_bytes(call.kernel) <= len(rows) * (each + 64)
