"""vjp, jvp, Jacobians, Hessians and checkpoints; static arguments of gradients."""

import functools

import numpy as np
import pytest
from tessel.compiler.errors import TypeMismatch
from tessel.frontends import native
from tessel.frontends.native import functional as F

from ...support.interpreted import Interpreted, grad, jit, value_and_grad

X = np.random.default_rng(0).normal(size=(3,))
W = np.random.default_rng(1).normal(size=(3, 2))
vjp, jvp, jacobian, hessian = (
    functools.partial(f, compile=Interpreted)
    for f in (native.vjp, native.jvp, native.jacobian, native.hessian)
)


def f(x):
    return F.tanh(x @ W) * x.sum()


def by_differences(f, x, h=1e-6):
    steps = np.eye(x.size).reshape(x.size, *x.shape) * h
    return np.stack([(f(x + s) - f(x - s)) / (2 * h) for s in steps], -1)


J = by_differences(jit(f), X).reshape(2, 3)


def test_products_with_a_jacobian():
    dy, dx = np.array([0.5, -2.0]), np.array([1.0, 0.0, 3.0])
    y, pull = vjp(f, X)
    np.testing.assert_allclose(y, jit(f)(X))
    np.testing.assert_allclose(pull(dy)[0], dy @ J, rtol=1e-6)
    y, change = jvp(f, (X,), (dx,))
    np.testing.assert_allclose(y, jit(f)(X))
    np.testing.assert_allclose(change, J @ dx, rtol=1e-6)


def test_products_of_trees_in_a_traced_function():
    def g(p, n):
        return {"a": p["w"] * p["w"], "b": F.sin(p["w"]).sum() * n.cast("f64")}

    @jit
    def both(w, n, d):
        _, pull = native.vjp(g, {"w": w}, n)
        back, nothing = pull({"a": d, "b": 2.0})
        return back["w"], nothing, native.jvp(g, ({"w": w}, n), ({"w": d}, n))[1]

    back, nothing, change = both(X, np.array(3), X + 1)
    np.testing.assert_allclose(back, 2 * X * (X + 1) + 6 * np.cos(X))
    assert nothing == 0
    np.testing.assert_allclose(change["a"], 2 * X * (X + 1))
    np.testing.assert_allclose(change["b"], 3 * (np.cos(X) * (X + 1)).sum())


def test_jacobians_and_hessians():
    np.testing.assert_allclose(jacobian(f)(X), J, rtol=1e-6)
    dx, dn = jacobian(lambda x, n: x * n, argnums=(0, 1))(X, np.float64(2))
    np.testing.assert_allclose(dx, 2 * np.eye(3))
    np.testing.assert_allclose(dn, X)
    h = hessian(lambda x: (f(x) ** 2).sum())(X)
    expected = by_differences(grad(lambda x: (f(x) ** 2).sum()), X)
    np.testing.assert_allclose(h, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(jacobian(lambda x: F.zeros_like(x))(X), np.zeros((3, 3)))


def test_a_gradient_of_a_jacobian():
    d = grad(lambda x: (native.jacobian(f)(x) ** 2).sum())(X)
    expected = by_differences(lambda x: np.asarray((jacobian(f)(x) ** 2).sum()), X)
    np.testing.assert_allclose(d, expected, rtol=1e-5)


def test_only_floats_have_derivatives():
    with pytest.raises(TypeMismatch, match="only float results"):
        jacobian(lambda x: x.cast("i64"))(X)


# -- checkpoints -------------------------------------------------------------------------------


def block(x, scale=1.0):
    return F.exp(F.sin(x @ W) * scale) @ W.T


def test_a_checkpoint_changes_no_gradient_and_computes_twice():
    def loss(x, w, block):
        return (block(x * w, scale=0.5) ** 2).sum()  # W is used from around it

    plain = value_and_grad(lambda x, w: loss(x, w, block), argnums=(0, 1))
    saved = value_and_grad(lambda x, w: loss(x, w, native.checkpoint(block)), argnums=(0, 1))
    for x, y in zip(plain(X, X)[1], saved(X, X)[1]):
        np.testing.assert_allclose(x, y)

    def count(f):
        graph = native.trace(native.grad(lambda x: (f(x) ** 2).sum()), "f32[3]")
        from tessel.compiler.passes.base import run_pipeline
        from tessel.compiler.pipelines import default_pipeline

        graph = run_pipeline(graph, default_pipeline(2))
        return sum(n.op.name == "sin" for n in graph.nodes)

    g = lambda x: F.exp(F.sin(x))
    assert (count(g), count(native.checkpoint(g))) == (1, 2)


# -- static arguments --------------------------------------------------------------------------


def test_flags_of_gradients_are_python_values():
    def loss(x, training, mode="sum", power=2):
        y = x**power if training else x
        return y.sum() if mode == "sum" else y.mean()

    d = grad(loss, static_argnames="power")
    np.testing.assert_allclose(d(X, training=True), 2 * X)
    np.testing.assert_allclose(d(X, False, mode="mean"), np.full(3, 1 / 3))
    np.testing.assert_allclose(d(X, True, power=3), 3 * X**2)


def test_a_custom_gradient_takes_keywords():
    @native.custom_gradient
    def scaled(x, *, by, mode="up"):
        return x, lambda dy: dy * (by if mode == "up" else -by)

    d = grad(lambda x, n: scaled(x, by=n).sum() + scaled(x, by=2.0, mode="down").sum())
    np.testing.assert_allclose(d(X, np.float64(5)), np.full(3, 3.0))
