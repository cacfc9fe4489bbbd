"""Kernels that differ in numbers only are compiled once; quantized and back, floats stay floats."""

from dataclasses import replace

import numpy as np
import pytest
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.backends.llvm.program.entry import build_plan
from tessel.compiler.backends.numpy import NumpyModule
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.expr import Axis, Buffer
from tessel.compiler.ir.types import F32, TensorType
from tessel.compiler.kernels.alike import alike
from tessel.compiler.kernels.kernel import Call, Kernel, Program, Ref, Slot, Store

from ...support.kernels import buffer_of, native, program_of, store

X = np.linspace(-9, 9, 600, dtype=np.float32)


def chain(x, scale: float, low: float = 0.0):
    """max(x * scale, low) + scale"""
    return store(X.shape, lambda i: s.maximum(x[i] * scale, low) + scale)


def program(*numbers):
    x = buffer_of("x", X)
    return program_of([chain(x, *n) for n in numbers], {x: X})


def test_kernels_that_differ_in_numbers_are_one_that_reads_them():
    made = program((0.5,), (0.25,), (0.5,))
    assert len({c.kernel.text() for c in made.steps}) == 2
    same = alike(made)
    (text,) = {c.kernel.text() for c in same.steps}
    assert "0.0:f32" in text  # what all of them have in common
    assert "0.5" not in text
    assert [w.tolist() for w in same.weights] == [[0.5], [0.25]]
    assert len(build_plan(made, host()).codes) == 1
    results = native(made)([X], 1)
    for got, expected in zip(results, NumpyModule(made)([X])):
        np.testing.assert_array_equal(got, expected)
    assert not np.array_equal(results[0], results[1])


@pytest.mark.parametrize("numbers", [[(0.5,), (0.5,)], [(0.5,)], [(0.5, 1.0), (0.5, 0.5)]])
def test_programs_without_such_kernels_stay_as_they_are(numbers):
    """In the last one a number is used for two things, in the other kernel it is not."""
    made = program(*numbers)
    assert [c.kernel for c in alike(made).steps] == [c.kernel for c in made.steps]


def test_zeros_of_both_signs_are_two_numbers():
    same = alike(program((0.0, 1.0), (-0.0, 1.0)))
    assert [np.signbit(w).tolist() for w in same.weights] == [[False], [True]]


def test_kernels_that_differ_in_where_they_store_are_one():
    y = Buffer("y", TensorType(F32, (100,)))
    axes = Axis("i", 5), Axis("j", 3)
    index = s.axis(axes[0]) * 10 + s.axis(axes[1])
    edges = [
        Kernel("edge", axes, (Store(y, (index + start,), s.const(start, F32)),), sources=(y,))
        for start in (7, 57, 0)
    ]
    refs = (Ref(Slot("output", 0), 0),)
    made = Program([Call(k, refs) for k in edges], [], [y.type], [], 0)
    same = alike(made)
    (text,) = {c.kernel.text() for c in same.steps}
    assert "b1: f32[43]" in text
    assert [c.refs[1].offset for c in same.steps] == [28, 228, 0]
    (got,), (expected,) = native(made)([], 1), NumpyModule(made)([])
    for start in (7, 57, 0):
        places = np.add.outer(np.arange(5) * 10, np.arange(3)) + start
        np.testing.assert_array_equal(got[places], expected[places])


def test_what_is_read_too_stays_where_it_is():
    x = buffer_of("x", X)
    kernel = Kernel("half", (a := Axis("i", 9),), (Store(x, (s.axis(a) + 1,), x[s.axis(a)] / 2),))
    made = Program([Call(kernel, (Ref(Slot("input", 0)),))], [x.type], [], [X], 0)
    assert alike(made).steps[0].kernel is kernel


def test_whatever_else_is_said_of_kernels_is_kept():
    made = program((0.5,), (0.25,))
    for call in made.steps:
        call.kernel = replace(call.kernel, serial=True, origins=("here",))
    for call in alike(made).steps:
        assert (call.kernel.serial, call.kernel.origins) == (True, ("here",))
        assert len(call.kernel.sources) == len(call.kernel.params) == len(call.refs)


SPECIAL = [
    0.0,
    -0.0,
    0.5,
    1.5,
    -1.5,
    126.5,
    127.5,
    254.5,
    255.5,
    300.0,
    -127.5,
    -128.5,
    3e38,
    np.inf,
    -np.inf,
    np.nan,
]
TINY = np.array([*SPECIAL, *np.linspace(-300, 300, 301)], np.float32)


@pytest.mark.parametrize("zero", [0.0, 3.0])
@pytest.mark.parametrize("taken", [0, 3])
@pytest.mark.parametrize(("dtype", "low", "high"), [("u8", 0, 255), ("i8", -128, 127)])
def test_a_whole_float_within_an_ints_limits_need_not_become_one(dtype, low, high, zero, taken):
    x = buffer_of("x", TINY)

    def through(i):
        whole = s.minimum(s.maximum(s.round(x[i]) + zero, float(low)), float(high))
        return s.cast(s.cast(s.cast(whole, dtype), "i32") - taken, "f32")

    kernel = store(TINY.shape, through)
    assert f"{dtype}(" not in kernel.text()
    with np.errstate(invalid="ignore"):
        moved = np.clip(np.nan_to_num(np.round(TINY) + np.float32(zero)), low, high)
    expected = (moved.astype(dtype).astype(np.int32) - taken).astype(np.float32)
    made = program_of(kernel, {x: TINY})
    for run in (lambda x: native(made)(x, 1), NumpyModule(made)):
        (got,) = run([TINY])
        np.testing.assert_array_equal(got.view(np.int32), expected.view(np.int32))


@pytest.mark.parametrize(("low", "high"), [(0.0, 256.0), (-1.0, 255.0), (0.0, 254.5), (1.0, 255.0)])
def test_other_floats_become_ints_on_the_way(low, high):
    """Outside of the limits they saturate, NaN would not become the lower bound, and what is not
    whole is cut off."""
    x = buffer_of("x", TINY)
    inside = lambda i: s.minimum(s.maximum(s.round(x[i]), low), high)
    assert "u8(" in store(TINY.shape, lambda i: s.cast(s.cast(inside(i), "u8"), "f32")).text()
    bare = lambda i: s.cast(s.cast(s.minimum(s.maximum(x[i], 0.0), 255.0), "u8"), "f32")
    assert "u8(" in store(TINY.shape, bare).text()
