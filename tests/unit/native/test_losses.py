"""Losses against numpy, their gradients against differences; weights, masks and reductions."""

import numpy as np
import pytest
from tessel.compiler.errors import InputError, UsageError
from tessel.frontends.native import functional as F
from tessel.frontends.native import losses

from ...support.interpreted import grad, jit, value_and_grad

RNG = np.random.default_rng(3)
X, Y, Z = (RNG.normal(size=(4, 3)) for _ in range(3))
P = np.exp(X) / np.exp(X).sum(-1, keepdims=True)
Q = np.exp(Y) / np.exp(Y).sum(-1, keepdims=True)
LABELS = np.array([0, 2, 1, 1])
PICKED = np.arange(4), LABELS
BITS = (Z > 0).astype(np.float64)
SIGNS = 2 * BITS - 1
SIGMOID = 1 / (1 + np.exp(-X))


def _log_cosh(d):
    return np.log(np.cosh(d))


def _huber(d, delta):
    d = np.abs(d)
    return np.where(d < delta, d * d / 2, delta * (d - delta / 2))


def _norm(x):
    return np.sqrt((x * x).sum(-1))


_MARGINS = np.maximum(0, X - X[PICKED][:, None] + 1).sum(-1) - 1

# name: (arguments, options, losses)
TABLE = {
    "mse": ((X, Y), {}, (X - Y) ** 2),
    "mae": ((X, Y), {}, abs(X - Y)),
    "mape": ((X, Y), {}, abs((X - Y) / Y) * 100),
    "msle": ((P, Q), {}, (np.log1p(P) - np.log1p(Q)) ** 2),
    "huber": ((X, Y), {"delta": 0.5}, _huber(X - Y, 0.5)),
    "log_cosh": ((X, Y), {}, _log_cosh(X - Y)),
    "poisson": ((P, Q), {}, P - Q * np.log(P)),
    "gaussian_nll": ((X, Y, Q), {}, (np.log(Q) + (X - Y) ** 2 / Q) / 2),
    "cross_entropy": ((X, LABELS), {}, -np.log(P[PICKED])),
    "categorical_cross_entropy": ((X, Q), {}, -(Q * np.log(P)).sum(-1)),
    "binary_cross_entropy": (
        (X, BITS),
        {"pos_weight": 3.0},
        -3 * BITS * np.log(SIGMOID) - (1 - BITS) * np.log(1 - SIGMOID),
    ),
    "binary_cross_entropy_of_probabilities": (
        (P, BITS),
        {},
        -BITS * np.log(P) - (1 - BITS) * np.log(1 - P),
    ),
    "focal": ((X, LABELS), {}, -np.log(P[PICKED]) * (1 - P[PICKED]) ** 2),
    "binary_focal": (
        (X, BITS),
        {"alpha": None},
        -BITS * np.log(SIGMOID) * (1 - SIGMOID) ** 2
        - (1 - BITS) * np.log(1 - SIGMOID) * SIGMOID**2,
    ),
    "kl_divergence": ((np.log(P), Q), {}, (Q * np.log(Q / P)).sum(-1)),
    "hinge": ((X, SIGNS), {}, np.maximum(0, 1 - X * SIGNS)),
    "squared_hinge": ((X, SIGNS), {}, np.maximum(0, 1 - X * SIGNS) ** 2),
    "multi_margin": ((X, LABELS), {}, _MARGINS / 3),
    "cosine_distance": ((X, Y), {}, 1 - (X * Y).sum(-1) / _norm(X) / _norm(Y)),
    "triplet": ((X, Y, Z), {}, np.maximum(0, _norm(X - Y) - _norm(X - Z) + 1)),
    "contrastive": (
        (X, Y, BITS[:, 0]),
        {"margin": 3.0},
        np.where(BITS[:, 0] > 0, _norm(X - Y) ** 2, np.maximum(0, 3 - _norm(X - Y)) ** 2),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_loss_is_what_numpy_says_and_has_its_gradient(name):
    args, options, expected = TABLE[name]
    f = getattr(losses, name)
    each = jit(lambda *args: f(*args, **options, reduction="none"))
    np.testing.assert_allclose(each(*args), expected, rtol=1e-6)
    value, d = value_and_grad(lambda *args: f(*args, **options))(*args)
    np.testing.assert_allclose(value, expected.mean(), rtol=1e-6)
    direction = np.random.default_rng(1).normal(size=args[0].shape)
    up, down = (each(args[0] + h * direction, *args[1:]).mean() for h in (1e-6, -1e-6))
    np.testing.assert_allclose((d * direction).sum(), (up - down) / 2e-6, rtol=1e-5, atol=1e-7)


def test_every_loss_is_checked():
    made = {n for n, f in vars(losses).items() if hasattr(f, "__wrapped__")}
    assert made - {"loss"} == set(TABLE)


def test_weights_and_masks():
    x, w, seen = np.array([[1.0, 2], [3, np.nan]]), np.array([2.0, 1]), np.array([[1, 1], [1, 0]])
    f = jit(
        lambda x, w, m, reduction: losses.mse(x, x * 0, weights=w, mask=m, reduction=reduction),
        static_argnames="reduction",
    )
    assert f(x, w, seen, "sum") == 2 * 1 + 2 * 4 + 9
    np.testing.assert_allclose(f(x, w, seen, "mean"), 19 / 5)
    assert f(x, w, seen * 0, "mean") == 0
    np.testing.assert_array_equal(f(x, w, seen, "none"), [[2, 8], [9, 0]])
    d = grad(lambda x: losses.mse(x, 1 - x, mask=seen))(X[:2, :2])
    assert d[1, 1] == 0 and (d != 0).sum() == 3
    with pytest.raises(UsageError, match="unknown reduction"):
        f(x, w, seen, "avg")


def test_labels_that_do_not_count():
    labels = np.array([0, -100, 1, -100])
    f = value_and_grad(lambda x, y: losses.cross_entropy(x, y, ignore_index=-100))
    value, d = f(X, labels)
    np.testing.assert_allclose(value, -np.log(P[[0, 2], [0, 1]]).mean())
    assert (d[[1, 3]] == 0).all() and (d[[0, 2]] != 0).all()
    assert f(X, labels * 0 - 100)[0] == 0
    with pytest.raises(InputError, match="a label is out of range"):
        f(X, np.array([0, -1, 1, 2]))


def test_classes_have_weights():
    w = np.array([1.0, 2.0, 0.5])
    f = jit(lambda x, y: losses.cross_entropy(x, y, class_weights=w))
    expected = (w[LABELS] * -np.log(P[PICKED])).sum() / w[LABELS].sum()
    np.testing.assert_allclose(f(X, LABELS), expected)


def test_a_class_that_is_impossible_does_no_harm():
    x = X.copy()
    x[:, 0] = -np.inf
    value, d = value_and_grad(losses.cross_entropy)(x, np.array([1, 2, 1, 1]))
    assert np.isfinite(value) and np.isfinite(d).all() and (d[:, 0] == 0).all()
    target = np.eye(3)[[1, 2, 1, 1]]
    value, d = value_and_grad(losses.categorical_cross_entropy)(x, target)
    assert np.isfinite(value) and np.isfinite(d).all()


@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_query_that_sees_no_key_gives_zero(kind, causal):
    q, k, v = (RNG.normal(size=(1, 2, 3, 4)) for _ in range(3))
    seen = np.array([[True, True, False], [False, False, False], [False, True, True]])
    mask = seen if kind == "bool" else np.where(seen, 0.0, -np.inf)
    f = lambda q, k, v, m: F.attention(q, k, v, m, is_causal=causal)
    y = jit(f)(q, k, v, mask)
    scores = np.where(
        seen & np.tri(3, dtype=bool) if causal else seen, q @ k.swapaxes(2, 3) / 2, -99
    )
    p = np.exp(scores) * (scores > -99)
    expected = p / np.maximum(p.sum(-1, keepdims=True), 1e-30) @ v
    np.testing.assert_allclose(y, expected, atol=1e-12)
    assert (y[:, :, 1] == 0).all()
    for d in grad(lambda *a: (f(*a) ** 2).sum(), argnums=(0, 1, 2))(q, k, v, mask):
        assert np.isfinite(d).all()
