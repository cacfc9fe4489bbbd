"""Products and what several kernels make of their columns, as one kernel: cells, gated layers."""

import numpy as np
import pytest
from tessel.compiler.backends.llvm.base.target import NAMED, host
from tessel.compiler.backends.llvm.program.entry import build_plan
from tessel.compiler.backends.llvm.schedules.contraction.schedule import ContractSchedule
from tessel.compiler.backends.numpy import NumpyModule
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.types import DTYPES
from tessel.compiler.kernels.gates import find_gates
from tessel.compiler.kernels.kernel import For, walk_calls
from tessel.compiler.lowering.lower import lower
from tessel.compiler.passes.base import run_pipeline
from tessel.compiler.pipelines import cpu_pipeline, default_pipeline

from ...support.kernels import close, native

RNG = np.random.default_rng(0)
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def numbers(*shape, dtype=np.float32):
    return RNG.uniform(-1, 1, shape).astype(dtype)


def layer(op, batch, hidden, steps=3, inputs=5, dtype="f32", **attrs):
    """One layer with constant weights; its outputs are all that the op has."""
    b, n = Builder(), GATES[op] * hidden
    d = 2 if attrs.get("direction") == "bidirectional" else 1
    constant = lambda *shape: b.constant(numbers(d, *shape, dtype=DTYPES[dtype].numpy))
    x = b.input("x", f"{dtype}[{steps},{batch},{inputs}]")
    made = b.emit(
        op,
        x,
        constant(n, inputs),
        constant(n, hidden),
        constant(2 * n),
        hidden_size=hidden,
        **attrs,
    )
    for i, y in enumerate(made):
        b.output(f"y{i}", y)
    return run_pipeline(run_pipeline(b.graph, default_pipeline(2)), cpu_pipeline())


def check(graph, *inputs, targets=(None,)):
    """The joined program, as machine code with one thread and two, and by numpy."""
    program = lower(graph, joins=True)
    expected = interpret(graph, list(inputs))
    for x, y in zip(NumpyModule(program)(list(inputs)), expected):
        close(x, y)
    for target in targets:
        module = native(program, target or host())
        one, two = (module(list(inputs), threads) for threads in (1, 2))
        for x, again, y in zip(one, two, expected):
            np.testing.assert_array_equal(x, again)
            close(x, y)
    return program


def steps_in_loop(program):
    """The names of the kernels of a round."""
    return [
        c.kernel for c, path in walk_calls(program.steps) if any(isinstance(x, For) for x in path)
    ]


@pytest.mark.parametrize(("batch", "hidden"), [(1, 8), (2, 17), (3, 24), (5, 33), (7, 9)])
def test_a_step_of_an_lstm_is_one_kernel(batch, hidden):
    graph = layer("lstm", batch, hidden)
    program = check(graph, numbers(3, batch, 5))
    kernels = steps_in_loop(program)
    assert len(kernels) == 2  # two turns
    for kernel in kernels:
        assert len(find_gates(kernel).sums) == 4
        assert len(kernel.stores) == 3


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4])
def test_states_take_turns_for_any_number_of_steps(steps):
    program = check(layer("lstm", 2, 8, steps), numbers(steps, 2, 5))
    copies = [c for c, _ in walk_calls(program.steps) if c.kernel.name == "copy"]
    assert len(copies) == 2  # the states' first values


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("hidden", [8, 19])
def test_gated_units(hidden, before):
    graph = layer("gru", 3, hidden, linear_before_reset=before)
    kernels = steps_in_loop(check(graph, numbers(3, 3, 5)))
    assert [len(find_gates(k).sums) for k in kernels] == ([3, 3] if before else [2, 1, 2, 1])


def test_plain_and_bidirectional_layers():
    check(layer("rnn", 2, 12), numbers(3, 2, 5))
    check(layer("lstm", 2, 12, direction="bidirectional"), numbers(3, 2, 5))
    check(layer("gru", 2, 12, direction="reverse"), numbers(3, 2, 5))


def test_doubles():
    check(layer("lstm", 2, 9, dtype="f64"), numbers(3, 2, 5, dtype=np.float64))


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4", "aarch64", "riscv64"])
def test_tiles_of_other_machines_have_room_for_all_sums(name):
    plan = build_plan(lower(layer("lstm", 4, 40), joins=True), NAMED[name])
    codes = [x.code for x, path in walk_calls(plan.steps) if path]
    assert all(isinstance(c.schedule, ContractSchedule) for c in codes)
    assert all(len(c.schedule.gates) == 4 for c in codes)


def gated(rows, width, depth=20):
    """silu(a) * c of (a, c) = x @ w: a gated layer, and a residual."""
    b = Builder()
    x = b.input("x", f"f32[{rows},{depth}]")
    both = b.matmul(x, b.constant(numbers(depth, 2 * width)))
    half = lambda i: b.slice(both, axes=[1], starts=[i * width], steps=[1], sizes=[width])
    a, c = half(0), half(1)
    b.output("y", a * b.sigmoid(a) * c)
    return b.graph


@pytest.mark.parametrize(("rows", "width"), [(1, 16), (6, 31), (9, 64)])
def test_a_gated_layer_is_one_kernel(rows, width):
    program = check(gated(rows, width), numbers(rows, 20))
    (call,) = program.kernels()
    assert len(find_gates(call.kernel).sums) == 2


def test_columns_too_few_for_tiles_are_left_alone():
    program = check(gated(4, 5), numbers(4, 20))
    assert len(list(program.kernels())) == 2


def test_a_product_that_others_read_is_stored_as_well():
    b = Builder()
    x = b.input("x", "f32[3,12]")
    both = b.matmul(x, b.constant(numbers(12, 32)))
    half = lambda i: b.slice(both, axes=[1], starts=[i * 16], steps=[1], sizes=[16])
    b.output("y", b.tanh(half(0)) * half(1))
    b.output("total", b.reduce_sum(both, axes=[0], keepdims=False))
    check(b.graph, numbers(3, 12))


def test_weights_that_are_fed_stay_products_by_themselves():
    b = Builder()
    x, w = b.input("x", "f32[3,12]"), b.input("w", "f32[12,32]")
    both = b.matmul(x, w)
    half = lambda i: b.slice(both, axes=[1], starts=[i * 16], steps=[1], sizes=[16])
    b.output("y", b.tanh(half(0)) * half(1))
    program = check(b.graph, numbers(3, 12), numbers(12, 32))
    assert len(list(program.kernels())) == 2


def test_the_packed_rows_of_several_sums_lie_beside_each_other():
    graph = gated(4, 24)
    plan = build_plan(lower(graph, joins=True), NAMED["x86-64-v3"])
    (code,) = plan.codes.values()
    columns = code.schedule.columns
    packed = plan.weights[0].reshape(-1, 20, 2, columns)
    w = next(v for v in graph.values() if v.constant is not None and v.shape == (20, 48)).constant
    np.testing.assert_array_equal(packed[0, :, 0], w[:, :columns])
    np.testing.assert_array_equal(packed[0, :, 1], w[:, 24 : 24 + columns])
