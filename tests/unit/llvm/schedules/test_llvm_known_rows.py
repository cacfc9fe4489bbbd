"""Machine code of loads whose places follow from the vector axis alone: windows and shuffles."""

from dataclasses import replace

import numpy as np
import pytest
from tessel.compiler.backends.llvm.backend import compile_program
from tessel.compiler.backends.llvm.base.target import NAMED, host
from tessel.compiler.backends.llvm.kernel.codegen import kernel_module, schedule_kernel
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.types import DTYPES, F32
from tessel.compiler.kernels.simplify import merge_axes, split_axes

from ....support.kernels import NO_CACHE, both, buffer_of, close, program_of, scheduled, store

ROWS = 3

# name: (places along the output's axis of n, elements of the input's)
PLACES = {
    "twice": (lambda i, n: i // 2, lambda n: -(-n // 2)),
    "thrice, from the middle": (lambda i, n: (i + 1) // 3, lambda n: (n + 3) // 3),
    "one and a half": (lambda i, n: i * 2 // 3, lambda n: n),
    "three quarters": (lambda i, n: i * 4 // 3, lambda n: 4 * n // 3 + 1),
    "half": (lambda i, n: (i * 4 + 1) // 2, lambda n: 2 * n),
    "a fifth": (lambda i, n: (i * 10 + 5) // 2, lambda n: 5 * n + 3),
    "limited": (lambda i, n: s.minimum(s.maximum(i - 3, 0), max(n - 7, 0)), lambda n: n),
    "mirrored": (lambda i, n: s.maximum(i - n // 2, n // 2 - i), lambda n: n // 2 + 2),
    "reversed twice": (lambda i, n: (n - 1 - i) // 2, lambda n: -(-n // 2)),
    "around": (lambda i, n: (i * 7) % n, lambda n: n),
}


def resampled(name: str, n: int, dtype: str):
    place, length = PLACES[name]
    x = np.random.default_rng(0).integers(0, 120, (ROWS, length(n)))
    a = buffer_of("a", x.astype(DTYPES[dtype].numpy))
    kernel = store((ROWS, n), lambda i, j: a[i, place(j, n)], dtype)
    return kernel, {a: x.astype(DTYPES[dtype].numpy)}


@pytest.mark.sweep(8)
@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("dtype", ["f32", "f64", "u8", "f16", "i64"])
def test_places_of_the_vector_axis(name, dtype):
    sizes = (1, 5, 9, 31, 64, 100) if dtype in ("f32", "u8") else (6, 50)
    cases = [resampled(name, n, dtype) for n in sizes]
    for kernel, arrays in cases:
        received, expected = both(kernel, arrays)
        close(received, expected)


@pytest.mark.parametrize("mode", ["add", "where"])
def test_nothing_else_is_read_where_not_all_is_stored(mode):
    x = np.arange(40, dtype=np.float32)
    a = buffer_of("a", x)
    body = lambda i: a[i // 3] + 1.0
    if mode == "add":
        kernel = store((50,), body, mode="add")
    else:
        kernel = store((50,), body, where=lambda i: s.compare("lt", i % 7, s.const(5)))
    received, expected = both(kernel, {a: x})
    np.testing.assert_array_equal(received, expected)


def test_weights_and_taps_of_a_filter():
    """The axis of a sum takes part: each tap has a place and a weight of its own."""
    x = np.random.default_rng(0).standard_normal((4, 61)).astype(np.float32)
    a = buffer_of("a", x)

    def body(i, j):
        def tap(k):
            weight = s.cast((j * 3 + k * 2 + 1) % 7, F32) / s.const(7, F32)
            return a[i, s.minimum((j * 3 + k) // 2, 60)] * weight

        return s.reduce_sum([5], tap)

    received, expected = both(store((4, 37), body), {a: x})
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def code_of(kernel, target):
    kernel = merge_axes(split_axes(kernel))
    return str(kernel_module(schedule_kernel(kernel, target, frozenset(), False), target))


@pytest.mark.parametrize(
    "name", ["thrice, from the middle", "one and a half", "three quarters", "mirrored"]
)
def test_neighbours_are_loaded_at_once(name):
    kernel, _ = resampled(name, 320, "f32")
    text = code_of(kernel, NAMED["x86-64-v3"])
    assert "llvm.x86.avx2.permd" in text
    assert "div" not in text.replace("udiv i64 %", "")  # units into rows
    assert "gather" not in text


@pytest.mark.parametrize("target", sorted(NAMED))
@pytest.mark.parametrize("dtype", ["f32", "u8", "f16", "f64"])
def test_every_target_has_code(target, dtype):
    kernel, arrays = resampled("one and a half", 320, dtype)
    assert compile_program(program_of(kernel, arrays), NAMED[target], cache=NO_CACHE)


def test_axes_whose_neighbours_read_apart_are_split():
    x = np.arange(2 * 40, dtype=np.float32).reshape(2, 40)
    a = buffer_of("a", x)
    apart = store((80,), lambda i: a[i % 2, i // 2])
    near = store((80,), lambda i: a[i // 40, i // 2 % 40])
    assert [x.extent for x in split_axes(apart).axes] == [40, 2]
    assert [x.extent for x in split_axes(near).axes] != [40, 2]
    for kernel in (apart, near):
        received, expected = both(kernel, {a: x})
        np.testing.assert_array_equal(received, expected)


def test_groups_of_a_product_are_split():
    """They are a batch of products."""
    x, w = np.arange(40.0, dtype=np.float32), np.arange(5.0 * 80, dtype=np.float32).reshape(5, 80)
    a, b = buffer_of("a", x), buffer_of("b", w)
    term = lambda i: lambda k: a[i // 16 * 8 + k] * b[k, i]
    kernel = store((80,), lambda i: s.reduce("sum", [5], term(i)))
    assert [x.extent for x in split_axes(kernel).axes] == [5, 16]


def test_an_axis_that_is_not_stored_in_order_is_split():
    x = np.arange(40, dtype=np.float32)
    a = buffer_of("a", x)
    kernel = store((80, 8), lambda i, j: a[i // 2] + s.cast(j, F32))
    assert [x.extent for x in split_axes(kernel).axes] == [40, 2, 8]


def test_this_machine_shuffles_what_the_last_vector_overlaps():
    lanes = host().lanes(32)
    for n in (lanes + 1, 2 * lanes - 1, 3 * lanes + 2):
        kernel, arrays = resampled("twice", n, "f32")
        received, expected = both(kernel, arrays)
        np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("copies", [1, 2, 8, 9])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 37])
def test_rows_that_are_stored_several_times(copies, n):
    """As where an image is enlarged: each row is computed once, for all of its places."""
    x = np.random.default_rng(0).standard_normal((5, 19)).astype(np.float32)
    a = buffer_of("a", x)
    kernel = store((5, copies, n), lambda i, _, j: a[i, j // 2] * 3.0)
    received, expected = both(kernel, {a: x})
    close(received, expected)
    plan = scheduled(program_of(kernel, {a: x}), replace(host(), vector_bytes=32))
    if n == 37:
        assert (len(plan.row) == 1) == (1 < copies <= 8)
