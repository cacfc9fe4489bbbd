"""Rounding of weights: grids, and algorithms that err less than the nearest number does."""

import numpy as np
import pytest
from tessel.compiler.compress.rounding.awq import awq_scales
from tessel.compiler.compress.rounding.gptq import gptq, gptq_if_better
from tessel.compiler.compress.rounding.grid import (
    Grid,
    Rounded,
    as_rows,
    best,
    from_rows,
    min_max,
    output_error,
    rounded,
)
from tessel.compiler.compress.rounding.nearest import half_quadratic, least_squares, nearest

RNG = np.random.default_rng(0)
GRIDS = [
    Grid.of(8),
    Grid.of(4),
    Grid.of(4, block=32),
    Grid.of(4, symmetric=False, block=32),
    Grid.of(3, symmetric=False, block=16),
    Grid.of(2, symmetric=False),
]


def weights(rows=16, k=96):
    """With a heavy tail, as trained ones have."""
    return (RNG.standard_t(4, (rows, k)) * 0.1).astype(np.float32)


def hessian_of(x):
    return x.T @ x


def correlated(rows=400, k=96):
    """Data whose channels depend on each other, of sizes far apart."""
    mixed = RNG.standard_normal((rows, k // 4)) @ RNG.standard_normal((k // 4, k))
    return (mixed + 0.3 * RNG.standard_normal((rows, k))) * np.geomspace(0.1, 3, k)


# -- grids --------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("k", [1, 5, 31, 32, 33, 96])
def test_values_are_on_the_grid_and_within_half_a_step(grid, k):
    w = weights(3, k)
    found = nearest(w, grid)
    assert found.q.min() >= grid.low and found.q.max() <= grid.high
    assert found.scale.shape == found.zero.shape == (3, grid.blocks(k))
    step = grid.widened(found.scale, k)
    assert np.all(np.abs(found.values - w) <= step * 1.001)
    if grid.symmetric:
        assert not found.zero.any()


def test_zero_is_one_of_the_numbers():
    w = np.abs(weights()) + 1
    w[:, ::7] = 0
    found = nearest(w, Grid.of(4, symmetric=False, block=16))
    np.testing.assert_array_equal(found.values[:, ::7], 0)


def test_ties_go_to_the_even_number():
    found = rounded(
        np.array([[0.5, 1.5, 2.5, -0.5]], np.float32),
        np.float32([[1]]),
        np.int32([[0]]),
        Grid.of(8),
    )
    np.testing.assert_array_equal(found.q, [[0, 2, 2, 0]])


def test_blocks_of_zeros_stay_zeros():
    for grid in GRIDS:
        for round in (nearest, least_squares, half_quadratic):
            np.testing.assert_array_equal(round(np.zeros((2, 40), np.float32), grid).values, 0)


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_weights_of_convolutions_are_rows(axis):
    w = RNG.standard_normal((4, 5, 2, 3))
    rows = as_rows(w, axis)
    assert rows.shape[0] == w.shape[axis]
    np.testing.assert_array_equal(from_rows(rows, w.shape, axis), w)


def test_errors_are_those_of_results():
    w, x = weights(), correlated()
    values = nearest(w, Grid.of(4)).values
    expected = np.square(x @ (values - w).T).sum() / np.square(x @ w.T).sum()
    assert output_error(w, values, hessian_of(x)) == pytest.approx(expected, rel=1e-6)


# -- scales ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS[1:], ids=str)
def test_scales_of_least_error_err_no_more(grid):
    w = weights()
    error = lambda found: np.sum(np.abs(found.values - w) ** 2.4)
    assert error(least_squares(w, grid)) < error(nearest(w, grid))


@pytest.mark.parametrize("grid", GRIDS[1:], ids=str)
def test_half_quadratic_leaves_fewer_errors_that_are_large(grid):
    w = weights()
    norm = lambda found: np.sum(np.abs(found.values - w) ** 0.7)
    assert norm(half_quadratic(w, grid)) <= norm(nearest(w, grid))


def test_what_matters_more_errs_less():
    w, importance = weights(), np.geomspace(1, 1e4, 96)
    error = lambda found: np.sum((found.values - w) ** 2 @ importance)
    grid = Grid.of(3)
    assert error(least_squares(w, grid, importance)) < error(least_squares(w, grid))


# -- GPTQ -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("order", [True, False])
def test_gptq_errs_less_than_nearest_on_other_data(grid, order):
    w, x = weights(), correlated()
    h, held_out = hessian_of(x[:300]), hessian_of(x[300:])
    found = gptq(w, h, grid, order=order)
    assert found.method == "gptq"
    assert found.q.min() >= grid.low and found.q.max() <= grid.high
    plain = output_error(w, nearest(w, grid).values, held_out)
    assert output_error(w, found.values, held_out) < 0.9 * plain


def test_gptq_without_correlation_is_rounding_to_nearest():
    w = weights()
    found = gptq(w, np.eye(96), Grid.of(4), clip=False)
    np.testing.assert_array_equal(found.q, nearest(w, Grid.of(4)).q)


@pytest.mark.parametrize("rows", [1, 3])
def test_damping_rises_until_there_is_a_factor(rows):
    """Few rows make a Hessian of low rank, and channels that nobody feeds rows of zeros."""
    w, x = weights(), correlated()[:rows]
    x[:, 5:9] = 0
    found = gptq(w, hessian_of(x), Grid.of(4))
    assert found.method == "gptq" and np.isfinite(found.values).all()


@pytest.mark.parametrize(
    ("hessian", "reason"),
    [
        (np.zeros((96, 96)), "no Cholesky factor"),
        (np.full((96, 96), np.nan), "not finite"),
        (-np.eye(96), "no Cholesky factor"),
    ],
)
def test_what_gptq_cannot_use_is_said(hessian, reason):
    found = gptq(weights(), hessian, Grid.of(4), clip=False)
    assert found.method == "nearest" and reason in found.reason


def test_gptq_is_kept_only_where_it_is_better_on_held_out_rows():
    w, x = weights(), correlated()
    held_out = hessian_of(x[300:])
    assert gptq_if_better(w, hessian_of(x[:300]), held_out, Grid.of(4)).method == "gptq"
    few = gptq_if_better(w, hessian_of(x[:2]), np.eye(96), Grid.of(4))
    assert few.method != "gptq"
    assert "gptq is no better on held-out rows" in few.reason


def test_the_best_of_equals_is_the_first():
    w = weights()
    one = nearest(w, Grid.of(4))
    assert best(w, [one, one.called("other")], np.eye(96)).method == "nearest"


# -- AWQ, bias correction --------------------------------------------------------------------


def test_awq_scales_up_what_meets_large_activations():
    w, x = weights(), RNG.standard_normal((200, 96))
    x[:, :4] *= 40
    h, grid = hessian_of(x), Grid.of(4)
    s, alpha = awq_scales([w], np.abs(x).mean(0), h, grid)
    assert alpha > 0 and s[:4].min() > s[4:].max()
    scaled = output_error(w, nearest(w * s, grid).values / s, h)
    assert scaled < 0.7 * output_error(w, nearest(w, grid).values, h)


def test_awq_leaves_alone_what_gains_nothing():
    s, alpha = awq_scales([weights()], np.ones(96), np.eye(96), Grid.of(4))
    assert alpha == 0
    np.testing.assert_array_equal(s, 1)


def test_a_rounded_matrix_says_how():
    found = Rounded(np.zeros((1, 2), np.int32), *min_max(np.ones((1, 2)), Grid()), Grid())
    assert found.called("other", "why").reason == "why" and found.method == "nearest"
