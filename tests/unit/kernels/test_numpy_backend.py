"""The numpy backend, against which the code generators are tested: it must be right by itself."""

import math

import numpy as np
import pytest
from tessel.compiler.backends import numpy as backend
from tessel.compiler.backends.numpy import NumpyModule, cast_array, evaluate, run_kernel
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.expr import Axis
from tessel.compiler.ir.types import BOOL, DTYPES, F32, TensorType
from tessel.compiler.kernels.kernel import Call, For, If, Kernel, Program, Ref, Slot, Store

from ...support.kernels import buffer_of, program_of, store

X = np.array([-2.5, -0.5, 0.0, 0.5, 2.5], np.float32)


def run(kernel, arrays):
    (y,) = NumpyModule(program_of(kernel, arrays))(list(arrays.values()))
    return y


def mapped(op, *arrays, dtype="f32"):
    buffers = [buffer_of(f"a{n}", x) for n, x in enumerate(arrays)]
    kernel = store(arrays[0].shape, lambda i: s.apply(op, *[b[i] for b in buffers]), dtype)
    return run(kernel, dict(zip(buffers, arrays)))


UNARY = {
    "exp": math.exp,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "erf": math.erf,
    "normal_area": lambda x: math.erf(x * 0.5**0.5) / 2,
    "rsqrt": lambda x: 1 / math.sqrt(x) if x > 0 else math.nan if x < 0 else math.inf,
    "round": round,
    "floor": math.floor,
    "trunc": math.trunc,
    "tanh": math.tanh,
    "sign": lambda x: (x > 0) - (x < 0),
    "abs": abs,
    "expm1": math.expm1,
}


@pytest.mark.parametrize("op", UNARY)
def test_functions_are_those_of_mathematics(op):
    np.testing.assert_allclose(mapped(op, X), [UNARY[op](float(x)) for x in X], rtol=1e-6)


def test_sigmoid_does_not_overflow():
    with np.errstate(all="raise", under="ignore"):
        y = mapped("sigmoid", np.array([-1000, 1000], np.float32))
    np.testing.assert_array_equal(y, [0, 1])


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("truncdiv", [-3, 3, 3, -3, 7, 0]),
        ("floordiv", [-4, 3, 3, -4, 7, 0]),
        ("rem", [-1, 1, -1, 1, 0, 0]),
        ("mod", [1, 1, -1, -1, 0, 0]),
    ],
)
def test_integer_division_rounds_as_named_and_by_zero_as_by_one(op, expected):
    x, y = np.array([-7, 7, -7, 7, 7, 0]), np.array([2, 2, -2, -2, 0, 5])
    if op in ("floordiv", "mod"):
        assert expected[:4] == [(a // b, a % b)[op == "mod"] for a, b in zip(x[:4], y[:4])]
    np.testing.assert_array_equal(mapped(op, x, y, dtype="i64"), expected)


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (2.9, "i32", 2),
        (-2.9, "i32", -2),
        (1e30, "i32", 2**31 - 1),
        (-1e30, "i32", -(2**31)),
        (math.nan, "i32", 0),
        (math.inf, "u8", 255),
        (-1.0, "u8", 0),
        (1e30, "i64", 2**63 - 1),
        (1e30, "u64", 2**64 - 1),
        (9.0, "i4", 7),
        (-9.0, "i4", -8),
        (99.0, "u4", 15),
        (math.nan, "bool", True),
        (-0.0, "bool", False),
    ],
)
def test_numbers_become_integers_by_truncation_and_saturation(value, dtype, expected):
    received = cast_array(np.array([value]), DTYPES[dtype])
    assert received.dtype == DTYPES[dtype].numpy
    assert received[0] == expected


def test_integers_wrap():
    np.testing.assert_array_equal(cast_array(np.array([300, -1]), DTYPES["u8"]), [44, 255])
    np.testing.assert_array_equal(cast_array(np.array([9, -9]), DTYPES["i4"]), [-7, 7])


def test_reductions_and_products_by_einsum_agree():
    x, w = np.arange(12, dtype=np.float32).reshape(3, 4), np.ones((4, 2), np.float32)
    a, b = buffer_of("a", x), buffer_of("b", w)
    by_einsum = lambda i, j: s.reduce("sum", [4], lambda k: a[i, k] * b[k, j])
    by_sum = lambda i, j: s.reduce("sum", [4], lambda k: a[i, k] * b[k, j] + 0.0)
    for body in (by_einsum, by_sum):
        np.testing.assert_array_equal(run(store((3, 2), body), {a: x, b: w}), x @ w)


def test_a_product_with_an_axis_in_neither_factor_counts_it():
    x = np.arange(4, dtype=np.float32)
    a = buffer_of("a", x)
    body = lambda i: s.reduce("sum", [5], lambda k: a[i] * a[i])
    np.testing.assert_array_equal(run(store((4,), body), {a: x}), 5 * x * x)


def test_large_domains_are_cut(monkeypatch):
    monkeypatch.setattr(backend, "LIMIT", 64)
    x = np.random.default_rng(0).standard_normal((37, 20)).astype(np.float32)
    a = buffer_of("a", x)

    def softmax(i, j):
        top = s.reduce("max", [20], lambda k: a[i, k])
        return s.exp(a[i, j] - top) / s.reduce("sum", [20], lambda k: s.exp(a[i, k] - top))

    e = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(
        run(store((37, 20), softmax), {a: x}), e / e.sum(1, keepdims=True), rtol=1e-5
    )


def test_evaluating_over_axes():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    a = buffer_of("a", x)
    i, j = Axis("i", 2), Axis("j", 3)
    np.testing.assert_array_equal(evaluate(a[s.axis(i), s.axis(j)] * 2.0, [i, j], {a: x}), x * 2)
    column = evaluate(a[s.axis(i), 0], [i, j], {a: x})
    assert column.shape == (2, 1)


@pytest.mark.parametrize(
    ("mode", "expected"), [("add", [6, 3, 0]), ("max", [3, 3, 0]), ("min", [0, 0, 0])]
)
def test_stores_that_meet_at_one_place(mode, expected):
    x, where = np.array([1, 2, 3, 3], np.float32), np.array([0, 0, 0, 1])
    a, w = buffer_of("a", x), buffer_of("w", where)
    kernel = store((3,), lambda i: a[i], index=lambda i: [w[i]], mode=mode, extents=(4,))
    np.testing.assert_array_equal(run(kernel, {a: x, w: where}), expected)


def test_the_last_of_several_stores_stays():
    x, where = np.array([1, 2, 3], np.float32), np.array([0, 0, 0])
    a, w = buffer_of("a", x), buffer_of("w", where)
    kernel = store((1,), lambda i: a[i], index=lambda i: [w[i] * 0], extents=(3,))
    assert run(kernel, {a: x, w: where})[0] == 3


def test_a_kernel_without_axes():
    x = np.array([1, 2, 3], np.float32)
    a, y = buffer_of("a", x), np.zeros((), np.float32)
    out = buffer_of("y", y)
    total = s.reduce("sum", [3], lambda k: a[k])
    run_kernel(Kernel("sum", (), (Store(out, (), total),)), [x, y])
    assert y == 6


def test_loops_and_branches_walk_over_places():
    """y[t] = x[t] + 1 for each of 4 rounds, where the flag is set; else x is copied."""
    x = np.arange(4, dtype=np.float32)
    row = TensorType(F32, (4,))
    a, y = buffer_of("a", x[:1]), buffer_of("y", x[:1])
    more = Kernel("more", (), (Store(y, (s.const(0),), a[0] + 1.0),))
    same = Kernel("same", (), (Store(y, (s.const(0),), a[0] * 1.0),))
    places = (Ref(Slot("input", 1), 0, ((7, 4),)), Ref(Slot("output", 0), 0, ((7, 4),)))
    choice = If(Ref(Slot("input", 0)), [Call(more, places)], [Call(same, places)])
    program = Program([For(7, 4, [choice])], [TensorType(BOOL, ()), row], [row], [], 0)
    for flag in (True, False):
        (received,) = NumpyModule(program)([np.array(flag), x])
        np.testing.assert_array_equal(received, x + flag)
