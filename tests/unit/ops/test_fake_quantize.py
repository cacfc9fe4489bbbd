"""fake_quantize is quantize_linear and dequantize_linear to the bit, and has gradients."""

import numpy as np
import pytest
import tessel
from tessel.compiler.autodiff.gradients import gradients
from tessel.compiler.errors import TypeMismatch
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.types import dtype_of

RNG = np.random.default_rng(0)
TIES = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 1e9, -1e9, 0, -0.1], np.float32)


def data(*shape, spread=3.0):
    return (RNG.standard_normal(shape) * spread).astype(np.float32)


def built(x, scale, zero, pair, **attrs):
    """x by fake_quantize, or by the pair of nodes that a quantized model has."""
    b = Builder()
    v, s = b.input("x", f"f32[{','.join(map(str, x.shape))}]"), b.constant(scale)
    z = None if zero is None else b.constant(zero)
    if pair:
        y = b.quantize_linear(v, s, z, **attrs)
        y = b.dequantize_linear(y, s, z, axis=attrs["axis"])
    else:
        y = b.fake_quantize(v, s, z, **attrs)
    b.output("y", y)
    return b.graph


@pytest.mark.parametrize("dtype", ["i8", "u8", "i4", "u4", "i2", "u2", "i16", "u16"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("has_zero", [False, True])
@pytest.mark.parametrize("target", ["cpu", "numpy"])
def test_it_is_the_pair_to_the_bit(dtype, per_channel, has_zero, target):
    x = data(7, 33)
    x[0, : len(TIES)] = TIES
    scale = RNG.uniform(0.1, 0.9, 33 if per_channel else ()).astype(np.float32)
    zero = np.ones(scale.shape, np.int64).astype(dtype_of(dtype).numpy) if has_zero else None
    one, two = (
        tessel.compile(built(x, scale, zero, pair, axis=1, dtype=dtype), target=target)(x)
        for pair in (False, True)
    )
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("columns", [1, 3, 4, 5, 9, 32, 33])
def test_blocks_are_scales_that_neighbours_share(columns):
    x, scale = data(3, columns), RNG.uniform(0.1, 0.9, (3, -(-columns // 4))).astype(np.float32)
    whole = np.repeat(scale, 4, axis=1)[:, :columns]
    blocks = tessel.compile(built(x, scale, None, False, axis=1, dtype="i4", block=4))(x)
    pair = tessel.compile(built(x, whole, None, True, axis=1, dtype="i4"))(x)
    assert blocks.tobytes() == pair.tobytes()


def test_fewer_bits_and_narrow_ranges():
    x = np.linspace(-9, 9, 37, dtype=np.float32)
    one = np.float32(1)
    three = tessel.compile(built(x, one, None, False, axis=0, dtype="i4", bits=3))(x)
    np.testing.assert_array_equal(three, np.clip(np.rint(x), -4, 3))
    narrow = tessel.compile(built(x, one, None, False, axis=0, dtype="i4", narrow=True))(x)
    np.testing.assert_array_equal(narrow, np.clip(np.rint(x), -7, 7))


def gradients_of(x, scale, zero=None, **attrs):
    """(dx, dscale) of sum(dy * fake_quantize(x)), and dy."""
    b = Builder()
    v, s = (b.constant(t) for t in (x, scale))
    v, s = (b.input(n, t.type) for n, t in (("x", v), ("s", s)))
    dy = RNG.standard_normal(x.shape).astype(np.float32)
    y = b.fake_quantize(v, s, None if zero is None else b.constant(zero), **attrs)
    for name, d in zip(("dx", "ds"), gradients(b, [y], [v, s], [b.constant(dy)])):
        b.output(name, d)
    dx, ds = interpret(b.graph, [x, scale])
    return dx, ds, dy


def learned(x, scale, zero, low, high):
    """Esser et al. (2020), equation 3, of each element."""
    v = x / scale
    r = np.rint(v) + zero
    return np.where(r < low, low - zero, np.where(r > high, high - zero, r - zero - v)), (
        (r >= low) & (r <= high)
    )


@pytest.mark.parametrize(("dtype", "low", "high"), [("i4", -8, 7), ("u4", 0, 15)])
def test_gradients_are_straight_through_and_of_learned_steps(dtype, low, high):
    x, scale = data(5, 6), np.float32(0.4)
    zero = np.asarray(3).astype(dtype_of(dtype).numpy)
    step, inside = learned(x, scale, 3, low, high)
    dx, ds, dy = gradients_of(x, scale, zero, dtype=dtype)
    np.testing.assert_array_equal(dx, np.where(inside, dy, 0))
    np.testing.assert_allclose(ds, np.sum(dy * step), rtol=1e-4, atol=1e-4)


def test_scales_of_channels_and_blocks_get_sums_of_their_elements():
    x, scale = data(3, 10), RNG.uniform(0.1, 0.9, 3).astype(np.float32)
    step, _ = learned(x, scale[:, None], 0, -8, 7)
    _, ds, dy = gradients_of(x, scale, axis=0, dtype="i4")
    np.testing.assert_allclose(ds, np.sum(dy * step, 1), rtol=1e-4, atol=1e-4)
    scale = RNG.uniform(0.1, 0.9, (3, 3)).astype(np.float32)
    step, _ = learned(x, np.repeat(scale, 4, 1)[:, :10], 0, -8, 7)
    _, ds, dy = gradients_of(x, scale, axis=1, block=4, dtype="i4")
    total = np.add.reduceat(dy * step, [0, 4, 8], axis=1)
    np.testing.assert_allclose(ds, total, rtol=1e-4, atol=1e-4)


def test_the_gradient_scale_is_that_of_the_paper():
    """1 / sqrt(elements * largest q), section 2.2."""
    x, scale = data(4, 16), RNG.uniform(0.1, 0.9, 4).astype(np.float32)
    step, _ = learned(x, scale[:, None], 0, -8, 7)
    _, ds, dy = gradients_of(x, scale, axis=0, dtype="i4", gradient_scale=True)
    np.testing.assert_allclose(ds, np.sum(dy * step, 1) / np.sqrt(16 * 7), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "attrs", "message"),
    [
        ((), {"dtype": "f8e4m3fn"}, "to a wrong type"),
        ((), {"dtype": "i4", "bits": 5}, "to a wrong type"),
        ((2, 2), {"block": 4}, "does not fit blocks"),
        ((4,), {"axis": 1}, "does not fit its axis"),
    ],
)
def test_what_does_not_fit_is_said(shape, attrs, message):
    b = Builder()
    with pytest.raises(TypeMismatch, match=message):
        b.fake_quantize(b.input("x", "f32[2,9]"), b.constant(np.ones(shape, np.float32)), **attrs)


def product_of(w, pair):
    """x @ w of bytes."""
    b = Builder()
    x, s = b.input("x", "f32[5,12]"), b.constant(np.float32(0.05))
    v, t = b.constant(w), b.constant((np.abs(w).max(0) / 127).astype(np.float32))
    if pair:
        x = b.dequantize_linear(b.quantize_linear(x, s, axis=0, dtype="i8"), s, axis=0)
        v = b.dequantize_linear(b.quantize_linear(v, t, axis=1, dtype="i8"), t, axis=1)
    else:
        x, v = b.fake_quantize(x, s), b.fake_quantize(v, t)
    b.output("y", x @ v)
    return tessel.compile(b.graph)


def test_a_model_in_training_is_compiled_as_the_quantized_one():
    """Products of what is fake are sums of bytes, whose results are the same to the bit."""
    x, w = data(5, 12), data(12, 7, spread=0.1)
    fake, pair = product_of(w, False), product_of(w, True)
    assert "matmul_integer" in {n.op.name for n in fake.graph.nodes}
    assert fake(x).tobytes() == pair(x).tobytes()
