"""Machine code of contractions against numpy: register tiles at every edge, packing, epilogues.

The values are small integers, so that a result is the same in whatever order it is summed.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tessel.compiler.backends.llvm.base.target import NAMED, host
from tessel.compiler.backends.llvm.schedules.contraction.choose import SHALLOW
from tessel.compiler.backends.llvm.schedules.contraction.schedule import ContractSchedule
from tessel.compiler.backends.llvm.schedules.nest import NestSchedule
from tessel.compiler.expr import expr as s

from ....support.contractions import RNG, check, product, whole
from ....support.kernels import both, buffer_of, native, program_of, scheduled, store

# -- edges of the tile -----------------------------------------------------------------------------


@given(m=st.integers(1, 33), n=st.integers(4, 70), k=st.integers(1, 40), constant=st.booleans())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_products_of_any_size(m, n, k, constant):
    x, w = whole((m, k)), whole((k, n))
    a, b = buffer_of("a", x), buffer_of("b", w)
    received, _ = both(product(a, b), {a: x, b: w}, [b] if constant else ())
    np.testing.assert_array_equal(received, x @ w)


def test_a_product_over_nothing_is_zero():
    """However its operands lie: a tile's loop has a round at least, and would read past them."""
    x, w = whole((0, 26)), whole((0, 66))
    a, b = buffer_of("a", x), buffer_of("b", w)
    body = lambda i, j: s.reduce("sum", [0], lambda k: a[k, i] * b[k, j])
    received, _ = both(store((26, 66), body), {a: x, b: w})
    assert not received.any()


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "i64"])
def test_dtypes_of_the_sum(dtype, constant):
    x, w = whole((19, 21), dtype), whole((21, 35), dtype)
    a, b = buffer_of("a", x), buffer_of("b", w)
    where = "constant" if constant else "pack"
    received = check(product(a, b, dtype), {a: x, b: w}, [b] if constant else (), b=where)
    np.testing.assert_array_equal(received, x @ w)


def test_other_dtypes_are_left_to_the_nest():
    x, w = whole((13, 21), "f16"), whole((21, 35), "f16")
    a, b = buffer_of("a", x), buffer_of("b", w)
    program = program_of(product(a, b, "i16"), {a: x, b: w})
    assert not isinstance(scheduled(program), ContractSchedule)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_an_output_thinner_than_a_vector_is_left_to_the_nest(n):
    x, w = whole((64, 40)), whole((40, n))
    a, b = buffer_of("a", x), buffer_of("b", w)
    assert not isinstance(scheduled(program_of(product(a, b), {a: x, b: w})), ContractSchedule)
    received, expected = both(product(a, b), {a: x, b: w})
    np.testing.assert_array_equal(received, expected)


# -- operands --------------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [True, False])
def test_transposed_operands(constant):
    x, w = whole((21, 13)), whole((35, 21))
    a, b = buffer_of("a", x), buffer_of("b", w)
    body = lambda i, j: s.reduce("sum", [21], lambda k: a[k, i] * b[j, k])
    received = check(store((13, 35), body), {a: x, b: w}, [b] if constant else (), a="direct")
    np.testing.assert_array_equal(received, x.T @ w.T)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f8e4m3fn"])
@pytest.mark.parametrize("constant", [True, False])
def test_narrow_operands_are_widened_while_packing(dtype, constant):
    x, w = whole((9, 21), dtype), whole((21, 35), dtype)
    a, b = buffer_of("a", x), buffer_of("b", w)
    received = check(product(a, b), {a: x, b: w}, [b] if constant else (), a="pack")
    np.testing.assert_array_equal(received, x.astype(np.float32) @ w.astype(np.float32))


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_bytes_are_summed_in_i32(dtype):
    x, w = whole((9, 50), dtype), whole((50, 35), "i8")
    a, b = buffer_of("a", x), buffer_of("b", w)
    received = check(product(a, b, "i32"), {a: x, b: w}, [b], a="pack")
    np.testing.assert_array_equal(received, x.astype(np.int32) @ w.astype(np.int32))


@pytest.mark.parametrize("depth", [2, 3, 5, 6, 50, 51])
@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_products_of_bytes_are_summed_in_pairs(dtype, depth):
    x, w = whole((40, depth), dtype), whole((depth, 35), "i8")
    a, b = buffer_of("a", x), buffer_of("b", w)
    zero = 3

    def body(i, j):
        term = lambda k: (s.cast(a[i, k], "i32") - zero) * s.cast(b[k, j], "i32")
        return s.reduce("sum", [depth], term, "i32")

    kernel = store((40, 35), body, "i32")
    received, _ = both(kernel, {a: x, b: w}, [b])
    np.testing.assert_array_equal(received, (x.astype(np.int32) - zero) @ w.astype(np.int32))
    program = program_of(kernel, {a: x, b: w}, [b])
    if depth <= SHALLOW:
        assert isinstance(scheduled(program, NAMED["x86-64-v3"]), NestSchedule)
        return
    for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4"):
        assert scheduled(program, NAMED[name]).pairs
    assert not scheduled(program, NAMED["aarch64"]).pairs


def test_products_of_the_largest_bytes_do_not_overflow():
    x, w = np.full((4, 600), 255, np.uint8), np.full((600, 16), -128, np.int8)
    a, b = buffer_of("a", x), buffer_of("b", w)
    received, _ = both(product(a, b, "i32"), {a: x, b: w}, [b])
    assert (received == 255 * -128 * 600).all()


def test_factors_wider_than_16_bits_are_multiplied_as_they_are():
    x, w = whole((9, 50), "i32"), whole((50, 35), "i8")
    a, b = buffer_of("a", x), buffer_of("b", w)
    check(product(a, b, "i32"), {a: x, b: w}, [b], pairs=False)


@pytest.mark.parametrize("batch", [(1,), (3,), (2, 3)])
@pytest.mark.parametrize("constant", [True, False])
def test_batches(batch, constant):
    x, w = whole((*batch, 9, 11)), whole((*batch, 11, 20))
    a, b = buffer_of("a", x), buffer_of("b", w)

    def body(*i):
        *at, row, column = i
        return s.reduce("sum", [11], lambda k: a[(*at, row, k)] * b[(*at, k, column)])

    received = check(store((*batch, 9, 20), body), {a: x, b: w}, [b] if constant else ())
    np.testing.assert_array_equal(received, x @ w)


def test_two_axes_of_columns_and_two_of_k():
    x, w = whole((7, 3, 5)), whole((4, 3, 5, 18))
    a, b = buffer_of("a", x), buffer_of("b", w)
    body = lambda i, g, j: s.reduce("sum", [3, 5], lambda p, q: a[i, p, q] * b[g, p, q, j])
    for constants in ([b], ()):
        received = check(store((7, 4, 18), body), {a: x, b: w}, constants)
        np.testing.assert_array_equal(received, np.einsum("ipq,gpqj->igj", x, w))


# -- epilogues -------------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [True, False])
def test_an_epilogue_reads_by_row_by_column_and_by_element(constant):
    x, w = whole((19, 8)), whole((8, 37))
    extra = [whole((19,)), whole((37,)), whole((19, 37))]
    a, b = buffer_of("a", x), buffer_of("b", w)
    r, c, e = (buffer_of(n, v) for n, v in zip("rce", extra))
    after = lambda v, i, j: s.maximum(v * r[i] + c[j], 0.0) - e[i, j]
    arrays = {a: x, b: w} | dict(zip((r, c, e), extra))
    received = check(product(a, b, epilogue=after), arrays, [b] if constant else ())
    expected = np.maximum((x @ w) * extra[0][:, None] + extra[1], 0) - extra[2]
    np.testing.assert_array_equal(received, expected)


def test_a_long_epilogue_is_a_loop_over_rows():
    x, w = whole((19, 8)), whole((8, 37))
    a, b = buffer_of("a", x), buffer_of("b", w)

    def after(v, i, j):
        for step in range(8):
            v = s.maximum(v - float(step), -v)
        return v

    check(product(a, b, epilogue=after), {a: x, b: w}, [b])


def test_the_result_is_narrowed_where_it_is_stored():
    x, w = whole((9, 20), "u8"), whole((20, 35), "i8")
    a, b = buffer_of("a", x), buffer_of("b", w)
    after = lambda v, i, j: s.minimum(s.maximum(s.round(s.cast(v, "f32") * 0.25), -128.0), 127.0)
    check(product(a, b, "i32", after, out="i8"), {a: x, b: w}, [b])


def test_a_transposed_output_is_tiled_along_its_own_last_axis():
    x, w = whole((13, 21)), whole((21, 35))
    a, b = buffer_of("a", x), buffer_of("b", w)
    body = lambda j, i: s.reduce("sum", [21], lambda k: a[i, k] * b[k, j])
    received = check(store((35, 13), body), {a: x, b: w})
    np.testing.assert_array_equal(received, (x @ w).T)


# -- schedules -------------------------------------------------------------------------------------


SMALL_CACHES = replace(host(), l2=64 << 10)


@pytest.mark.parametrize("columns", [64, 4096])
def test_weights_that_fit_no_cache_pass_by_groups_of_tiles(columns):
    x, w = whole((99, 64)), whole((64, columns))
    a, b = buffer_of("a", x), buffer_of("b", w)
    kernel, arrays = product(a, b), {a: x, b: w}
    plan = scheduled(program_of(kernel, arrays, [b]), SMALL_CACHES)
    if plan.l1_budget:  # panels pass by a group each
        assert 1 < plan.group < plan.tiles
    else:
        assert (plan.group == 1) == (columns == 64)
    module = native(program_of(kernel, arrays, [b]), SMALL_CACHES)
    np.testing.assert_array_equal(module([x], 1)[0], x @ w)


V4 = NAMED["x86-64-v4"]


def test_rows_that_collide_in_the_cache_are_packed_at_other_distances():
    x, w = whole((56, 1024)), whole((1024, 64))
    a, b = buffer_of("a", x), buffer_of("b", w)
    program = program_of(product(a, b), {a: x, b: w}, [b])
    plan = scheduled(program, V4)
    assert plan.a == "pack"
    assert plan.pitch * 4 // 64 % 2 == 1
    roomy = replace(V4, l1=256 << 10)  # of 64 ways
    assert scheduled(program, roomy).a == "direct"


@pytest.mark.parametrize("rows", [16, 17, 40, 57])
@pytest.mark.parametrize("depth", [16, 31, 70])
def test_rows_are_turned_for_many_columns(rows, depth):
    x, w = whole((rows, depth)), whole((depth, 270))
    a, b = buffer_of("a", x), buffer_of("b", w)
    assert scheduled(program_of(product(a, b), {a: x, b: w}, [b]), V4).a == "turn"
    received, _ = both(product(a, b), {a: x, b: w}, [b])
    np.testing.assert_array_equal(received, x @ w)


@pytest.mark.parametrize(
    ("lines", "columns", "tile"), [(8, 14, (28, 2, False)), (7, 7, (25, 1, True))]
)
def test_windows_are_turned_for_many_columns(lines, columns, tile):
    x, w = whole((lines + 2, columns + 2, 6)), whole((3, 3, 6, 256))
    a, b = buffer_of("a", x), buffer_of("b", w)
    body = lambda i, j, n: s.reduce(
        "sum", [3, 3, 6], lambda p, q, c: a[i + p, j + q, c] * b[p, q, c, n]
    )
    kernel = store((lines, columns, 256), body)
    plan = scheduled(program_of(kernel, {a: x, b: w}, [b]), V4)
    assert plan.a == "turn"
    assert (plan.tile.rows, plan.tile.spread, plan.tile.flat) == tile
    received, expected = both(kernel, {a: x, b: w}, [b])
    np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("shape", [(100, 64, 96), (37, 130, 50), (5, 300, 200)])
def test_every_number_of_threads_gives_the_same_bits(shape, constant):
    m, k, n = shape
    x = RNG.standard_normal((m, k)).astype(np.float32)
    w = RNG.standard_normal((k, n)).astype(np.float32)
    a, b = buffer_of("a", x), buffer_of("b", w)
    program = program_of(product(a, b), {a: x, b: w}, [b] if constant else ())
    inputs = [x] if constant else [x, w]
    module = native(program)
    module.code.parallel = True
    one = module(inputs, 1)[0]
    np.testing.assert_allclose(one, x @ w, rtol=1e-4, atol=1e-4)
    for threads in (2, 3, 4):
        assert module(inputs, threads)[0].tobytes() == one.tobytes()


@pytest.mark.parametrize("name", NAMED)
def test_scratch_is_what_the_packed_operands_need(name):
    x, w = whole((40, 30), "f16"), whole((30, 50))
    a, b = buffer_of("a", x), buffer_of("b", w)
    plan = scheduled(program_of(product(a, b), {a: x, b: w}), NAMED[name])
    assert plan.scratch >= 30 * 4 * (plan.width + plan.tile.rows)
    assert plan.scratch % 64 == 0


def test_sums_too_deep_to_copy_are_read_in_place():
    x, w = whole((28, 20_480)), whole((20_480, 256))
    a, b = buffer_of("a", x), buffer_of("b", w)
    plan = scheduled(program_of(product(a, b), {a: x, b: w}, [b]), V4)
    assert plan.a == "direct"
    assert plan.scratch == 0
