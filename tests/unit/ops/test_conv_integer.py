"""conv_integer of few products is summed in f32: still every bit of the integers' sum."""

import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.schedules.window import WindowSchedule
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ops.contraction.conv import EXACT, conv_integer_ref

RNG = np.random.default_rng(0)
ATTRS = {"strides": (), "pads": (), "dilations": (), "channels_last": False}


def compiled(x, w, x_zero, w_zero, **attrs):
    b = Builder()
    zeros = [b.constant(x_zero), b.constant(w_zero)]
    b.output("y", b.conv_integer(b.input("x", b.constant(x).type), b.constant(w), *zeros, **attrs))
    exe = tessel.compile(b.graph)
    expected = conv_integer_ref(x, w, x_zero, w_zero, **ATTRS | attrs)
    np.testing.assert_array_equal(exe.run({"x": x})["y"], expected)
    return exe


@pytest.mark.parametrize("taps", [1, 9, EXACT - 1, EXACT, EXACT + 1])
def test_the_largest_sums_are_exact(taps):
    """Differences of 255 and -255, and one that is odd, so that a sum needs its last bit."""
    x, w = np.full((1, 2, taps), 255, np.uint8), np.full((2, 1, taps), -128, np.int8)
    x[0, 0, 0] = 254
    compiled(x, w, np.uint8(0), np.int8(127), group=2)


@pytest.mark.parametrize("per_group", [1, 2, 4])
@pytest.mark.parametrize("channels_last", [False, True])
def test_groups_of_few_channels(per_group, channels_last):
    x = RNG.integers(0, 256, (2, 9, 8, 4 * per_group)).astype(np.uint8)
    w = RNG.integers(-128, 128, (3, 3, per_group, 12)).astype(np.int8)
    if not channels_last:
        x, w = x.transpose(0, 3, 1, 2).copy(), w.transpose(3, 2, 0, 1).copy()
    more = {"group": 4, "channels_last": channels_last, "pads": (1, 1, 1, 1), "strides": (2, 1)}
    compiled(x, w, np.uint8(131), RNG.integers(-9, 9, 12).astype(np.int8), **more)


def test_a_depthwise_convolution_is_a_window():
    x = RNG.integers(0, 256, (1, 14, 14, 64)).astype(np.uint8)
    w = RNG.integers(-128, 128, (3, 3, 1, 64)).astype(np.int8)
    more = {"group": 64, "channels_last": True, "pads": (1, 1, 1, 1)}
    exe = compiled(x, w, np.uint8(3), np.int8(0), **more)
    codes = exe.specializations[0].code.plan.codes.values()
    assert any(isinstance(c.schedule, WindowSchedule) for c in codes)
