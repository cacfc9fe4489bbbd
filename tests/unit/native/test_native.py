"""Tracing Python functions: operators, the op functions, origins, errors."""

import numpy as np
import pytest
from tessel.compiler.errors import TesselError, TypeMismatch, UsageError
from tessel.compiler.ir import op as registry
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.verify import verify
from tessel.frontends import native
from tessel.frontends.native import functional as F
from tessel.frontends.native import trace

from ...support.interpreted import jit

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
    "negation, abs, round": lambda x: -x + abs(x) + round(x[0, 0]),
    "floor division": lambda x: x // 0.3 + 2 // (x + 9),
    "a numpy matrix": lambda x: np.ones((2, 4), np.float32) @ x,
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


def test_integers_divide_down():
    i = np.array([-7, -1, 0, 5, 6])
    np.testing.assert_array_equal(jit(lambda i: i // 3)(i), i // 3)
    np.testing.assert_array_equal(jit(lambda i: 7 // (i - 2))(i), 7 // (i - 2))


def test_indexing_with_integers_gathers():
    rows = np.array([2, 0])
    np.testing.assert_array_equal(jit(lambda x, i: x[i])(X, rows), X[rows])
    np.testing.assert_array_equal(jit(lambda x: x[rows])(X), X[rows])


# -- the functions -----------------------------------------------------------------------------


def test_every_op_is_a_function_with_its_docstring():
    renamed = {"and": "logical_and", "or": "logical_or", "not": "logical_not", "xor": "logical_xor"}
    for name, op in registry.OPS.items():
        if name in ("constant", "if", "scan", "while", "custom_gradient"):
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
    "mixed dtypes": (lambda x: x + x.cast("i64"), r"wrong dtype[\s\S]*test_native.py[\s\S]*x.cast"),
    "a numpy array of another dtype": (lambda x: x * np.ones(3), r"wrong dtype[\s\S]*cast"),
    "a float into ints": (lambda x: x.cast("i64") * 0.5, r"0.5 does not fit into i64"),
    "a division of ints": (lambda x: x.cast("i64") / 2, r"divided by /[\s\S]*with //"),
    "an assignment": (lambda x: x.__setitem__(0, 1), "cannot be written to"),
    "a mask as index": (lambda x: x[x > 0], r"an index is an integer[\s\S]*where\(mask"),
    "shapes": (lambda x: x + np.ones(5, np.float32), r"do not broadcast[\s\S]*test_native.py"),
    "an unknown attribute": (lambda x: F.softmax(x, dim=1), "no attribute dim"),
}


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
    ("spec", "f", "message"),
    [
        ("f32[N,4]", lambda x: x.reshape((len(x), 4)), "size of axis 0 is open"),
        ("f32[N,4]", lambda x: next(iter(x)), "size of axis 0 is open"),
        ("f32[N,4]", lambda x: x[1:3], "size of axis 0 is open"),
        ("f32[4,M]", lambda x: x[None, ..., :-1], "size of axis 1 is open"),
        ("f32[]", lambda x: len(x), "a scalar has no length"),
    ],
)
def test_sizes_that_python_needs(spec, f, message):
    with pytest.raises(TypeMismatch, match=message):
        trace(f, spec)


def test_dynamic_axes_are_indexed_where_no_size_is_needed():
    def f(x):
        return x[0] + x[-1] + x[:, :2][0, 0] + x[..., 1:][0, 0]

    assert trace(f, "f32[N,4]").outputs[0].shape == (4,)
