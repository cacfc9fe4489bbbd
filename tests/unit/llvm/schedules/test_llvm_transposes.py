"""Machine code of blocked transposes against numpy: edges, widths, what is around them."""

from dataclasses import replace

import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.backends.llvm.schedules.blocked_transpose import BlockedTransposeSchedule
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.builder import Builder
from tessel.runtime.native.module import NativeModule

from ....guards.memory import SIDES, GuardedMemory
from ....support.kernels import buffer_of, native, program_of, scheduled, store
from ..test_llvm_kernels import agree, numbers


def turned(shape, dtype="f32", body=lambda x, i, j: x):
    """(kernel, arrays) of y[n, m] = body(x[m, n])."""
    x = numbers(shape, dtype)
    a = buffer_of("a", x)
    return store(shape[::-1], lambda i, j: body(a[j, i], i, j), dtype), {a: x}


def is_blocked(kernel, arrays, target=None) -> bool:
    return isinstance(scheduled(program_of(kernel, arrays), target), BlockedTransposeSchedule)


# -- edges, widths ---------------------------------------------------------------------------------

SHAPES = [(8, 4), (9, 70), (8, 9), (64, 16), (65, 63), (70, 5), (17, 129), (256, 9)]


@pytest.mark.parametrize("width", [16, 32, 64])
def test_any_size_around_tiles_and_blocks(width):
    target, kernels, arrays = replace(host(), vector_bytes=width), [], {}
    for shape in SHAPES:
        kernel, own = turned(shape)
        assert is_blocked(kernel, own, target)
        kernels.append(kernel)
        arrays |= own
    agree(kernels, arrays, target=target)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("dtype", ["f64", "i64", "f16", "bf16", "i16", "u8", "bool"])
def test_any_dtype(dtype):
    kernels, arrays = [], {}
    for shape in [(8, 5), (9, 70), (66, 33), (1024, 9)]:
        kernel, own = turned(shape, dtype)
        assert is_blocked(kernel, own)
        kernels.append(kernel)
        arrays |= own
    agree(kernels, arrays)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("dtype", ["f32", "f64", "u8", "f16"])
def test_short_lines_are_interleaved(dtype):
    kernels, arrays = [], {}
    for channels in range(2, 8):
        for n in (9, 35):
            kernel, own = turned((channels, n), dtype)
            assert not is_blocked(kernel, own)
            kernels.append(kernel)
            arrays |= own
    agree(kernels, arrays)


@pytest.mark.parametrize("side", SIDES)
def test_nothing_is_touched_beside_the_arrays(monkeypatch, side):
    memory = GuardedMemory(side)
    monkeypatch.setattr(NativeModule, "memory", memory)
    for shape, dtype in [
        ((8, 7), "f32"),
        ((67, 33), "f32"),
        ((19, 67), "u8"),
        ((256, 19), "f32"),
        ((70, 9), "f64"),
    ]:
        kernel, arrays = turned(shape, dtype)
        (x,) = [memory.input(x) for x in arrays.values()]
        module = native(program_of(kernel, arrays))
        np.testing.assert_array_equal(module([x], 1, None)[0], x.T)
    assert memory.check() is None


def test_tiles_are_stored_at_once_where_their_lines_fit_the_cache():
    """And little is computed; lines a power of two apart evict each other."""
    plan = lambda *shape, **body: scheduled(program_of(*turned(shape, **body)))
    assert plan(300, 200).direct
    assert not plan(512, 200).direct
    assert not plan(300, 200, body=lambda x, i, j: s.exp(x)).direct


def test_threads_share_the_blocks():
    kernel, arrays = turned((300, 200))
    module = native(program_of(kernel, arrays))
    module.code.parallel = True
    (x,) = arrays.values()
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(module([x], threads)[0], x.T)


# -- what is around them ---------------------------------------------------------------------------


def test_an_expression_of_several_loads():
    """transpose + add + relu, of two that are turned, one that is not, and one of each row."""
    m, n = 45, 70
    x, y, z, w = numbers((m, n)), numbers((m, n)), numbers((n, m)), numbers((n,))
    a, b, c, d = (buffer_of("abcd"[k], v) for k, v in enumerate((x, y, z, w)))
    body = lambda i, j: s.maximum(a[j, i] + b[j, i] * c[i, j] - d[i], s.const(0.0, "f32"))
    kernel, arrays = store((n, m), body), {a: x, b: y, c: z, d: w}
    assert is_blocked(kernel, arrays)
    received, _ = agree(kernel, arrays)
    np.testing.assert_array_equal(received, np.maximum(x.T + y.T * z - w[:, None], 0))


@pytest.mark.parametrize(("source", "target"), [("u8", "f32"), ("f32", "u8"), ("f16", "f32")])
def test_casts_on_the_way(source, target):
    x = np.abs(numbers((50, 37), source))
    a = buffer_of("a", x)
    kernel = store((37, 50), lambda i, j: s.cast(a[j, i], target), target)
    assert is_blocked(kernel, {a: x})
    agree(kernel, {a: x})


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (3, 1, 0, 2), (2, 0, 3, 1), (3, 2, 1, 0)])
def test_axes_in_any_order(order):
    x = numbers((6, 9, 5, 11))
    a, back = buffer_of("a", x), np.argsort(order)
    shape = tuple(x.shape[d] for d in order)
    kernel = store(shape, lambda *i: a[tuple(i[back[d]] for d in range(4))])
    assert is_blocked(kernel, {a: x})
    received, _ = agree(kernel, {a: x})
    np.testing.assert_array_equal(received, x.transpose(order))


def test_a_part_of_what_is_read_and_of_what_is_written():
    x = numbers((40, 60))
    a = buffer_of("a", x)
    body, place = (lambda i, j: a[j + 3, i + 7]), (lambda i, j: (i + 1, j + 5))
    kernel = store((60, 50), body, index=place, extents=(50, 33))
    assert is_blocked(kernel, {a: x})
    received, _ = agree(kernel, {a: x})
    np.testing.assert_array_equal(received[1:51, 5:38], x[3:36, 7:57].T)


# -- dynamic dims
# ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["[2,N,M]", "[N,24,40]", "[2,N,24]", "[2,24,N]"])
def test_dynamic_dims_of_any_length(shape):
    b = Builder()
    x = b.input("x", f"f32{shape}")
    b.output("y", b.relu(x.transpose(0, 2, 1)) + 1.0)
    exe = tessel.compile(b.graph, threads=1)
    for n, m in [(1, 1), (3, 70), (4, 8), (17, 5), (65, 66), (130, 64)]:
        sizes = [{"N": n, "M": m}.get(d) or int(d) for d in shape[1:-1].split(",")]
        x = numbers(sizes)
        expected = np.maximum(x.transpose(0, 2, 1), 0) + np.float32(1)
        np.testing.assert_array_equal(exe.run({"x": x})["y"], expected)
