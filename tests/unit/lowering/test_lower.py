"""Graphs to programs: places, aliases, control flow, the order of stores; kernels as text."""

import numpy as np
import pytest
from tessel.compiler.backends.numpy import NumpyModule
from tessel.compiler.errors import UnsupportedError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.kernels.kernel import Call, For, HostCallback, If
from tessel.compiler.lowering.lower import lower

from ...support.graphs import inputs_of


def build(f, *types, **updates):
    """The graph of a function of a builder and tensors."""
    b = Builder()
    result = f(b, *[b.input(f"x{i}", t) for i, t in enumerate(types)])
    for i, y in enumerate(result if isinstance(result, tuple) else (result,)):
        b.output(f"y{i}", y)
    return b.graph


def program_of(graph):
    """The program; its results are those of the graph."""
    program = lower(graph)
    arrays = inputs_of(graph)
    for got, want in zip(NumpyModule(program)(arrays), interpret(graph, arrays), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    return program


def slots(call) -> list[str]:
    return [f"{r.slot.kind}{r.slot.index}" for r in call.refs]


def names(steps) -> list[str]:
    return [s.kernel.name for s in steps if isinstance(s, Call)]


# -- places ----------------------------------------------------------------------------------------


def test_outputs_are_written_where_they_belong():
    program = program_of(build(lambda b, x: b.exp(x), "f32[4,5]"))
    (call,) = program.steps
    assert slots(call) == ["input0", "output0"]
    assert program.arena == 0


def test_an_output_that_others_read_is_read_from_there():
    program = program_of(build(lambda b, x: [e := b.exp(x), (e, b.neg(e))][1], "f32[80,80]"))
    assert [slots(c) for c in program.steps] == [["input0", "output0"], ["output0", "output1"]]


def test_reshapes_of_memory_are_views():
    def f(b, x):
        y = b.exp(x)
        return b.matmul(y.reshape(6, 10), y.reshape(10, 6))

    program = program_of(build(f, "f32[60]"))
    assert names(program.steps) == ["exp", "matmul"]
    assert slots(program.steps[1]) == ["arena0", "output0"]


def test_a_reshaped_output_is_written_by_what_made_it():
    program = program_of(build(lambda b, x: b.exp(x).reshape(20), "f32[4,5]"))
    (call,) = program.steps
    assert slots(call) == ["input0", "output0"]


@pytest.mark.parametrize(
    "f",
    [
        lambda b, x: x,
        lambda b, x: x.reshape(20),
        lambda b, x: b.identity(x),
        lambda b, x: b.constant(np.ones((4, 5), np.float32)),
        lambda b, x: b.scalar(2.0, "f32"),
        lambda b, x: (x, x),
    ],
    ids=["an input", "a view", "the identity", "a constant", "a number", "twice"],
)
def test_outputs_that_nothing_computes_are_copied(f):
    program = program_of(build(f, "f32[4,5]"))
    assert set(names(program.steps)) <= {"copy", "identity"}


def test_a_value_that_is_an_output_twice_is_computed_once():
    program = program_of(build(lambda b, x: [e := b.exp(x), (e, e, e.reshape(20))][1], "f32[4,5]"))
    assert names(program.steps) == ["exp", "copy", "copy"]


def test_constants_become_weights_once():
    w = np.ones((5, 5), np.float32)

    def f(b, x):
        c = b.constant(w)
        return b.matmul(b.matmul(x, c), c)

    program = program_of(build(f, "f32[4,5]"))
    assert len(program.weights) == 1
    assert program.weights[0] is w


def test_nothing_is_done_for_empty_tensors():
    program = program_of(build(lambda b, x: b.exp(x), "f32[0,5]"))
    assert program.steps == []
    program = program_of(build(lambda b, x: b.reduce_sum(x, axes=[0]), "f32[0,5]"))
    assert names(program.steps) == ["reduce_sum"]


def test_unknown_sizes_are_refused():
    with pytest.raises(UnsupportedError, match=r"a shape is not known[\s\S]*%x0[\s\S]*f32\[N,5\]"):
        lower(build(lambda b, x: b.exp(x), "f32[N,5]"))


def test_kernels_know_where_they_come_from():
    b = Builder()
    x = b.input("x", "f32[4,5]")
    b.origin = "/block/Exp"
    y = b.exp(x)
    b.origin = "/block/Neg"
    b.output("y", b.neg(y))
    (call,) = lower(b.graph).steps
    assert call.kernel.origins == ("/block/Exp", "/block/Neg")


# -- composites ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "types"),
    [
        (lambda b, q, k, v: b.attention(q, k, v, scale=0.5), ["f32[1,2,3,4]"] * 3),
        (
            lambda b, x, w, r: b.lstm(x, w, r, hidden_size=4),
            ["f32[5,2,3]", "f32[1,16,3]", "f32[1,16,4]"],
        ),
        (lambda b, x: b.layer_norm(b.softmax(x, axis=1)), ["f32[4,5]"]),
    ],
    ids=["attention", "lstm", "norms"],
)
def test_composites_mean_what_their_expansion_says(f, types):
    program_of(build(f, *types))


# -- groups ----------------------------------------------------------------------------------------


def test_the_parts_of_a_concatenation_are_one_group():
    def f(b, x, y):
        return b.concat(x, y, x, axis=1), b.concat(y, x, axis=0)

    program = program_of(build(f, "f32[4,5]", "f32[4,5]"))
    groups = [c.group for c in program.steps]
    assert len(groups) == 5
    assert None not in groups
    assert groups[0] == groups[1] == groups[2] != groups[3] == groups[4]


def test_the_border_and_the_inside_of_a_pad_are_one_group():
    pool = {"kernel": (2, 2), "strides": (2, 2), "pads": (0,) * 4, "dilations": (1, 1)}
    f = lambda b, x: b.max_pool(b.pad(x, pads=(0, 0, 1, 1, 0, 0, 2, 0), mode="constant"), **pool)
    program = program_of(build(f, "f32[1,2,5,5]"))
    *pads, last = program.steps
    assert names(pads) == ["pad"] * 4  # the inside, above, below, left
    assert len({c.group for c in pads}) == 1
    assert last.group is None


def test_scatters_run_in_order_on_one_thread():
    f = lambda b, x, i, u: b.scatter_elements(x, i, u, axis=0, reduction="add")
    program = program_of(build(f, "f32[4,5]", "i64[2,5]", "f32[2,5]"))
    first, second = program.steps
    assert not first.kernel.serial
    assert second.kernel.serial
    assert second.kernel.stores[0].mode == "add"
    assert first.group is None


# -- control flow ----------------------------------------------------------------------------------


def branch(name, f, *types):
    b = Builder(name=name)
    y = f(b, *[b.input(f"a{i}", t) for i, t in enumerate(types)])
    b.output("z", y)
    return b.graph


@pytest.mark.parametrize("flag", [True, False])
def test_both_branches_write_the_same_place(flag):
    then = branch("then", lambda b, x: b.exp(x), "f32[4,5]")
    other = branch("else", lambda b, x: x, "f32[4,5]")
    f = lambda b, c, x: b.neg(b.emit("if", c, x * 2.0, then_graph=then, else_graph=other))
    graph = build(f, "bool[]", "f32[80,80]".replace("80,80", "4,5"))
    program = lower(graph)
    step = next(s for s in program.steps if isinstance(s, If))
    assert names(step.then) == ["exp"]
    assert names(step.orelse) == ["copy"]
    assert step.then[0].refs[-1] == step.orelse[0].refs[-1]
    arrays = [np.array(flag), np.ones((4, 5), np.float32)]
    np.testing.assert_allclose(NumpyModule(program)(arrays)[0], interpret(graph, arrays)[0])


def cumulative(reverse):
    body = Builder(name="body")
    state, piece = body.input("s", "f32[5]"), body.input("x", "f32[5]")
    total = state + piece
    body.output("next", total)
    body.output("total", total * 2.0)
    f = lambda b, s, xs: b.emit("scan", s, xs, body=body.graph, states=1, scans=1, reverse=reverse)
    return build(f, "f32[5]", "f32[7,5]")


@pytest.mark.parametrize("reverse", [False, True])
def test_slices_of_a_scan_are_places_that_move(reverse):
    program = program_of(cumulative(reverse))
    *first, loop = program.steps
    assert isinstance(loop, For)
    assert loop.trips == 3  # of two turns each, after the first one
    moving = {(r.slot.kind, r.offset, r.steps) for c in loop.body for r in c.refs if r.steps}
    start, step = (120, -20) if reverse else (0, 20)
    assert {r.offset for c in first for r in c.refs if r.slot.kind == "input"} == {0, start}
    assert moving == {
        (kind, start + turn * step, ((loop.id, 2 * step),))
        for kind in ("input", "output")
        for turn in (1, 2)
    }


def test_a_scan_of_no_steps_gives_its_initial_state():
    body = branch("body", lambda b, s, x: s + x, "f32[5]", "f32[5]")
    f = lambda b, s, xs: b.emit("scan", s, xs, body=body, states=1, scans=1)
    program = program_of(build(f, "f32[5]", "f32[0,5]"))
    assert names(program.steps) == ["copy"]


def test_states_that_swap_are_copied_after_both_are_read():
    body = Builder(name="body")
    a, c = body.input("a", "f32[3]"), body.input("c", "f32[3]")
    x = body.input("x", "f32[3]")
    body.output("a", c + x)
    body.output("c", a)
    f = lambda b, a, c, xs: b.emit("scan", a, c, xs, body=body.graph, states=2, scans=1)
    program_of(build(f, "f32[3]", "f32[3]", "f32[4,3]"))


def test_a_loop_in_a_loop_moves_with_both():
    inner = branch("inner", lambda b, s, x: s + x, "f32[]", "f32[]")
    outer = Builder(name="outer")
    s, row = outer.input("s", "f32[]"), outer.input("row", "f32[3]")
    outer.output("s", outer.emit("scan", s, row, body=inner, states=1, scans=1, reverse=True))
    f = lambda b, s, xs: b.emit("scan", s, xs, body=outer.graph, states=1, scans=1)
    program = program_of(build(f, "f32[]", "f32[2,3]"))
    outside = next(s for s in program.steps if isinstance(s, For))
    inside = next(s for s in outside.body if isinstance(s, For))
    moves = [r for c in inside.body for r in c.refs if len(r.steps) == 2]
    steps = ((outside.id, 24), (inside.id, -8))  # two turns of each, after the first one inside
    assert [(r.offset, r.steps) for r in moves] == [(4, steps), (0, steps)]


def test_extern_calls_keep_their_place_in_the_order():
    f = lambda b, x: b.zip_map(b.softmax(b.neg(x), axis=1), labels=(1, 2, 3))
    program = lower(build(f, "f32[80,3]"))
    call, extern = program.steps
    assert isinstance(extern, HostCallback)
    assert extern.inputs == (call.refs[-1],)
    assert extern.op == "zip_map"


# -- updates in place ------------------------------------------------------------------------------


def training(updates):
    """y0 = w - g, y1 = sum(w * w): the update takes over w's memory."""
    f = lambda b, w, g: (w - g, b.reduce_sum(w * w, axes=[0], keepdims=False))
    graph = build(f, "f32[6]", "f32[6]")
    graph.updates = updates
    return graph


def test_an_update_is_stored_after_all_have_read_the_old_value():
    assert names(lower(training({})).steps) == ["sub", "mul+reduce_sum"]
    program = lower(training({0: 0}))
    assert names(program.steps) == ["mul+reduce_sum", "sub"]
    w, g = np.arange(6, dtype=np.float32), np.ones(6, np.float32)
    updated, total = NumpyModule(program)([w, g])
    np.testing.assert_array_equal(updated, w - 1)
    assert total == (w * w).sum()


UPDATES = {
    "each needs the other's old value": (lambda b, x, y: (x + y, x - y), {0: 0, 1: 1}),
    "they swap": (lambda b, x, y: (y, x), {0: 0, 1: 1}),
    "the result is read": (lambda b, x, y: [u := x + y, (u, b.exp(u) * x)][1], {0: 0}),
    "both outputs of one node": (
        lambda b, x, y: b.split(b.concat(y, x, axis=0), axis=0, sizes=(6, 6)),
        {0: 0, 1: 1},
    ),
    "other elements are read": (lambda b, x, y: (b.reverse(x, axes=[0]) + y, y), {0: 0}),
    "the row is read": (lambda b, x, y: (b.softmax(x, axis=0), y * x), {0: 0}),
    "through a view": (lambda b, x, y: ((x + y).reshape(2, 3).reshape(6), x * y), {0: 0}),
    "stored in pieces": (lambda b, x, y: (b.concat(x[3:], x[:3], axis=0), y), {0: 0}),
    "elements are added": (
        lambda b, x, y: (
            b.scatter_elements(x, b.constant(np.array([1, 1, 5])), y[:3], axis=0, reduction="add"),
            x * 2.0,
        ),
        {0: 0},
    ),
}


@pytest.mark.parametrize("name", UPDATES)
def test_updates_that_still_need_old_values(name):
    f, updates = UPDATES[name]
    graph = build(f, "f32[6]", "f32[6]")
    arrays = [np.arange(6, dtype=np.float32), np.array([2, 7, 1, 8, 2, 8], np.float32)]
    expected = interpret(graph, arrays)
    graph.updates = updates
    for received in (native(graph, *arrays), NumpyModule(lower(graph))(arrays)):
        for got, want in zip(received, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6)


def test_usual_updates_are_not_copied():
    f = lambda b, w, m, g: [n := m * 0.9 + g + w * 0.01, (n, w - n * 0.1)][1]
    graph = build(f, *["f32[6]"] * 3)
    graph.updates = {0: 1, 1: 0}
    assert names(lower(graph).steps) == ["mul+add+mul+add", "mul+sub"]


def test_an_update_in_a_loop_that_reads_the_old_value():
    body = branch("body", lambda b, s, x, w: s * w + x, "f32[6]", "f32[6]", "f32[6]")
    f = lambda b, w, xs: b.emit("scan", w, xs, w, body=body, states=1, scans=1)
    graph = build(f, "f32[6]", "f32[4,6]")
    arrays = inputs_of(graph)
    expected = interpret(graph, arrays)
    graph.updates = {0: 0}
    np.testing.assert_allclose(native(graph, *arrays)[0], expected[0], rtol=1e-5)


def native(graph, *arrays):
    from tessel.compiler.backends.llvm.backend import compile_program
    from tessel.compiler.backends.llvm.base.target import host
    from tessel.runtime.native.module import NativeModule

    from ...support.kernels import NO_CACHE

    program = lower(graph)
    code = compile_program(program, host(), graph.updates, NO_CACHE)
    module = NativeModule(code, program.outputs, graph.updates)
    return module([a.copy() for a in arrays], 1)


# -- text ------------------------------------------------------------------------------------------
