"""The cost model: what it takes into account. How well it agrees with a machine, profiles say."""

from dataclasses import replace

import numpy as np
import pytest
from tessel.compiler.analysis.core_model import CORES, core_of
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.backends.llvm.kernel.codegen import schedule_kernel
from tessel.compiler.backends.llvm.program.entry import build_plan
from tessel.compiler.backends.llvm.program.predict import predict
from tessel.compiler.backends.llvm.schedules.cost_model import LATENCY, LOAD, cost
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.builder import Builder
from tessel.compiler.kernels.simplify import merge_axes, split_axes
from tessel.compiler.lowering.lower import lower

from ....support.kernels import buffer_of, store

V4 = NAMED["x86-64-v4"]


def of(kernel, target=V4, constants=(), between=None, since=None) -> float:
    """ns of a kernel on one thread; `constants` are those of its buffers that are weights."""
    kernel = merge_axes(split_axes(kernel))
    known = {b for b, source in zip(kernel.params, kernel.sources) if source in constants}
    code = schedule_kernel(kernel, target, frozenset(known), in_place=False)
    return cost(code.kernel, code.schedule, target, between, since)


def product(m, n, k, **options) -> float:
    a = buffer_of("a", np.zeros((m, k), np.float32))
    b = buffer_of("b", np.zeros((k, n), np.float32))
    dot = lambda i, j: s.reduce("sum", [k], lambda p: a[i, p] * b[p, j])
    return of(store((m, n), dot), constants=[b], **options)


def elementwise(body, shape=(64, 512), **options) -> float:
    x = buffer_of("x", np.zeros(shape, np.float32))
    return of(store(shape, lambda *i: body(x, *i)), **options)


def test_no_product_is_faster_than_the_core():
    core = CORES[V4.vector_bytes]
    peak = 2 * V4.lanes(32) * core.units * core.clock
    ns = product(280, 512, 512)
    assert 2 * 280 * 512 * 512 / peak < ns < 2 * 2 * 280 * 512 * 512 / peak


def test_edges_are_computed_in_full():
    assert product(280, 497, 512) == pytest.approx(product(280, 512, 512), rel=0.1)


def test_weights_from_far_away_take_longer():
    near, far, farthest = (product(2, 256, 256, between=n) for n in (0, 16 << 20, 1 << 30))
    assert near < far < farthest


def test_arrays_that_were_touched_long_ago_take_longer():
    x = buffer_of("x", np.zeros((64, 512), np.float32))
    kernel = merge_axes(split_axes(store((64, 512), lambda i, j: x[i, j] + 1.0)))
    code = schedule_kernel(kernel, V4, frozenset(), in_place=False)
    ns = [
        cost(code.kernel, code.schedule, V4, since=dict.fromkeys(code.kernel.params, n))
        for n in (0, 4 << 20, 1 << 30)
    ]
    assert ns[0] < ns[1] < ns[2]


def test_short_pieces_move_whole_lines():
    def copied(pitch):
        x = buffer_of("x", np.zeros((1 << 20, pitch), np.float32))
        return of(store((1 << 20, 4), lambda i, j: x[i, j] + 1.0), since={})

    assert copied(64) > 1.5 * copied(4)


def test_a_known_divisor_takes_no_division():
    known, found = (lambda x, i, j: x[i, j] / 3.0), (lambda x, i, j: x[i, j] / (x[i, j] + 1.0))
    assert elementwise(known) < 0.7 * elementwise(found)


def test_sums_side_by_side_wait_for_each_other_less():
    x = buffer_of("x", np.zeros((4, 4096), np.float32))
    ns = of(store((4,), lambda i: s.reduce("sum", [4096], lambda k: x[i, k])))
    steps = 4 * 4096 / V4.lanes(32)
    assert steps * LOAD < ns * CORES[64].clock < steps * LATENCY


def test_a_core_that_takes_half_a_vector_at_a_time_takes_twice_as_long():
    core, full = core_of(64, "znver4"), core_of(64, "sapphirerapids")
    assert full is CORES[64]
    assert core.rate == core.clock / 2
    slow, fast = (product(280, 512, 512, target=replace(V4, cpu=c)) for c in ("znver4", ""))
    assert slow * core.clock == pytest.approx(2 * fast * full.clock, rel=0.2)


def test_a_program_knows_when_it_touched_what_a_kernel_reads():
    """The last product is read as soon as it is written, x again when weights have passed by."""
    b = Builder()
    x = b.input("x", "f32[64,1024]")
    w = [b.constant(np.full((1024, 1024), n), "f32") for n in (1, 2, 3)]
    b.output("z", b.relu(b.relu(x @ w[0]) @ w[1]) @ w[2] + x)
    last = predict(build_plan(lower(b.graph), V4), V4)[-1]
    kinds = [ref.slot.kind for ref in last.step.call.refs]
    passed = dict(zip(kinds, last.since.values()))
    assert passed["input"] > passed["arena"] + (4 << 20)


def test_functions_take_longer_than_sums():
    plain = elementwise(lambda x, i, j: x[i, j] + 1.0)
    assert elementwise(lambda x, i, j: s.erf(x[i, j])) > 2 * plain


def test_large_arrays_take_as_long_as_memory():
    ns = elementwise(lambda x, i, j: x[i, j] + 1.0, shape=(4096, 4096))
    # A third-level cache holds some of the 128 MiB.
    assert ns > 4 * 4096 * 4096 / CORES[V4.vector_bytes].memory


def test_elements_far_apart_are_loaded_one_by_one_unless_they_are_neighbours_of_others():
    def copied(shape, place):
        x = buffer_of("x", np.zeros(shape, np.float32))
        return of(store((512, 512), lambda i, j: x[place(i, j)]), since={})

    plain = copied((512, 512), lambda i, j: (i, j))
    assert copied((512, 9 * 512), lambda i, j: (i, 9 * j)) > 3 * plain
    assert plain < copied((512, 512), lambda i, j: (j, i)) < 3 * plain


@pytest.mark.parametrize("target", NAMED.values(), ids=NAMED)
def test_every_target_has_a_core(target):
    assert product(32, 32, 32, target=target) > 0


def loop_graph():
    """Five rounds of h = tanh(h @ x), and a product after them."""
    body = Builder(name="body")
    state, piece = body.input("h", "f32[64,64]"), body.input("x", "f32[64,64]")
    body.output("next", body.tanh(body.matmul(state, piece)))
    b = Builder()
    h, xs = b.input("h", "f32[64,64]"), b.input("xs", "f32[5,64,64]")
    last = b.emit("scan", h, xs, body=body.graph, states=1, scans=1)
    b.output("y", last @ b.constant(np.ones((64, 512), np.float32)))
    return b.graph


def test_a_program_repeats_what_is_in_its_loops():
    found = predict(build_plan(lower(loop_graph()), V4), V4)
    rounds = [p.rounds for p in found if p.step.code.work.flops]
    assert rounds == [1, 2, 2, 1]  # a turn before the loop, two in each round, the product


def test_threads_divide_what_they_share():
    plan = build_plan(lower(loop_graph()), V4)
    one, four = (predict(plan, V4, threads) for threads in (1, 4))
    assert sum(p.ns for p in four) < sum(p.ns for p in one)
    assert all(b.ns == a.ns or b.ns == a.ns / 4 for a, b in zip(one, four))
