"""Machine code of nests that do more than one loop at a time: interleaved stores, kept rows."""

import llvmlite.ir as ir
import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.base.target import NAMED, host
from tessel.compiler.backends.llvm.base.types import VOID
from tessel.compiler.backends.llvm.emit.emitter import Emitter
from tessel.compiler.backends.llvm.program.entry import build_plan
from tessel.compiler.backends.llvm.schedules.cached_rows import keep_rows
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.types import DTYPES

from ....support.kernels import both, buffer_of, program_of, scheduled, store

# -- interleaved stores ----------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [2, 3, 4, 7])
@pytest.mark.parametrize("count", [4, 15, 16, 58])
@pytest.mark.parametrize("dtype", ["f32", "u8", "f64"])
def test_groups_are_interleaved(groups, count, dtype):
    x = np.arange(3 * groups * count).reshape(3, groups, count).astype(DTYPES[dtype].numpy)
    a = buffer_of("a", x)
    kernel = store((3, count, groups), lambda i, j, g: a[i, g, j], dtype)
    if groups < host().lanes(DTYPES[dtype].bits) <= count:
        assert scheduled(program_of(kernel, {a: x})).interleave.extent == groups
    received, _ = both(kernel, {a: x})
    np.testing.assert_array_equal(received, x.transpose(0, 2, 1))


def test_groups_of_other_sizes_are_no_part_of_a_vector():
    x = np.arange(3 * 9 * 58, dtype=np.float32).reshape(3, 9, 58)
    a = buffer_of("a", x)
    kernel = store((3, 58, 9), lambda i, j, g: a[i, g, j])
    assert getattr(scheduled(program_of(kernel, {a: x})), "interleave", None) is None
    received, _ = both(kernel, {a: x})
    np.testing.assert_array_equal(received, x.transpose(0, 2, 1))


@pytest.mark.parametrize("times", [2, 3, 7])
@pytest.mark.parametrize("count", [16, 21, 40])
@pytest.mark.parametrize("dtype", ["f32", "u8"])
def test_elements_that_are_repeated_are_read_once_and_interleaved(times, count, dtype):
    x = np.arange(3 * count).reshape(3, count).astype(DTYPES[dtype].numpy)
    a = buffer_of("a", x)
    kernel = store((3, 2, count * times), lambda i, k, j: a[i, j // times], dtype)
    if count >= host().lanes(DTYPES[dtype].bits):
        assert scheduled(program_of(kernel, {a: x})).interleave.extent == times
    received, _ = both(kernel, {a: x})
    expected = np.repeat(np.repeat(x, times, 1)[:, None], 2, 1)
    np.testing.assert_array_equal(received.reshape(expected.shape), expected)


@pytest.mark.parametrize(("columns", "vectors"), [(1024, 8), (1029, 8), (1000, 4)])
def test_columns_whose_rows_are_pages_apart_are_summed_more_at_a_time(columns, vectors):
    x = np.random.default_rng(0).standard_normal((20, columns)).astype(np.float32)
    a = buffer_of("a", x)
    kernel = store((columns,), lambda j: s.reduce_sum([20], lambda i: a[i, j]))
    program = program_of(kernel, {a: x})
    assert scheduled(program, NAMED["x86-64-v3"]).vectors == vectors
    received, expected = both(kernel, {a: x})
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)


# -- rows that are kept ----------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [3, 16, 50, 64, 197, 5000, 5003])
def test_a_softmax_takes_one_exp_per_element(columns):
    x = np.random.default_rng(0).standard_normal((3, columns)).astype(np.float32)
    a = buffer_of("a", x)

    def body(i, j):
        most = s.reduce("max", [columns], lambda k: a[i, k])
        power = lambda k: s.exp(a[i, k] - most)
        return power(j) / s.reduce("sum", [columns], power)

    kernel = store((3, columns), body)
    received, expected = both(kernel, {a: x})
    np.testing.assert_allclose(received, expected, rtol=2e-6)
    program = program_of(kernel, {a: x})
    (code,) = build_plan(program, host()).codes.values()
    e = Emitter(ir.Function(ir.Module(), ir.FunctionType(VOID, []), "f"), {}, host())
    rows = keep_rows(
        e, code.kernel, code.schedule.vector_axis, outer=frozenset(code.schedule.outer)
    )
    exps = [x for x in s.walk(*rows.roots()) if x.op == "exp"]
    assert len(exps) == (1 if columns >= host().lanes(32) // 2 else 2)
    assert rows.reads_outputs == (columns >= 5000)  # a long row lies where the result will


def test_a_long_row_that_several_results_share_is_not_kept():
    """y[i, j, k] = exp(x[i, k]) / (sum of them) * w[j]"""
    x = np.random.default_rng(0).standard_normal((2, 5000)).astype(np.float32)
    a = buffer_of("a", x)
    w = buffer_of("w", np.arange(3, dtype=np.float32))
    total = lambda i: s.reduce("sum", [5000], lambda k: s.exp(a[i, k]))
    kernel = store((2, 3, 5000), lambda i, j, k: s.exp(a[i, k]) / total(i) * w[j])
    received, expected = both(kernel, {a: x, w: np.arange(3, dtype=np.float32)})
    np.testing.assert_allclose(received, expected, rtol=2e-6)


@pytest.mark.parametrize("last", [2, 3, 7])
def test_what_lies_beside_each_other_at_one_size_only_is_not_interleaved(last):
    """x[N, last, 8] as [8, N, last], times a row: with one sample the vector axis strides over
    whole rows, with more over rows of all samples."""
    b = Builder()
    row = np.arange(last, dtype=np.float32)
    b.output("y", b.transpose(b.input("x", f"f32[N,{last},8]"), perm=(2, 0, 1)) * b.constant(row))
    exe = tessel.compile(b.graph, threads=1, cache=False, verify_bounds=True)
    assert exe.for_all_sizes is not None
    for n in (1, 2, 9):
        x = np.random.default_rng(n).standard_normal((n, last, 8)).astype(np.float32)
        np.testing.assert_array_equal(exe(x), x.transpose(2, 0, 1) * row)
