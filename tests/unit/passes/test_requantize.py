"""Scales before a quantization become one multiply-add; few results differ, by one step."""

import numpy as np
import pytest
import tessel
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.verify import verify
from tessel.compiler.passes.base import Report
from tessel.compiler.rewrite.engine import Rewrite
from tessel.compiler.rewrite.rules.requantize import REQUANTIZE

RNG = np.random.default_rng(0)


def constant(b: Builder, value, dtype="f32"):
    return b.constant(np.asarray(value), dtype)


def bytes_of(b: Builder, name: str, scale: float, zero: int | None = None, shape="[400]"):
    """dq(x, scale, zero) of an input of bytes."""
    zeros = () if zero is None else (constant(b, zero, "u8"),)
    return b.dequantize_linear(b.input(name, f"u8{shape}"), constant(b, scale), *zeros, axis=0)


def quantized(b: Builder, y, scale=0.37, zero: int | None = 3, **attrs):
    zeros = () if zero is None else (constant(b, zero, "u8"),)
    return b.quantize_linear(y, constant(b, scale), *zeros, dtype="u8", axis=0, **attrs)


def rewritten(b: Builder, y, report: Report | None = None):
    b.output("y", y)
    after, _ = Rewrite("requantize", REQUANTIZE)(b.graph, report)
    verify(after)
    return b.graph, after


def feeds(graph):
    draw = {
        "f32": lambda shape: RNG.standard_normal(shape).astype(np.float32) * 20,
        "u8": lambda shape: RNG.integers(0, 256, shape).astype(np.uint8),
        "i32": lambda shape: RNG.integers(-9000, 9000, shape).astype(np.int32),
    }
    return [draw[v.dtype.name](v.shape) for v in graph.inputs]


CASES = {
    "product": lambda b: quantized(b, b.input("x", "f32[40,5]") * constant(b, RNG.random(5))),
    "product and sum": lambda b: quantized(
        b, b.input("x", "f32[40,5]") * constant(b, RNG.random(5)) + constant(b, RNG.random(5) - 0.5)
    ),
    "no zero point": lambda b: quantized(b, b.input("x", "f32[9]") * 0.3 + 0.1, zero=None),
    "sum of bytes": lambda b: quantized(b, bytes_of(b, "x", 0.1, 7) + bytes_of(b, "y", 0.3)),
    "the same twice": lambda b: quantized(b, (d := bytes_of(b, "x", 0.1, 7)) + d),
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_divided(name):
    b = Builder()
    before, after = rewritten(b, CASES[name](b))
    (q,) = (n for n in after.nodes if n.op.name == "quantize_linear")
    assert q.inputs[1].constant == 1
    x = feeds(before)
    expected, received = (interpret(g, x)[0].astype(int) for g in (before, after))
    assert np.abs(expected - received).max() <= 1
    assert np.mean(expected != received) <= 0.01


def test_zero_points_stand_for_zero():
    """z + z gives the result's zero point, whatever the scales."""
    b = Builder()
    y = quantized(b, bytes_of(b, "x", 0.123, 7) + bytes_of(b, "y", 0.3, 250), scale=0.077, zero=11)
    _, after = rewritten(b, y)
    (result,) = interpret(after, [np.full(400, 7, np.uint8), np.full(400, 250, np.uint8)])
    np.testing.assert_array_equal(result, np.full(400, 11))


def test_compiled():
    b = Builder()
    x = b.input("x", "u8[1,6,9,32]")
    w = constant(b, RNG.integers(-127, 128, (3, 3, 32, 24)), "i8")
    total = b.conv_integer(x, w, channels_last=True).cast("f32")
    scaled = total * constant(b, RNG.random(24) * 0.01) + constant(b, RNG.standard_normal(24))
    b.output("y", quantized(b, scaled, scale=2.5, zero=100))
    graph, image = b.graph, RNG.integers(0, 256, (1, 6, 9, 32)).astype(np.uint8)
    plain = tessel.compile(graph, target="numpy", opt_level=0)(image).astype(int)
    exe = tessel.compile(graph)
    received = exe(image).astype(int)
    assert np.abs(received - plain).max() <= 1
    assert np.mean(received != plain) <= 0.01
    assert any("q(x * c + d, s, z)" in a.rule for a in exe.report.applied)
    np.testing.assert_array_equal(tessel.compile(graph, threads=2)(image), received)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda b: b.quantize_linear(
                b.input("x", "f32[4,3]") * 0.5, constant(b, [0.1, 0.2, 0.3]), dtype="u8", axis=1
            ),
            "there is a scale per channel",
        ),
        (
            lambda b: b.quantize_linear(
                b.input("x", "f32[4]") * 0.5, constant(b, 0.1), dtype="f8e4m3fn", axis=0
            ),
            "it is not quantized to integers in f32",
        ),
        (
            lambda b: quantized(b, b.input("x", "f32[4]") * 0.5, scale=-0.1),
            "its scale is no positive number",
        ),
        (
            lambda b: quantized(
                b,
                bytes_of(b, "x", 0.1, 7, "[4,3]")
                + b.dequantize_linear(
                    b.input("y", "u8[4,3]"), constant(b, [0.1, 0.2, 0.3]), axis=1
                ),
            ),
            "there is a scale per channel",
        ),
    ],
    ids=["channels", "float8", "negative", "a term's channels"],
)
def test_what_is_left_and_why(make, reason):
    b, report = Builder(), Report()
    before, after = rewritten(b, make(b), report)
    assert reason in [d.reason for d in report.declined]
    assert [n.op.name for n in after.nodes] == [n.op.name for n in before.nodes]


def test_a_scale_of_one_is_no_near_miss():
    b, report = Builder(), Report()
    rewritten(b, quantized(b, b.input("x", "f32[4]") * 0.5, scale=1.0), report)
    assert not report.applied and not report.declined
