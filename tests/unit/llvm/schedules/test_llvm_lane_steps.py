"""Vectors side by side: long chains and sums lane by lane, at every kind of end."""

from dataclasses import replace

import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.builder import Builder
from tessel.runtime.native.module import NativeModule

from ....guards.memory import SIDES, GuardedMemory
from ....support.kernels import buffer_of, native, program_of, scheduled, store
from ..test_llvm_kernels import agree, numbers

AVX2 = replace(host(), vector_bytes=32)
WIDTHS = [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 37, 63, 64, 65, 129, 1100]


def columns(rows: int, width: int, dtype: str = "f32"):
    """(kernel, arrays) of the sums of a matrix's columns."""
    x = numbers((rows, width), dtype)
    a = buffer_of("a", x)
    return store((width,), lambda j: s.reduce("sum", [rows], lambda i: a[i, j]), dtype), {a: x}


def powers(width: int):
    """(kernel, arrays) of e^x."""
    x = numbers((width,))
    a = buffer_of("a", x)
    return store((width,), lambda i: s.exp(a[i])), {a: x}


@pytest.mark.sweep(2)
@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("make", [lambda n: columns(40, n), powers], ids=["sum", "exp"])
def test_any_width(make, vector_bytes):
    kernels, arrays = zip(*map(make, WIDTHS))
    merged = {b: x for own in arrays for b, x in own.items()}
    agree(list(kernels), merged, target=replace(host(), vector_bytes=vector_bytes))


@pytest.mark.sweep(1)
@pytest.mark.parametrize("dtype", ["f64", "i32", "i64", "u8"])
def test_sums_of_any_dtype(dtype):
    kernels, arrays = zip(*(columns(40, n, dtype) for n in (5, 33, 64, 200)))
    agree(list(kernels), {b: x for own in arrays for b, x in own.items()})


@pytest.mark.parametrize(
    ("width", "vectors"), [(8, 1), (16, 2), (24, 1), (32, 4), (37, 1), (60, 4), (512, 4), (999, 4)]
)
def test_as_many_vectors_as_waste_little(width, vectors):
    assert scheduled(program_of(*powers(width)), AVX2).vectors == vectors


def test_short_sums_and_plain_arithmetic_take_one_vector():
    x = numbers((512,))
    a = buffer_of("a", x)
    assert scheduled(program_of(*columns(8, 512)), AVX2).vectors == 1
    assert scheduled(program_of(store((512,), lambda i: a[i] * 2.0), {a: x}), AVX2).vectors == 1


@pytest.mark.sweep(1)
@pytest.mark.parametrize("dtype", ["f16", "u8", "bool", "i32"])
def test_several_vectors_fill_a_narrower_one(dtype):
    wide, kernels, arrays = "f64" if dtype == "i32" else "f32", [], {}
    for width in WIDTHS:
        x = np.abs(numbers((width,), wide))
        a = buffer_of("a", x)
        kernels.append(store((width,), lambda i, a=a: a[i] * 2.0, dtype))
        arrays[a] = x
    agree(kernels, arrays)
    (a, x) = list(arrays.items())[-1]
    assert scheduled(program_of(kernels[-1], {a: x}), AVX2).vectors == 4


@pytest.mark.parametrize("side", SIDES)
def test_nothing_is_touched_beside_the_arrays(monkeypatch, side):
    memory = GuardedMemory(side)
    monkeypatch.setattr(NativeModule, "memory", memory)
    for width in WIDTHS:
        kernel, arrays = columns(20, width)
        inputs = [memory.input(x) for x in arrays.values()]
        native(program_of(kernel, arrays))(inputs, 1, None)
    assert memory.check() is None


def test_dynamic_widths():
    b = Builder()
    x = b.input("x", "f32[40,N]")
    b.output("power", b.exp(x))
    b.output("total", b.reduce_sum(x, axes=(0,), keepdims=False))
    exe = tessel.compile(b.graph, threads=1, cache=False)
    assert exe.for_all_sizes is not None
    for width in WIDTHS:
        x = numbers((40, width))
        received = exe.run({"x": x})
        np.testing.assert_allclose(received["power"], np.exp(x), rtol=1e-6)
        np.testing.assert_allclose(received["total"], x.sum(0), rtol=1e-6, atol=1e-5)


def test_threads_do_not_change_a_bit():
    kernel, arrays = columns(300, 1001)
    module = native(program_of(kernel, arrays))
    one, two = (module(list(arrays.values()), threads, None)[0] for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("width", [7, 33, 64, 100])
def test_sums_of_an_open_number_of_rows(width):
    b = Builder()
    b.output("y", b.reduce_sum(b.input("x", f"f32[N,{width}]"), axes=(0,), keepdims=False))
    exe = tessel.compile(b.graph, threads=1, cache=False)
    for rows in (1, 2, 17, 40):
        x = numbers((rows, width))
        np.testing.assert_array_equal(exe(x), x.sum(0))
