"""Winograd's minimal filtering: which convolutions become it, what they compute, how exactly."""

import numpy as np
import pytest
import tessel
from tessel.compiler.analysis.core_model import CORES
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.blocks import Unblocked, blocked_stores, place_in_block
from tessel.compiler.expr.expr import Axis
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ops.internal.winograd import POINTS, matrices, weights
from tessel.compiler.passes.base import run_pipeline
from tessel.compiler.passes.cpu.winograd import Winograd, choose_tile
from tessel.compiler.pipelines import cpu_pipeline

from ...support.graphs import assert_same_results

RNG = np.random.default_rng(0)


def conv_graph(size=14, channels=64, outputs=64, batch=1, taps=3, dtype="f32", bias=True, **attrs):
    """conv(x, w, b) of [batch, size, size, channels], channels last."""
    b = Builder()
    x = b.input("x", f"{dtype}[{batch},{size},{size},{channels}]")
    scale = np.sqrt(2 / (taps * taps * channels))
    w = b.constant(RNG.standard_normal((taps, taps, channels, outputs)) * scale, dtype)
    c = b.constant(RNG.standard_normal(outputs), dtype) if bias else None
    attrs = {"pads": (taps // 2,) * 4, "channels_last": True} | attrs
    b.output("y", b.conv(x, w, c, **attrs))
    return b.graph


def chosen(vector_bytes=64, **options):
    graph, costs = conv_graph(**options), CORES[vector_bytes]
    return next(choose_tile(n, costs) for n in graph.nodes if n.op.name == "conv")


# -- mathematics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", POINTS)
def test_the_matrices_filter_one_line(tile):
    a_t, g, b_t = matrices(tile)
    d, taps = RNG.standard_normal(tile + 2), RNG.standard_normal(3)
    received = a_t @ ((g @ taps) * (b_t @ d))
    np.testing.assert_allclose(received, np.convolve(d, taps[::-1], "valid"), rtol=1e-12)


@pytest.mark.parametrize("tile", POINTS)
def test_weights_of_a_single_tap_are_its_row_and_column(tile):
    w = np.zeros((3, 3, 1, 1))
    w[1, 2] = 1
    _, g, _ = matrices(tile)
    expected = np.outer(g[:, 1], g[:, 2]).reshape(-1, 1, 1)
    np.testing.assert_array_equal(weights(w, tile), expected)


# -- the pass --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "tile"),
    [
        ({"size": 56}, 4),
        ({"size": 28, "channels": 128, "outputs": 128}, 4),
        ({"size": 14, "channels": 256, "outputs": 256}, 2),
        ({"size": 15, "batch": 2}, 4),
        ({"size": 28, "pads": (0, 0, 0, 0)}, 4),
        ({"size": 28, "pads": (2, 0, 1, 2)}, 4),
    ],
)
def test_the_tile_that_costs_least(options, tile):
    assert chosen(**options) == tile


@pytest.mark.parametrize(("size", "channels", "tile"), [(14, 256, 4), (7, 512, 2)])
def test_slower_products_are_worth_more_weights(size, channels, tile):
    """Where vectors are narrow, tiles have few rows besides: a few blocks fill them."""
    assert chosen(32, size=size, channels=channels, outputs=channels) == tile


@pytest.mark.parametrize(
    "options",
    [
        {"size": 7, "channels": 512, "outputs": 512},
        {"strides": (2, 2)},
        {"dilations": (2, 2), "pads": (2, 2, 2, 2)},
        {"taps": 5},
        {"taps": 1},
        {"dtype": "f64"},
        {"channels": 3},
        {"outputs": 8},
    ],
    ids=[
        "few blocks, many weights",
        "strides",
        "dilations",
        "5 x 5",
        "1 x 1",
        "f64",
        "few channels",
        "few outputs",
    ],
)
def test_convolutions_that_stay_as_they_are(options):
    assert chosen(**options) is None


def test_groups_and_weights_from_inputs_stay():
    b = Builder()
    x, w = b.input("x", "f32[1,28,28,64]"), b.input("w", "f32[3,3,64,64]")
    b.output("y", b.conv(x, w, pads=(1, 1, 1, 1), channels_last=True))
    half = b.constant(RNG.standard_normal((3, 3, 32, 64)).astype(np.float32))
    b.output("z", b.conv(x, half, pads=(1, 1, 1, 1), channels_last=True, group=2))
    assert [choose_tile(n) for n in b.graph.nodes if n.op.name == "conv"] == [None, None]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [16, 15, 13])
def test_results_stay_near_those_of_the_sum(size, bias):
    graph = conv_graph(size, 32, 48, batch=2, bias=bias)
    after, changed = Winograd()(graph)
    assert changed
    assert {"winograd_input", "winograd_output"} <= {n.op.name for n in after.nodes}
    assert_same_results(graph, after, rtol=2e-5)


def test_the_report_names_the_convolution():
    graph = conv_graph(56)
    graph.nodes[-1].origin = "features.0"
    from tessel.compiler.passes.base import Report

    report = Report()
    run_pipeline(graph, cpu_pipeline(), report=report)
    (applied,) = [a for a in report.applied if "Winograd" in a.rule]
    assert applied.rule == "conv(x, w) => Winograd F(4, 3)"
    assert applied.where == ("features.0",)


# -- compiled --------------------------------------------------------------------------------------


def residual_graph(size, channels):
    """relu(conv(x) + x), then a second convolution: epilogues and borders around the transforms."""
    b = Builder()
    x = b.input("x", f"f32[1,{channels},{size},{size}]")
    w = RNG.standard_normal((2, channels, channels, 3, 3)) * np.sqrt(2 / (9 * channels))
    for i in range(2):
        y = b.conv(x, b.constant(w[i], "f32"), pads=(1, 1, 1, 1))
        x = b.relu(y + x)
    b.output("y", x)
    return b.graph


def kernels_of(exe):
    return [c.kernel for c in exe.specializations[-1].program.kernels()]


@pytest.mark.parametrize("size", [28, 15])
def test_compiled_with_what_follows(size):
    graph = residual_graph(size, 32)
    x = RNG.standard_normal((1, 32, size, size)).astype(np.float32)
    exe = tessel.compile(graph, threads=1)
    received = exe(x)
    expected = tessel.compile(graph, target="numpy")(x)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert tessel.compile(graph, threads=2)(x).tobytes() == received.tobytes()
    transforms = [k for k in kernels_of(exe) if len(k.stores) > 1]
    assert len(transforms) == 4  # no kernel of its own for the sum, relu or border
    assert {len(k.stores) for k in transforms} == {16, 36}


def test_strict_keeps_sums_as_they_are():
    graph = residual_graph(28, 32)
    x = RNG.standard_normal((1, 32, 28, 28)).astype(np.float32)
    exact = tessel.compile(graph, threads=1, strict=True)
    np.testing.assert_allclose(
        exact(x), tessel.compile(graph, target="numpy")(x), rtol=1e-5, atol=1e-5
    )
    assert all(len(k.stores) == 1 for k in kernels_of(exact))


# -- blocks ----------------------------------------------------------------------------------------


def test_a_place_in_a_block_is_known_or_asked_for():
    a = Axis("i", 8)
    assert place_in_block(s.axis(a) * 4 + 3, 4) == 3
    assert place_in_block(s.const(6), 4) == 2
    with pytest.raises(Unblocked, match="i<8 is not in blocks of 4") as asked:
        place_in_block(s.axis(a) + 1, 4)
    assert (asked.value.axis, asked.value.size) == (a, 4)


def test_axes_run_in_the_blocks_that_were_asked_for():
    def make(i, j):
        return place_in_block(j, 4), s.show(i), s.show(j)

    axes, made = blocked_stores((3, 6), make)
    assert [a.extent for a in axes] == [3, 2]
    assert [place for (place, _, _), _ in made] == [0, 1, 2, 3]
    assert [inside is None for _, inside in made] == [True, True, False, False]


def test_nothing_is_cut_where_nobody_asks():
    axes, made = blocked_stores((3, 6), lambda i, j: (i, j))
    assert [a.extent for a in axes] == [3, 6]
    assert [inside for _, inside in made] == [None]


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_compiled_model_s_report_names_it(batch):
    """Also where the number of images is open: blocks are counted per image."""
    exe = tessel.compile(conv_graph(size=28, batch=batch), threads=1, cache=False)
    assert "conv(x, w) => Winograd F(4, 3)" in [a.rule for a in exe.report.applied]
    assert batch == 1 or exe.for_all_sizes is not None
