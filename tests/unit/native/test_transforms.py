"""Functions of functions: jit, gradients, control flow and custom gradients."""

import numpy as np
import pytest
from tessel.compiler.errors import TesselError, TypeMismatch, UsageError
from tessel.frontends import native
from tessel.frontends.native import functional as F

from ...support.interpreted import Interpreted, grad, jit, value_and_grad

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)


# -- jit ---------------------------------------------------------------------------------------


def test_jit_compiles_once_per_signature():
    f = jit(lambda x, y: x + y)
    before = Interpreted.made
    for _ in range(3):
        f(X, X)
    assert f.compiled == 1 and Interpreted.made == before + 1
    f(X[:2], X[:2])
    f(X.astype(np.float64), X.astype(np.float64))
    f(y=X, x=X)
    assert f.compiled == 3


def test_static_arguments_choose_the_graph():
    @jit(static_argnames="power")
    def f(x, power=2):
        return x**power if power > 1 else x

    np.testing.assert_allclose(f(X), X**2, rtol=1e-6)
    np.testing.assert_array_equal(f(X, power=1), X)
    assert f.compiled == 2
    with pytest.raises(TypeMismatch, match="must be hashable"):
        f(X, power=[1])
    with pytest.raises(UsageError, match="not a parameter"):
        jit(lambda x: x, static_argnames="y")


def test_jit_inside_jit_is_one_graph():
    inner = jit(lambda x: x * 2)
    outer = jit(lambda x: inner(x) + 1)
    np.testing.assert_allclose(outer(X), X * 2 + 1)
    assert inner.compiled == 0


def test_trees_come_back_as_trees():
    f = jit(lambda p, n: ({"w": p["w"] * n}, None, [n]))
    first, nothing, [n] = f({"w": X}, 3.0)
    np.testing.assert_allclose(first["w"], X * 3)
    assert nothing is None and n == 3 and n.dtype == np.float32


# -- gradients ---------------------------------------------------------------------------------


def loss(params, x):
    return (F.tanh(x @ params["w"]) * params["scale"]).mean()


def test_the_gradient_is_a_tree_like_the_argument():
    params = {"w": W.astype(np.float64), "scale": np.float64(1.5)}
    x = X.astype(np.float64)
    value, d = value_and_grad(loss)(params, x)
    y = np.tanh(x @ params["w"])
    np.testing.assert_allclose(value, (y * 1.5).mean())
    np.testing.assert_allclose(d["scale"], y.mean())
    np.testing.assert_allclose(d["w"], x.T @ ((1 - y * y) * 1.5 / y.size))
    np.testing.assert_allclose(jit(grad(loss))(params, x)["w"], d["w"])


def test_argnums_choose_arguments():
    f = lambda x, y, n: (x * y * y).sum() * n.cast("f64")
    a, b = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    dx, dy = grad(f, argnums=(0, 1))(a, b, 2)
    np.testing.assert_allclose(dx, 2 * b * b)
    np.testing.assert_allclose(dy, 4 * a * b)
    np.testing.assert_allclose(grad(f, argnums=-2)(a, b, 2), 4 * a * b)


def test_aux_comes_along():
    def f(x):
        y = x * x
        return y.sum(), {"squares": y}

    (value, aux), d = value_and_grad(f, has_aux=True)(X)
    np.testing.assert_allclose(value, aux["squares"].sum(), rtol=1e-6)
    d2, aux2 = grad(f, has_aux=True)(X)
    np.testing.assert_array_equal(d, d2)
    np.testing.assert_array_equal(aux["squares"], aux2["squares"])


def test_gradients_nest():
    f = lambda x: F.exp(x) * F.sin(x)
    x = np.float64(0.7)
    expected = [
        np.exp(x) * (np.sin(x) + np.cos(x)),
        2 * np.exp(x) * np.cos(x),
        2 * np.exp(x) * (np.cos(x) - np.sin(x)),
    ]
    for e in expected:
        f = grad(f)
        np.testing.assert_allclose(f(x), e)


def test_what_a_function_closes_over_is_a_constant():
    def f(x):
        y = x * 2
        return grad(lambda x: (x * y).sum())(x)

    np.testing.assert_allclose(jit(f)(X), X * 2)


def test_an_argument_that_does_not_matter_has_a_zero_gradient():
    np.testing.assert_array_equal(grad(lambda x, y: y.sum())(X, X), np.zeros_like(X))


# -- regions -----------------------------------------------------------------------------------


def test_custom_gradient_replaces_the_gradient():
    @native.custom_gradient
    def clipped_log(x):
        y = F.log(x)
        return y, lambda dy: dy / F.maximum(x, 0.5) + y * 0

    x = np.array([0.1, 2.0])
    np.testing.assert_allclose(grad(lambda x: clipped_log(x).sum())(x), [2.0, 0.5])
    np.testing.assert_allclose(jit(clipped_log)(x), np.log(x))


def test_custom_gradient_nests_and_takes_trees():
    @native.custom_gradient
    def f(p, n):
        return {"y": p["a"] * p["b"]}, lambda d: (
            {"a": d["y"] * p["a"] ** 2, "b": d["y"] * 0},
            None,
        )

    def total(p):
        return f(p, np.float64(1))["y"]

    p = {"a": np.float64(3), "b": np.float64(5)}
    d = grad(total)(p)
    assert d == {"a": 9, "b": 0}
    second = grad(lambda p: grad(total)(p)["a"])(p)
    assert second == {"a": 6, "b": 0}


def test_custom_gradient_hides_what_is_not_differentiable():
    @native.custom_gradient
    def rounded(x):
        return F.round(x), lambda dy: dy

    np.testing.assert_array_equal(grad(lambda x: (rounded(x) * 3).sum())(X), np.full_like(X, 3))


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: x * 2, r"returns \(value, gradient function\)"),
        (lambda x: (x * 2, lambda dy: dy.sum()), "another type than the argument's"),
        (lambda x: (x * 2, lambda dy: (dy, dy)), "trees of different structure"),
    ],
)
def test_a_wrong_custom_gradient_is_refused(f, message):
    with pytest.raises(TypeMismatch, match=message):
        jit(native.custom_gradient(f))(X)


def test_a_custom_gradient_needs_one_per_argument():
    f = native.custom_gradient(lambda x, y: (x * y, lambda dy: dy))
    with pytest.raises(TypeMismatch, match=r"one gradient per argument[\s\S]*a tuple of 2"):
        jit(f)(X, X)


def test_cond_runs_one_branch():
    f = jit(lambda c, x: native.cond(c, lambda: x * 2, lambda: -x))
    np.testing.assert_array_equal(f(True, X), X * 2)
    np.testing.assert_array_equal(f(False, X), -X)
    with pytest.raises(TypeMismatch, match="branches of cond"):
        jit(lambda c, x: native.cond(c, lambda: x, lambda: x.sum()))(True, X)


def test_scan_carries_a_state():
    def f(x, w):
        def body(h, row):
            h = F.tanh(h * w + row)
            return h, h.sum()

        return native.scan(body, w * 0, x)

    w = np.array([0.5, -1.0, 2.0], np.float32)
    h, sums = jit(f)(X, w)
    expected, state = [], np.zeros(3, np.float32)
    for row in X:
        state = np.tanh(state * w + row)
        expected.append(state.sum())
    np.testing.assert_allclose(h, state, rtol=1e-5)
    np.testing.assert_allclose(sums, expected, rtol=1e-5)
    with pytest.raises(TypeMismatch, match=r"must return \(carry, y\)"):
        jit(lambda x: native.scan(lambda h, row: h, x[0], x))(X)


def test_while_loop_turns_until_its_test_fails():
    def root(x):
        """Newton's square root, and how many steps it took."""

        def body(state):
            h, _, n = state
            return (h + x / h) * 0.5, h, n + 1

        far = lambda state: abs(state[0] - state[1]).max() > 1e-3
        h, _, n = native.while_loop(far, body, (x, x * 0, F.cast(x.sum() * 0, dtype="i64")))
        return h, n

    x = np.float32([2, 9, 100])
    h, n = jit(root)(x)
    np.testing.assert_allclose(h, np.sqrt(x), rtol=1e-4)
    assert 5 < n < 15 and jit(root)(np.float32([1, 1, 1]))[1] == 1
    with pytest.raises(TypeMismatch, match="a body that keeps its state"):
        jit(lambda x: native.while_loop(lambda s: s.sum() > 0, lambda s: s[0], x))(X)
    with pytest.raises(TypeMismatch, match="a bool scalar"):
        jit(lambda x: native.while_loop(lambda s: s > 0, lambda s: s - 1, x))(X)


def test_gradients_go_through_control_flow():
    f = lambda x: native.cond(x.sum() > 0, lambda: (x * x).sum(), lambda: -x.sum())
    np.testing.assert_allclose(grad(f)(abs(X)), 2 * abs(X), rtol=1e-6)
    np.testing.assert_array_equal(grad(f)(-abs(X)), np.full_like(X, -1))

    def recurrence(w, x):
        return native.scan(lambda h, row: (F.tanh(h * w + row), None), w * 0, x)[0].sum()

    w, x = np.array([0.5, -1.0, 2.0]), X.astype(np.float64)
    h, dh = np.zeros(3), np.zeros(3)
    for row in x:
        dh = h + w * dh
        h = np.tanh(h * w + row)
        dh = (1 - h * h) * dh
    np.testing.assert_allclose(grad(recurrence)(w, x), dh)


# -- wrong calls -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jit(lambda x, mode: x)(X, "fast"), r"argument mode[\s\S]*static_argnames"),
        (lambda: jit(lambda x: x)(X, X), "too many positional"),
        (lambda: grad(lambda x: x)(X), r"float scalar[\s\S]*f32\[4,3\]"),
        (lambda: grad(lambda x: (x.sum(), x))(X), "has_aux=True"),
        (lambda: grad(lambda x: x.sum(), has_aux=True)(X), "returns .loss, anything."),
        (lambda: grad(lambda x: x.sum())(np.arange(3)), "only float arrays have gradients"),
        (lambda: grad(lambda x: x.sum(), argnums=1)(X), "1 positional arguments"),
    ],
)
def test_wrong_calls_are_refused(call, message):
    with pytest.raises(TesselError, match=message):
        call()
