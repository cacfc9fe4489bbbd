"""Passes that change how tensors lie in memory, or how wide their numbers are."""

import numpy as np
import pytest
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.text import parse_graph, print_graph
from tessel.compiler.ir.types import DTYPES
from tessel.compiler.ir.verify import verify
from tessel.compiler.passes.base import run_pipeline
from tessel.compiler.passes.cpu.half import PromoteHalf, promote_half
from tessel.compiler.passes.cpu.padding import SplitPadding
from tessel.compiler.passes.layout import ChannelsLast, count_transposes
from tessel.compiler.pipelines import default_pipeline

from ...support.graphs import assert_same_results, same_text

# -- half --------------------------------------------------------------------------------


def test_halves_are_computed_as_floats():
    graph = parse_graph("""graph g(%x: f16[2], %n: i64[2]) -> (%y, %n as "m") {
      %c = constant() {value=dense(f16[] 2.0)}
      %a = mul(%x, %c)
      %i = cast(%n) {dtype=bf16}
      %j = cast(%i) {dtype=f16}
      %y = add(%a, %j)
    }""")
    after = promote_half(graph)
    verify(after)
    same_text(
        after,
        """graph g(%x: f16[2], %n: i64[2]) -> (%y, %n as "m") {
      %w = cast(%x) {dtype=f32}
      %c = constant() {value=dense(f32[] 2.0)}
      %a = mul(%w, %c)
      %i = cast(%n) {dtype=f32}
      %j = cast(%i) {dtype=f32}
      %b = add(%a, %j)
      %y = cast(%b) {dtype=f16}
    }""",
    )
    assert_same_results(graph, after, rtol=1e-2)


def test_tables_of_halves_stay_such():
    graph = parse_graph("""graph g(%i: i64[3]) -> (%y) {
      %t = constant() {value=dense(f16[2] [2.0, 3.0])}
      %r = gather(%t, %i) {axis=0}
      %s = exp(%r)
      %y = mul(%s, %s)
    }""")
    after = promote_half(graph)
    verify(after)
    (gather,) = [n for n in after.nodes if n.op.name == "gather"]
    assert gather.inputs[0].dtype.name == "f16"
    assert all(n.outputs[0].dtype.name == "f32" for n in after.nodes if n.op.name == "exp")


def test_halves_in_regions_are_widened():
    graph = parse_graph("""graph g(%x: bf16[2], %c: bool[]) -> (%y) {
      %y = if(%c, %x) {then_graph=graph t(%a: bf16[2]) -> (%b) {%b = neg(%a)},
        else_graph=graph e(%a: bf16[2]) -> (%a) {}}
    }""")
    after = promote_half(graph)
    verify(after)
    assert_same_results(graph, after)
    assert "bf16" not in print_graph(after).split("if(")[1].split("}} :")[0]


def test_a_graph_without_halves_is_left_alone():
    graph = parse_graph("graph g(%x: f32[2]) -> (%y) {%y = neg(%x)}")
    assert PromoteHalf()(graph)[1] is False


# -- layout ------------------------------------------------------------------------------


def network():
    """A builder and a convolution to 4 channels of 6×6."""
    b = Builder()
    weights = np.linspace(-1, 1, 4 * 3 * 9).reshape(4, 3, 3, 3)
    x = b.input("x", "f32[2,3,6,6]")
    return b, b.conv(x, b.constant(weights, "f32"), pads=[1, 1, 1, 1])


def converted(b: Builder, y):
    b.output("y", y)
    verify(b.graph)
    after = run_pipeline(b.graph, default_pipeline(2, channels_last=True), verify_between=True)
    assert_same_results(b.graph, after)
    return after


def weights_of(b, shape):
    return b.constant(np.linspace(-1, 1, int(np.prod(shape))).reshape(shape), "f32")


def per_channel(b, shape=(4, 1, 1)):
    return b.constant(np.arange(4.0).reshape(shape) + 0.5, "f32")


def pool(b, y):
    return b.max_pool(y, kernel=[2, 2], strides=[2, 2])


@pytest.mark.parametrize(
    "between",
    [
        lambda b, y: b.relu(y) + y,
        lambda b, y: b.prelu(y, per_channel(b)),
        lambda b, y: b.exp(b.relu(y) * per_channel(b, (1, 4, 1, 1))),
        lambda b, y: y * b.constant(np.arange(6.0), "f32"),
        lambda b, y: b.clip(y, b.scalar(0, "f32"), b.scalar(6, "f32")),
        lambda b, y: pool(b, y),
        lambda b, y: b.average_pool(y, kernel=[3, 3], pads=[1, 1, 1, 1]),
        lambda b, y: b.concat(y, b.relu(y), axis=1),
        lambda b, y: b.concat(y, b.relu(y), axis=-1),
        lambda b, y: b.pad(y, pads=[0, 1, 2, 0, 0, 0, 1, 0]),
        lambda b, y: b.pad(y, pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="reflect"),
        lambda b, y: b.softmax(y, axis=1),
        lambda b, y: b.softmax(y, axis=-1),
        lambda b, y: y * b.sigmoid(b.reduce_mean(y, axes=[2, 3])),
        lambda b, y: y + b.reduce_max(y, axes=[1]),
        lambda b, y: b.split(y, axis=1, sizes=[3, 1])[0],
        lambda b, y: b.slice(y, axes=[1, 3], starts=[3, 0], steps=[-1, 2], sizes=[3, 3]),
        lambda b, y: b.gelu(y),
        lambda b, y: b.where(y > 0.0, y, b.neg(y)),
    ],
)
def test_between_two_convolutions_nothing_is_transposed(between):
    b, y = network()
    y = between(b, y)
    y = b.conv(y, weights_of(b, (5, y.shape[1], 1, 1)))
    assert count_transposes(converted(b, y)) == 2  # at the input and at the output


def test_a_classifier_has_no_transpose_at_its_end():
    b, y = network()
    y = b.reduce_mean(pool(b, b.relu(y)), axes=[2, 3], keepdims=False)
    y = b.matmul(y, weights_of(b, (4, 5)))
    assert count_transposes(converted(b, y)) == 1


def test_transposes_of_the_model_cancel():
    """ConvNeXt: conv, channels last for a layer norm and a product, back for the next conv."""
    b, y = network()
    z = b.layer_norm(y.transpose(0, 2, 3, 1), per_channel(b, (4,)), per_channel(b, (4,)))
    z = b.gelu(b.matmul(z, weights_of(b, (4, 4)))).transpose(0, 3, 1, 2)
    y = b.conv(y + z, weights_of(b, (4, 1, 3, 3)), group=4)
    assert count_transposes(converted(b, y)) == 2


def test_what_needs_channels_first_gets_it_once():
    b, y = network()
    y = b.depth_to_space(y, block=2)
    assert count_transposes(converted(b, y)) == 2


def test_one_dimensional_convolutions():
    b = Builder()
    x = b.input("x", "f32[2,3,8]")
    y = b.relu(b.conv(x, weights_of(b, (4, 3, 3))))
    y = b.conv(y, weights_of(b, (2, 4, 3)), b.constant([1.0, 2.0], "f32"))
    assert count_transposes(converted(b, y)) == 2


def shuffled(b, y, groups=2):
    n, c, *rest = y.shape
    y = y.reshape(n, groups, c // groups, *rest)
    return y.transpose(0, 2, 1, *range(3, y.rank)).reshape(n, c, *rest)


def test_a_shuffle_of_channels_stays_in_the_channels():
    b, y = network()
    y = b.conv(shuffled(b, b.relu(y)), weights_of(b, (4, 4, 1, 1)))
    after = converted(b, y)
    turns = [n.attrs["perm"] for n in after.nodes if n.op.name == "transpose"]
    assert turns == [(0, 2, 3, 1), (0, 1, 2, 4, 3), (0, 3, 1, 2)]


def test_a_shuffle_that_is_read_in_the_middle_stays_as_it_is():
    b, y = network()
    y = b.relu(y)
    split = y.reshape(2, 2, 2, 6, 6)
    y = split.transpose(0, 2, 1, 3, 4).reshape(2, 4, 6, 6)
    b.output("split", split)
    converted(b, b.conv(y, weights_of(b, (4, 4, 1, 1))))


def test_quantized_convolutions():
    b = Builder()
    x = b.input("x", "u8[1,3,5,5]")
    f, u = lambda v: b.scalar(v, "f32"), lambda v: b.scalar(v, "u8")
    weights = b.constant(np.arange(4 * 3 * 9).reshape(4, 3, 3, 3) % 7, "i8")
    zero = b.scalar(0, "i8")
    y = b.qlinear_conv(x, f(0.1), u(3), weights, f(0.2), zero, f(0.5), u(9), pads=[1, 1, 1, 1])
    z = b.qlinear_add(y, f(0.5), u(9), y, f(0.5), u(9), f(1.0), u(4))
    z = b.qlinear_conv(
        b.max_pool(z, kernel=[2, 2]),
        f(1.0),
        u(4),
        b.constant(np.ones((2, 4, 1, 1)), "i8"),
        f(0.3),
        zero,
        f(2.0),
        u(7),
    )
    z = b.dequantize_linear(z, b.constant([0.5, 0.25], "f32"), b.constant([1, 2], "u8"), axis=1)
    assert count_transposes(converted(b, z)) == 2


def test_without_constant_weights_nothing_moves():
    source = "graph g(%x: f32[1,1,3,3], %w: f32[1,1,2,2]) -> (%y) {%y = conv(%x, %w)}"
    assert ChannelsLast()(parse_graph(source))[1] is False


# -- padding -----------------------------------------------------------------------------


def test_padding_of_quantized_convolutions_is_their_zero_point():
    graph = parse_graph("""graph g(%x: u8[1,2,4,4]) -> (%y) {
      %z = constant() {value=dense(u8[] 7)}
      %w = constant() {value=dense(i8[1,2,1,3] [1, 2, 3, 4, 5, 6])}
      %y = conv_integer(%x, %w, %z) {pads=[0,1,0,1]}
    }""")
    after, changed = SplitPadding()(graph)
    assert changed
    verify(after)
    pad, conv = after.nodes[-2:]
    assert pad.op.name == "pad"
    assert pad.inputs[1].constant == 7
    assert conv.attrs["pads"] == (0, 0, 0, 0)
    assert_same_results(graph, after)


def test_padding_by_a_zero_point_from_an_input_stays_in_the_convolution():
    graph = parse_graph("""graph g(%x: u8[1,2,4,4], %w: i8[1,2,3,3], %z: u8[]) -> (%y) {
      %y = conv_integer(%x, %w, %z) {pads=[1,1,1,1]}
    }""")
    assert SplitPadding()(graph)[1] is False


@pytest.mark.parametrize("dtype", ["f32", "i8"])
def test_padding_of_a_maximum_over_an_open_image_is_a_step_of_its_own(dtype):
    """No number is less than what is added, and reads have no conditions."""
    b = Builder()
    x = b.input("x", f"{dtype}[1,2,H,W]")
    b.output("y", b.max_pool(x, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)))
    after, changed = SplitPadding()(b.graph)
    assert changed
    verify(after)
    *_, pad, pool = after.nodes
    assert (pad.op.name, pool.attrs["pads"]) == ("pad", (0, 0, 0, 0))
    for shape in [(1, 2, 1, 1), (1, 2, 5, 8)]:
        x = np.random.default_rng(0).integers(-99, 99, shape).astype(DTYPES[dtype].numpy)
        np.testing.assert_array_equal(*(interpret(g, [x])[0] for g in (b.graph, after)))


def test_padding_of_a_maximum_stays_where_sizes_are_known():
    b = Builder()
    x = b.input("x", "f32[N,2,5,8]")
    b.output("y", b.max_pool(x, kernel=(3, 3), pads=(1, 1, 1, 1)))
    assert SplitPadding()(b.graph)[1] is False


# -- layouts by cost ---------------------------------------------------------------------


def lasts(b, y, vector_bytes=32):
    """Of each convolution, whether its channels come last on a CPU with such vectors."""
    b.output("y", y)
    after = run_pipeline(b.graph, default_pipeline(channels_last=True, vector_bytes=vector_bytes))
    assert_same_results(b.graph, after)
    return [n.attrs["channels_last"] for n in after.nodes if n.op.name == "conv"]


@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "group"),
    [(1, 8, 3, 1), (3, 8, 5, 1), (8, 2, 3, 1), (16, 30, 1, 1), (8, 8, 3, 2)],
)
def test_a_convolution_alone_that_few_channels_make_slow_stays_channels_first(
    channels, outputs, kernel, group
):
    b = Builder()
    x = b.input("x", f"f32[1,{channels},24,24]")
    w = weights_of(b, (outputs, channels // group, kernel, kernel))
    assert lasts(b, b.relu(b.conv(x, w, group=group))) == [False]


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 2), (7, 1)])
def test_a_window_of_each_channel_alone_stays_channels_first(kernel, stride):
    b = Builder()
    options = {"strides": [stride] * 2, "pads": [kernel // 2] * 4, "group": 12}
    y = b.conv(b.input("x", "f32[1,12,24,24]"), weights_of(b, (12, 1, kernel, kernel)), **options)
    assert lasts(b, b.relu(y)) == [False]
    assert SplitPadding()(b.graph)[1] is False


def test_a_window_of_each_channel_follows_the_products_around_it():
    b = Builder()
    y = b.conv(b.input("x", "f32[1,16,12,12]"), weights_of(b, (64, 16, 1, 1)))
    y = b.conv(y, weights_of(b, (64, 1, 3, 3)), group=64, pads=[1] * 4)
    y = b.conv(y, weights_of(b, (16, 64, 1, 1)))
    assert lasts(b, y) == [True, True, True]


def test_a_convolution_of_an_image_writes_what_the_next_one_reads():
    b = Builder()
    y = b.conv(b.input("x", "f32[1,3,24,24]"), weights_of(b, (32, 3, 3, 3)), strides=[2, 2])
    y = b.conv(b.max_pool(b.relu(y), kernel=[2, 2]), weights_of(b, (64, 32, 3, 3)))
    assert lasts(b, y) == [True, True]


def test_deep_sums_are_worth_two_transposes():
    b = Builder()
    y = b.conv(b.input("x", "f32[1,64,12,12]"), weights_of(b, (64, 64, 3, 3)), strides=[2, 2])
    assert lasts(b, y) == [True]


def test_what_is_transposed_later_has_its_channels_last():
    b = Builder()
    y = b.conv(b.input("x", "f32[1,4,24,24]"), weights_of(b, (24, 4, 1, 1)))
    assert lasts(b, y.reshape(1, 24, 24 * 24).transpose(0, 2, 1)) == [True]


def test_what_grows_at_the_end_is_transposed_before():
    b = Builder()
    y = b.conv(b.input("x", "f32[1,64,12,12]"), weights_of(b, (64, 64, 3, 3)), strides=[2, 2])
    b.output("y", b.tile(y, repeats=[1, 1, 8, 8]))
    after = run_pipeline(b.graph, default_pipeline(channels_last=True, vector_bytes=32))
    (tile,) = (n for n in after.nodes if n.op.name == "tile")
    assert tile.inputs[0].shape == (1, 64, 5, 5)


@pytest.mark.parametrize(("outputs", "last"), [(8, True), (3, False)])
def test_dynamic_dims_are_taken_channels_last_where_outputs_fill_tiles(outputs, last):
    b = Builder()
    y = b.conv(b.input("x", "f32[1,8,H,W]"), weights_of(b, (outputs, 8, 3, 3)))
    b.output("y", y)
    after = run_pipeline(b.graph, default_pipeline(channels_last=True, vector_bytes=32))
    assert [n.attrs["channels_last"] for n in after.nodes if n.op.name == "conv"] == [last]
