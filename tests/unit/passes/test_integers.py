"""Quantize and dequantize nodes around products become products of bytes; what stays, and why."""

import numpy as np
import pytest
import tessel
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.verify import verify
from tessel.compiler.passes.base import Report
from tessel.compiler.passes.cleanup import FoldConstants
from tessel.compiler.rewrite.engine import Rewrite
from tessel.compiler.rewrite.rules.quantized import INTEGERS

from ...support.graphs import assert_same_results

RNG = np.random.default_rng(0)
SCALE, ZERO = np.float32(0.05), np.uint8(120)


def data(b: Builder, *shape, dtype="u8", zero=ZERO, scale=SCALE, name="x"):
    """An input of bytes, and what they stand for."""
    x = b.input(name, f"{dtype}[{','.join(map(str, shape))}]")
    zero = None if zero is None else b.constant(np.asarray(zero).astype(x.dtype.numpy))
    return b.dequantize_linear(x, b.constant(np.float32(scale)), zero, axis=0)


def weights(b: Builder, *shape, axis=0, per_channel=True, zero=None):
    w = RNG.integers(-127, 128, shape).astype(np.int8)
    count = shape[axis] if per_channel else ()
    scale = RNG.uniform(0.01, 0.03, count).astype(np.float32)
    zero = None if zero is None else b.constant(np.full(count, zero, np.int8))
    return b.dequantize_linear(b.constant(w), b.constant(scale), zero, axis=axis)


def quantize(b: Builder, y, scale=0.2, zero=128, dtype="u8"):
    zero = None if zero is None else b.constant(np.asarray(zero).astype(dtype_of(dtype)))
    return b.quantize_linear(y, b.constant(np.float32(scale)), zero, dtype=dtype)


def dtype_of(name: str) -> np.dtype:
    return np.dtype({"u8": np.uint8, "i8": np.int8}[name])


def rewritten(b: Builder, y, report: Report | None = None):
    """The graph with its rules applied, which gives the same."""
    b.output("y", y)
    before = b.graph
    after, _ = Rewrite("integers", INTEGERS)(before, report)
    verify(after)
    assert_same_results(before, after)
    return after


def ops(graph) -> list[str]:
    return [n.op.name for n in graph.nodes if n.op.name != "constant"]


def declined(b: Builder, y) -> list[str]:
    report = Report()
    rewritten(b, y, report)
    return [d.reason for d in report.declined]


# -- products ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "zero"), [("u8", 120), ("u8", 0), ("i8", 0), ("i8", -7), ("u8", None)]
)
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_bytes(dtype, zero, per_channel, bias):
    b = Builder()
    x, w = (
        data(b, 1, 4, 7, 6, dtype=dtype, zero=zero),
        weights(b, 5, 4, 3, 3, per_channel=per_channel),
    )
    more = [b.constant(RNG.standard_normal(5).astype(np.float32))] if bias else []
    after = rewritten(b, b.conv(x, w, *more, pads=(1, 1, 1, 1), strides=(2, 1)))
    assert "conv_integer" in ops(after)
    assert "conv" not in ops(after)


@pytest.mark.parametrize("zero", [None, 0, 3])
def test_weights_with_zero_points_and_groups(zero):
    b = Builder()
    x, w = data(b, 2, 4, 6), weights(b, 4, 1, 3, zero=zero)
    assert "conv_integer" in ops(rewritten(b, b.conv(x, w, group=4)))


def test_a_convolution_with_channels_last():
    b = Builder()
    x, w = data(b, 1, 7, 6, 4), weights(b, 3, 3, 4, 5, axis=3)
    y = b.conv(x, w, b.constant(np.ones(5, np.float32)), channels_last=True)
    assert "conv_integer" in ops(rewritten(b, y))


@pytest.mark.parametrize("shape", [(5, 8), (2, 5, 8)])
@pytest.mark.parametrize("per_channel", [True, False])
def test_a_matrix_product_of_bytes(shape, per_channel):
    b = Builder()
    x, w = data(b, *shape), weights(b, 8, 6, axis=1, per_channel=per_channel)
    assert "matmul_integer" in ops(rewritten(b, x @ w))


def test_a_product_of_two_inputs():
    b = Builder()
    x, y = data(b, 3, 5, 8), data(b, 3, 8, 4, dtype="i8", zero=2, name="z")
    assert "matmul_integer" in ops(rewritten(b, x @ y))


@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 2.0)])
def test_gemm_becomes_a_product_of_bytes(trans_b, alpha, beta):
    b = Builder()
    w = weights(b, 6, 8, axis=0) if trans_b else weights(b, 8, 6, axis=1)
    c = b.constant(RNG.standard_normal(6).astype(np.float32))
    y = b.gemm(data(b, 5, 8), w, c, trans_b=trans_b, alpha=alpha, beta=beta)
    after = rewritten(b, y)
    assert "matmul_integer" in ops(after)
    assert "gemm" not in ops(after)


def test_sums_of_bytes_are_exact():
    """f32 rounds a sum of 2,000 products of bytes, i32 does not."""
    b = Builder()
    x, w = data(b, 1, 2000, zero=0, scale=1.0), weights(b, 2000, 3, axis=1, per_channel=False)
    b.output("y", x @ w)
    exe = tessel.compile(b.graph)
    bytes_ = RNG.integers(0, 256, (1, 2000)).astype(np.uint8)
    q = w.value.node.inputs[0].constant.astype(np.int64)
    scale = w.value.node.inputs[1].constant
    expected = (bytes_.astype(np.int64) @ q).astype(np.float32) * scale
    np.testing.assert_array_equal(exe.run({"x": bytes_})["y"], expected)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda b: b.conv(data(b, 1, 4, 6), weights(b, 5, 4, 3, axis=1)),
            "along another axis than the output channels",
        ),
        (lambda b: data(b, 5, 8) @ weights(b, 8, 6, axis=0), "along another axis than the columns"),
        (
            lambda b: b.conv(
                b.dequantize_linear(
                    b.input("x", "u8[1,2,6]"), b.constant(np.ones(2, np.float32)), axis=1
                ),
                weights(b, 5, 2, 3),
            ),
            "the data has a scale per channel",
        ),
        (
            lambda b: (
                b.dequantize_linear(b.input("x", "i16[3,4]"), b.constant(np.float32(0.1)), axis=0)
                @ weights(b, 4, 2, axis=1)
            ),
            "products of i16 and i8 are no bytes",
        ),
    ],
)
def test_what_is_no_product_of_bytes_is_declined_with_the_reason(make, reason):
    b = Builder()
    assert any(reason in r for r in declined(b, make(b)))


# -- what moves and chooses -------------------------------------------------------------------

MOVES = {
    "reshape": lambda b, x: x.reshape(2, 30),
    "transpose": lambda b, x: x.transpose(0, 2, 1),
    "slice": lambda b, x: b.slice(x, axes=(1,), starts=(1,), steps=(2,), sizes=(2,)),
    "expand": lambda b, x: x.reshape(1, 2, 5, 6).expand((3, 2, 5, 6)),
    "split": lambda b, x: b.split(x, axis=1, sizes=(2, 3))[1],
    "max_pool": lambda b, x: b.max_pool(x, kernel=(3,), pads=(1, 1)),
    "gather": lambda b, x: b.gather(x, b.constant(np.array([1, 0, 1])), axis=2),
    "concat": lambda b, x: b.concat(x, x, axis=1),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_are_of_bytes(name):
    b = Builder()
    after = rewritten(b, MOVES[name](b, data(b, 2, 5, 6)))
    assert ops(after)[-1] == "dequantize_linear"
    moved = next(n for n in after.nodes if n.op.name == name)
    assert moved.outputs[0].dtype.name == "u8"


@pytest.mark.parametrize("name", MOVES)
def test_what_is_quantized_alike_again_stays_bytes(name):
    b = Builder()
    after = rewritten(b, quantize(b, MOVES[name](b, data(b, 2, 5, 6)), SCALE, ZERO))
    assert not {"quantize_linear", "dequantize_linear"} & set(ops(after))


def test_the_axis_of_scales_goes_with_a_transpose():
    b = Builder()
    w = weights(b, 5, 4, 3, axis=1)
    x = b.input("x", "f32[4]")
    b.output("y", w.transpose(1, 2, 0) + x.reshape(4, 1, 1))
    after, _ = Rewrite("integers", INTEGERS)(b.graph, None)
    (dq,) = (n for n in after.nodes if n.op.name == "dequantize_linear")
    assert dq.attrs["axis"] == 0
    assert_same_results(b.graph, after)


def test_parts_with_other_scales_are_joined_as_floats():
    b = Builder()
    x, y = data(b, 2, 3), data(b, 2, 4, scale=0.06, name="z")
    after = rewritten(b, b.concat(x, y, axis=1))
    assert ops(after).count("dequantize_linear") == 2


@pytest.mark.parametrize(
    ("scale", "zero", "dtype"), [(0.06, 120, "u8"), (SCALE, 121, "u8"), (SCALE, 0, "i8")]
)
def test_what_is_quantized_otherwise_is_quantized_anew(scale, zero, dtype):
    b = Builder()
    after = rewritten(b, quantize(b, data(b, 4, 5), scale, zero, dtype))
    assert "quantize_linear" in ops(after)


# -- activations that the type's limits stand for -------------------------------------------------


@pytest.mark.parametrize(
    "cut",
    [
        lambda b, x: b.relu(x),
        lambda b, x: b.clip(x, b.scalar(0, x.dtype), b.scalar(6, x.dtype)),
        lambda b, x: b.clip(x, b.scalar(-1, x.dtype)),
    ],
)
def test_a_cut_where_the_type_ends_is_left_out(cut):
    b = Builder()
    x = b.input("x", "f32[300]")
    after = rewritten(b, quantize(b, cut(b, x), scale=6 / 255, zero=0))
    assert ops(after) == ["quantize_linear"]


@pytest.mark.parametrize(
    ("cut", "zero"),
    [
        (lambda b, x: b.relu(x), 128),
        (lambda b, x: b.clip(x, b.scalar(0, x.dtype), b.scalar(5, x.dtype)), 0),
        (lambda b, x: b.clip(x, b.scalar(1, x.dtype)), 0),
    ],
)
def test_a_cut_elsewhere_stays(cut, zero):
    b = Builder()
    x = b.input("x", "f32[300]")
    after = rewritten(b, quantize(b, cut(b, x), scale=6 / 255, zero=zero))
    assert len(ops(after)) == 2


# -- weights ----------------------------------------------------------------------------------


def test_weights_stay_narrow_and_other_constants_are_folded():
    b = Builder()
    w = weights(b, 8, 8, axis=1)
    one = b.dequantize_linear(b.constant(np.int8(3)), b.constant(np.float32(0.5)), axis=0)
    bias = b.dequantize_linear(
        b.constant(np.arange(8, dtype=np.int32)), b.constant(np.float32(0.5)), axis=0
    )
    b.output("y", (b.input("x", "f32[2,8]") * one) @ w + bias)
    after, _ = FoldConstants()(b.graph, Report())
    assert ops(after) == ["dequantize_linear", "mul", "matmul", "add"]


# -- a network --------------------------------------------------------------------------------


def network() -> Builder:
    """Convolutions, a sum, a pool and a classifier as a quantizer writes them."""
    b = Builder()
    x = b.input("x", "f32[1,3,16,16]")
    again = lambda y, scale, zero=128: b.dequantize_linear(
        quantize(b, y, scale, zero),
        b.constant(np.float32(scale)),
        b.constant(np.uint8(zero)),
        axis=0,
    )
    bias = lambda n: b.constant(RNG.standard_normal(n).astype(np.float32) * 0.1)
    x = again(x, 0.02)
    a = again(b.relu(b.conv(x, weights(b, 8, 3, 3, 3), bias(8), pads=(1,) * 4)), 0.05, 0)
    d = again(b.conv(a, weights(b, 8, 1, 3, 3), bias(8), pads=(1,) * 4, group=8), 0.06)
    e = again(d + a, 0.1)
    p = again(b.max_pool(e, kernel=(2, 2), strides=(2, 2)), 0.1)
    f = again(p.mean([2, 3], keepdims=True), 0.1)
    b.output("y", b.gemm(f.reshape(1, 8), weights(b, 10, 8), bias(10), trans_b=True))
    return b


def test_a_network_of_bytes_gives_what_its_floats_give():
    graph = network().graph
    feeds = {"x": RNG.standard_normal((1, 3, 16, 16)).astype(np.float32)}
    plain = tessel.compile(graph, target="numpy", opt_level=0).run(feeds)["y"]
    exe = tessel.compile(graph)
    np.testing.assert_allclose(exe.run(feeds)["y"], plain, atol=0.1)
    names = [c.kernel.name for c in exe.specializations[0].program.kernels()]
    assert sum("conv_integer" in n for n in names) == 2
    assert any("matmul_integer" in n for n in names)
