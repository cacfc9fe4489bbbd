"""Winograd's minimal filtering of bytes: exact to the last bit, refused where it would not be."""

import numpy as np
import pytest
import tessel
from tessel.compiler.analysis.core_model import CORES
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ops.contraction.conv import conv_integer_ref
from tessel.compiler.ops.internal.winograd import (
    WHOLE_POINTS,
    WHOLE_SCALE,
    whole_limit,
    whole_matrices,
)
from tessel.compiler.passes.base import Report
from tessel.compiler.passes.cpu.winograd_integers import WIDE, WinogradIntegers, choose_tile
from tessel.compiler.pipelines import cpu_pipeline

RNG = np.random.default_rng(0)
ATTRS = {"strides": (), "pads": (1,) * 4, "dilations": (), "group": 1, "channels_last": True}


def draw(dtype, *shape):
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max + 1, shape).astype(dtype)


def graph_of(x, w, x_zero=None, w_zero=None, **more):
    b = Builder()
    zeros = [None if z is None else b.constant(z) for z in (x_zero, w_zero)]
    y = b.conv_integer(b.input("x", b.constant(x).type), b.constant(w), *zeros, **ATTRS | more)
    b.output("y", y)
    return b.graph


def rewritten(graph):
    after, changed = WinogradIntegers(32, wide=True)(graph)
    assert changed == ("winograd_input" in [n.op.name for n in after.nodes])
    return after


# -- mathematics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", WHOLE_POINTS)
def test_the_matrices_filter_one_line_times_a_number(tile):
    a_t, g, b_t = whole_matrices(tile)
    d, taps = RNG.integers(-255, 256, tile + 2), RNG.integers(-128, 128, 3)
    expected = np.convolve(d, taps[::-1], "valid") * WHOLE_SCALE[tile]
    np.testing.assert_array_equal(a_t @ ((g @ taps) * (b_t @ d)), expected)


@pytest.mark.parametrize("tile", WHOLE_POINTS)
def test_differences_of_bytes_and_weights_of_i8_fit_16_bits(tile):
    _, g, b_t = whole_matrices(tile)
    assert np.abs(b_t).sum(1).max() ** 2 * 255 <= WIDE
    assert np.abs(g).sum(1).max() ** 2 * 128 <= WIDE


# -- results ---------------------------------------------------------------------------------------


@pytest.mark.sweep(3, suite=9)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("zeros", [(None, None), (5, None), (5, "each")])
@pytest.mark.parametrize(
    ("height", "width", "channels", "outputs"), [(16, 16, 32, 48), (13, 6, 18, 17), (4, 29, 64, 16)]
)
def test_every_bit_is_right(dtype, zeros, height, width, channels, outputs):
    x, w = draw(dtype, 2, height, width, channels), draw(np.int8, 3, 3, channels, outputs)
    x_zero = None if zeros[0] is None else dtype(zeros[0])
    w_zero = None if zeros[1] is None else RNG.integers(-2, 3, outputs).astype(np.int8)
    graph = graph_of(x, w, x_zero, w_zero)
    after = rewritten(graph)
    assert "matmul_integer" in [n.op.name for n in after.nodes]
    expected = conv_integer_ref(x, w, x_zero, w_zero, **ATTRS)
    np.testing.assert_array_equal(interpret(after, [x])[0], expected)
    for threads in (1, 2):
        np.testing.assert_array_equal(tessel.compile(after, threads=threads)(x), expected)


@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (2, 0, 1, 2)])
def test_other_borders(pads):
    x, w = draw(np.uint8, 1, 17, 18, 32), draw(np.int8, 3, 3, 32, 32)
    expected = conv_integer_ref(x, w, np.uint8(9), **ATTRS | {"pads": pads})
    after = rewritten(graph_of(x, w, np.uint8(9), pads=pads))
    np.testing.assert_array_equal(tessel.compile(after)(x), expected)


def test_the_largest_numbers_there_are():
    x, w = np.full((1, 8, 8, 64), 255, np.uint8), np.full((3, 3, 64, 16), -128, np.int8)
    w[..., ::2] = 127
    expected = conv_integer_ref(x, w, **ATTRS)
    np.testing.assert_array_equal(tessel.compile(rewritten(graph_of(x, w)))(x), expected)


# -- which convolutions ----------------------------------------------------------------------------


def chosen(graph):
    return next(choose_tile(n, CORES[32]) for n in graph.nodes if n.op.name == "conv_integer")


def test_sums_that_large_blocks_would_cut_take_small_ones():
    """512 channels of large weights need more than the 26 bits that F(4, 3) leaves."""
    x = draw(np.uint8, 1, 28, 28, 512)
    large, usual = np.full((3, 3, 512, 64), 127, np.int8), draw(np.int8, 3, 3, 512, 64) // 4
    assert np.abs(large.astype(int)).sum((0, 1, 2)).max() * 255 > whole_limit(4)
    assert chosen(graph_of(x, usual)) == 4
    assert chosen(graph_of(x, large)) == 2
    expected = conv_integer_ref(x, large, **ATTRS)
    np.testing.assert_array_equal(tessel.compile(rewritten(graph_of(x, large)))(x), expected)


@pytest.mark.parametrize(
    ("shape", "more"),
    [
        ((3, 3, 31, 32), {}),
        ((3, 3, 32, 8), {}),
        ((5, 5, 32, 32), {"pads": (2,) * 4}),
        ((3, 3, 32, 32), {"strides": (2, 2)}),
        ((3, 3, 32, 32), {"dilations": (2, 2), "pads": (2,) * 4}),
        ((3, 3, 16, 32), {"group": 2}),
    ],
    ids=["odd channels", "few outputs", "5 x 5", "strides", "dilations", "groups"],
)
def test_convolutions_that_stay_as_they_are(shape, more):
    x = draw(np.uint8, 1, 28, 28, shape[2] * more.get("group", 1))
    assert chosen(graph_of(x, draw(np.int8, *shape), **more)) is None


def test_weights_beyond_16_bits_stay():
    x, w = draw(np.uint8, 1, 28, 28, 32), draw(np.int8, 3, 3, 32, 32)
    w[:, :, 0, 0] = 127
    assert chosen(graph_of(x, w, None, np.full(32, -128, np.int8))) in (None, 2)


def test_where_bytes_are_multiplied_nothing_changes():
    graph = graph_of(draw(np.uint8, 1, 28, 28, 32), draw(np.int8, 3, 3, 32, 32))
    assert not WinogradIntegers(64).run(graph, Report())
    targets = {name: t.sums_apart(t.multiplies_pairs) for name, t in NAMED.items()}
    assert targets["x86-64-v3"] and not targets["aarch64"]


def test_it_keeps_every_bit_so_strict_code_has_it():
    names = [s.action.name for s in cpu_pipeline(winograd=False, vector_bytes=32, wide=True).steps]
    assert "winograd_integers" in names and "winograd" not in names


def test_whole_operators_are_convolutions_of_bytes_too():
    b = Builder()
    number = lambda value, dtype: b.constant(np.asarray(value), dtype)
    x = draw(np.uint8, 1, 32, 28, 28)
    y = b.qlinear_conv(
        b.input("x", b.constant(x).type),
        *(number(0.02, "f32"), number(120, "u8")),
        *(b.constant(draw(np.int8, 32, 32, 3, 3)), number(0.01, "f32"), number(0, "i8")),
        *(number(0.5, "f32"), number(3, "u8")),
        pads=(1,) * 4,
    )
    b.output("y", y)
    exe = tessel.compile(b.graph, target="cpu:x86-64-v3", reuse=False)
    assert any("Winograd F(4, 3)" in a.rule for a in exe.report.applied)
    expected = tessel.compile(b.graph, target="numpy")(x).astype(int)
    assert np.abs(exe(x).astype(int) - expected).max() <= 1
