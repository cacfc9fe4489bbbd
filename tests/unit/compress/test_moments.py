"""Second moments of what products read, GPTQ by them, and biases that take back mean errors."""

import dataclasses

import numpy as np
import pytest
import tessel
from tessel.compiler.compress.quantize import Plan
from tessel.compiler.compress.recipe import Recipe
from tessel.compiler.compress.statistics import prime
from tessel.compiler.ir.builder import Builder
from tessel.runtime.compress.biases import correct_biases
from tessel.runtime.compress.calibrate import calibrate
from tessel.runtime.compress.data import Data
from tessel.runtime.compress.moments import moments
from tessel.runtime.compress.quantize import prepared

from .test_quantize import DATA, mlp, small_net

ROWS = np.random.default_rng(3).standard_normal((64, 7, 64)).astype(np.float32)


def feeds(x, size):
    return Data(lambda: ({"x": x[i : i + size]} for i in range(0, len(x), size)))


def test_moments_of_a_product_are_those_of_its_rows():
    plan = Plan.of(prepared(mlp()), Recipe.of("int8", small=0))
    first = next(iter(moments(plan, feeds(ROWS, 8)).values()))
    runs = ROWS.reshape(8, 8 * 7, 64)
    held_out = runs[3::4].reshape(-1, 64)
    most = np.delete(runs, [3, 7], axis=0).reshape(-1, 64)
    np.testing.assert_allclose(first.most, most.T @ most, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(first.held_out, held_out.T @ held_out, rtol=1e-4, atol=1e-3)


def test_products_that_read_the_same_share_their_moments():
    b = Builder()
    x = b.input("x", "f32[N,7,64]")
    w = [np.random.default_rng(i).standard_normal((64, 64)).astype("f4") for i in (0, 1)]
    b.output("y", b.gelu(x @ w[0]) * (x @ w[1]))
    plan = Plan.of(b.graph, Recipe.of("int8", small=0))
    one, two = moments(plan, feeds(ROWS, 16)).values()
    np.testing.assert_array_equal(one.most, two.most)


@pytest.mark.parametrize(
    "attrs",
    [
        {},
        {"pads": (1, 1, 1, 1)},
        {"pads": (0, 1, 1, 0), "strides": (2, 2)},
        {"pads": (2, 2, 2, 2), "dilations": (2, 2)},
    ],
    ids=str,
)
def test_rows_of_a_convolution_are_its_patches(attrs):
    """With y = W · row for each place, the sum of y² is trace(W H Wᵀ)."""
    b = Builder()
    w = np.random.default_rng(0).standard_normal((5, 3, 3, 2)).astype(np.float32)
    b.output("y", b.conv(b.input("x", "f32[N,3,8,8]"), b.constant(w), **attrs))
    plan = Plan.of(b.graph, Recipe.of("int8", small=0))
    (found,) = moments(plan, feeds(DATA[:4], 4)).values()
    y = tessel.compile(b.graph)(DATA[:4])
    rows = w.reshape(5, -1)
    np.testing.assert_allclose(np.trace(rows @ found.most @ rows.T), np.square(y).sum(), rtol=1e-4)


def test_some_places_of_large_convolutions_are_enough():
    b, x = Builder(), np.random.default_rng(6).standard_normal((3, 2, 24, 24)).astype(np.float32)
    w = np.random.default_rng(0).standard_normal((5, 2, 3, 3)).astype(np.float32)
    b.output("y", b.conv(b.input("x", "f32[N,2,24,24]"), b.constant(w), pads=(1, 1, 1, 1)))
    plan = Plan.of(b.graph, Recipe.of("int8", small=0))
    (found,) = moments(plan, feeds(x, 3)).values()
    y, rows = tessel.compile(b.graph)(x).reshape(3, 5, -1)[:, :, :: prime(9)], w.reshape(5, -1)
    trace = np.trace(rows @ found.most @ rows.T)
    np.testing.assert_allclose(trace, np.square(y).sum(), rtol=1e-4)


def decibels(expected, received):
    return 10 * np.log10(np.square(expected).sum() / np.square(expected - received).sum())


def quality(graph, data, **recipe):
    quantized = tessel.quantize(graph, data, Recipe.of("int8", small=0, **recipe))
    return decibels(tessel.compile(graph)(data), tessel.compile(quantized)(data))


@pytest.mark.parametrize("net", [mlp, small_net])
def test_gptq_is_nearer_to_the_model_of_floats(net):
    mixed = ROWS @ np.random.default_rng(5).standard_normal((64, 64)).astype(np.float32) ** 3
    data = {mlp: mixed, small_net: np.cumsum(DATA, axis=2)}[net]
    nearest = quality(net(), data, dtype="i4")
    assert quality(net(), data, dtype="i4", rounding="gptq") > nearest + 1


CONVOLUTIONS = {
    "a border": ("f32[N,3,8,8]", (5, 3, 3, 3), {"pads": (1, 1, 1, 1)}),
    "depthwise": ("f32[N,3,8,8]", (3, 1, 3, 3), {"group": 3, "pads": (1, 1, 1, 1)}),
    "channels last": ("f32[N,3,8,8]", (3, 3, 8, 5), {"channels_last": True}),
    "strides": ("f32[N,3,8,8]", (5, 3, 3, 2), {"strides": (2, 3), "pads": (1, 0, 0, 1)}),
    "dilated": ("f32[N,3,8,8]", (5, 3, 3, 3), {"dilations": (2, 1), "pads": (2, 1, 2, 1)}),
    "one tap": ("f32[N,3,8,8]", (5, 3, 1, 1), {}),
    "open": ("f32[N,3,H,W]", (5, 3, 3, 3), {"strides": (2, 2), "pads": (1, 1, 1, 1)}),
    "rows": ("f32[N,3,8,8]", (8, 5), None),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_shifts_are_the_means_of_errors(name):
    type, shape, attrs = CONVOLUTIONS[name]
    w = np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    def net(w):
        b = Builder()
        x = b.input("x", type)
        b.output("y", x @ w if attrs is None else b.conv(x, b.constant(w), **attrs))
        return b.graph

    plan = Plan.of(net(w), Recipe.of("int8", dtype="i4", small=0))
    found = calibrate(plan.candidates.graph, [], feeds(DATA, 8), plan.candidates.products)
    correct_biases(plan, found.sums)
    (p,) = plan.candidates.products
    y, rounded = (tessel.compile(net(t))(DATA) for t in (w, plan.weights_of(p).floats()))
    axes = (0, 1, 2) if attrs is None or "channels_last" in attrs else (0, 2, 3)
    np.testing.assert_allclose(plan.shifts[p.node], (y - rounded).mean(axes), rtol=1e-3, atol=1e-4)


def shift(graph, data, **recipe):
    """How far the means of outputs are from those of the model of floats."""
    quantized = tessel.quantize(graph, data, Recipe.of("int8", dtype="i4", small=0, **recipe))
    apart = tessel.compile(quantized)(data) - tessel.compile(graph)(data)
    return np.abs(apart.mean(0)).sum()


def test_biases_take_back_mean_errors():
    graph, data = small_net(), np.abs(DATA)
    assert shift(graph, data) < 0.8 * shift(graph, data, bias_correction=False)


def test_a_recipe_remembers_shifts(tmp_path):
    q = tessel.quantize(small_net(), np.abs(DATA), Recipe.of("int8", small=0))
    q.recipe.save(tmp_path / "r.toml")
    again = tessel.quantize(small_net(), None, tmp_path / "r.toml")
    assert q.recipe.shifts and again.recipe == q.recipe
    assert str(again.graph) == str(q.graph)
    off = dataclasses.replace(q.recipe, shifts=dict.fromkeys(q.recipe.shifts, (0.0,)))
    with pytest.raises(tessel.TesselError, match="not those of this model"):
        tessel.quantize(small_net(), None, off)


def test_trained_roundings_correct_no_biases():
    assert not Recipe.of("int8", rounding="adaround").corrects_biases
    assert Recipe.of("int8", rounding="adaround", bias_correction=True).corrects_biases
    assert not Recipe.of("int8-dynamic").corrects_biases


def test_what_needs_data_says_so():
    with pytest.raises(tessel.TesselError, match="needs data"):
        tessel.quantize(mlp(), None, Recipe.of("int8-weights", rounding="gptq"))
