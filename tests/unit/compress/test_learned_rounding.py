"""AdaRound and AutoRound: what is learned is one of the two neighbours, runs as it was trained, and
errs less than nearest on data that it has not seen."""

import numpy as np
import pytest
import tessel
from tessel.compiler.autodiff.parameters import with_constants
from tessel.compiler.compress.learned import Learned, V
from tessel.compiler.compress.quantize import Plan
from tessel.compiler.compress.recipe import Recipe
from tessel.compiler.compress.rounding.grid import Grid
from tessel.compiler.compress.rounding.learned import decided, first_v, up_or_down
from tessel.compiler.compress.rounding.nearest import nearest
from tessel.compiler.errors import UsageError
from tessel.compiler.ir.builder import Builder

RNG = np.random.default_rng(0)
W = RNG.standard_normal((6, 20)).astype(np.float32)
GRIDS = [Grid.of(4), Grid.of(4, symmetric=False, block=8), Grid.of(3, block=16)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_adaround_begins_at_nearest(grid):
    start = nearest(W, grid)
    v = first_v(W, start)
    np.testing.assert_array_equal(up_or_down(W, start, v).q, start.q)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_adaround_chooses_between_two_neighbours(grid):
    start = nearest(W, grid)
    scale = grid.widened(start.scale, W.shape[1])
    low, high = (up_or_down(W, start, np.full_like(W, v)).values for v in (-1, 1))
    inside = (low > (grid.low - start.zero.max()) * scale) & (high - low > 0)
    assert np.all((low <= W + 1e-6) | ~inside) and np.all((high >= W - 1e-6) | ~inside)
    np.testing.assert_allclose((high - low)[inside], scale[inside], rtol=1e-4)


def net():
    """Two products of correlated data, f32[N,32] -> f32[N,32]."""
    b, rng = Builder(), np.random.default_rng(1)
    w = lambda *shape: (rng.standard_normal(shape) / 4).astype(np.float32)
    b.origin = "first"
    x = b.relu(b.input("x", "f32[N,32]") @ w(32, 128))
    b.origin = "second"
    b.output("y", x @ w(128, 32))
    return b.graph


def correlated(seed: int, rows: int = 128) -> np.ndarray:
    mix = np.random.default_rng(7).standard_normal((32, 32)) ** 3
    return (np.random.default_rng(seed).standard_normal((rows, 32)) @ mix / 9).astype(np.float32)


def noise(recipe: Recipe) -> float:
    """The share of the outputs that is an error, on other data than what was learned from."""
    x, q = correlated(9), tessel.quantize(net(), correlated(8), recipe)
    y = tessel.compile(net())(x)
    return float(np.square(tessel.compile(q)(x) - y).sum() / np.square(y).sum())


@pytest.mark.parametrize("rounding", ["adaround", "autoround"])
@pytest.mark.parametrize(
    "recipe",
    [Recipe.of("int8", dtype="i4", small=0), Recipe.of("int4", block=8)],
    ids=["static", "blocks"],
)
def test_it_errs_less_than_nearest(rounding, recipe):
    assert noise(Recipe.of(recipe, rounding=rounding, steps=150)) < 0.8 * noise(recipe)


@pytest.mark.parametrize("rounding", ["adaround", "autoround"])
def test_the_graph_that_is_trained_computes_what_runs(rounding):
    recipe = Recipe.of("int8", dtype="i4", small=0, rounding=rounding)
    plan = Plan.of(net(), recipe)
    plan.scales = dict(tessel.quantize(net(), correlated(8), "int8").recipe.scales)
    learned = Learned(plan)
    values = {
        n: RNG.uniform(-0.4, 0.4, t.shape).astype(np.float32) if n.endswith(V) else t * 0.9
        for n, t in learned.parameters.items()
    }
    values = learned.decided(values)
    y = tessel.compile(with_constants(learned.graph, values))(correlated(9))
    for p in plan.candidates.products:
        plan.weights[p.node] = learned.narrowed(plan, p, values)
    np.testing.assert_allclose(
        tessel.compile(plan.apply()[0])(correlated(9)), y, rtol=1e-4, atol=1e-4
    )


def test_what_decides_is_far_from_zero():
    np.testing.assert_array_equal(decided(np.float32([-0.1, 0, 3])), np.float32([-50, 50, 50]))


def test_learning_needs_data_and_steps():
    with pytest.raises(tessel.TesselError, match="needs data"):
        tessel.quantize(net(), None, Recipe.of("int4", rounding="autoround"))
    with pytest.raises(UsageError, match="at least one step"):
        Recipe.of("int4", rounding="autoround", steps=0)
