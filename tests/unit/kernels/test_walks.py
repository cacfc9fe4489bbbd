"""Walks over the steps of a program: loops and branches are gone into in one place."""

import pytest
from tessel.compiler.expr.expr import Axis, Buffer, const
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.types import F32, TensorType
from tessel.compiler.kernels.kernel import (
    Call,
    For,
    HostCallback,
    If,
    Kernel,
    Program,
    Ref,
    Slot,
    Store,
    map_steps,
    reads_of,
    run_order,
    walk_calls,
    walk_steps,
    with_places,
    writes_of,
)

N = Sym.named("N")
arena = lambda n: Ref(Slot("arena", n))


def call(name: str) -> Call:
    x, y = (Buffer(b, TensorType(F32, (4,))) for b in "xy")
    store = Store(y, (const(0),), x[const(0)])
    return Call(Kernel(name, (Axis("i", 4),), (store,)), (arena(0), arena(1)))


def host_callback(name: str) -> HostCallback:
    return HostCallback(name, print, {}, (arena(2), None), (None, None), (arena(3),), (None,))


A, B, C, D, E = call("a"), call("b"), host_callback("c"), call("d"), call("e")
BRANCH = If(arena(5), [B], [C])
INNER = For(1, 2, [BRANCH], arena(4))
OUTER = For(0, 3, [A, INNER, D])
STEPS = [OUTER, E]


def named(step) -> str:
    match step:
        case Call():
            return step.kernel.name
        case HostCallback():
            return step.op
    return type(step).__name__


def test_every_step_once_the_outer_ones_first():
    assert [named(x) for x in walk_steps(STEPS)] == ["For", "a", "For", "If", "b", "c", "d", "e"]


def test_a_call_is_given_with_what_is_around_it():
    assert [(named(x), path) for x, path in walk_calls(STEPS)] == [
        ("a", (OUTER,)),
        ("b", (OUTER, INNER, BRANCH)),
        ("c", (OUTER, INNER, BRANCH)),
        ("d", (OUTER,)),
        ("e", ()),
    ]


def test_the_kernels_of_a_program():
    program = Program(STEPS, [], [], [], 0)
    assert [named(x) for x in program.kernels()] == ["a", "b", "d", "e"]


def test_the_order_of_a_run():
    """The inner loop ends in the second turn of the outer one; the branch changes sides."""
    asked = []

    def holds(place: Ref, turns) -> bool:
        asked.append(place.slot.index)
        if place == INNER.condition:
            return turns[0] != 1
        return turns[1] == 0

    made = [(named(x), dict(turns)) for x, turns in run_order(STEPS, holds)]
    inner = lambda t: [("b", {0: t, 1: 0}), ("c", {0: t, 1: 1})]
    turn = lambda t, *within: [("a", {0: t}), *within, ("d", {0: t})]
    assert made == [*turn(0, *inner(0)), *turn(1), *turn(2, *inner(2)), ("e", {})]
    assert asked == [4, 5, 4, 5, 4, 4, 5, 4, 5]


def test_a_condition_is_read_when_the_run_has_come_there():
    flags = {arena(4): False, arena(5): False}
    seen = []
    for step, _ in run_order([For(7, 5, [A, BRANCH], arena(4)), E], lambda p, _: flags[p]):
        seen.append(named(step))
        flags[arena(5)] = True
    assert seen == ["e"]
    flags[arena(4)] = True
    run = run_order([For(7, 5, [A, BRANCH], arena(4)), E], lambda p, _: flags[p])
    assert [named(next(run)[0]) for _ in range(2)] == ["a", "b"]
    flags[arena(4)] = False
    assert [named(x) for x, _ in run] == ["e"]


def test_steps_with_other_calls():
    """Those without a call in their place are left out; everything else is a copy."""
    depth = lambda step, path: None if step is A else (named(step), len(path))
    (outer, e) = map_steps(STEPS, depth)
    assert (e, outer.id, outer.trips, outer.condition) == (("e", 0), 0, 3, None)
    inner, d = outer.body
    assert d == ("d", 1)
    assert (inner.condition, inner.body[0].then, inner.body[0].orelse) == (
        arena(4),
        [("b", 3)],
        [("c", 3)],
    )
    assert OUTER.body == [A, INNER, D]


def test_steps_with_other_places_and_sizes():
    moved = lambda p: Ref(p.slot, p.offset + 64)
    (loop,) = map_steps(
        [For(0, N, [BRANCH], arena(4))], lambda x, _: with_places(x, moved), moved, lambda d: d + 1
    )
    assert loop.trips == N + 1
    (branch,) = loop.body
    assert [loop.condition, branch.condition] == [moved(arena(4)), moved(arena(5))]
    assert branch.then[0].refs == (moved(arena(0)), moved(arena(1)))
    assert branch.orelse[0].inputs == (moved(arena(2)), None)
    assert branch.orelse[0].outputs == (moved(arena(3)),)


@pytest.mark.parametrize(
    ("step", "reads", "writes"),
    [(A, [0], [1]), (C, [2], [3]), (BRANCH, [5], []), (INNER, [4], []), (OUTER, [], [])],
    ids=["call", "extern", "branch", "loop with a condition", "loop"],
)
def test_what_a_step_itself_touches(step, reads, writes):
    assert [p.slot.index for p in reads_of(step)] == reads
    assert [p.slot.index for p in writes_of(step)] == writes
