"""Products of few rows with a factor that is no weight: what is used once is read where it lies.

The values are small integers, so that a result is the same in whatever order it is summed.
"""

import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.backends.llvm.schedules.contraction.schedule import ContractSchedule
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.types import DTYPES

from ....support.kernels import both, buffer_of, program_of, scheduled, store

RNG = np.random.default_rng(0)
LANES = 8


def whole(shape, dtype="f32"):
    return RNG.integers(-4, 5, shape).astype(DTYPES[dtype].numpy)


def product(x, w, dtype="f32"):
    """out[h, i, j] = sum over k of x[h, i, k] * w[h, k, j], and the arrays that it reads."""
    a, b = buffer_of("a", x), buffer_of("b", w)
    heads, m, depth = x.shape

    def body(h, i, j):
        return s.reduce("sum", [depth], lambda k: a[h, i, k] * b[h, k, j], dtype)

    return store((heads, m, w.shape[2]), body, dtype), {a: x, b: w}


def check(x, w, dtype="f32", **chosen):
    kernel, arrays = product(x, w, dtype)
    plan = scheduled(program_of(kernel, arrays), NAMED["x86-64-v3"])
    assert isinstance(plan, ContractSchedule)
    for name, value in chosen.items():
        assert getattr(plan, name) == value, (name, plan)
    for threads in (1, 2):
        received, _ = both(kernel, arrays, threads=threads)
        np.testing.assert_array_equal(received, x @ w)


@pytest.mark.sweep(9, suite=49)
@pytest.mark.parametrize("m", [1, 2, 4, 5, 16])
@pytest.mark.parametrize("n", [LANES - 1, LANES, LANES + 1, 64, 131])
@pytest.mark.parametrize("k", [5, 7, 8, 9, 40])
def test_a_factor_that_few_rows_need_is_read_in_place(m, n, k):
    check(whole((3, m, k)), whole((3, k, n)), b="direct")


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "i64"])
def test_dtypes(dtype):
    check(whole((2, 1, 21), dtype), whole((2, 21, 35), dtype), dtype, b="direct")


def test_long_rows_are_read_in_blocks_of_k():
    check(whole((1, 2, 70)), whole((1, 70, 2500)), b="direct", cut=True)


def test_what_many_rows_need_is_packed():
    check(whole((2, 20, 21)), whole((2, 21, 35)), b="pack")


def test_a_part_of_a_matrix_is_read_in_place():
    """Row 1 of each head, columns 3 to 40 of each matrix, which lie 50 columns apart."""
    x, w = whole((2, 4, 30)), whole((2, 30, 50))
    a, b = buffer_of("a", x), buffer_of("b", w)
    body = lambda h, j: s.reduce("sum", [30], lambda k: a[h, 1, k] * b[h, k, j + 3])
    received, _ = both(store((2, 37), body), {a: x, b: w})
    np.testing.assert_array_equal(received, np.einsum("hk,hkj->hj", x[:, 1], w[:, :, 3:40]))


@pytest.mark.parametrize(("n", "k"), [("N", 33), (64, "K"), ("N", "K"), (64, 33)])
@pytest.mark.parametrize("sizes", [{"N": 1, "K": 1}, {"N": 17, "K": 5}, {"N": 200, "K": 77}])
def test_dynamic_dims(n, k, sizes):
    b = Builder()
    x, w = b.input("x", f"f32[3,1,{k}]"), b.input("w", f"f32[3,{k},{n}]")
    b.output("y", b.matmul(x, w))
    n, k = sizes.get(n, n), sizes.get(k, k)
    inputs = [whole((3, 1, k)), whole((3, k, n))]
    for threads in (1, 2):
        exe = tessel.compile(b.graph, threads=threads, verify_bounds=True)
        received = exe.run(dict(zip("xw", inputs)))["y"]
        np.testing.assert_array_equal(received, inputs[0] @ inputs[1])


# -- a factor whose columns are lines of memory ------------------------------------------------


@pytest.mark.sweep(6)
@pytest.mark.parametrize("m", [1, 3, 8, 17])
@pytest.mark.parametrize(("n", "k"), [(7, 9), (8, 8), (25, 19), (64, 33), (131, 40)])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_columns_that_are_lines_of_memory(m, n, k, dtype):
    """Few rows take them as they are; more have panels of them, transposed in registers."""
    x, w = whole((2, m, k), dtype), whole((2, n, k), dtype)
    a, b = buffer_of("a", x), buffer_of("b", w)
    term = lambda h, i, j: lambda p: a[h, i, p] * b[h, j, p]
    kernel = store((2, m, n), lambda *at: s.reduce("sum", [k], term(*at), dtype), dtype)
    for threads in (1, 2):
        received, _ = both(kernel, {a: x, b: w}, threads=threads)
        np.testing.assert_array_equal(received, x @ w.transpose(0, 2, 1))


@pytest.mark.parametrize("sizes", [{"M": 1, "N": 1, "K": 1}, {"M": 9, "N": 30, "K": 21}])
@pytest.mark.parametrize(("m", "n", "k"), [(8, "N", 33), (8, 64, "K"), ("M", "N", "K")])
def test_columns_that_are_lines_of_memory_of_dynamic_dims(m, n, k, sizes):
    b = Builder()
    x, w = b.input("x", f"f32[2,{m},{k}]"), b.input("w", f"f32[2,{n},{k}]")
    b.output("y", b.matmul(x, w.transpose(0, 2, 1)))
    m, n, k = (sizes.get(d, d) for d in (m, n, k))
    inputs = [whole((2, m, k)), whole((2, n, k))]
    exe = tessel.compile(b.graph, threads=2, verify_bounds=True)
    received = exe.run(dict(zip("xw", inputs)))["y"]
    np.testing.assert_array_equal(received, inputs[0] @ inputs[1].transpose(0, 2, 1))
