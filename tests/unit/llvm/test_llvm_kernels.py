"""Machine code of single kernels against the numpy backend: the nest schedule.

Ragged ends, masks, gathers, strides, transposed stores, reductions of every kind, on every thread
count; contractions are in test_llvm_contractions.py.
"""

import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tessel.compiler.backends.llvm.schedules.nest import NestSchedule
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.core import COMBINERS
from tessel.compiler.ir.types import DTYPES, dtype_of

from ...support.kernels import both, buffer_of, close, native, program_of, scheduled, store

RNG = np.random.default_rng(0)


def numbers(shape, dtype="f32"):
    """Small values; floats are eighths, so that sums of them are exact in any order."""
    dtype = DTYPES[dtype]
    if dtype.kind == "b":
        return RNG.random(shape) < 0.5
    if dtype.is_int:
        return RNG.integers(0 if dtype.kind == "u" else -9, 9, shape).astype(dtype.numpy)
    return (np.round(RNG.standard_normal(shape) * 8) / 8).astype(dtype.numpy)


def agree(kernels, arrays, **options):
    pairs = both(kernels, arrays, **options)
    for received, expected in [pairs] if isinstance(pairs, tuple) else pairs:
        close(received, expected)
    return pairs


# -- one axis: ragged ends -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f32", "f64", "i8", "f16", "bool"])
def test_any_length_around_the_vector_width(dtype):
    lengths = [*range(1, 10), 15, 16, 17, 31, 33, 63, 64, 65, 129]
    arrays, kernels = {}, []
    for n in lengths:
        x = numbers((n,), dtype)
        a = buffer_of("a", x)
        arrays[a] = x
        body = (
            (lambda a: lambda i: ~a[i])
            if dtype == "bool"
            else (lambda a: lambda i: s.cast(s.cast(a[i], "f32") * 2.0 + 1.0, dtype))
        )
        kernels.append(store((n,), body(a), dtype))
    for part in (kernels[:9], kernels[9:]):
        agree(part, arrays)


@pytest.mark.parametrize("n", [1, 7, 16, 1000, 1025, 70_001])
def test_several_threads_share_one_long_axis(n):
    x = numbers((n,))
    a = buffer_of("a", x)
    module = native(program_of(store((n,), lambda i: s.exp(s.tanh(a[i]))), {a: x}))
    module.code.parallel = True
    one = module([x], 1)[0]
    np.testing.assert_allclose(one, np.exp(np.tanh(x)), rtol=1e-6)
    for threads in (2, 3, 4):
        assert module([x], threads)[0].tobytes() == one.tobytes()


@pytest.mark.parametrize("shape", [(3, 2500), (2, 1030), (5, 1031), (70, 33)])
@pytest.mark.parametrize("where", [None, lambda i, j: j > i])
def test_rows_are_cut_into_blocks(shape, where):
    x = numbers(shape)
    a = buffer_of("a", x)
    body = lambda i, j: s.select(i < 2, a[i, j] * 2.0, a[i, j])  # keeps the axes apart
    program = program_of(store(shape, body, where=where), {a: x})
    module = native(program)
    module.code.parallel = True
    results = [module([x], threads, [np.zeros(shape, np.float32)])[0] for threads in (1, 2, 3)]
    rows = np.arange(shape[0])[:, None]
    expected = np.where(rows < 2, x * 2, x)
    if where is not None:
        expected = np.where(np.arange(shape[1]) > rows, expected, 0)
    for y in results:
        np.testing.assert_array_equal(y, expected)


def test_in_place_each_element_is_visited_once():
    """x = x * 2 + 1 over its own memory: an overlapping last vector would do it twice."""
    x = numbers((37,))
    a = buffer_of("a", x)
    program = program_of(store((37,), lambda i: a[i] * 2.0 + 1.0), {a: x})
    (call,) = program.steps
    call.refs = (call.refs[0], call.refs[0])
    (changed,) = native_inputs(program, x.copy())
    np.testing.assert_allclose(changed, x * 2 + 1, rtol=1e-6)


def native_inputs(program, *inputs):
    """The inputs after a run."""
    native(program)(list(inputs), 1)
    return inputs


# -- several axes: strides, gathers, masks ---------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 40), (3, 5), (17, 16), (40, 1), (33, 35), (2, 3, 19)])
def test_transposes(shape):
    x = numbers(shape)
    a = buffer_of("a", x)
    turned = store(shape[::-1], lambda *i: a[tuple(reversed(i))] + 1.0)
    (received, _) = agree(turned, {a: x})
    np.testing.assert_array_equal(received, x.T + np.float32(1))


@pytest.mark.parametrize("shape", [(50, 60, 2), (40, 33, 3), (64, 3, 64, 3)])
@pytest.mark.parametrize("dtype", ["f32", "u8"])
def test_short_pieces_in_another_order(shape, dtype):
    x = numbers(shape, dtype)
    a = buffer_of("a", x)
    swapped = store((shape[1], shape[0], *shape[2:]), lambda i, j, *k: a[(j, i, *k)], dtype)
    module = native(program_of(swapped, {a: x}))
    module.code.parallel = True
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(module([x], threads)[0], x.swapaxes(0, 1))


@given(
    shape=st.lists(st.integers(1, 21), min_size=2, max_size=3),
    steps=st.lists(st.sampled_from([1, 1, 2, 3, -1]), min_size=3, max_size=3),
    data=st.data(),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_strided_reads_in_any_order_of_the_axes(shape, steps, data):
    steps = steps[: len(shape)]
    order = data.draw(st.permutations(range(len(shape))))
    x = numbers([n * abs(k) for n, k in zip(shape, steps)])
    a = buffer_of("a", x)

    def at(*i):
        place = [
            i[order.index(d)] * k + (n - 1 if k < 0 else 0)
            for d, (k, n) in enumerate(zip(steps, shape))
        ]
        return a[tuple(place)]

    received, _ = agree(store([shape[d] for d in order], at), {a: x})
    np.testing.assert_array_equal(
        received, x[tuple(slice(None, None, k) for k in steps)].transpose(order)
    )


@pytest.mark.parametrize("dtype", ["f32", "f64", "i8", "f16", "bool", "i64"])
def test_gathers_at_computed_places(dtype):
    x, where = numbers((50, 6), dtype), RNG.integers(0, 50, 23)
    a, w = buffer_of("a", x), buffer_of("w", where)
    rows = store((23, 6), lambda i, j: a[w[i], j], dtype)
    columns = store((6, 23), lambda i, j: a[w[j], i], dtype)
    (r, _), (c, _) = agree([rows, columns], {a: x, w: where})
    np.testing.assert_array_equal(r, x[where])
    np.testing.assert_array_equal(c, x[where].T)


def test_scattered_stores():
    x, where = numbers((37,)), RNG.permutation(50)[:37]
    a, w = buffer_of("a", x), buffer_of("w", where)
    kernel = store((50,), lambda i: a[i], index=lambda i: [w[i]], extents=(37,))
    received, _ = agree(kernel, {a: x, w: where})
    np.testing.assert_array_equal(received[where], x)


@pytest.mark.parametrize("mode", ["add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", ["f32", "f16", "i32"])
def test_serial_stores_combine_in_order(mode, dtype):
    x, where = numbers((40,), dtype), RNG.integers(0, 7, 40)
    a, w = buffer_of("a", x), buffer_of("w", where)
    kernel = store((7,), lambda i: a[i], dtype, lambda i: [w[i]], mode=mode, extents=(40,))
    kernel.serial = True
    close(*both(kernel, {a: x, w: where}), rtol=1e-5)


@pytest.mark.parametrize("n", [5, 16, 40])
def test_parallel_stores_combine_each_place_once(n):
    x = numbers((n,))
    a = buffer_of("a", x)
    kernel = store((n,), lambda i: a[i] + 1.0, mode="add")
    received, _ = agree(kernel, {a: x})
    np.testing.assert_allclose(received, x + 1, rtol=1e-6)


# -- reductions ------------------------------------------------------------------------------------

TYPES = {
    "sum": ["f32", "f64", "i32", "i64", "i8", "u8"],
    "prod": ["f32", "i64"],
    "max": ["f32", "f64", "i8", "u8", "i64"],
    "min": ["f32", "i32", "u32"],
    "or": ["bool"],
    "and": ["bool"],
}


@pytest.mark.parametrize("combiner", COMBINERS)
@pytest.mark.parametrize("shape", [(3, 1), (4, 7), (5, 33), (2, 200)])
def test_reductions_along_rows_and_columns(combiner, shape):
    """Rows are folded across the lanes, columns lane by lane."""
    rows, columns = shape
    kernels, arrays = [], {}
    for dtype in TYPES[combiner]:
        x = numbers(shape, dtype)
        a = buffer_of("a", x)
        arrays[a] = x
        row = lambda i, a=a, d=dtype: s.reduce(combiner, [columns], lambda k: a[i, k], d)
        column = lambda j, a=a, d=dtype: s.reduce(combiner, [rows], lambda k: a[k, j], d)
        kernels += [store((rows,), row, dtype), store((columns,), column, dtype)]
    for part in (kernels[:6], kernels[6:]):
        if part:
            agree(part, arrays)


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_halves_are_summed_in_f32(dtype):
    x = numbers((3, 300), dtype)
    a = buffer_of("a", x)
    row = lambda i: s.reduce("sum", [300], lambda k: a[i, k])
    received, _ = agree(store((3,), row, "f32"), {a: x})
    np.testing.assert_allclose(received, x.astype(np.float32).sum(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("combiner", "value"), [("max", np.nan), ("min", np.nan), ("sum", np.inf)])
@pytest.mark.parametrize("place", [0, 15, 16, 40])
def test_reductions_keep_what_is_not_a_number(combiner, value, place):
    x = numbers((2, 41))
    x[0, place] = value
    a = buffer_of("a", x)
    row = lambda i: s.reduce(combiner, [41], lambda k: a[i, k])
    (received, _) = both(store((2,), row), {a: x})
    np.testing.assert_equal(received[0], value)
    assert np.isfinite(received[1])


def test_a_reduction_over_nothing_is_its_neutral_element():
    x = numbers((3, 0))
    a = buffer_of("a", x)
    kernels = [
        store((3,), lambda i, c=c: s.reduce(c, [0], lambda k: a[i, k], "f32"))
        for c in ("sum", "prod", "max", "min")
    ]
    pairs = both(kernels, {a: x})
    assert [r[0] for r, _ in pairs] == [0, 1, -np.inf, np.inf]
    for received, expected in pairs:
        np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("n", [2, 16, 19, 64, 130])
def test_a_softmax_is_one_kernel_of_rows(n):
    x = numbers((6, n))
    a = buffer_of("a", x)

    def softmax(i, j):
        top = s.reduce("max", [n], lambda k: a[i, k])
        total = s.reduce("sum", [n], lambda k: s.exp(a[i, k] - top))
        return s.exp(a[i, j] - top) / total

    received, _ = agree(store((6, n), softmax), {a: x})
    np.testing.assert_allclose(received.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(("combiner", "nothing"), [("sum", 0.0), ("max", -np.inf)])
@pytest.mark.parametrize("columns", [1, 7, 8, 9, 33])
def test_what_is_gathered_may_count_nowhere(combiner, nothing, columns):
    """Steps that count in no lane are left out, those that count in some are not."""
    x, at = numbers((200,)), RNG.integers(0, 200, (5, 6, columns))
    many = np.array([0, 1, 6, 3, 9])
    a, places, counts = buffer_of("a", x), buffer_of("places", at), buffer_of("counts", many)

    def body(i, j):
        def step(k):
            return s.select((k < counts[i]) & (k * 4 > j), a[places[i, k % 6, j]], nothing)

        return s.reduce(combiner, [24], step)

    agree(store((5, columns), body), {a: x, places: at, counts: many})


def test_nested_reductions_over_different_axes():
    x = numbers((4, 5, 18))
    a = buffer_of("a", x)

    def spread(i):
        """The largest distance of a row's sum from the mean of the sums."""
        total = lambda j: s.reduce("sum", [18], lambda k: a[i, j, k])
        mean = s.reduce("sum", [5], total) * (1 / 5)
        return s.reduce("max", [5], lambda j: s.abs(total(j) - mean))

    received, _ = agree(store((4,), spread), {a: x})
    sums = x.sum(2)
    np.testing.assert_allclose(
        received, np.abs(sums - sums.mean(1, keepdims=True)).max(1), rtol=1e-4, atol=1e-5
    )


@given(
    outer=st.lists(st.integers(1, 9), min_size=0, max_size=2),
    inner=st.lists(st.integers(1, 40), min_size=1, max_size=2),
    combiner=st.sampled_from(["sum", "max"]),
    swap=st.booleans(),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_reductions_of_any_axes(outer, inner, combiner, swap):
    shape = [*inner, *outer] if swap else [*outer, *inner]
    x = numbers(shape)
    a = buffer_of("a", x)
    join = lambda i, k: a[(*k, *i)] if swap else a[(*i, *k)]
    body = lambda *i: s.reduce(combiner, inner, lambda *k: join(i, k))
    received, _ = agree(store(tuple(outer), body), {a: x})
    axes = tuple(range(len(inner))) if swap else tuple(range(len(outer), len(shape)))
    f = np.sum if combiner == "sum" else np.max
    np.testing.assert_allclose(received, f(x, axis=axes), rtol=1e-4, atol=1e-4)


# -- schedules -------------------------------------------------------------------------------------


def nest_of(kernel, arrays) -> NestSchedule:
    plan = scheduled(program_of(kernel, arrays))
    assert isinstance(plan, NestSchedule)
    return plan


def test_contiguous_axes_become_one_vectorised_axis():
    x = numbers((30, 40, 50))
    a = buffer_of("a", x)
    plan = nest_of(store(x.shape, lambda *i: a[i] + 1.0), {a: x})
    assert plan.vector_axis.extent == 60_000
    assert plan.units > 16


def test_a_row_with_reductions_is_one_unit():
    x = numbers((30, 40))
    a = buffer_of("a", x)
    total = lambda i: s.reduce("sum", [40], lambda k: a[i, k])
    plan = nest_of(store(x.shape, lambda i, j: a[i, j] / total(i)), {a: x})
    assert [x.extent for x in plan.outer] == [30]
    assert [x.extent for x in plan.row] == [40]
    assert plan.units == 30


def test_a_serial_kernel_is_not_vectorised():
    x = numbers((40,))
    a = buffer_of("a", x)
    kernel = store((40,), lambda i: a[i])
    kernel.serial = True
    program = program_of(kernel, {a: x})
    assert scheduled(program).vector_axis is None
    agree(kernel, {a: x})


# -- integers that must not trap -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["i32", "u32", "i64", "i16", "u16", "i8", "u8"])
@pytest.mark.parametrize("op", ["truncdiv", "floordiv", "mod", "rem"])
def test_integer_division_never_traps(op, dtype):
    d = DTYPES[dtype].numpy
    info = np.iinfo(d)
    values = np.array([info.min, info.min + 1, 0, 1, 3, 7, info.max // 7, info.max], d)
    if info.min < 0:
        values = np.append(values, np.array([-1, -3], d))
    x, y = (v.reshape(-1).copy() for v in np.meshgrid(values, values))
    a, b = buffer_of("a", x), buffer_of("b", y)
    kernel = store(x.shape, lambda i: s.apply(op, a[i], b[i]), dtype)
    received, _ = both(kernel, {a: x, b: y})
    safe = (y != 0) & ~((x == info.min) & (y == -1)) if info.min < 0 else y != 0
    python = {
        "truncdiv": lambda p, q: abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1),
        "floordiv": operator.floordiv,
        "mod": operator.mod,
        "rem": lambda p, q: abs(p) % abs(q) * (1 if p >= 0 else -1),
    }[op]
    expected = [python(int(p), int(q)) for p, q in zip(x[safe], y[safe])]
    np.testing.assert_array_equal(received[safe], expected)
    assert dtype_of(received) == DTYPES[dtype]


def test_a_deep_expression_is_no_recursion():
    x = numbers((200, 24))
    b = buffer_of("x", x)

    def body(i):
        total = b[0, i]
        for row in range(1, 200):
            total = total + b[row, i] * 0.5
        return total

    agree(store((24,), body), {b: x})
