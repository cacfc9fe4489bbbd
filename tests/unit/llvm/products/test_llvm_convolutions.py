"""Machine code of convolutions against numpy: windows that are packed, copied or read in place."""

import numpy as np
import pytest
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.expr import expr as s

from ....support.contractions import check, whole
from ....support.kernels import both, buffer_of, program_of, scheduled, store


def convolution(a, b, pad=0, stride=1):
    """NHWC x HWIO, 'same' where pad is (kernel - 1) / 2."""
    n, h, w, c = a.shape
    kh, kw, _, o = b.shape
    oh, ow = ((d + 2 * pad - k) // stride + 1 for d, k in ((h, kh), (w, kw)))

    def body(i, y, x, f):
        def term(p, q, d):
            v, u = y * stride + p - pad, x * stride + q - pad
            inside = (v >= 0) & (v < h) & (u >= 0) & (u < w)
            clip = lambda z, top: s.minimum(s.maximum(z, 0), top - 1)
            value = a[i, clip(v, h), clip(u, w), d]
            return s.select(inside, value, 0.0) * b[p, q, d, f]

        return s.reduce("sum", [kh, kw, c], term)

    return store((n, oh, ow, o), body)


@pytest.mark.parametrize(("size", "pad", "stride"), [(9, 0, 1), (8, 1, 1), (9, 1, 2), (5, 2, 1)])
def test_padding_is_packed_with_the_operand(size, pad, stride):
    x, w = whole((2, size, size, 3)), whole((3, 3, 3, 18))
    a, b = buffer_of("a", x), buffer_of("b", w)
    kernel = convolution(a, b, pad, stride)
    check(kernel, {a: x, b: w}, [b], a="pack" if pad else "direct")


@pytest.mark.parametrize(("height", "width"), [(9, 3), (4, 3), (4, 2), (7, 2)])
def test_a_tile_covers_several_lines_of_a_small_image(height, width):
    x, w = whole((2, height + 2, width + 2, 5)), whole((3, 3, 5, 64))
    a, b = buffer_of("a", x), buffer_of("b", w)
    kernel = convolution(a, b)
    plan = scheduled(program_of(kernel, {a: x, b: w}, [b]), NAMED["x86-64-v4"])
    assert plan.tile.spread > 1
    assert plan.line.extent == height
    check(kernel, {a: x, b: w}, [b])


@pytest.mark.parametrize(("width", "flat"), [(17, True), (33, True), (32, False), (47, False)])
def test_tiles_go_on_in_the_next_line_where_lines_are_uneven(width, flat):
    x, w = whole((2, 6, width + 2, 5)), whole((3, 3, 5, 48))
    a, b = buffer_of("a", x), buffer_of("b", w)
    kernel = convolution(a, b)
    plan = scheduled(program_of(kernel, {a: x, b: w}, [b]), NAMED["x86-64-v3"])
    assert (plan.tile.rows, plan.tile.flat) == (4, flat)
    check(kernel, {a: x, b: w}, [b])


def channels_first(a, b, stride=1, dilation=1):
    """NCHW x OIHW inside of the image."""
    n, c, h, w = a.shape
    o, _, kh, kw = b.shape
    oh, ow = ((d - dilation * (k - 1) - 1) // stride + 1 for d, k in ((h, kh), (w, kw)))

    def body(i, f, y, x):
        place = lambda p, k: p * stride + k * dilation
        term = lambda d, p, q: a[i, d, place(y, p), place(x, q)] * b[f, d, p, q]
        return s.reduce("sum", [c, kh, kw], term)

    return store((n, o, oh, ow), body)


@pytest.mark.parametrize("width", [8, 9, 15, 16, 23, 24, 25, 33, 65])
@pytest.mark.parametrize(("channels", "outputs"), [(1, 2), (1, 32), (3, 2), (4, 5), (16, 17)])
def test_windows_of_lines_are_read_in_place(width, channels, outputs):
    x, w = whole((2, channels, 5, width + 2)), whole((outputs, channels, 3, 3))
    a, b = buffer_of("a", x), buffer_of("b", w)
    kernel = channels_first(a, b)
    plan = scheduled(program_of(kernel, {a: x, b: w}, [b]), NAMED["x86-64-v3"])
    assert (plan.name, plan.b, plan.ragged) == ("contract", "slide", False)
    received, expected = both(kernel, {a: x, b: w}, [b])
    np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("dilation", [2, 6])
def test_windows_with_gaps_are_read_in_place(dilation):
    x, w = whole((1, 3, 20, 61)), whole((4, 3, 3, 3))
    a, b = buffer_of("a", x), buffer_of("b", w)
    check(channels_first(a, b, dilation=dilation), {a: x, b: w}, [b], b="slide")


@pytest.mark.parametrize(
    ("shape", "outputs", "stride"),
    [
        ((1, 3, 9, 67), 8, 2),  # neighbours are not neighbours in memory
        ((1, 3, 9, 7), 8, 1),  # less than a vector
        ((1, 3, 9, 40), 300, 1),  # a copy is read often enough
        ((1, 64, 34, 62), 16, 1),  # lines that share the sets of the cache
    ],
)
def test_windows_are_copied_where_that_is_better(shape, outputs, stride):
    x, w = whole(shape), whole((outputs, shape[1], 3, 3))
    a, b = buffer_of("a", x), buffer_of("b", w)
    kernel = channels_first(a, b, stride)
    plan = scheduled(program_of(kernel, {a: x, b: w}, [b]), NAMED["x86-64-v3"])
    assert (plan.name, plan.b) == ("contract", "pack")
    received, expected = both(kernel, {a: x, b: w}, [b])
    np.testing.assert_array_equal(received, expected)


def test_images_beyond_the_near_caches_are_fetched_ahead():
    x, w = whole((1, 4, 130, 600)), whole((4, 4, 3, 3))
    a, b = buffer_of("a", x), buffer_of("b", w)
    check(channels_first(a, b), {a: x, b: w}, [b], b="slide")
