"""Products of pairs of 16 bits: what is read where it lies, and that every bit is right."""

import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.backends.llvm.kernel.codegen import schedule_kernel
from tessel.compiler.backends.llvm.schedules.contraction.tiling import SCRATCH
from tessel.compiler.ir.builder import Builder
from tessel.compiler.kernels.simplify import merge_axes, split_axes
from tessel.compiler.lowering.lower import lower
from tessel.compiler.ops.contraction.conv import conv_integer_ref
from tessel.compiler.passes.base import Report
from tessel.compiler.passes.cpu.padding import SplitPadding
from tessel.compiler.passes.fold import fold_node

RNG = np.random.default_rng(0)
V3 = NAMED["x86-64-v3"]


def graph_of(x, w, x_zero=None, w_zero=None, **attrs):
    b = Builder()
    zeros = [None if z is None else b.constant(z) for z in (x_zero, w_zero)]
    y = b.conv_integer(b.input("x", b.constant(x).type), b.constant(w), *zeros, **attrs)
    b.output("y", y)
    return b.graph


def widened(graph):
    SplitPadding(wide=True).run(graph, Report())
    for node in graph.nodes:
        fold_node(node)
    return graph


def data(*shape, dtype=np.uint8):
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max + 1, shape).astype(dtype)


ATTRS = {"strides": (), "pads": (), "dilations": (), "group": 1, "channels_last": True}


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("channels", [2, 6, 32])
@pytest.mark.parametrize(
    "more",
    [
        {"pads": (1, 1, 1, 1)},
        {"pads": (0, 2, 1, 0), "strides": (2, 2)},
        {"pads": (2, 2, 2, 2), "dilations": (2, 1)},
    ],
)
def test_padded_bytes_are_widened_once_and_sums_are_exact(dtype, channels, more):
    x, w = data(2, 9, 8, channels, dtype=dtype), data(3, 3, channels, 20, dtype=np.int8)
    zeros = dtype(7), data(20, dtype=np.int8)
    graph = widened(graph_of(x, w, *zeros, **ATTRS | more))
    (conv,) = (n for n in graph.nodes if n.op.name == "conv_integer")
    assert conv.inputs[0].dtype.name == "i16"
    expected = conv_integer_ref(x, w, *zeros, **ATTRS | more)
    np.testing.assert_array_equal(tessel.compile(graph).run({"x": x})["y"], expected)


@pytest.mark.parametrize(
    ("channels", "more"),
    [
        (3, {"pads": (1, 1, 1, 1)}),  # pairs would reach over a tap's end
        (8, {}),  # nothing is padded
        (8, {"pads": (1, 1, 1, 1), "group": 8}),  # no sums over channels
    ],
)
def test_what_stays_bytes(channels, more):
    x = data(1, 6, 6, channels)
    w = data(3, 3, channels // more.get("group", 1), 8, dtype=np.int8)
    graph = widened(graph_of(x, w, np.uint8(3), **ATTRS | more))
    (conv,) = (n for n in graph.nodes if n.op.name == "conv_integer")
    assert conv.inputs[0].dtype.name == "u8"
    expected = conv_integer_ref(x, w, np.uint8(3), **ATTRS | more)
    np.testing.assert_array_equal(tessel.compile(graph).run({"x": x})["y"], expected)


def schedule_of(graph, target=V3):
    """The schedule of the kernel that sums products, where weights are constants."""
    program = lower(graph)
    for call in program.kernels():
        if "conv_integer" in call.kernel.name:
            kernel = merge_axes(split_axes(call.kernel))
            places = dict(zip(call.kernel.params, call.refs))
            weights = frozenset(
                b for b, s in zip(kernel.params, kernel.sources) if places[s].slot.kind == "weight"
            )
            return schedule_kernel(kernel, target, weights, in_place=False).schedule
    raise AssertionError("no product")


def test_pairs_that_lie_in_memory_are_read_there():
    x, w = data(1, 9, 9, 32), data(3, 3, 32, 32, dtype=np.int8)
    plan = schedule_of(widened(graph_of(x, w, np.uint8(9), **ATTRS | {"pads": (1,) * 4})))
    assert plan.pairs
    assert plan.a == "direct"


def test_bytes_that_weights_are_unsigned_for_are_copied_as_pairs():
    x, w = data(1, 9, 9, 32), data(3, 3, 32, 32)
    plan = schedule_of(graph_of(x, w, np.uint8(9), **ATTRS))
    assert plan.pairs
    assert plan.a == "pack"


def test_the_least_number_of_16_bits_is_a_factor_like_others():
    x = np.full((1, 4, 4, 4), -(1 << 15), np.int16)
    w = data(3, 3, 4, 16, dtype=np.int8)
    expected = conv_integer_ref(x, w, **ATTRS)
    graph = graph_of(x, w, **ATTRS)
    np.testing.assert_array_equal(tessel.compile(graph).run({"x": x})["y"], expected)


@pytest.mark.parametrize("size", [55, 56])
def test_groups_leave_room_for_sums_that_wait(size):
    """Deep sums with few panels: all of A would not fit beside the sums of a block of k."""
    x, w = data(1, size, size, 512), data(1, 1, 512, 128)
    plan = schedule_of(graph_of(x, w, np.uint8(9), **ATTRS | {"strides": (2, 2)}))
    assert plan.pairs and plan.cut
    assert 1 < plan.group < plan.tiles and plan.scratch <= SCRATCH


@pytest.mark.parametrize("outputs", [8, 20, 24, 40, 64, 72, 129])
@pytest.mark.parametrize("dtype", ["u8", "i8", "i16", "f32"])
def test_what_is_stored_is_as_narrow_as_it_should_be(outputs, dtype):
    """Vectors of sums are narrowed together: panels of one to eight of them, and their ends."""
    x, w = data(1, 5, 7, 34), data(1, 1, 34, outputs, dtype=np.int8)
    b = Builder()
    total = b.conv_integer(b.input("x", b.constant(x).type), b.constant(w), channels_last=True)
    y = total.cast("f32") * b.constant(np.float32(0.01))
    if dtype != "f32":
        y = b.quantize_linear(y, b.constant(np.float32(1)), dtype=dtype, axis=0)
    b.output("y", y)
    expected = tessel.compile(b.graph, target="numpy")(x)
    np.testing.assert_array_equal(tessel.compile(b.graph)(x), expected)
