"""Which kernels are contractions, and the register tiles they get."""

from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.backends.llvm.kernel.codegen import schedule_kernel
from tessel.compiler.backends.llvm.schedules.contraction.pack import pack_constant
from tessel.compiler.backends.llvm.schedules.contraction.schedule import ContractSchedule
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.builder import Builder
from tessel.compiler.kernels.contraction import contiguous_axis, find_contraction
from tessel.compiler.kernels.simplify import merge_axes
from tessel.compiler.kernels.tiling import (
    Tile,
    choose_tile,
    int_bounds,
    linear_load,
    vector_axis_cost,
)
from tessel.compiler.lowering.lower import lower

from ...support.kernels import buffer_of, store

A = buffer_of("a", np.zeros((40, 30), np.float32))
B = buffer_of("b", np.zeros((30, 50), np.float32))
C = buffer_of("c", np.zeros((40, 50), np.float32))


def dot(i, j):
    return s.reduce("sum", [30], lambda k: A[i, k] * B[k, j])


def found(shape, body, **options):
    return find_contraction(merge_axes(store(shape, body, **options)))


def extents(axes):
    return [a.extent for a in axes]


# -- contractions ----------------------------------------------------------------------------------


def test_a_product_of_matrices():
    c = found((40, 50), dot)
    assert [extents(g) for g in (c.batch, c.m, c.n, c.k)] == [[], [40], [50], [30]]
    assert c.a.data.name == "a"
    assert c.flops == 2 * 40 * 50 * 30


def test_the_factor_that_owns_the_contiguous_axis_is_b():
    c = found((50, 40), lambda j, i: dot(i, j))
    assert c.b.data.name == "a"
    assert extents(c.n) == [40]


def test_batches_are_axes_of_both():
    a = buffer_of("a", np.zeros((5, 40, 30), np.float32))
    b = buffer_of("b", np.zeros((5, 30, 50), np.float32))
    body = lambda g, i, j: s.reduce("sum", [30], lambda k: a[g, i, k] * b[g, k, j])
    c = found((5, 40, 50), body)
    assert [extents(g) for g in (c.batch, c.m, c.n, c.k)] == [[5], [40], [50], [30]]


def test_the_contiguous_axis_is_the_last_of_its_group():
    b = buffer_of("b", np.zeros((30, 50, 7), np.float32))
    body = lambda j, i, g: s.reduce("sum", [30], lambda k: A[i, k] * b[k, j, g])
    c = found((50, 40, 7), body)
    assert extents(c.n) == [50, 7]


def test_an_epilogue_does_not_matter():
    assert found((40, 50), lambda i, j: s.maximum(dot(i, j) + C[i, j], 0.0)) is not None
    assert found((40, 50), lambda i, j: dot(i, j), dtype="f16") is not None


@pytest.mark.parametrize(
    ("body", "options"),
    [
        (lambda i, j: C[i, j] * 2.0, {}),
        (lambda i, j: s.reduce("max", [30], lambda k: A[i, k] * B[k, j]), {}),
        (lambda i, j: s.reduce("sum", [30], lambda k: A[i, k] + B[k, j]), {}),
        (lambda i, j: dot(i, j) + s.reduce("sum", [30], lambda k: A[i, k]), {}),
        (lambda i, j: s.reduce("sum", [30], lambda k: A[i, k] * B[0, j]), {}),
        (dot, {"mode": "add"}),
        (dot, {"where": lambda i, j: j < i}),
        (lambda i, j: s.reduce("sum", [30], lambda k: A[i, k] * A[i, k]) + C[i, j], {}),
        (lambda i, j: s.reduce("sum", [30], lambda k: s.select(j < i, A[i, k], 0.0) * B[k, j]), {}),
    ],
    ids=[
        "no sum",
        "not a sum",
        "not of products",
        "two sums",
        "a factor without k",
        "stores that add up",
        "guarded stores",
        "axes of neither factor",
        "the contiguous axis in both",
    ],
)
def test_what_is_no_contraction(body, options):
    assert found((40, 50), body, **options) is None


def test_serial_kernels_are_none():
    kernel = merge_axes(store((40, 50), dot))
    kernel.serial = True
    assert find_contraction(kernel) is None


def test_an_output_with_gaps_has_no_contiguous_axis():
    kernel = merge_axes(store((40, 100), dot, index=lambda i, j: [i, j * 2], extents=(40, 50)))
    assert contiguous_axis(kernel) is None
    assert find_contraction(kernel) is None


# -- models ----------------------------------------------------------------------------------------

CONV = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}


@pytest.mark.parametrize(
    ("build", "shapes", "groups"),
    [
        (lambda b, x, w: b.matmul(x, w), ["f32[4,6,5]", "f32[5,16]"], ([], [24], [16], [5])),
        (
            lambda b, x, w: b.conv(x, w, **CONV, channels_last=True),
            ["f32[2,8,8,3]", "f32[3,3,3,16]"],
            ([], [2, 8, 8], [16], [3, 3, 3]),
        ),
        (
            lambda b, x, w: b.conv(x, w, **CONV),
            ["f32[2,3,8,8]", "f32[16,3,3,3]"],
            ([], [16], [2, 8, 8], [3, 3, 3]),
        ),
    ],
    ids=["matmul", "conv, channels last", "conv, channels first"],
)
def test_ops_are_contractions(build, shapes, groups):
    b = Builder()
    b.output("y", build(b, *[b.input(f"x{i}", t) for i, t in enumerate(shapes)]))
    (call,) = lower(b.graph).steps
    c = find_contraction(call.kernel)
    assert tuple(extents(g) for g in (c.batch, c.m, c.n, c.k)) == groups


# -- tiles -----------------------------------------------------------------------------------------

SIZES = st.integers(1, 300)
MACHINES = st.sampled_from([(4, 16), (8, 16), (16, 32), (4, 32), (2, 16)])


@given(
    m=SIZES,
    n=SIZES,
    machine=MACHINES,
    lines=st.integers(1, 40),
    streamed=st.sampled_from([0.0, 2.5, 5.0]),
)
@settings(max_examples=300, deadline=None)
def test_tiles_fit_the_registers_and_cover_the_output(m, n, machine, lines, streamed):
    lanes, registers = machine
    tile = choose_tile(m, n, lanes, registers, lines=lines, streamed=streamed)
    loaded = tile.vectors if tile.rows > 1 else 0
    assert tile.rows * tile.vectors + loaded + 1 <= registers
    if tile.spread == 1:
        assert tile.rows <= m
    else:
        assert tile.rows == m * tile.spread
        assert tile.spread <= lines
    covered = ceil(n / (tile.vectors * lanes)) * tile.vectors * lanes
    assert n <= covered < n + tile.vectors * lanes


def test_large_outputs_fill_the_registers():
    tile = choose_tile(1000, 1000, 16, 32)
    assert tile.rows * tile.vectors >= 24
    assert choose_tile(1000, 1000, 8, 16).rows * choose_tile(1000, 1000, 8, 16).vectors >= 10


def test_one_row_is_one_row():
    assert choose_tile(1, 1000, 16, 32).rows == 1


def test_one_row_needs_no_registers_for_the_other_factor():
    assert choose_tile(1, 1024, 8, 16) == Tile(1, 8)


@pytest.mark.parametrize("registers", [16, 32])
def test_products_apart_from_sums_leave_registers_for_both(registers):
    whole, apart = (choose_tile(1000, 1000, 8, registers, apart=a) for a in (False, True))
    sums = apart.rows * apart.vectors
    assert sums + apart.vectors + 3 <= registers
    assert sums <= whole.rows * whole.vectors


def test_streamed_weights_are_read_in_narrow_panels():
    near, far = (choose_tile(56, 512, 16, 32, streamed=x) for x in (0.0, 5.0))
    assert far.vectors <= near.vectors
    assert far.rows >= near.rows


# -- costs of vectorising --------------------------------------------------------------------------


def test_vectorising_along_memory_is_cheap_and_across_it_dear():
    i, j = s.Axis("i", 40), s.Axis("j", 30)
    offset = s.axis(i) * 30 + s.axis(j)
    along, across, neither = (vector_axis_cost([offset], a, 16) for a in (j, i, s.Axis("k", 9)))
    assert neither < along < across
    assert vector_axis_cost([s.floordiv(s.axis(i), 7)], i, 16) == 1.0


def test_linear_loads():
    i = s.Axis("i", 40)
    flat = buffer_of("x", np.zeros(100, np.float32))
    assert linear_load(flat[s.axis(i) * 2 + 5]) == ({i: 2}, 5)
    assert linear_load(flat[s.floordiv(s.axis(i), 7)]) is None
    assert linear_load(flat[s.axis(i)] * 2.0) is None


# -- packing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [16, 33, 50])
@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v4"])
def test_packed_weights_are_panels_of_rows_of_k(n, target):
    w = np.arange(30 * n, dtype=np.float32).reshape(30, n)
    b = buffer_of("b", w)
    body = lambda i, j: s.reduce("sum", [30], lambda k: A[i, k] * b[k, j])
    kernel = merge_axes(store((40, n), body))
    flat = next(x for x in kernel.params if x.name == "b")
    plan = schedule_kernel(kernel, NAMED[target], frozenset([flat]), False).schedule
    assert isinstance(plan, ContractSchedule)
    panels = pack_constant(plan, {flat: w})
    assert panels.shape == (plan.panels, 30, plan.width)
    for panel, first in zip(panels, plan.first_columns()):
        np.testing.assert_array_equal(panel, w[:, first : first + plan.width])
    assert plan.first_columns()[-1] == n - plan.width


def test_a_panel_wider_than_the_weights_ends_in_zeros():
    w = np.arange(30 * 9, dtype=np.float32).reshape(30, 9)
    b = buffer_of("b", w)
    body = lambda i, j: s.reduce("sum", [30], lambda k: A[i, k] * b[k, j])
    kernel = merge_axes(store((40, 9), body))
    flat = next(x for x in kernel.params if x.name == "b")
    plan = schedule_kernel(kernel, NAMED["x86-64-v4"], frozenset([flat]), False).schedule
    (panel,) = pack_constant(plan, {flat: w})
    np.testing.assert_array_equal(panel[:, :9], w)
    assert not panel[:, 9:].any()


# -- ranges ----------------------------------------------------------------------------------------

BYTES, SIGNED = (buffer_of("x", np.zeros(9, t)) for t in (np.uint8, np.int8))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda i: s.cast(BYTES[i], "i32"), (0, 255)),
        (lambda i: s.cast(SIGNED[i], "i32") - s.cast(SIGNED[0], "i32"), (-255, 255)),
        (lambda i: s.select(i < 3, s.cast(BYTES[i], "i32") - 7, s.const(0, "i32")), (-7, 248)),
        (lambda i: s.maximum(s.cast(SIGNED[i], "i32"), 0), (0, 127)),
        (lambda i: s.cast(SIGNED[i], "i32") * 2 + 1, (-255, 255)),
        (lambda i: s.cast(A[i, i], "i32"), None),
        (lambda i: s.cast(buffer_of("n", np.zeros(9, np.int32))[i], "i32"), None),
    ],
)
def test_ranges_of_integers(build, expected):
    assert int_bounds(build(s.axis(s.Axis("i", 9)))) == expected
