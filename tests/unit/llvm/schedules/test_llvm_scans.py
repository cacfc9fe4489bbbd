"""Running sums as machine code: each element from the one before, in a register."""

from dataclasses import replace

import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.backends.llvm.schedules.base import Given, Refusal
from tessel.compiler.backends.llvm.schedules.scan import ScanSchedule
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.expr import Axis, Buffer
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.types import F32, TensorType
from tessel.compiler.kernels.kernel import Kernel, Store
from tessel.compiler.lowering.lower import lower
from tessel.runtime.native.module import NativeModule

from ....guards.memory import SIDES, GuardedMemory
from ....support.kernels import native, scheduled

SHAPES = [
    ((40,), 0),
    ((1, 9), 1),
    ((3, 50), 1),
    ((9, 50), 1),
    ((5, 10), 1),
    ((50, 3), 0),
    ((20, 4), 0),
    ((20, 7), 0),
    ((20, 8), 0),
    ((20, 33), 0),
    ((20, 300), 0),
    ((3, 20, 40), 1),
    ((4, 3, 20), 2),
    ((2, 12, 3, 5), 1),
]
WAYS = [(False, False), (True, False), (False, True), (True, True)]  # exclusive, reverse


def graph_of(shape, axis, dtype="f32", op="accumulate", **attrs):
    b = Builder()
    b.output("y", b.emit(op, b.input("x", TensorType(dtype, shape)), axis=axis, **attrs))
    return b.graph


def program_of(*args, **attrs):
    return lower(graph_of(*args, combiner="sum", **attrs))


def numbers(shape, dtype="f32"):
    x = np.random.default_rng(0).integers(-4, 5, shape)
    return x.astype(TensorType(dtype, shape).dtype.numpy)


def running(x, axis, exclusive, reverse):
    x = np.flip(x, axis) if reverse else x
    y = np.cumsum(x, axis, dtype=x.dtype)
    y = y - x if exclusive else y
    return np.flip(y, axis) if reverse else y


@pytest.mark.sweep(5)
@pytest.mark.parametrize("vector_bytes", [16, 32])
@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_any_axis_of_any_shape(shape, axis, vector_bytes):
    x, target = numbers(shape), replace(host(), vector_bytes=vector_bytes)
    for exclusive, reverse in WAYS if vector_bytes == 32 else WAYS[:1]:
        program = program_of(shape, axis, exclusive=exclusive, reverse=reverse)
        assert isinstance(scheduled(program, target), ScanSchedule)
        (y,) = native(program, target)([x], 1, None)
        np.testing.assert_array_equal(y, running(x, axis, exclusive, reverse))


@pytest.mark.parametrize("dtype", ["f64", "i64", "i32", "u8"])
def test_any_dtype(dtype):
    for shape, axis in (((30, 21), 0), ((30, 21), 1)):
        x = numbers(shape, dtype)
        (y,) = native(program_of(shape, axis, dtype))([x], 1, None)
        np.testing.assert_array_equal(y, np.cumsum(x, axis, dtype=x.dtype))


def test_threads_do_not_change_a_bit():
    for shape, axis in (((200, 300), 0), ((300, 200), 1)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        module = native(program_of(shape, axis))
        np.testing.assert_array_equal(*(module([x], n, None)[0] for n in (1, 2)))


def test_sums_may_overwrite_what_they_add():
    for shape, axis in (((20, 33), 0), ((9, 50), 1)):
        for exclusive, reverse in WAYS:
            b = Builder()
            x = b.input("x", TensorType("f32", shape))
            sums = b.reduce_sum(x, axes=(1,), keepdims=True)
            given = b.concat(x, sums, axis=1)
            way = {"axis": axis, "exclusive": exclusive, "reverse": reverse}
            b.output("y", b.emit("accumulate", given, combiner="sum", **way))
            a = numbers(shape)
            whole = np.concatenate([a, a.sum(1, keepdims=True)], 1)
            y = tessel.compile(b.graph, threads=1, cache=False).run({"x": a})["y"]
            np.testing.assert_array_equal(y, running(whole, axis, exclusive, reverse))


@pytest.mark.parametrize("side", SIDES)
def test_nothing_is_touched_beside_the_arrays(monkeypatch, side):
    memory = GuardedMemory(side)
    monkeypatch.setattr(NativeModule, "memory", memory)
    for shape, axis in SHAPES:
        program = program_of(shape, axis, exclusive=True)
        native(program)([memory.input(numbers(shape))], 1, None)
    assert memory.check() is None


def test_rows_without_an_axis_for_vectors_go_side_by_side():
    assert scheduled(program_of((9, 50), 1)).rows == 4
    assert scheduled(program_of((50, 3), 0)).rows == 3
    assert scheduled(program_of((50,), 0)).rows == 1


@pytest.mark.parametrize("op", ["cumsum", "cumprod"])
def test_sums_are_taken_in_order_on_a_cpu(op):
    """Halves in f32; short axes are what fuses with their readers, as before."""
    x = np.random.default_rng(0).uniform(0.9, 1.1, (30, 20)).astype(np.float32)
    expected = getattr(np, op)(x.astype(np.float64), axis=0)
    for dtype, rtol in (("f32", 1e-5), ("f16", 2e-2)):
        graph = graph_of((30, 20), 0, dtype, op)
        exe = tessel.compile(graph, threads=1, cache=False)
        given = x.astype(TensorType(dtype, x.shape).dtype.numpy)
        np.testing.assert_allclose(exe.run({"x": given})["y"], expected, rtol=rtol)


# -- refusals ------------------------------------------------------------------------------

N = 20
X, Y = (Buffer(name, TensorType(F32, (N * N,))) for name in "xy")


def serial(value, place=lambda i, j: i * N + j, **options) -> Kernel:
    axes = (Axis("i", N), Axis("j", N))
    i, j = map(s.axis, axes)
    return Kernel("test", axes, (Store(Y, (place(i, j),), value(i, j), **options),), serial=True)


def before(i, j):
    return s.select(s.eq(i, 0), s.const(0.0, F32), Y[s.maximum(i - 1, 0) * N + j])


REFUSED = {
    "it is what is meant": (serial(lambda i, j: before(i, j) + X[i * N + j]), None),
    "two before": (
        serial(lambda i, j: s.select(i < 2, s.const(0.0, F32), Y[s.maximum(i - 2, 0) * N + j])),
        "what it reads of its own is not the element before",
    ),
    "places that meet": (
        serial(before, place=lambda i, j: i * N + j // 2),
        "what it reads of its own is not the element before",
    ),
    "adds": (serial(before, mode="add"), "it adds to what is there"),
    "a condition": (
        serial(lambda i, j: before(i, j), where=s.const(True, s.BOOL)),
        "or stores under a condition",
    ),
    "sums of what it overwrites": (serial(lambda i, j: before(i, j) + X[i * N + j]), None),
    "sums of another place of what it overwrites": (
        serial(lambda i, j: before(i, j) + X[(N - 1 - i) * N + j]),
        "it reads elsewhere in the memory that it writes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    kernel, why = REFUSED[name]
    found = ScanSchedule.propose(Given(kernel, host(), in_place="overwrites" in name))
    if why is None:
        assert isinstance(found, ScanSchedule)
    else:
        assert isinstance(found, Refusal)
        assert why in found.reason
