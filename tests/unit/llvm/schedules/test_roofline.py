"""What a kernel takes at least, and what is said of those that take much longer."""

from collections import Counter

import numpy as np
import pytest
from tessel.compiler.analysis.core_model import CORES
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.backends.llvm.kernel.codegen import schedule_kernel
from tessel.compiler.backends.llvm.schedules.contraction.cost import EMPTY, REARRANGED
from tessel.compiler.backends.llvm.schedules.cost_model import CALL, LOAD, SIMPLE
from tessel.compiler.backends.llvm.schedules.nest_cost import APART, SCALAR, WAITS
from tessel.compiler.backends.llvm.schedules.roofline import (
    AGAIN,
    PAGES,
    SCATTERED,
    least_cycles,
    roofline,
)
from tessel.compiler.expr import expr as s
from tessel.compiler.kernels.simplify import merge_axes, split_axes

from ....support.kernels import buffer_of, store

TARGETS = pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4", "aarch64"])
V3 = NAMED["x86-64-v3"]


def zeros(name, *shape):
    return buffer_of(name, np.zeros(shape, np.float32))


def scheduled(kernel, target=V3, constants=()):
    kernel = merge_axes(split_axes(kernel))
    known = {b for b, source in zip(kernel.params, kernel.sources) if source in constants}
    code = schedule_kernel(kernel, target, frozenset(known), in_place=False)
    return code.kernel, code.schedule, target


def parts(kernel, constants=()) -> dict[str, float]:
    """Cycles by what they are spent on, where there are any."""
    found: Counter = Counter()
    kernel, plan, target = scheduled(kernel, constants=constants)
    for reason, cycles in plan.parts(kernel, target):
        found[reason] += cycles
    return {reason: cycles for reason, cycles in found.items() if cycles > 1e-9} | {"": found[""]}


def product(m, n, k, constant=True):
    a, b = zeros("a", m, k), zeros("b", k, n)
    dot = lambda i, j: s.reduce("sum", [k], lambda p: a[i, p] * b[p, j])
    return store((m, n), dot), [b] if constant else []


def scattered():
    """Where elements lie is data: no two of a vector lie together."""
    tables = [zeros(name, 512) for name in "xyz"]
    places = buffer_of("places", np.zeros((64, 64), np.int32))

    def total(i, j):
        place = s.minimum(s.maximum(s.cast(places[i, j], "i64"), 0), 511)
        x, y, z = (table[place] for table in tables)
        return x + y + z

    return store((64, 64), total)


def kernels():
    x, y = zeros("x", 40, 50), zeros("y", 40)
    yield store((40, 50), lambda i, j: s.exp(x[i, j]) + y[i])
    yield store((50, 40), lambda i, j: x[j, i] * 2.0)
    yield store((40,), lambda i: s.reduce("sum", [50], lambda k: x[i, k]))
    yield store((50,), lambda j: s.reduce("max", [40], lambda k: x[k, j]))
    yield store((40, 50), lambda i, j: x[i, j // 2])
    yield product(33, 70, 20, constant=False)[0]
    image, weights = zeros("image", 1, 12, 12, 16), zeros("weights", 3, 3, 16)
    yield store(
        (10, 10, 16),
        lambda i, j, c: s.reduce(
            "sum", [3, 3], lambda p, q: image[0, i + p, j + q, c] * weights[p, q, c]
        ),
    )


@TARGETS
@pytest.mark.parametrize("kernel", list(kernels()), ids=str)
def test_parts_are_all_of_the_cycles(name, kernel):
    kernel, plan, target = scheduled(kernel, NAMED[name])
    parts = list(plan.parts(kernel, target))
    assert sum(cycles for _, cycles in parts) == pytest.approx(plan.cycles(kernel, target))
    assert all(cycles >= -1e-9 for _, cycles in parts)


@TARGETS
@pytest.mark.parametrize("kernel", list(kernels()), ids=str)
def test_no_schedule_takes_less_than_the_least(name, kernel):
    found = roofline(*scheduled(kernel, NAMED[name]))
    assert found.factor > 0.9


def test_the_least_of_a_product_is_its_multiply_adds():
    kernel, constants = product(280, 512, 512)
    kernel, *_ = scheduled(kernel, constants=constants)
    core = CORES[V3.vector_bytes]
    adds = 280 * 512 * 512 / V3.lanes(32) / core.units
    moved = (280 * 512 * 2 + 512 * 512) / V3.lanes(32) * LOAD
    assert least_cycles(kernel, V3) == pytest.approx(adds + moved)


def test_the_least_of_a_window_moves_each_element_once():
    x = zeros("x", 1000)
    kernel, *_ = scheduled(store((990,), lambda i: x[i] + x[i + 5] + x[i + 10]))
    # Two sums of 990, a store of 990, and 1000 elements that are loaded, each by vectors of 8.
    assert least_cycles(kernel, V3) == pytest.approx((2 * 990 * SIMPLE + (990 + 1000) * LOAD) / 8)


def test_large_arrays_take_at_least_as_long_as_memory():
    x = zeros("x", 4096, 4096)
    kernel, plan, _ = scheduled(store((4096, 4096), lambda i, j: x[i, j] + 1.0))
    found = roofline(kernel, plan, V3)
    core = CORES[V3.vector_bytes]
    assert found.least > CALL + 2 * (64 << 20) / core.l3 / 2
    assert not found.is_slow


def test_a_well_filled_product_is_not_slow():
    kernel, constants = product(240, 512, 512)
    assert not roofline(*scheduled(kernel, constants=constants)).is_slow


def test_elements_that_lie_apart_are_told():
    found = roofline(*scheduled(scattered()))
    assert found.is_slow
    assert found.reasons[0][0] == APART


def test_what_is_not_vectorised_is_told():
    x = zeros("x", 3)
    assert SCALAR in parts(store((3,), lambda i: s.exp(x[i])))
    x = zeros("x", 300)
    assert SCALAR not in parts(store((300,), lambda i: s.exp(x[i])))


def test_reductions_that_wait_are_told():
    x = zeros("x", 1, 4096)
    total = store((1,), lambda i: s.reduce("sum", [4096], lambda k: x[0, k]))
    assert parts(total)[WAITS] > 0


def test_tiles_that_are_partly_empty_are_told():
    assert EMPTY not in parts(*product(96, 64, 400))
    assert parts(*product(96, 70, 400))[EMPTY] > 0


def test_factors_that_are_packed_for_one_use_are_told():
    assert REARRANGED not in parts(*product(96, 512, 512))
    assert parts(*product(96, 512, 512, constant=False))[REARRANGED] > 0


def test_weights_from_memory_are_no_fault_of_the_schedule():
    kernel, constants = product(1, 4096, 4096)
    kernel, plan, target = scheduled(kernel, constants=constants)
    found = roofline(kernel, plan, target, between=1 << 30)
    assert not found.is_slow
    assert [reason for reason, _ in found.reasons] in ([AGAIN], [])


def test_short_pieces_of_lines_are_told():
    x = zeros("x", 1 << 18, 64)
    found = roofline(*scheduled(store((1 << 18, 4), lambda i, j: x[i, j] + 1.0)))
    assert found.is_slow
    assert found.reasons[0][0] == SCATTERED


def test_pages_that_lie_apart_are_told_where_a_program_touches_many():
    x = zeros("x", 2048, 2048)
    kernel, plan, target = scheduled(store((2048, 2048), lambda i, j: x[j, i]))
    near, far = (roofline(kernel, plan, target, between) for between in (1 << 20, 64 << 20))
    assert near.predicted < far.predicted
    assert PAGES not in dict(near.reasons)
    assert PAGES in dict(far.reasons)
