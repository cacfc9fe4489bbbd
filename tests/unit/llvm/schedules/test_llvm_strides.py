"""Vectors whose lanes are a few elements apart in memory, against numpy, between guarded pages."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from tessel.compiler.backends.llvm.base.target import NAMED, host
from tessel.compiler.backends.llvm.kernel.codegen import kernel_module, schedule_kernel
from tessel.compiler.expr import expr as s
from tessel.compiler.kernels.tiling import is_short_stride
from tessel.runtime.native.module import NativeModule

from ....guards.memory import SIDES, GuardedMemory
from ....support.kernels import buffer_of, native, program_of, store
from ..test_llvm_kernels import agree, numbers

STRIDES = [-4, -3, -2, -1, 2, 3, 4, 5]
WIDTHS = [16, 32]  # bytes of a vector: as many lanes as other CPUs have


def strided(n: int, stride: int, dtype: str):
    """(kernel, arrays) of every stride-th of an array that has no element to spare."""
    x = numbers(((n - 1) * abs(stride) + 1,), dtype)
    a, first = buffer_of("a", x), x.shape[0] - 1 if stride < 0 else 0
    return store((n,), lambda i: a[i * stride + first], dtype), {a: x}


@pytest.mark.sweep(3)
@pytest.mark.parametrize(
    ("dtype", "width"),
    [("f32", 64), *itertools.product(["f32", "f64", "i8", "f16", "bool"], WIDTHS)],
)
def test_any_length_by_any_stride(dtype, width):
    kernels, arrays = [], {}
    for n in (3, 9, 33):
        for stride in STRIDES:
            kernel, own = strided(n, stride, dtype)
            kernels.append(kernel)
            arrays |= own
    agree(kernels, arrays, target=replace(host(), vector_bytes=width))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("side", SIDES)
def test_nothing_is_read_beside_the_first_and_the_last(monkeypatch, side, width):
    memory = GuardedMemory(side)
    monkeypatch.setattr(NativeModule, "memory", memory)
    for dtype in ("f32", "i8"):
        for stride in STRIDES:
            kernel, arrays = strided(67, stride, dtype)
            program = program_of(kernel, arrays)
            (x,) = [memory.input(x) for x in arrays.values()]
            module = native(program, replace(host(), vector_bytes=width))
            np.testing.assert_array_equal(module([x], 1, None)[0], x[::stride])
    assert memory.check() is None


@pytest.mark.parametrize("stride", [-1, 2, 4])
def test_short_strides_are_shuffled(stride):
    (call,) = program_of(*strided(64, stride, "f32")).steps
    code = schedule_kernel(call.kernel, NAMED["x86-64-v3"], frozenset(), False)
    text = str(kernel_module(code, NAMED["x86-64-v3"]))
    assert "shufflevector" in text
    assert "gather" not in text


def test_a_window_over_pairs_takes_lanes_along_the_row():
    """max pooling 2×2 with a stride of 2: the contiguous axis, though it is read at every other."""
    x = numbers((3, 10, 36))
    a = buffer_of("a", x)
    taps = lambda c, i, j: s.reduce("max", [2, 2], lambda p, q: a[c, i * 2 + p, j * 2 + q])
    (received, _) = agree(store((3, 5, 18), taps), {a: x})
    np.testing.assert_array_equal(received, x.reshape(3, 5, 2, 18, 2).max((2, 4)))


def test_short_strides_are_shorter_than_the_vector():
    assert [k for k in range(-6, 7) if is_short_stride(k, 8)] == [-4, -3, -2, -1, 2, 3, 4]
    assert [k for k in range(-6, 7) if is_short_stride(k, 2)] == [-1]
