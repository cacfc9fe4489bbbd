"""Weights of f32 models as codes of few bits: what is rewritten, and what it means then."""

import numpy as np
import pytest
import tessel
from tessel.compiler.compress.blocks import Packed, weights_to_blocks
from tessel.compiler.compress.rounding.grid import Grid
from tessel.compiler.compress.rounding.nearest import nearest
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ops.quantization.blocks import unpack_codes

RNG = np.random.default_rng(0)
W = RNG.normal(size=(96, 64)).astype(np.float32)


def ops(graph):
    return [n.op.name for n in graph.nodes if n.op.name != "constant"]


def product(w=W, x="f32[3,96]", **attrs):
    b = Builder()
    x = b.input("x", x)
    b.output("y", b.gemm(x, b.constant(w), **attrs) if attrs else x @ b.constant(w))
    return b.graph


def rounded(w, bits, block, symmetric=True):
    """Rows of weights as a grid has them."""
    return nearest(w, Grid.of(bits, symmetric=symmetric, block=block)).values


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "block"), [(4, 32), (8, 32), (3, 16), (2, 96), (4, 0), (4, 40)])
def test_a_product(bits, block, symmetric):
    graph, x = product(), RNG.normal(size=(3, 96)).astype(np.float32)
    done = weights_to_blocks(graph, bits, block, symmetric)
    assert ops(graph) == ["matmul_blocks"] and len(done) == 1
    expected = x @ rounded(W.T, bits, block, symmetric).T
    np.testing.assert_allclose(tessel.compile(graph)(x), expected, rtol=1e-4, atol=1e-4)


def test_gemm_with_transposed_weights():
    graph = product(W.T.copy(), trans_b=True, alpha=0.5)
    x = RNG.normal(size=(3, 96)).astype(np.float32)
    weights_to_blocks(graph)
    expected = 0.5 * x @ rounded(W.T, 4, 32).T
    np.testing.assert_allclose(tessel.compile(graph)(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rows_of_a_table(bits, symmetric):
    b = Builder()
    b.output("y", b.gather(b.constant(W), b.input("i", "i64[2,3]"), axis=0))
    weights_to_blocks(b.graph, bits, 32, symmetric)
    i = np.array([[0, 5, 95], [1, 1, 2]])
    expected = rounded(W, bits, 32, symmetric)[i]
    np.testing.assert_allclose(tessel.compile(b.graph)(i), expected, rtol=1e-6, atol=1e-6)


def test_activations_of_bytes():
    graph = product()
    weights_to_blocks(graph, activations="int8")
    x = RNG.normal(size=(3, 96)).astype(np.float32)
    expected = x @ rounded(W.T, 4, 32).T
    received = tessel.compile(graph)(x)
    assert np.abs(received - expected).max() < 0.02 * np.abs(expected).max()


def test_small_weights_and_those_kept_stay():
    assert weights_to_blocks(product(W[:32, :8].copy(), "f32[3,32]")) == []
    assert weights_to_blocks(product(), keep=lambda node: node.op.name == "matmul") == []


def test_codes_begin_with_zero():
    packed = Packed.of(nearest(W.T, Grid.of(4, block=32)), 4)
    codes = unpack_codes(packed.codes, 4, 32).reshape(64, 96)
    values = (codes - 8.0) * np.repeat(packed.scale, 32, axis=1)
    np.testing.assert_array_equal(values.astype(np.float32), rounded(W.T, 4, 32))


@pytest.mark.parametrize(("factor", "dtype"), [(1, np.float16), (1e-6, np.float32)])
def test_scales_are_halves_where_these_can_say_them(factor, dtype):
    w = W.T * np.float32(factor)
    w[3, :32] = 0
    found = nearest(w, Grid.of(4, block=32))
    packed = Packed.of(found, 4)
    assert packed.scale.dtype == dtype
    values = (unpack_codes(packed.codes, 4, 32) - np.float32(8)) * packed.scale[..., None]
    np.testing.assert_array_equal(values.reshape(w.shape).astype(np.float32), found.values)
