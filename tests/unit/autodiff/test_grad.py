"""Gradients of graphs: composed functions against central differences in f64, and refusals."""

from dataclasses import replace

import numpy as np
import pytest
from tessel.compiler.autodiff.gradients import gradients, graph_gradients
from tessel.compiler.errors import TesselError, TypeMismatch, UsageError
from tessel.compiler.ir import op
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.verify import verify


def check(make, *shapes, eps=1e-6):
    """Are the gradients of `make(b, *inputs)`, a scalar, what differences of it say?"""
    b = Builder()
    inputs = [b.input(f"x{i}", f"f64[{','.join(map(str, s))}]") for i, s in enumerate(shapes)]
    b.output("loss", make(b, *inputs))
    graph = graph_gradients(b.graph, [f"x{i}" for i in range(len(shapes))])
    verify(graph)
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(0.5, 2.0, s) for s in shapes]
    _, *found = interpret(graph, arrays)
    for x, d in zip(arrays, found):
        assert d.shape == x.shape
        for i in np.ndindex(x.shape):
            old = x[i]
            sides = []
            for side in (old + eps, old - eps):
                x[i] = side
                sides.append(float(interpret(b.graph, arrays)[0]))
            x[i] = old
            np.testing.assert_allclose(
                d[i], (sides[0] - sides[1]) / (2 * eps), rtol=1e-5, atol=1e-7
            )


COMPOSED = {
    "a value read twice": (lambda b, x: (b.tanh(x) * b.exp(x) + x).sum(), [(3,)]),
    "broadcast": (lambda b, x, y: (x * y / (x + y)).sum(), [(2, 1, 3), (4, 1)]),
    "broadcast of a scalar": (lambda b, x, y: b.log(x * y).sum(), [(2, 3), ()]),
    "two layers": (
        lambda b, x, w, v: b.reduce_mean(b.sigmoid(b.tanh(x @ w) @ v), axes=(0, 1), keepdims=False),
        [(4, 3), (3, 5), (5, 2)],
    ),
    "a convolution": (
        lambda b, x, w, c: (b.conv(x, w, c, strides=(2, 1), pads=(1, 0, 1, 1)) ** 2).sum(),
        [(1, 2, 5, 4), (3, 2, 3, 2), (3,)],
    ),
    "through a composite": (
        lambda b, x: (b.softmax(x, axis=-1) * b.log_softmax(x, axis=0)).sum(),
        [(3, 4)],
    ),
    "a composite in a composite": (
        lambda b, q, k, v: (b.attention(q, k, v, scale=0.5) * q).sum(),
        [(1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)],
    ),
    "a norm": (
        lambda b, x, s, c: (b.gelu(b.layer_norm(x, s, c, axis=-1)) * x).sum(),
        [(3, 4), (4,), (4,)],
    ),
    "several outputs": (lambda b, x: _parts(b, x), [(5, 2)]),
    "only one output of several is used": (
        lambda b, x: (b.split(x, axis=0, sizes=(2, 3))[1] ** 3).sum(),
        [(5, 2)],
    ),
    "moves": (
        lambda b, x: (x.transpose(1, 0)[:, ::-1].reshape(-1)[1:5] * b.scalar(3, "f64")).sum(),
        [(2, 3)],
    ),
    "piecewise": (
        lambda b, x, y: b.where(x > y, b.maximum(x, y) * 2, b.relu(y - x)).sum(),
        [(6,), (6,)],
    ),
}


def _parts(b, x):
    first, second = b.split(x, axis=0, sizes=(2, 3))
    return (first * first).sum() + b.exp(second).sum()


@pytest.mark.parametrize("name", COMPOSED)
def test_composed_functions(name):
    make, shapes = COMPOSED[name]
    check(make, *shapes)


def test_gradients_of_gradients():
    b = Builder()
    x = b.input("x", "f64[]")
    y = b.sin(x) * b.exp(x)
    [first] = gradients(b, [y], [x])
    [second] = gradients(b, [first], [x])
    b.output("second", second)
    verify(b.graph)
    np.testing.assert_allclose(interpret(b.graph, [1.3])[0], 2 * np.exp(1.3) * np.cos(1.3))


def test_symbolic_dims():
    b = Builder()
    x, w = b.input("x", "f32[N,3]"), b.input("w", "f32[1,3]")
    b.output("loss", (x * w).mean())
    graph = graph_gradients(b.graph, ["x", "w"])
    assert [str(v.type) for v in graph.outputs] == ["f32[]", "f32[N,3]", "f32[1,3]"]
    x, w = np.ones((5, 3), np.float32), np.ones((1, 3), np.float32)
    _, dx, dw = interpret(graph, [x, w])
    np.testing.assert_allclose(dx, np.full((5, 3), 1 / 15), rtol=1e-6)
    np.testing.assert_allclose(dw, np.full((1, 3), 1 / 3), rtol=1e-6)


def test_seeds_weigh_the_outputs():
    b = Builder()
    x = b.input("x", "f64[3]")
    y, z = x * x, b.exp(x)
    [d] = gradients(b, [y, z], [x], seeds=[np.array([1.0, 2.0, 0.0]), None])
    b.output("d", d)
    np.testing.assert_allclose(interpret(b.graph, [np.array([1.0, 2.0, 3.0])])[0], [2, 8, 0])


def test_a_seed_without_a_path_gives_none_and_zeros():
    b = Builder()
    x, y = b.input("x", "f32[2]"), b.input("y", "f32[]")
    b.output("loss", y * 2)
    assert gradients(b.graph.copy(), b.graph.copy().outputs, []) == []
    graph = graph_gradients(b.graph, "x")
    np.testing.assert_array_equal(interpret(graph, [np.ones(2, np.float32), np.float32(1)])[1], 0)
    assert gradients(b, [y * 2], [x]) == [None]


def test_with_respect_to_a_value_inside():
    b = Builder()
    x = b.input("x", "f64[]")
    y = x * x
    dx, dy = gradients(b, [y * y * x], [x, y])
    b.output("dx", dx)
    b.output("dy", dy)
    dx, dy = interpret(b.graph, [2.0])
    assert (dx, dy) == (5 * 2.0**4, 2 * 4 * 2.0)


def test_values_of_a_differentiated_composite_stay():
    b = Builder()
    x = b.input("x", "f64[3]")
    y = b.softmax(x, axis=0)
    [d] = gradients(b, [(y * y).sum()], [x])
    b.output("y", y)
    b.output("d", d)
    verify(b.graph)
    y, _ = interpret(b.graph, [np.array([0.0, 1.0, 2.0])])
    np.testing.assert_allclose(y.sum(), 1)


def test_nodes_say_whose_gradient_they_are():
    b = Builder()
    b.origin = "model/encoder"
    x = b.input("x", "f32[]")
    gradients(b, [b.sin(x)], [x])
    assert {n.origin for n in b.graph.nodes} >= {"model/encoder", "gradient of model/encoder"}
    assert b.origin == "model/encoder"


def test_stop_gradient_and_piecewise_constant_ops_pass_nothing():
    b = Builder()
    x = b.input("x", "f64[2]")
    loss = (
        (b.stop_gradient(x) * x).sum() + b.floor(x).sum() + b.cast(x, dtype="i64").cast("f64").sum()
    )
    b.output("d", gradients(b, [loss], [x])[0])
    np.testing.assert_allclose(interpret(b.graph, [np.array([1.5, 2.5])])[0], [1.5, 2.5])


# -- refusals --------------------------------------------------------------------------------


def refuse(monkeypatch, name):
    """Take an op's gradient away."""
    record = replace(op.get(name), grad=op.NotDifferentiable("nobody knows how"))
    monkeypatch.setitem(op.OPS, name, record)


def test_an_op_that_refuses_is_named_with_its_node_and_reason(monkeypatch):
    refuse(monkeypatch, "sin")
    b = Builder()
    x, y = b.input("x", "f32[4]"), b.input("y", "f32[4]")
    b.origin = "model/odd"
    loss = (b.sin(x) * y).sum()
    with pytest.raises(TesselError, match=r"sin is not differentiable: nobody knows how\n.*odd"):
        gradients(b, [loss], [x])
    assert gradients(b, [loss], [y]) != [None]  # not on its path


def test_a_refusal_is_seen_through_ints(monkeypatch):
    refuse(monkeypatch, "cast")
    b = Builder()
    x = b.input("x", "f32[4]")
    rounded = b.cast(x, dtype="i64") + 1
    loss = b.one_hot(rounded, np.array([0, 1], np.float32), depth=3, axis=-1).sum()
    with pytest.raises(TesselError, match="cast is not differentiable"):
        gradients(b, [loss], [x])


def test_a_tensor_needs_a_seed():
    b = Builder()
    x = b.input("x", "f32[3]")
    with pytest.raises(UsageError, match=r"needs a seed[\s\S]*f32\[\][\s\S]*f32\[3\]"):
        gradients(b, [x * 2], [x])
    with pytest.raises(UsageError, match="one seed per output"):
        gradients(b, [x * 2], [x], seeds=[])
    with pytest.raises(UsageError, match="a seed must have its output's type"):
        gradients(b, [x * 2], [x], seeds=[np.float32(1)])


def test_ints_have_no_gradient():
    b = Builder()
    x = b.input("x", "i64[3]")
    loss = x.cast("f32").sum()
    with pytest.raises(TypeMismatch, match=r"only float tensors[\s\S]*i64\[3\]"):
        gradients(b, [loss], [x])
    with pytest.raises(TypeMismatch, match="only float tensors"):
        gradients(b, [x.sum()], [loss])


def test_unknown_names_are_refused():
    b = Builder()
    x = b.input("x", "f32[]")
    b.output("loss", x * 2)
    with pytest.raises(UsageError, match="no input 'w'"):
        graph_gradients(b.graph, ["w"])
    with pytest.raises(UsageError, match="no output 'cost'"):
        graph_gradients(b.graph, ["x"], output="cost")
