"""Python kernels beside machine code: called back from its middle, or run after its end."""

import re

import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.backends.llvm.program.entry import build_plan, main_module
from tessel.compiler.errors import InputError, KernelError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.types import F32, STR, TensorType
from tessel.compiler.kernels.kernel import Call, HostCallback, Program, Ref, Slot
from tessel.compiler.lowering.lower import lower

from ...support.kernels import native

X = np.array([[0.5, 2.0], [4.0, 0.25]], np.float32)
NUMBERS, WORDS = TensorType(F32, (2, 2)), TensorType(STR, (2,))


def negated_twice(first, last=lambda words: None) -> Program:
    """x -> -x in the arena -> first -> -first, and the words that `last` makes of it."""
    b = Builder()
    b.output("y", -b.input("x", "f32[2,2]"))
    (call,) = lower(b.graph).steps
    arena = [Ref(Slot("arena", 0), offset) for offset in (0, 64)]
    x, y, words = Ref(Slot("input", 0)), Ref(Slot("output", 0)), Ref(Slot("output", 1))

    def python(function, source, target, type):
        return HostCallback("test", function, {}, (source,), (NUMBERS,), (target,), (type,))

    steps = [
        Call(call.kernel, (x, arena[0])),
        python(first, arena[0], arena[1], NUMBERS),
        Call(call.kernel, (arena[1], y)),
        python(last, y, words, WORDS),
    ]
    return Program(steps, [NUMBERS], [NUMBERS, WORDS], [], 128)


def shown(x):
    return np.array([" ".join(f"{v:g}" for v in row) for row in x], object)


def calls_back(program: Program) -> bool:
    """Whether the entry calls a function through a pointer."""
    return (
        re.search(r"call \w+ %", str(main_module(build_plan(program, host()), host()))) is not None
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_kernels_in_the_middle_are_called_back_and_those_at_the_end_run_after(threads):
    program = negated_twice(lambda x: x * 10, shown)
    assert build_plan(program, host()).tail == 1
    y, words = native(program)([X], threads)
    np.testing.assert_array_equal(y, X * 10)
    assert words.tolist() == ["5 20", "40 2.5"]


def test_maps_are_made_after_the_machine_code_which_calls_nothing_back():
    b = Builder()
    b.output("maps", b.zip_map(b.exp(b.input("x", "f32[2,2]")), labels=("a", "b")))
    program = lower(b.graph)
    assert not calls_back(program) and calls_back(negated_twice(lambda x: x, shown))
    module = native(program)
    for _ in range(2):
        ((first, second),) = module([X], 1)
        np.testing.assert_allclose([*first.values(), *second.values()], np.exp(X).ravel(), 1e-6)


@pytest.mark.parametrize("place", ["first", "last"])
def test_errors_arrive_at_the_caller_and_the_next_run_is_none_the_worse(place):
    failing = [True]

    def kernel(x):
        if failing:
            raise ValueError("no such label")
        return x if place == "first" else shown(x)

    program = negated_twice(kernel) if place == "first" else negated_twice(lambda x: x, kernel)
    module = native(program)
    for _ in range(2):
        with pytest.raises(KernelError, match="fails on these inputs: ValueError: no such label"):
            module([X], 1)
    failing.clear()
    np.testing.assert_array_equal(module([X], 1)[0], X)


def test_runs_at_the_same_time_keep_their_values_apart():
    """A run within a kernel of a run: each has its own memory."""
    inner = []

    def kernel(x):
        if not inner:
            inner.append(None)
            inner.append(module([X + 1], 1)[0])
        return x

    module = native(negated_twice(kernel))
    np.testing.assert_array_equal(module([X], 1)[0], X)
    np.testing.assert_array_equal(inner[1], X + 1)


def test_a_kernel_that_gives_less_than_its_size_says_so():
    b = Builder()
    x = b.input("x", TensorType(STR, (3,)))
    b.output("y", b.normalize_strings(x, stopwords=("b",), size=3))
    exe = tessel.compile(b.graph, threads=1)
    assert exe(np.array(["a", "c", "d"], object)).tolist() == ["a", "c", "d"]
    with pytest.raises(InputError, match="fewer strings stay"):
        exe(np.array(["a", "b", "c"], object))
