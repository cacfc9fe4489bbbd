"""How much a kernel has to do: operations and bytes, counted from its expressions."""

import numpy as np
import pytest
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.backends.llvm.kernel.codegen import schedule_kernel
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.types import F32, I64
from tessel.compiler.kernels.simplify import merge_axes
from tessel.compiler.kernels.work import Work, work_of
from tessel.compiler.lowering.lower import lower

from ...support.kernels import buffer_of, store

A = buffer_of("a", np.zeros((40, 30), np.float32))
B = buffer_of("b", np.zeros((30, 50), np.float32))
X = buffer_of("x", np.zeros(100, np.float32))
IMAGE = buffer_of("image", np.zeros((10, 10, 8), np.float32))
FILTER = buffer_of("filter", np.zeros((3, 3, 8, 16), np.float32))
TABLE = buffer_of("table", np.zeros((5000, 64), np.float32))
PLACES = buffer_of("places", np.zeros(7, np.int64))


def dot(i, j):
    return s.reduce("sum", [30], lambda k: A[i, k] * B[k, j])


def test_a_product_of_matrices():
    work = work_of(store((40, 50), dot))
    assert work.flops == 2 * 40 * 50 * 30
    assert work.read == 4 * (40 * 30 + 30 * 50)
    assert work.written == 4 * 40 * 50
    assert work.intensity == pytest.approx(work.flops / (work.read + work.written))


def test_a_fused_epilogue_counts_per_output():
    work = work_of(store((40, 50), lambda i, j: s.maximum(dot(i, j) + 1.0, 0.0)))
    assert work.flops == 2 * 40 * 50 * 30 + 2 * 40 * 50


def test_a_convolution():
    def conv(y, x, c):
        return s.reduce(
            "sum", [3, 3, 8], lambda i, j, k: IMAGE[y + i, x + j, k] * FILTER[i, j, k, c]
        )

    work = work_of(store((8, 8, 16), conv))
    assert work.flops == 2 * 8 * 8 * 16 * 3 * 3 * 8
    # Windows overlap, and each element is read once.
    assert work.read == 4 * (10 * 10 * 8 + 3 * 3 * 8 * 16)


def test_a_reduction_of_a_row_is_not_done_for_each_element():
    def normalized(i, j):
        return A[i, j] / s.reduce("sum", [30], lambda k: A[i, k])

    assert work_of(store((40, 30), normalized)).flops == 40 * 30 + 40 * 30


def test_equal_expressions_are_computed_once():
    assert work_of(store((100,), lambda i: s.exp(X[i]) + s.exp(X[i]))).flops == 2 * 100


@pytest.mark.parametrize(
    ("body", "flops"),
    [
        (lambda i: X[i], 0),
        (lambda i: X[s.const(99) - i], 0),
        (lambda i: s.select(i < 50, X[i], 0.0), 0),
        (lambda i: s.cast(s.cast(X[i], I64), F32), 0),
        (lambda i: s.make("fma", (X[i], X[i], X[i]), None, F32), 200),
        (lambda i: s.cast(i * 2 + 1, F32) * X[i], 100),
        (lambda i: s.cast(s.cast(X[i], I64) * 3, F32), 100),
    ],
    ids=["copy", "reverse", "select", "cast", "fma", "places", "integers"],
)
def test_what_counts_as_an_operation(body, flops):
    assert work_of(store((100,), body)).flops == flops


def test_a_gather_reads_the_rows_that_it_takes():
    work = work_of(store((7, 64), lambda i, j: TABLE[PLACES[i], j]))
    assert work == Work(flops=0, read=4 * 7 * 64 + 8 * 7, written=4 * 7 * 64)


def test_adding_to_memory_reads_it():
    work = work_of(store((100,), lambda i: X[i], mode="add"))
    assert work == Work(flops=100, read=4 * 100 + 4 * 100, written=4 * 100)


def test_a_loop_repeats_it():
    assert Work(2, 3, 4).times(5) == Work(10, 15, 20)


def test_packed_weights_count_as_they_are_packed():
    kernel = merge_axes(store((40, 50), dot))
    weights = frozenset(b for b, source in zip(kernel.params, kernel.sources) if source is B)
    code = schedule_kernel(kernel, NAMED["x86-64-v4"], weights, in_place=False)
    # Panels of whole vectors: 50 columns become a multiple of 16.
    columns = code.schedule.panels * code.schedule.width
    assert code.packs and columns >= 64
    assert code.work.read == 4 * (40 * 30 + 30 * columns)
    assert code.work.flops == 2 * 40 * 50 * 30


def test_a_whole_model():
    b = Builder()
    h = b.input("x", "f32[8,64]") @ b.constant(np.ones((64, 96), np.float32))
    b.output("y", b.relu(h) @ b.constant(np.ones((96, 10), np.float32)))
    total = sum(work_of(c.kernel).flops for c in lower(b.graph).kernels())
    assert total == 2 * 8 * 64 * 96 + 8 * 96 + 2 * 8 * 96 * 10
