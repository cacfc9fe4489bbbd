"""Machine code of stores under conditions: what is left alone, and what is not even read."""

import ctypes
import mmap

import numpy as np
import pytest
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.types import DTYPES
from tessel.runtime.native.module import NativeModule

from ...guards.memory import GuardedMemory
from ...support.kernels import buffer_of, native, program_of, store
from .test_llvm_kernels import agree, numbers


@pytest.mark.parametrize("n", [1, 3, 16, 37])
def test_guarded_stores_leave_the_rest(n):
    x = numbers((5, n))
    a = buffer_of("a", x)
    positive = store((5, n), lambda i, j: a[i, j], where=lambda i, j: a[i, j] > 0.0)
    by_index = store((5, n), lambda i, j: a[i, j], where=lambda i, j: (j < 3) & (i >= 2))
    by_row = store((5, n), lambda i, j: a[i, j], where=lambda i, j: a[i, 0] > 0.0)
    (p, _), (b, _), (r, _) = agree([positive, by_index, by_row], {a: x})
    np.testing.assert_array_equal(p, np.where(x > 0, x, 0))
    assert not b[:2].any()
    assert not b[:, 3:].any()
    np.testing.assert_array_equal(r, np.where(x[:, :1] > 0, x, 0))


def array_before_unreadable_memory(count: int) -> np.ndarray:
    """f32 values that end where a page of the process ends."""
    size = -(-count * 4 // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    whole = np.frombuffer(memory, np.float32)
    behind = ctypes.c_void_p(whole.ctypes.data + size)
    assert ctypes.CDLL(None).mprotect(behind, mmap.PAGESIZE, 0) == 0  # PROT_NONE
    return whole[: size // 4][-count:]


@pytest.mark.parametrize("n", [3, 16, 37])
def test_lanes_that_are_not_stored_are_not_read(n):
    x = array_before_unreadable_memory(n)
    x[:] = numbers(x.shape)
    b = buffer_of("x", x)
    body, inside = (lambda i: b[i] + 1.0), (lambda i: s.compare("lt", i, s.const(n)))
    kernel = store((n,), body, extents=(n + 70,), where=inside)
    (received,) = native(program_of(kernel, {b: x}))([x], 1, None)
    np.testing.assert_array_equal(received, x + 1)


def test_what_is_not_stored_is_not_read():
    x = array_before_unreadable_memory(7 * 40)
    x[:] = numbers(x.shape)
    x = x.reshape(7, 40)
    b = buffer_of("x", x)
    body, inside = (lambda i, j: b[i, j] + 1.0), (lambda i, j: s.compare("lt", i, s.const(7)))
    kernel = store((7, 40), body, extents=(8, 40), where=inside)
    (received,) = native(program_of(kernel, {b: x}))([x], 1, None)
    np.testing.assert_array_equal(received, x + 1)


@pytest.mark.parametrize(
    ("wide", "narrow"), [("i32", "i8"), ("i32", "u8"), ("i32", "i16"), ("i64", "i32")]
)
@pytest.mark.parametrize("columns", [17, 33, 65])
def test_the_only_lane_of_a_last_vector_is_stored_as_narrow_as_it_is(
    monkeypatch, wide, narrow, columns
):
    """LLVM stores the one lane of a constant mask before it was narrowed: bytes behind it."""
    memory = GuardedMemory("start")
    monkeypatch.setattr(NativeModule, "memory", memory)
    x = np.arange(16 * 9).reshape(16, 9).astype(DTYPES[wide].numpy) % 5
    w = np.arange(9 * columns).reshape(9, columns).astype(x.dtype) % 3
    a, b = buffer_of("a", x), buffer_of("b", w)
    body = lambda i, j: s.reduce("sum", [9], lambda k: a[i, k] * b[k, j], wide)
    kernel = store((16, columns), body, narrow)
    (received,) = native(program_of(kernel, {a: x, b: w}))([x, w], 1, None)
    np.testing.assert_array_equal(received, (x @ w).astype(received.dtype))
    assert memory.check() is None


@pytest.mark.parametrize("n", [3, 16, 37])
def test_one_lane_of_many_stores_to_the_one_place_of_a_row(n):
    """The largest element of each row; a row of which no lane stores keeps what was there."""
    x = np.stack([numbers((n,)), np.zeros(n, np.float32), numbers((n,))])
    a = buffer_of("a", x)
    top = lambda i: s.reduce("max", [n], lambda k: a[i, k])
    largest = lambda i, j: s.eq(a[i, j], top(i)) & (a[i, j] > 0.0)
    place = lambda i, j: (i,)
    for body in (lambda i, j: a[i, j], lambda i, j: s.const(2.0, "f32")):
        kernel = store((3,), body, index=place, where=largest, extents=(3, n))
        (received,) = native(program_of(kernel, {a: x}))([x], 1, [np.full(3, -1, np.float32)])
        wanted = x.max(1) if body(0, 0).op == "load" else np.full(3, 2.0)
        np.testing.assert_array_equal(received, np.where(x.max(1) > 0, wanted, -1))
