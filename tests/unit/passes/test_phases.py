"""Transposed convolutions by phases: what each becomes, and that it computes the same."""

import numpy as np
import pytest
import tessel
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ops.contraction.phases import apart, together
from tessel.compiler.passes.base import Report, run_pipeline
from tessel.compiler.passes.cleanup import DeadCodeElimination, FoldConstants
from tessel.compiler.passes.cpu.phases import ConvTransposePhases
from tessel.compiler.passes.layout import ChannelsLast

from ...support.graphs import assert_same_results

RNG = np.random.default_rng(0)


def transposed(sizes=(6,), channels=4, outputs=3, kernel=(4,), *, dtype="f32", fed=False, **attrs):
    """conv_transpose(x, w, b) of [2, channels, *sizes]; the weights are an operand if `fed`."""
    b, group = Builder(), attrs.get("group", 1)
    x = b.input("x", f"{dtype}[{','.join(map(str, (2, channels, *sizes)))}]")
    shape = (channels, outputs // group, *kernel)
    scale = np.sqrt(1 / (channels * np.prod(kernel)))
    if fed:
        w = b.input("w", f"{dtype}[{','.join(map(str, shape))}]")
    else:
        w = b.constant(RNG.standard_normal(shape) * scale, dtype)
    bias = b.constant(RNG.standard_normal(outputs), dtype)
    b.output("y", b.conv_transpose(x, w, bias, **attrs))
    return b.graph


def by_phases(graph, last=True, **options):
    layout = [ChannelsLast(), FoldConstants()] if last else []
    passes = [*layout, ConvTransposePhases(**options), DeadCodeElimination()]
    return run_pipeline(graph, passes, verify_between=True)


def convolutions(graph) -> list[tuple]:
    """Taps and outputs of each convolution."""
    return sorted(
        (*n.inputs[1].shape[:-2], n.output.shape[-1]) for n in graph.nodes if n.op.name == "conv"
    )


# -- phases of an axis -----------------------------------------------------------------------------


def test_taps_of_all_phases():
    (phases,) = together(kernel=3, stride=2, begin=1, dilation=1)
    assert (phases.low, phases.high, phases.count) == (0, 1, 2)
    np.testing.assert_array_equal(phases.taps, [[1, 2], [-1, 0]])


def test_phases_with_the_same_offsets_stay_together():
    low, high = apart(kernel=8, stride=4, begin=2, dilation=1, single=False)
    assert (low.first, low.low, low.high, low.count) == (0, -1, 0, 2)
    assert (high.first, high.low, high.high, high.count) == (2, 0, 1, 2)
    np.testing.assert_array_equal(low.taps, [[6, 7], [2, 3]])
    assert len(apart(kernel=8, stride=4, begin=2, dilation=1, single=True)) == 4


def test_phases_that_no_tap_reaches():
    assert [p.taps.shape for p in apart(kernel=2, stride=4, begin=0, dilation=1, single=False)] == [
        (1, 2),
        (0, 2),
    ]
    reached, none = apart(kernel=3, stride=2, begin=0, dilation=2, single=False)
    assert (len(reached.taps), len(none.taps)) == (3, 0)


def test_dilated_taps_keep_their_distance():
    (phases,) = together(kernel=3, stride=1, begin=2, dilation=3)
    assert (phases.low, phases.high, phases.step) == (-4, 2, 3)
    np.testing.assert_array_equal(phases.taps, [[2], [1], [0]])


# -- which convolutions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Each phase has one tap: one product of four times the outputs.
        ({"kernel": (2, 2), "strides": (2, 2)}, [(1, 1, 256)]),
        # Stride 1: the taps in reverse.
        ({"kernel": (3, 3), "pads": (1, 1, 1, 1)}, [(3, 3, 64)]),
        # 1, 2, 2 and 4 of nine taps.
        (
            {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "output_padding": (1, 1)},
            [(1, 1, 64), (1, 2, 64), (2, 1, 64), (2, 2, 64)],
        ),
        # All sixteen taps at once, by Winograd's filtering of 3 x 3 with zeros, ...
        ({"kernel": (4, 4), "strides": (2, 2), "pads": (1, 1, 1, 1)}, [(3, 3, 256)]),
        # ... which keeps too few digits for `strict`.
        (
            {"kernel": (4, 4), "strides": (2, 2), "pads": (1, 1, 1, 1), "winograd": False},
            [(2, 2, 64)] * 4,
        ),
    ],
)
def test_what_costs_least(options, expected):
    winograd = options.pop("winograd", True)
    graph = transposed((32, 32), channels=128, outputs=64, **options)
    assert convolutions(by_phases(graph, winograd=winograd, vector_bytes=32)) == expected


def test_groups_keep_their_channels_beside_each_other():
    graph = transposed((8, 8), 6, 6, (4, 4), strides=(2, 2), pads=(1, 1, 1, 1), group=6)
    assert convolutions(by_phases(graph)) == [(2, 2, 6)] * 4


def test_many_phases_are_one_convolution():
    graph = transposed((3, 3), 4, 2, (16, 16), strides=(16, 16))
    assert convolutions(by_phases(graph)) == [(1, 1, 512)]


def test_what_follows_is_computed_with_the_pieces():
    b = Builder()
    x = b.input("x", "f32[1,16,30,31]")
    w = b.constant(RNG.standard_normal((16, 32, 3, 3)) / 12, "f32")
    y = b.conv_transpose(x, w, strides=(2, 2), pads=(1, 1, 1, 1), output_padding=(1, 1))
    slopes = b.constant(RNG.standard_normal((32, 1, 1)), "f32")
    b.output("y", b.silu(b.prelu(y, slopes)) * 2.0 + b.relu(x).sum())
    after = by_phases(b.graph)
    made = [n.op.name for n in after.nodes]
    assert (made.count("conv"), made.count("silu"), made.count("add")) == (4, 4, 1)
    assert_same_results(b.graph, after)


def test_what_others_read_too_is_not():
    b = Builder()
    x = b.input("x", "f32[1,4,5]")
    y = b.conv_transpose(x, b.constant(np.ones((4, 3, 3), np.float32)), strides=(2,))
    b.output("y", y)
    b.output("z", b.relu(y))
    after = by_phases(b.graph)
    assert [n.op.name for n in after.nodes].count("relu") == 1
    assert_same_results(b.graph, after)


def test_outputs_of_a_single_element_are_columns_of_a_product():
    graph = transposed((1, 1), 8, 40, (4, 4), strides=(1, 1))
    assert convolutions(by_phases(graph)) == [(1, 1, 640)]


def test_few_outputs_are_rows_of_a_product():
    graph = transposed((5, 6), 8, 2, (2, 3), strides=(2, 3))
    after = by_phases(graph)
    (conv,) = [n for n in after.nodes if n.op.name == "conv"]
    assert (conv.inputs[1].shape, conv.attrs["channels_last"]) == ((12, 8, 1, 1), False)
    assert_same_results(graph, after)


def test_but_not_where_channels_lie_last():
    b = Builder()
    x = b.relu(b.conv(b.input("x", "f32[1,3,5,5]"), b.constant(np.ones((4, 3, 1, 1)), "f32")))
    w = b.constant(RNG.standard_normal((4, 1, 2, 2)), "f32")
    b.output("y", b.conv_transpose(x, w, strides=(2, 2)))
    after = by_phases(b.graph)
    assert all(n.attrs["channels_last"] for n in after.nodes if n.op.name == "conv")
    assert_same_results(b.graph, after)


def test_a_border_of_unknown_size_is_left_alone():
    b = Builder()
    x = b.input("x", "f32[1,2,N]")
    n = x.shape[2]
    w = b.constant(np.ones((2, 2, 3), np.float32))
    b.output("y", b.conv_transpose(x, w, strides=(2,), pads=(n - 1, 0)))
    report = Report()
    after = run_pipeline(b.graph, [ConvTransposePhases()], report=report)
    assert [n.op.name for n in after.nodes if n.op.name != "constant"] == ["conv_transpose"]
    assert [d.reason for d in report.declined] == ["sizes of its window are not known"]


# -- results ---------------------------------------------------------------------------------------

WINDOWS = [
    {"kernel": (2,), "strides": (2,)},
    {"kernel": (4,), "strides": (2,), "pads": (1, 1)},
    {"kernel": (3,), "strides": (2,), "pads": (1, 1), "output_padding": (1,)},
    {"kernel": (5,), "strides": (3,), "pads": (2, 0)},
    {"kernel": (2,), "strides": (5,), "pads": (1, 2)},
    {"kernel": (3,), "strides": (2,), "dilations": (2,), "pads": (1, 2)},
    {"kernel": (3,), "strides": (4,), "dilations": (3,), "output_padding": (3,)},
    {"kernel": (3,), "pads": (4, 3), "sizes": (9,)},
    {"kernel": (3,), "strides": (2,), "pads": (-2, -1)},
    {"kernel": (6,), "strides": (2,), "group": 2, "channels": 4, "outputs": 6, "pads": (3, 3)},
    {"kernel": (3,), "strides": (3,), "group": 4, "outputs": 4},
    {"kernel": (16,), "strides": (8,), "pads": (4, 4), "channels": 9, "outputs": 17},
    {"kernel": (2, 2), "strides": (2, 2), "sizes": (3, 5), "outputs": 1},
    {"kernel": (2, 2), "strides": (3, 2), "sizes": (3, 5), "outputs": 2},
    {"kernel": (3,), "strides": (4,), "outputs": 2, "output_padding": (1,)},
    {"kernel": (4, 3), "strides": (2, 1), "sizes": (5, 4), "pads": (1, 1, 1, 1), "outputs": 9},
    {"kernel": (3, 3), "strides": (2, 2), "sizes": (4, 3), "pads": (1, 1, 1, 0)},
    {"kernel": (4, 4), "strides": (2, 2), "sizes": (4, 3), "group": 4, "outputs": 4},
    {"kernel": (2, 3, 2), "strides": (2, 1, 2), "sizes": (2, 3, 2), "pads": (0, 1, 0) * 2},
    {"kernel": (1,), "strides": (1,), "sizes": (1,)},
    {"kernel": (5,), "strides": (2,), "sizes": (1,), "pads": (1, 2)},
    {"kernel": (3, 2), "dilations": (2, 1), "sizes": (1, 4), "outputs": 40},
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("fed", [False, True])
def test_phases_compute_the_same(window, fed):
    graph = transposed(**window, fed=fed)
    assert_same_results(graph, by_phases(graph, last=not fed))


@pytest.mark.parametrize("dtype", ["f16", "f64"])
@pytest.mark.parametrize("window", WINDOWS[:4], ids=str)
def test_compiled_code_computes_the_same(window, dtype):
    graph = transposed(**window, dtype=dtype)
    x = RNG.standard_normal((2, 4, 6)).astype(graph.inputs[0].dtype.numpy)
    (expected,) = tessel.compile(graph, target="numpy").run({"x": x}).values()
    for threads in (1, 2):
        (received,) = tessel.compile(graph, threads=threads).run({"x": x}).values()
        tolerance = {"f16": 1e-2, "f64": 1e-12}[dtype]
        np.testing.assert_allclose(received, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("winograd", [False, True])
@pytest.mark.parametrize("sizes", [(16, 16), (17, 5)])
def test_plans_agree(sizes, winograd):
    """Convolutions with zeros, of cut outputs and apart."""
    graph = transposed(sizes, 32, 33, (4, 4), strides=(2, 2), pads=(1, 1, 1, 1))
    after = by_phases(graph, winograd=winograd)
    assert_same_results(graph, after, rtol=1e-4)


def test_dynamic_dims():
    b = Builder()
    x = b.input("x", "f32[B,3,H,W]")
    w = b.constant(RNG.standard_normal((3, 4, 3, 3)).astype(np.float32))
    attrs = {"strides": (2, 2), "pads": (1, 1, 1, 1), "output_padding": (1, 1)}
    b.output("y", b.relu(b.conv_transpose(x, w, **attrs)))
    run, reference = tessel.compile(b.graph), tessel.compile(b.graph, target="numpy")
    for shape in [(1, 3, 1, 1), (2, 3, 4, 5), (1, 3, 9, 2)]:
        feeds = {"x": RNG.standard_normal(shape).astype(np.float32)}
        (received,), (expected,) = run.run(feeds).values(), reference.run(feeds).values()
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)
