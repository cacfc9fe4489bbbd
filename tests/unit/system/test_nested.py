"""Entrances within entrances: an error that comes through several of them is told once."""

import traceback

import numpy as np
import pytest
import tessel
from tessel.compiler.errors import InternalError, KernelError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.op import OPS, Extern, NotDifferentiable, Sample
from tessel.compiler.passes.cleanup import DeadCodeElimination
from tessel.runtime.execution.executable import Executable

X = np.ones((2, 8), np.float32)
FAULT = "this is a fault in tessel"


def graph(op="relu"):
    b = Builder()
    b.output("y", b.emit(op, b.input("x", "f32[N,8]")))
    return b.graph


def compile_(op="relu", **options):
    return tessel.compile(graph(op), cache=False, threads=1, **options)


@pytest.fixture
def op():
    """Registers a function of an array as the op `nested`."""

    def add(function):
        tessel.ops.register(
            "nested",
            "x: T -> T",
            "A user's.",
            T=("f32",),
            ref=function,
            shape=lambda x: x.shape,
            loops=Extern(function, "it is Python"),
            grad=NotDifferentiable("it is Python"),
            samples=lambda: [Sample([X])],
        )

    yield add
    if "nested" in OPS:
        tessel.ops.unregister("nested")


@pytest.fixture
def faulty(monkeypatch):
    """A compilation within which tessel fails."""
    names = {}
    text = "def run(*args, **options):\n    raise IndexError('boom')"
    exec(compile(text, "<within>", "exec"), names)

    def call(*_, **__):
        with monkeypatch.context() as patch:
            patch.setattr(DeadCodeElimination, "run", names["run"])
            compile_()

    return call


def chain(error) -> list[BaseException]:
    """An error and those that it says it comes from."""
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


def outer(how, call, op) -> None:
    """Enter tessel from outside, so that it calls `call`."""
    match how:
        case "observer":
            compile_(observer=call)
        case "progress":
            compile_(progress=call)
        case "jit":
            tessel.jit(lambda x: (call(), x)[1])(X)
        case "op":
            op(lambda x: (call(), x)[1])
            compile_("nested").run({"x": X})
        case "op of the numpy backend":
            op(lambda x: (call(), x)[1])
            compile_("nested", target="numpy").run({"x": X})


WAYS = ["observer", "progress", "jit", "op", "op of the numpy backend"]


@pytest.mark.parametrize("how", WAYS)
def test_a_fault_of_tessel_within_users_code_is_told_once(how, faulty, op):
    with pytest.raises(InternalError) as caught:
        outer(how, faulty, op)
    assert [type(e) for e in chain(caught.value)] == [InternalError, IndexError]
    assert caught.value.where == "the pass dce"
    text = "".join(traceback.format_exception(caught.value))
    assert (text.count(FAULT), text.count("Traceback")) == (1, 2)


@pytest.mark.parametrize("how", WAYS)
def test_an_error_of_users_own_code_within_two_entrances(how, op):
    """It stays what it is; that of an op in compiled code is told with the op's name, once."""

    def inner(*_, **__):
        raise ValueError("mine")

    def call(*_, **__):
        compile_(observer=inner)

    with pytest.raises((ValueError, KernelError), match="mine") as caught:
        outer(how, call, op)
    kinds = [KernelError, ValueError] if how == "op" else [ValueError]
    assert [type(e) for e in chain(caught.value)] == kinds
    assert FAULT not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("how", WAYS)
def test_an_error_of_the_inner_model_is_its_own(how, op):
    with pytest.raises(tessel.TesselError, match="unknown optimisation level") as caught:
        outer(how, lambda *_, **__: compile_(opt_level=9), op)
    assert len(chain(caught.value)) == 1


def test_an_op_that_runs_a_model_whose_op_fails(op):
    """The op that raised is named, not those around it."""

    def failing(x):
        raise ValueError("mine")

    op(failing)
    inner = compile_("nested")
    tessel.ops.unregister("nested")
    op(lambda x: inner.run({"x": x})["y"])
    with pytest.raises(KernelError, match="mine") as caught:
        compile_("nested").run({"x": X})
    assert [type(e) for e in chain(caught.value)] == [KernelError, ValueError]
    assert str(caught.value).count("fails on these inputs") == 1


def test_an_op_may_compile_and_run(op):
    op(lambda x: compile_().run({"x": -x})["y"] + x)
    exe = compile_("nested")
    assert isinstance(exe, Executable)
    np.testing.assert_array_equal(exe.run({"x": X - 2})["y"], np.zeros_like(X))
