"""The native API: tracing, the op functions, jit, gradients of Python functions, regions."""

import numpy as np
import pytest
from tessel.compiler.errors import TesselError, TypeMismatch, UsageError
from tessel.compiler.interpret import interpret
from tessel.compiler.ops import registry
from tessel.compiler.verify import verify
from tessel.frontends import native
from tessel.frontends.native import functional as F
from tessel.frontends.native import trace


class Interpreted:
    """An executable that runs the graph with numpy; `made` counts them."""

    made = 0

    def __init__(self, graph):
        verify(graph)
        self.graph = graph
        Interpreted.made += 1

    def run(self, feeds):
        values = interpret(self.graph, [feeds[v.name] for v in self.graph.inputs])
        return dict(zip(self.graph.output_names, values))


jit, grad, value_and_grad = native.make_transforms(Interpreted)
X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)


# -- tracing -----------------------------------------------------------------------------------


def test_a_function_becomes_a_graph():
    graph = trace(lambda x, w: F.relu(x @ w) * 2, "f32[N,3]", W)
    verify(graph)
    assert [f"{v.name}: {v.type}" for v in graph.inputs] == ["x: f32[N,3]", "w: f32[3,2]"]
    assert [n.op.name for n in graph.nodes] == ["matmul", "relu", "constant", "mul"]
    np.testing.assert_allclose(interpret(graph, [X, W])[0], np.maximum(X @ W, 0) * 2, rtol=1e-6)


def test_nodes_carry_the_users_line():
    def f(x):
        y = F.exp(x)
        return F.gelu(y)

    first = f.__code__.co_firstlineno
    origins = [n.origin for n in trace(f, "f32[2]").nodes]
    assert [o.rsplit("test_native.py:")[1] for o in origins] == [str(first + 1), str(first + 2)]


def test_trees_name_inputs_and_outputs():
    def f(params, *xs):
        return {"sum": xs[0] + xs[1], "parts": (params["w"] * 2, [params["b"][0]])}

    graph = trace(f, {"w": W, "b": [W, W]}, "f32[2]", 1.0)
    assert [v.name for v in graph.inputs] == [
        "params.b.0",
        "params.b.1",
        "params.w",
        "xs.0",
        "xs.1",
    ]
    assert graph.output_names == ["out.parts.0", "out.parts.1.0", "out.sum"]


OPERATORS = {
    "arithmetic": lambda x: (x + 1) * 2 - 3 / (x * x + 1) + (1 - x) ** 2,
    "a numpy array": lambda x: np.full((4, 3), 2.0, np.float32) * x + X,
    "negation, abs": lambda x: -x + abs(x),
    "indexing": lambda x: x[1:, ::-1][..., 0] + x[-1, 1] + x[:3, None, 2][:, 0],
    "reshape, transpose": lambda x: x.reshape(2, -1).T.reshape((3, 4)).T,
    "reductions": lambda x: x.sum() + x.mean(0) + x.max(axis=0) - x.min(axis=0),
    "iteration": lambda x: sum(row * 2 for row in x),
    "cast": lambda x: x.astype("f32").astype(np.float32),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_do_what_numpy_does(name):
    f = OPERATORS[name]
    np.testing.assert_allclose(jit(f)(X), f(X) if name != "cast" else X, rtol=1e-5)


def test_comparisons_and_where():
    found = jit(lambda x, y: F.where((x > 0) & (x != y), x, 0.0))(X, X.round())
    np.testing.assert_array_equal(found, np.where((X > 0) & (X.round() != X), X, 0))
    assert jit(lambda x: x == 2)(np.array([1, 2])).tolist() == [False, True]


def test_indexing_with_integers_gathers():
    rows = np.array([2, 0])
    np.testing.assert_array_equal(jit(lambda x, i: x[i])(X, rows), X[rows])
    np.testing.assert_array_equal(jit(lambda x: x[rows])(X), X[rows])


# -- the functions -----------------------------------------------------------------------------


def test_every_op_is_a_function_with_its_docstring():
    renamed = {"and": "logical_and", "or": "logical_or", "not": "logical_not", "xor": "logical_xor"}
    for name, op in registry.OPS.items():
        if name in ("constant", "if", "scan", "custom_gradient"):
            continue
        function = getattr(F, renamed.get(name, name))
        assert function.__doc__, name
        if function.__doc__.startswith(op.doc):
            assert "Operands: " in function.__doc__
    assert "conv" in F.__all__ and "apply" in F.__all__


def test_signatures_come_from_the_records():
    import inspect

    assert str(inspect.signature(F.arg_max)) == (
        "(x, /, *, axis, keepdims=True, select_last_index=False)"
    )


def test_numpys_names():
    def f(x):
        return F.sum(x, 0), F.logsumexp(x, axis=1), F.stack([x, x], axis=1), F.square(x).mean()

    total, lse, stacked, mean = jit(f)(X)
    np.testing.assert_allclose(total, X.sum(0), rtol=1e-5)
    np.testing.assert_allclose(lse, np.log(np.exp(X).sum(1)), rtol=1e-5)
    np.testing.assert_array_equal(stacked, np.stack([X, X], axis=1))
    np.testing.assert_allclose(mean, (X * X).mean(), rtol=1e-5)


def test_an_op_without_operands_is_an_array():
    np.testing.assert_array_equal(F.iota(shape=(3,), dtype="i64"), [0, 1, 2])


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


# -- errors ------------------------------------------------------------------------------------

leaked = []


def leak(x):
    leaked.append(x)
    return x


def branch(x):
    if x.sum() > 0:
        return x
    return -x


ERRORS = {
    "a Python if": (branch, r"no truth value[\s\S]*test_native.py:\d+[\s\S]*where\("),
    "a Python float": (lambda x: float(x.sum()), r"no number[\s\S]*test_native.py"),
    "a numpy function": (lambda x: np.exp(x), r"not a numpy array[\s\S]*test_native.py"),
    "a string returned": (lambda x: (x, "x"), r"not a tensor \(out.1\)[\s\S]*'x'"),
    "mixed dtypes": (
        lambda x: x + x.cast("i64"), r"wrong dtype[\s\S]*test_native.py[\s\S]*x.cast"
    ),
    "a numpy array of another dtype": (lambda x: x * np.ones(3), r"wrong dtype[\s\S]*cast"),
    "a float into ints": (lambda x: x.cast("i64") * 0.5, r"0.5 does not fit into i64"),
    "a mixed index": (lambda x: x[0, np.array([1])], "use gather"),
    "shapes": (lambda x: x + np.ones(5, np.float32), r"do not broadcast[\s\S]*test_native.py"),
    "an unknown attribute": (lambda x: F.softmax(x, dim=1), "no attribute dim"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_users_line(name):
    f, message = ERRORS[name]
    with pytest.raises(TesselError, match=message):
        jit(f)(X)


def test_a_leaked_tensor_is_refused():
    jit(leak)(X)
    with pytest.raises(TesselError, match=r"left the function it was traced in \(leak\)"):
        leaked[-1] + 1
    with pytest.raises(TesselError, match="left the function"):
        jit(lambda x: x + leaked[-1])(X)


def test_an_op_outside_of_a_trace_is_refused():
    with pytest.raises(UsageError, match=r"relu was called outside[\s\S]*tessel\.jit"):
        F.relu(X)
    with pytest.raises(UsageError, match="cond was called outside"):
        native.cond(True, lambda: X, lambda: X)


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
