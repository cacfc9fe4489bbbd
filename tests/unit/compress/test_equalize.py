"""Equalization: the same results in floats, with channels that are easier to round."""

import numpy as np
import pytest
import tessel
from tessel.compiler.compress.candidates import find_candidates
from tessel.compiler.compress.equalize import equalize_layers, equalized, largest_by_output, readers
from tessel.compiler.compress.recipe import Recipe
from tessel.compiler.compress.rounding.cross import cross_layer
from tessel.compiler.compress.rounding.grid import Grid
from tessel.compiler.compress.rounding.smooth import smooth_scales
from tessel.compiler.errors import UsageError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret

RNG = np.random.default_rng(0)
SKEW = np.float32(10) ** RNG.uniform(-1.5, 1.5, 8).astype(np.float32)


def weights(*shape):
    return (RNG.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


def make(type, body):
    b = Builder()
    b.output("y", body(b, b.input("x", type)))
    return b.graph


PAIRS = {
    "a bias and a relu": (
        "f32[3,6]",
        lambda b, x: b.relu(x @ (weights(6, 8) * SKEW) + weights(8)) @ weights(8, 5),
    ),
    "two readers": (
        "f32[3,6]",
        lambda b, x: (lambda h: (h @ weights(8, 5)) * (h @ weights(8, 5)))(x @ weights(6, 8)),
    ),
    "one factor": (
        "f32[3,6]",
        lambda b, x: (b.silu(x @ weights(6, 8)) * (x @ weights(6, 8))) @ weights(8, 5),
    ),
    "a pool": (
        "f32[2,3,6,6]",
        lambda b, x: b.conv(
            b.max_pool(b.conv(x, weights(8, 3, 3, 3), weights(8)), kernel=(2, 2), strides=(2, 2)),
            weights(4, 8, 2, 2),
        ),
    ),
    "depthwise": (
        "f32[2,3,6,6]",
        lambda b, x: b.conv(
            b.leaky_relu(b.conv(x, weights(8, 3, 3, 3))), weights(8, 1, 3, 3), group=8
        ),
    ),
    "groups": (
        "f32[2,4,6,6]",
        lambda b, x: b.conv(b.conv(x, weights(8, 2, 1, 1), group=2), weights(6, 4, 3, 3), group=2),
    ),
    "channels last": (
        "f32[2,6,6,4]",
        lambda b, x: b.conv(
            b.relu(b.conv(x, weights(3, 3, 4, 8), weights(8), channels_last=True)),
            weights(1, 1, 8, 5),
            channels_last=True,
        ),
    ),
}


def run(graph):
    rng = np.random.default_rng(1)
    return interpret(graph, [rng.standard_normal(v.shape).astype("f4") for v in graph.inputs])


@pytest.mark.parametrize("name", PAIRS)
def test_divided_and_multiplied_the_results_are_the_same(name):
    graph = make(*PAIRS[name])
    found = readers(find_candidates(graph))
    (reader,) = [r for r in found if r.product is not None]
    vector = lambda r: SKEW[: r.size] if r is not None and r.where == reader.where else None
    rewritten, done = equalized(find_candidates(graph), vector)
    assert len(done) == 1
    assert len(rewritten.nodes) == len(graph.nodes), "constants change, nothing is added"
    for y, expected in zip(run(rewritten), run(graph)):
        np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", PAIRS)
def test_cross_layer_equalization_gives_channels_one_range(name):
    graph = make(*PAIRS[name])
    rewritten, pairs = equalize_layers(find_candidates(graph))
    assert len(pairs) == 1
    for y, expected in zip(run(rewritten), run(graph)):
        np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-3)
    again, _ = equalize_layers(find_candidates(rewritten))
    for one, two in zip(*(find_candidates(g).products for g in (rewritten, again))):
        np.testing.assert_allclose(one.w.constant, two.w.constant, rtol=0.02)


NORMED = {
    "layer_norm": lambda b, x: b.layer_norm(x, weights(8), weights(8)) @ weights(8, 5),
    "rms_norm": lambda b, x: b.rms_norm(x, weights(8)) @ weights(8, 5),
    "a factor": lambda b, x: (b.sigmoid(x) * weights(8)) @ weights(8, 5),
}


@pytest.mark.parametrize("name", NORMED)
def test_norms_and_factors_divide(name):
    graph = make("f32[3,8]", NORMED[name])
    rewritten, _ = equalized(find_candidates(graph), lambda r: SKEW)
    assert len(rewritten.nodes) == len(graph.nodes)
    np.testing.assert_allclose(run(rewritten)[0], run(graph)[0], rtol=1e-3, atol=1e-4)


OTHERS = {
    "an input": lambda b, x: x @ weights(8, 5),
    "no factor commutes": lambda b, x: b.gelu(x @ weights(8, 8)) @ weights(8, 5),
    "another reader": lambda b, x: (lambda h: (h @ weights(8, 8)) + h)(x @ weights(8, 8)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_nothing_can_divide_is_multiplied(name):
    graph = make("f32[3,8]", OTHERS[name])
    last = readers(find_candidates(graph))[-1]
    assert last.vectors is None
    rewritten, _ = equalized(
        find_candidates(graph), lambda r: SKEW if r.x.name == last.x.name else None
    )
    assert len(rewritten.nodes) == len(graph.nodes) + 2, "a constant and a product"
    np.testing.assert_allclose(run(rewritten)[0], run(graph)[0], rtol=1e-3, atol=1e-4)


def test_channels_without_weights_stay():
    s = cross_layer(np.float32([4, 0, 1, 2]), np.float32([1, 1, 0, 8]))
    np.testing.assert_array_equal(s, np.float32([2, 1, 1, 0.5]))


def test_outliers_of_data_are_smoothed():
    most = np.ones(16)
    most[3] = 100
    w = RNG.standard_normal((24, 16)).astype(np.float32)
    s, alpha = smooth_scales([w], -most, most, most**2 / 9, Grid.of(8))
    assert 0 < alpha < 1 and s[3] == s.max() and s[3] > 5 * np.median(s)
    assert smooth_scales([w], -np.ones(16), np.ones(16), np.ones(16) / 9, Grid.of(8)) is None


def test_ranges_of_weights_by_channel():
    node = find_candidates(make(*PAIRS["groups"])).products[0].node
    w = node.inputs[1].constant
    np.testing.assert_array_equal(largest_by_output(node, w), np.abs(w).max((1, 2, 3)))


def noise(graph, x, **recipe) -> tuple[float, list[str]]:
    q = tessel.quantize(graph, x, Recipe.of(recipe.pop("name", "int8"), small=0, **recipe))
    y = tessel.compile(graph)(x)
    return float(np.square(tessel.compile(q)(x) - y).sum() / np.square(y).sum()), q.report.notes


def transformer_like():
    return make(
        "f32[N,64]",
        lambda b, x: (
            b.layer_norm(x, np.where(np.arange(64) % 16, 1, 60).astype("f4"))
            @ (weights(64, 64) / np.where(np.arange(64) % 16, 1, 30)[:, None].astype("f4"))
        ),
    )


ROWS = np.random.default_rng(3).standard_normal((64, 64)).astype(np.float32)


def test_smoothquant_lowers_the_noise():
    plain, _ = noise(transformer_like(), ROWS)
    smooth, notes = noise(transformer_like(), ROWS, equalize="smoothquant")
    assert smooth < 0.5 * plain
    assert any("smoothquant: 1 of 1" in n and "1 are divided by constants" in n for n in notes)


def test_awq_lowers_the_noise_of_weights():
    plain, _ = noise(transformer_like(), ROWS, name="int4")
    scaled, notes = noise(transformer_like(), ROWS, name="int4", rounding="awq")
    assert scaled < 0.9 * plain and any("awq: 1 of 1" in n for n in notes)


def test_cross_layer_equalization_needs_no_data():
    graph = make(*PAIRS["a bias and a relu"])
    recipe = Recipe.of("int8-dynamic", granularity="tensor", equalize="cross-layer")
    note = tessel.quantize(graph, None, recipe).report.notes[0]
    assert note.startswith("cross-layer: 1 pair")


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(UsageError, match="does not round"):
        Recipe.of("int4", equalize="smoothquant")
    with pytest.raises(UsageError, match="rescales channels itself"):
        Recipe.of("int8", rounding="awq", equalize="cross-layer")
    with pytest.raises(tessel.TesselError, match="weights are chosen"):
        tessel.quantize(transformer_like(), None, Recipe.of("int4", equalize="awq"))
