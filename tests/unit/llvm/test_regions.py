"""Where the places of a program lie, and what a loop's kernels get for it: a step's product over a
slice of what the loop walks along has register tiles, as any other product."""

import numpy as np
import pytest
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.backends.llvm.program.entry import build_plan
from tessel.compiler.backends.llvm.program.plan import Regions, overlap
from tessel.compiler.backends.llvm.schedules.contraction.schedule import ContractSchedule
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.kernels.kernel import ENDLESS, For, Ref, Slot, walk_calls
from tessel.compiler.lowering.lower import lower

from ...support.kernels import close, native

RNG = np.random.default_rng(0)
ARENA = Slot("arena", 0)
REGIONS = Regions({2: 1}, {0: 10, 1: 4, 2: ENDLESS})


def numbers(*shape):
    return RNG.uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("steps", "first", "last"),
    [
        ((), 100, 108),
        (((0, 16),), 100, 252),
        (((0, -8),), 28, 108),
        (((0, 16), (1, -4)), 88, 252),
        (((2, 16),), 0, ENDLESS),  # nobody knows how often it runs
        (((7, 16),), 0, ENDLESS),
    ],
)
def test_a_place_that_moves_counts_as_all_that_it_passes_by(steps, first, last):
    assert REGIONS.region(Ref(ARENA, 100, steps), 8) == (("arena", 0), first, last)


def test_an_update_lies_where_its_input_does():
    x, y = (REGIONS.region(Ref(Slot(*slot)), 8) for slot in (("input", 1), ("output", 2)))
    assert overlap(x, y)


def test_what_a_loop_has_passed_by_is_apart_from_what_lies_behind():
    passed = REGIONS.region(Ref(ARENA, 0, ((0, 16),)), 16)
    assert overlap(passed, REGIONS.region(Ref(ARENA, 159), 8))
    assert not overlap(passed, REGIONS.region(Ref(ARENA, 160), 8))


def cell(batch: int, hidden: int, steps: int, reverse: bool = False):
    """h' = h * sigmoid(p) + tanh(q) of (p, q) = x[t] @ w + h @ r: a cell of a user's."""
    b = Builder()
    x, h = b.input("x", f"f32[{steps},{batch},5]"), b.input("h", f"f32[{batch},{hidden}]")
    w, r = b.constant(numbers(5, 2 * hidden)), b.constant(numbers(hidden, 2 * hidden))
    gates = b.matmul(x.reshape(steps * batch, 5), w).reshape(steps, batch, 2 * hidden)
    body = Builder(name="step")
    before, given = body.input("h", h.type), body.input("g", f"f32[{batch},{2 * hidden}]")
    weights = body.input("r", r.type)
    both = given + body.matmul(before, weights)
    after = before * body.sigmoid(both[:, :hidden]) + body.tanh(both[:, hidden:])
    body.output("next", after)
    body.output("y", after)
    last, ys = b.emit("scan", h, gates, r, body=body.graph, states=1, scans=1, reverse=reverse)
    b.output("last", last)
    b.output("ys", ys)
    return b.graph, [numbers(steps, batch, 5), numbers(batch, hidden)]


@pytest.mark.parametrize("batch", [1, 2, 4, 7])
def test_the_product_of_a_loops_step_has_register_tiles(batch):
    graph, _ = cell(batch, 32, 6)
    plan = build_plan(lower(graph), NAMED["x86-64-v3"])
    inside = [
        call for call, path in walk_calls(plan.steps) if any(isinstance(x, For) for x in path)
    ]
    products = [c for c in inside if "matmul" in c.code.kernel.name]
    assert products
    assert all(isinstance(c.code.schedule, ContractSchedule) for c in products)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("batch", "hidden", "steps"), [(1, 8, 1), (3, 9, 2), (8, 33, 5)])
def test_a_loops_step_against_numpy(batch, hidden, steps, reverse, threads):
    graph, inputs = cell(batch, hidden, steps, reverse)
    for received, expected in zip(native(lower(graph))(inputs, threads), interpret(graph, inputs)):
        close(received, expected, rtol=1e-4, atol=1e-5)
