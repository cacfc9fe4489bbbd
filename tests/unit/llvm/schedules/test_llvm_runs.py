"""Machine code of places that are walked run by run: borders, rolls, any size, against numpy."""

import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.schedules.nest import NestSchedule
from tessel.compiler.backends.llvm.schedules.runs import has_runs, runs_pay
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dims import Sym
from tessel.compiler.kernels.simplify import flatten
from tessel.runtime.native.module import NativeModule

from ....guards.memory import SIDES, GuardedMemory
from ....support.kernels import buffer_of, native, program_of, scheduled, store
from ..test_llvm_kernels import agree, numbers

LONG = 9000  # elements: more than there are rows of places for
BORDER = 70


def mirrored(v, n):
    there = s.mod(v - BORDER, 2 * n - 2)
    return s.minimum(there, there * -1 + 2 * n - 2)


PADS = {
    "reflect": mirrored,
    "edge": lambda v, n: s.minimum(s.maximum(v - BORDER, 0), n - 1),
    "wrap": lambda v, n: s.mod(v - BORDER, n),
}
OTHERS = {
    "roll": lambda v, n: s.select(v < 4000, v + n - 4000, v - 4000),
    "a gap": lambda v, n: s.select((v < 100) | (v >= 5003), v, v - s.const(50)),
    "back": lambda v, n: s.select(v < 6000, v, s.maximum(v * -1 + 11_000, 0)),
    "a pace": lambda v, n: s.minimum(v, s.floordiv(v, 500) * -1 + n - 1),
    "not equal": lambda v, n: s.select(s.ne(v, 777), v, v * 0),
}


def walked(place, n=LONG, dtype="f32", rows=3, body=lambda x, i, v: x, more=2 * BORDER):
    """(kernel, arrays) of y[i, v] = body(x[i, place(v)])."""
    x = numbers((rows, n), dtype)
    a = buffer_of("a", x)
    return store((rows, n + more), lambda i, v: body(a[i, place(v, n)], i, v), dtype), {a: x}


def in_runs(kernel, arrays) -> bool:
    plan = scheduled(program_of(kernel, arrays))
    return isinstance(plan, NestSchedule) and plan.runs


@pytest.mark.parametrize("name", [*PADS, *OTHERS])
def test_places_of_many_kinds(name):
    place, more = (PADS[name], 2 * BORDER) if name in PADS else (OTHERS[name], 0)
    kernel, arrays = walked(place, more=more)
    assert in_runs(kernel, arrays)
    agree(kernel, arrays)


@pytest.mark.parametrize("dtype", ["u8", "f16", "f64", "bool"])
def test_any_dtype(dtype):
    kernel, arrays = walked(PADS["reflect"], dtype=dtype)
    assert in_runs(kernel, arrays)
    agree(kernel, arrays)


def test_what_is_computed_with_them_has_the_same_bits_however_it_is_shared():
    rows, n = 1, 70_000
    kernel, arrays = walked(PADS["wrap"], n, rows=rows, body=lambda x, i, v: s.exp(x) * x + 1.0)
    module = native(program_of(kernel, arrays))
    module.code.parallel = True
    (x,) = arrays.values()
    one = module([x], 1)[0]
    np.testing.assert_allclose(
        one, np.exp(y := np.roll(np.tile(x, 2), 70, 1)[:, : n + 140]) * y + 1, rtol=1e-5
    )
    for threads in (2, 3):
        assert module([x], threads)[0].tobytes() == one.tobytes()


def test_another_axis_may_take_part():
    """y[i, v] = x[(v + 7 i) mod n]: a row that is turned further each time."""
    x = numbers((300,))
    a = buffer_of("a", x)
    kernel = store((40, 300), lambda i, v: a[s.mod(v + i * 7, 300)])
    assert in_runs(kernel, {a: x})
    received, _ = agree(kernel, {a: x})
    np.testing.assert_array_equal(received, [np.roll(x, -7 * i) for i in range(40)])


@pytest.mark.parametrize("side", SIDES)
def test_nothing_is_read_beside_the_array(monkeypatch, side):
    memory = GuardedMemory(side)
    monkeypatch.setattr(NativeModule, "memory", memory)
    for name in ("reflect", "edge", "wrap"):
        kernel, arrays = walked(PADS[name], rows=1)
        (x,) = [memory.input(x) for x in arrays.values()]
        expected = np.pad(x, ((0, 0), (BORDER, BORDER)), name)
        np.testing.assert_array_equal(native(program_of(kernel, arrays))([x], 1, None)[0], expected)
    assert memory.check() is None


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_dynamic_dims(mode):
    b = Builder()
    x = b.input("x", "f32[2,M,N]")
    b.output("y", b.pad(x, pads=[0, 2, 5, 0, 3, 4], mode=mode))
    exe = tessel.compile(b.graph, threads=1)
    for m, n in [(4, 6), (5, 9), (7, 70), (33, 8), (4, 300)]:
        x = numbers((2, m, n))
        expected = np.pad(x, ((0, 0), (2, 3), (5, 4)), mode)
        np.testing.assert_array_equal(exe.run({"x": x})["y"], expected)


@pytest.mark.parametrize(
    ("place", "walks"),
    [
        (lambda v, w: s.floordiv(v, 3), True),  # of three elements: rows of places are no worse
        (lambda v, w: w[v], False),
        (lambda v, w: v, False),
    ],
)
def test_what_is_not_walked(place, walks):
    x, w = buffer_of("x", np.zeros(20_000, np.float32)), buffer_of("w", np.zeros(20_000, np.int64))
    kernel = store((9, 20_000), lambda i, v: x[place(v, w)] + s.cast(i, "f32"))
    kernel = flatten(kernel)
    axis = kernel.axes[1]
    assert has_runs(kernel, axis) == walks
    assert not runs_pay(kernel, axis, 8)


def test_an_axis_of_known_size_whose_places_an_open_one_decides():
    """Whether its runs are long is judged at the size to expect."""
    x = buffer_of("x", np.zeros(20_000, np.float32))
    size = s.const(Sym.named("N"))
    kernel = flatten(store((9, 2_000), lambda i, v: x[s.minimum(v, size)] + s.cast(i, "f32")))
    assert has_runs(kernel, kernel.axes[1])
    assert isinstance(runs_pay(kernel, kernel.axes[1], 8), bool)
