"""Loads and stores stay inside their buffers: what the proofs find, and what they refuse."""

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tessel
from tessel.compiler.driver import Driver
from tessel.compiler.errors import CheckFailed, TesselError, TypeMismatch
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.dim_proof import STEPS, Dims
from tessel.compiler.expr.expr import Axis, Buffer
from tessel.compiler.expr.proof import Prover
from tessel.compiler.ir.bounds import assume_above, assume_equal, assuming
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.graph import Node
from tessel.compiler.ir.op import OPS, Pull
from tessel.compiler.ir.types import TensorType, dtype_of
from tessel.compiler.kernels.assumptions import Assumptions
from tessel.compiler.kernels.bounds import unproven, verify_bounds
from tessel.compiler.kernels.kernel import Call, Kernel, Program, Ref, Slot, Store
from tessel.compiler.lowering.lower import lower
from tessel.compiler.targets.table import open_target

from ...dynamic_shapes.test_dynamic_ops import opened
from ..ops.test_ops import graph_of
from ..tools.test_cli import call  # noqa: F401  a fixture

N, M = Sym.named("N"), Sym.named("M")
X, PLACE, OUT = (
    Buffer(name, TensorType(dtype_of(dtype), (8,)))
    for name, dtype in (("x", "f32"), ("place", "i64"), ("out", "f32"))
)


def kernel(value, index=lambda i: i, where=None, extent=8):
    """out[index(i)] = value(i) for i < extent; all buffers have 8 elements."""
    axis = Axis("i", extent)
    i = s.axis(axis)
    guard = None if where is None else where(i)
    return Kernel("test", (axis,), (Store(OUT, (s.lift(index(i), i),), value(i), guard),))


def doubts(k, **ranges):
    return [str(a) for a in unproven(k, Prover(ranges=ranges.get("ranges")))]


# -- dims -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "a", "b", "known"),
    [
        ((), N * M, N, True),
        ((), N, 2, False),
        ([(N, 1)], N, 2, True),
        ([(N + 1, M), (M + 1, N)], N * M, N * N, True),  # N and M are equal
        ((), N, 2 * (N // 2), True),
        ((), 2 * (N // 2), N, False),
        ((), N, N % 5, True),
        ([(N - M + 1, 0)], (N - M + 1) * (N - M + 1), 0, True),
    ],
)
def test_what_follows_for_dims(conditions, a, b, known):
    assert Dims(conditions).at_least(a, b) is known


def test_what_some_sizes_refute_is_not_looked_for():
    known = Dims([(N, 1)])
    assert not known.at_least(N * (M // 4), N + M // 8) and known._left == STEPS
    assert known.at_least(N, 2 * (N // 2)) and known._left < STEPS


def test_assumptions_are_taken_by_the_symbols_that_they_are_about():
    known = Assumptions()
    with assuming():
        assume_above(N, 3)
        about_n = known.about({"N"})
        assert about_n.at_least(N, 4) and not about_n.at_least(M, 2)
        assume_above(M, 1)
        assert known.about({"N"}) is about_n  # nothing more is known of N
        assert known.about({"M"}).at_least(M, 2)
        assert known.about({"M"}, [(M, 4)]).at_least(M, 5)
        assert assume_equal(N, M)
        assert known.about({"M"}).at_least(M, 4)  # by what is known of N


# -- indices --------------------------------------------------------------------------------


def test_axes_sums_and_quotients_are_inside():
    assert not doubts(kernel(lambda i: X[i]))
    assert not doubts(kernel(lambda i: X[s.const(7) - i]))
    assert not doubts(kernel(lambda i: X[i // 2 + (i % 2) * 4]))
    assert not doubts(kernel(lambda i: X[i - i % 4 + (s.const(3) - i % 4)]))


def test_what_leaves_a_buffer_is_named_with_its_interval():
    (said,) = doubts(kernel(lambda i: X[i + 1]))
    assert said == "test: load x[(i + 1)] is from 1 to 8, not within 0 … 7"
    (said,) = doubts(kernel(lambda i: X[i], index=lambda i: i - 1))
    assert said == "test: store out[(i + -1)] is from -1 to 6, not within 0 … 7"


def test_an_index_that_is_data_must_be_limited():
    (said,) = doubts(kernel(lambda i: X[PLACE[i]]))
    assert "load x[place[i]] is from -inf to inf" in said
    assert doubts(kernel(lambda i: X[s.minimum(PLACE[i], s.const(7))]))
    assert not doubts(kernel(lambda i: X[s.minimum(s.maximum(PLACE[i], 0), s.const(7))]))


def test_a_select_between_indices_is_a_limit():
    def chosen(i):
        inside = (PLACE[i] >= 0) & (PLACE[i] < 8)
        return X[s.select(inside, PLACE[i], s.const(0))]

    assert not doubts(kernel(chosen))
    assert doubts(kernel(lambda i: X[s.select(PLACE[i] >= 0, PLACE[i], s.const(0))]))


def test_a_condition_on_what_wraps_around_is_no_limit():
    def chosen(i):
        moved = PLACE[i] - 3  # of the smallest i64 this is positive
        return X[s.select((moved >= 0) & (PLACE[i] < 8), PLACE[i], s.const(0))]

    assert doubts(kernel(chosen))


def test_a_select_around_a_load_is_no_guard():
    assert doubts(kernel(lambda i: s.select(i < 7, X[i + 1], s.const(0.0, "f32"))))


def test_the_condition_of_a_store_guards_what_is_computed_for_it():
    one = lambda i: s.const(1.0, "f32")
    assert not doubts(kernel(one, where=lambda i: i < 8, extent=9))
    assert doubts(kernel(one, where=lambda i: i < 9, extent=10))
    assert not doubts(kernel(lambda i: X[i], where=lambda i: i < 8, extent=9))
    (said,) = doubts(kernel(lambda i: X[i + 1], where=lambda i: i < 8, extent=9))
    assert "load" in said
    said = doubts(kernel(one, where=lambda i: X[i] > 0.0, extent=9))
    assert any("load" in doubt for doubt in said)


def test_elements_of_constants_are_known():
    assert not doubts(kernel(lambda i: X[PLACE[i]]), ranges={PLACE: (0, 7)})
    assert doubts(kernel(lambda i: X[PLACE[i]]), ranges={PLACE: (0, 8)})


def test_an_index_of_a_narrow_dtype_has_its_range():
    byte = Buffer("byte", TensorType(dtype_of("u8"), (8,)))
    wide = Buffer("wide", TensorType(dtype_of("f32"), (256,)))
    assert not doubts(kernel(lambda i: wide[s.cast(byte[i], "i64")]))
    assert doubts(kernel(lambda i: X[s.cast(byte[i], "i64")]))


# -- lowering and programs ------------------------------------------------------------------


def graph_with(rule, shape=(4,)):
    """The op `reverse` with another meaning."""
    b = Builder()
    x = b.input("x", TensorType(dtype_of("f32"), shape))
    op = dataclasses.replace(OPS["reverse"], loops=Pull(rule))
    node = Node(op, [x.value], {"axes": (0,)}, [x.type], ["y"], "here")
    b.graph.nodes.append(node)
    b.output("y", node.output)
    return b.graph


def test_an_op_that_reads_past_its_operand_is_refused_by_name():
    graph = graph_with(lambda out, x, *, axes: lambda i: x[i + 1])
    with pytest.raises(TypeMismatch, match="reverse: a load may leave its array") as error:
        lower(graph)
    assert error.value.where == "here"
    assert "0 … 3" in error.value.expected and error.value.received == "1 … 4"


def test_dynamic_dims_that_an_index_needs_are_assumed_and_checked_per_run():
    graph = graph_with(lambda out, x, *, axes: lambda i: x[s.const(2)], (N,))
    program = lower(graph, dynamic_shapes=True)
    assert (N, 2) in program.conditions
    assert verify_bounds(program) == 2
    exe = tessel.compile(graph)
    assert exe(np.arange(3, dtype=np.float32)).tolist() == [2, 2, 2]
    with pytest.raises(TesselError, match="may leave its array"):
        exe(np.arange(2, dtype=np.float32))


def test_nothing_is_read_of_an_operand_without_elements():
    rule = lambda out, x, *, axes: lambda i: x[s.minimum(s.maximum(i, 0), out.shape[0] - 1)]
    program = lower(graph_with(rule, (0,)))
    assert not list(program.kernels())


def test_a_buffer_that_leaves_its_slot_is_found():
    copy = kernel(lambda i: X[i])
    refs = (Ref(Slot("input", 0), 4), Ref(Slot("output", 0)))
    program = Program([Call(copy, refs)], [X.type], [OUT.type], [], 0)
    with pytest.raises(CheckFailed, match="input 0 is used from byte 4 to 36") as error:
        verify_bounds(program)
    assert error.value.exit_code == 1


# -- everything there is ----------------------------------------------------------------------

FEW = 3  # samples of each op


@pytest.mark.parametrize("dynamic_shapes", [False, True], ids=["fixed", "open"])
def test_every_op_stays_inside(dynamic_shapes):
    count = 0
    for op in OPS.values():
        for sample in list(op.samples())[:FEW]:
            made = opened(op, sample) if dynamic_shapes else graph_of(op, sample)
            if made is None:
                continue
            with contextlib.suppress(TypeError):  # its sizes have to be known
                count += verify_bounds(lower(made[0], dynamic_shapes=dynamic_shapes))
    assert count > 1000


ROOT = Path(__file__).parents[3]
MODELS = ["examples/models/digits", "mnist_8/model", "dtln_1/model", "super_resolution_10/model"]


@pytest.mark.parametrize("name", MODELS)
def test_models_stay_inside(name):
    root = ROOT if name.startswith("examples") else ROOT.parent / "shared/models"
    path = root / f"{name}.onnx"
    if not path.is_file():
        pytest.skip("the model is not here")
    driver = Driver(open_target("cpu"))
    graph = driver.optimize(tessel.read(path))
    program = lower(driver.prepare(graph), dynamic_shapes=bool(graph.symbols()))
    assert verify_bounds(program) > 20


# -- the option -------------------------------------------------------------------------------


def model(tmp_path):
    path = tmp_path / "m.graph"
    path.write_text("graph main(%x: f32[2,3]) -> (%y) {\n  %y = exp(%x) : f32[2,3]\n}\n")
    return path


def test_the_command_says_how_many_accesses_were_proved(call, tmp_path):  # noqa: F811
    out = tmp_path / "m.tsl"
    code, _, err = call("compile", model(tmp_path), "-o", out, "--verify-bounds")
    assert code == 0 and "2 accesses stay inside their arrays" in err


@pytest.mark.parametrize("dynamic_shapes", [False, True])
def test_what_cannot_be_proved_fails_the_command(
    call,  # noqa: F811
    tmp_path,
    monkeypatch,
    dynamic_shapes,
):
    path = model(tmp_path)
    if dynamic_shapes:
        path.write_text(path.read_text().replace("[2,", "[N,"))
    monkeypatch.setattr("tessel.compiler.expr.proof.Prover.holds", lambda *_: False)
    monkeypatch.setattr("tessel.compiler.kernels.bounds._is_plain", lambda *_: False)
    monkeypatch.setattr("tessel.compiler.lowering.lower.require_inside", lambda *_: None)
    code, _, err = call("compile", path, "-o", tmp_path / "m.tsl", "--verify-bounds")
    assert code == 1 and "not every access can be shown to stay inside its buffer" in err
    assert "exp: load x" in err and "is from 0 to" in err
