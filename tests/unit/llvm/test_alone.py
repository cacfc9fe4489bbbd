"""Loops and branches that threads share nothing of: the first thread walks them by itself."""

import numpy as np
import pytest
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.backends.llvm.program.alone import is_alone
from tessel.compiler.backends.llvm.program.entry import build_plan, main_module
from tessel.compiler.backends.llvm.program.pool_layout import BARRIER_SYMBOL
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.kernels.kernel import For, If
from tessel.compiler.lowering.lower import lower

from ...support.kernels import close, native

RNG = np.random.default_rng(0)


def summed(rows: int, columns: int):
    """s' = s + x[t] over a scan, then z = tanh(y) * w of all sums: little work, then as much as
    there are columns."""
    b = Builder()
    x, start = b.input("x", f"f32[{rows},{columns}]"), b.input("s", f"f32[{columns}]")
    body = Builder(name="step")
    s, row = body.input("s", start.type), body.input("x", start.type)
    after = s + row
    body.output("next", after)
    body.output("y", after)
    last, y = b.emit("scan", start, x, body=body.graph, states=1, scans=1, reverse=False)
    b.output("last", last)
    b.output("z", b.tanh(y))
    return b.graph


def selected(size: int):
    """Either tanh(x) or x / 3, then all of that in a scan."""
    b = Builder()
    c, x = b.input("c", "bool[]"), b.input("x", f"f32[{size}]")
    sides = []
    for make in (lambda b, v: b.tanh(v), lambda b, v: v / 3):
        side = Builder(name="side")
        side.output("y", make(side, side.input("x", x.type)))
        sides.append(side.graph)
    b.output("y", b.emit("if", c, x, then_graph=sides[0], else_graph=sides[1]))
    return b.graph


def entry_of(graph):
    """The plan, and how many barriers the entry has."""
    plan = build_plan(lower(graph), host())
    return plan, str(main_module(plan, host())).count(BARRIER_SYMBOL) - 1


@pytest.mark.parametrize("columns", [1, 7, 3000])
def test_a_loop_of_small_kernels_has_no_barriers(columns):
    graph = summed(6, columns)
    plan, barriers = entry_of(graph)
    (loop,) = (x for x in plan.steps if isinstance(x, For))
    assert is_alone(loop)
    shares = plan.shared_cost > 0
    assert shares == (columns == 3000)
    assert barriers == shares  # what is shared waits for the loop
    inputs = [RNG.standard_normal((6, columns), np.float32), np.ones(columns, np.float32)]
    one, two = (native(lower(graph))(inputs, threads) for threads in (1, 2))
    for x, y, expected in zip(one, two, interpret(graph, inputs)):
        np.testing.assert_array_equal(x, y)
        close(x, expected)


def test_a_loop_with_work_to_share_keeps_its_barriers():
    plan, barriers = entry_of(summed(3, 1 << 16))
    (loop,) = (x for x in plan.steps if isinstance(x, For))
    assert not is_alone(loop)
    assert barriers > 1


@pytest.mark.parametrize("yes", [True, False])
def test_a_branch_of_small_kernels(yes):
    graph = selected(9)
    plan, barriers = entry_of(graph)
    (branch,) = (x for x in plan.steps if isinstance(x, If))
    assert is_alone(branch)
    assert barriers == 0
    inputs = [np.array(yes), RNG.standard_normal(9).astype(np.float32)]
    (received,) = native(lower(graph))(inputs, 2)
    close(received, interpret(graph, inputs)[0])
