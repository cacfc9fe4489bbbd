"""What every kind of schedule keeps to: its key, its refusals, its place in the list of kinds."""

import re
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.backends.llvm.base.types import i64
from tessel.compiler.backends.llvm.emit.emitter import Emitter
from tessel.compiler.backends.llvm.emit.store import emit_store
from tessel.compiler.backends.llvm.kernel import codegen
from tessel.compiler.backends.llvm.kernel.codegen import choose_schedule, schedule_kernel
from tessel.compiler.backends.llvm.kernel.schedule_kinds import SCHEDULES
from tessel.compiler.backends.llvm.schedules.base import (
    Arguments,
    Given,
    Numbers,
    Refusal,
    Schedule,
    written,
)
from tessel.compiler.backends.llvm.schedules.blocked_transpose import BlockedTransposeSchedule
from tessel.compiler.backends.llvm.schedules.contraction.schedule import ContractSchedule
from tessel.compiler.backends.llvm.schedules.nest import NestSchedule
from tessel.compiler.backends.llvm.schedules.scan import ScanSchedule
from tessel.compiler.backends.llvm.schedules.sliding.schedule import SlidingSchedule
from tessel.compiler.backends.llvm.schedules.window import WindowSchedule
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.expr import Axis, Buffer, Expr
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.types import F32, DType, TensorType
from tessel.compiler.kernels.kernel import Kernel, Store
from tessel.compiler.kernels.simplify import merge_axes, split_axes
from tessel.compiler.lowering.lower import lower
from tessel.tools.common.profile_tables import legend
from tessel.tools.explain import describe_schedule

from ....support.kernels import both, buffer_of, program_of, scheduled, store

V3 = NAMED["x86-64-v3"]
N = Sym.named("N")
zeros = lambda *shape, dtype=np.float32: buffer_of("x", np.zeros(shape, dtype))
X = zeros(20, 70)
flat = lambda kernel: merge_axes(split_axes(kernel))


def product(m=40, n=48, k=30, dtype="f32", turned=False) -> Kernel:
    a, b = zeros(m, k), zeros(n, k) if turned else zeros(k, n)
    place = (lambda p, j: b[j, p]) if turned else (lambda p, j: b[p, j])
    term = lambda i, j: lambda p: s.cast(a[i, p], dtype) * s.cast(place(p, j), dtype)
    return flat(store((m, n), lambda i, j: s.reduce("sum", [k], term(i, j), dtype), dtype))


def depthwise(channels=24, taps=3) -> Kernel:
    x, w = zeros(9 + taps, 9 + taps, channels), zeros(taps, taps, channels)
    term = lambda i, j, c: lambda p, q: x[i + p, j + q, c] * w[p, q, c]
    return flat(
        store((9, 9, channels), lambda *at: s.reduce("sum", [taps, taps], term(*at), "f32"))
    )


def pool(width=24, taps=3) -> Kernel:
    x = zeros(8, 9 + taps, width + taps - 1)
    largest = lambda c, i, j: s.reduce("max", [taps, taps], lambda p, q: x[c, i + p, j + q])
    return flat(store((8, 9, width), largest))


def rows() -> Kernel:
    x = zeros(20, 70)
    largest = lambda i: s.reduce("max", [70], lambda k: x[i, k])
    return flat(store((20, 70), lambda i, j: x[i, j] - largest(i)))


def turned(m=20, n=70) -> Kernel:
    x = zeros(m, n)
    return flat(store((n, m), lambda i, j: x[j, i] + 1.0))


def running_sums() -> Kernel:
    b = Builder()
    x = b.input("x", "f32[4,20,70]")
    b.output("y", b.emit("accumulate", x, axis=1, combiner="sum"))
    (call,) = lower(b.graph).steps
    return call.kernel


KERNELS = {
    ContractSchedule: product,
    WindowSchedule: depthwise,
    SlidingSchedule: pool,
    BlockedTransposeSchedule: turned,
    ScanSchedule: running_sums,
    NestSchedule: rows,
}


def given(kernel: Kernel, **options) -> Given:
    return Given(kernel, V3, **options)


def schedule_of(kind: type[Schedule]) -> tuple[Kernel, Schedule]:
    kernel = KERNELS[kind]()
    found, _ = choose_schedule(given(kernel))
    assert type(found) is kind
    return kernel, found


# -- keys ----------------------------------------------------------------------------------


def others(value, kernel: Kernel):
    """Values that differ from a field's in one place each."""
    match value:
        case Axis():
            yield from (a for a in (*kernel.axes, None) if a is not value)
        case Expr():
            yield from (e for e in s.walk(*kernel.roots()) if e is not value)
        case None:
            yield kernel.axes[0]
        case bool():
            yield not value
        case int():
            yield from (value + 1, N)
        case str():
            yield value + "'"
        case tuple():
            yield (*value, kernel.axes[0])
            yield from (value[:i] + value[i + 1 :] for i in range(len(value)))
        case _:
            yield from changed(value, kernel)


def changed(value, kernel: Kernel):
    """The dataclass with another value in one place, for each place of each field."""
    assert is_dataclass(value)
    for f in fields(value):
        for other in others(getattr(value, f.name), kernel):
            yield replace(value, **{f.name: other})


@pytest.mark.parametrize("kind", KERNELS, ids=lambda kind: kind.name)
def test_whatever_differs_between_two_schedules_is_in_the_key(kind):
    kernel, plan = schedule_of(kind)
    different = list(changed(plan, kernel))
    keys = {p.key(kernel) for p in (plan, *different)}
    assert len(keys) == len(different) + 1 > len(fields(plan))


@pytest.mark.parametrize("kind", KERNELS, ids=lambda kind: kind.name)
def test_equal_kernels_have_equal_keys(kind):
    """Whatever their axes and buffers are: they are named by their numbers."""
    (kernel, plan), (twin, same) = schedule_of(kind), schedule_of(kind)
    assert kernel.axes[0] is not twin.axes[0]
    assert plan != same
    assert plan.key(kernel) == same.key(twin)
    assert schedule_kernel(kernel, V3, frozenset(), False).name == (
        schedule_kernel(twin, V3, frozenset(), False).name
    )


def test_a_key_reads_as_the_schedule():
    kernel, plan = schedule_of(NestSchedule)
    assert plan.key(kernel) == (
        "NestSchedule(outer=(i0), row=(i1), vector_axis=i1, lanes=8, block=70, interleave=None, "
        "vectors=1, again=None, runs=False)"
    )


def test_a_schedule_of_another_kernel_has_no_key():
    _, plan = schedule_of(NestSchedule)
    with pytest.raises(TypeError, match=r"the kernel has no i<"):
        plan.key(product())


def test_a_field_that_text_cannot_be_made_of_is_refused():
    @dataclass(frozen=True)
    class Odd:
        found: dict

    with pytest.raises(TypeError, match="a schedule cannot have a dict as a field: use numbers"):
        written(Odd({}), Numbers(rows()))


def test_dtypes_and_sizes_are_written_by_name():
    kernel = rows()
    names = Numbers(kernel)
    float32: DType = kernel.stores[0].value.dtype
    assert written((float32, 2 * N, kernel.params[0]), names) == "(f32, 2*N, b0)"


# -- refusals ------------------------------------------------------------------------------


def reason(kind: type[Schedule], kernel: Kernel, **options) -> str:
    found = kind.propose(given(kernel, **options))
    assert isinstance(found, Refusal)
    return found.reason


@pytest.mark.parametrize(
    ("kernel", "why"),
    [
        (depthwise(), "its factors share other axes than those of a product of matrices"),
        (product(dtype="i16"), "there are no tiles of i16"),
        (product(n=3), "3 columns fill too little of a vector"),
        (
            product(m=2, turned=True),
            "too few rows share a panel, which has to be packed each time",
        ),
        (product(k=1 << 17), "copies would take .* bytes of scratch memory, above 1048576"),
    ],
)
def test_why_a_kernel_is_no_contraction(kernel, why):
    assert re.fullmatch(why, reason(ContractSchedule, kernel))


@pytest.mark.parametrize(
    ("kernel", "why"),
    [
        (depthwise(taps=9), "its window has more than 64 places"),
        (depthwise(channels=3), "its output has no axis that fills a vector"),
        (product(), "a factor is the same for all channels"),
    ],
)
def test_why_a_kernel_is_no_window(kernel, why):
    assert reason(WindowSchedule, kernel) == why


@pytest.mark.parametrize(
    ("kernel", "why"),
    [
        (pool(taps=17), "its window has more than 256 places"),
        (pool(width=3), "its output has no axis that fills a vector"),
        (product(), "neighbouring outputs share no inputs"),
        (rows(), "its output has no axis that fills a vector"),
    ],
)
def test_why_no_window_of_a_kernel_slides(kernel, why):
    assert reason(SlidingSchedule, kernel) == why


def gathered() -> Kernel:
    x, places = zeros(20, 70), zeros(20, dtype=np.int64)
    return flat(store((70, 20), lambda i, j: x[places[j], i]))


@pytest.mark.parametrize(
    ("kernel", "why"),
    [
        (flat(store((9, 70), lambda i, j: X[i, j])), "nothing is read across the lines .* written"),
        (gathered(), "it reads neither along the lines that are written nor across them"),
        (turned(3, 70), "it has fewer than 4 lines, or elements of one"),
        (rows(), "it reduces"),
        (flat(store((9,), lambda i: X[i, 0], mode="add")), "its stores run in order, add .*"),
    ],
)
def test_why_a_kernel_is_no_blocked_transpose(kernel, why):
    assert re.fullmatch(why, reason(BlockedTransposeSchedule, kernel))


total = lambda i, f: s.reduce("sum", [70], lambda k: f(X[i, k]))


@pytest.mark.parametrize("kind", [ContractSchedule, WindowSchedule], ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    ("kernel", "why"),
    [
        (store((20, 70), lambda i, j: X[i, j] + 1.0), "nothing is summed"),
        (rows(), "its reduction is no sum of products"),
        (store((20,), lambda i: total(i, s.exp)), "its reduction is no sum of products"),
        (store((20,), lambda i: total(i, s.exp) / total(i, s.tanh)), "it has several reductions"),
        (
            store((9,), lambda i: X[i, 0], mode="add"),
            "it adds to what is there, or stores under a condition",
        ),
        (replace(product(), serial=True), "its stores run in order"),
        (replace(product(), stores=product().stores * 2), "it has several stores"),
    ],
)
def test_why_a_kernel_is_no_sum_of_products(kind, kernel, why):
    assert reason(kind, flat(kernel) if not kernel.sources else kernel) == why


def test_what_overwrites_its_input_is_left_to_the_nest():
    for kind in (ContractSchedule, WindowSchedule):
        plan, refused = choose_schedule(given(KERNELS[kind](), in_place=True))
        assert type(plan) is NestSchedule
        assert refused[kind.name].reason == "it reads the memory that it writes"
        assert list(refused) == [k.name for k in SCHEDULES[:-1]], kind


def test_a_code_says_what_was_refused():
    code = schedule_kernel(depthwise(), V3, frozenset(), False)
    assert describe_schedule(code) == "window: lanes 8"
    assert str(code.schedule) == "lanes 8"
    assert list(code.refused) == ["packed", "contract"]
    assert list(schedule_kernel(product(), V3, frozenset(), False).refused) == ["packed"]


def test_a_legend_explains_every_kind_and_its_words_once():
    words = [word for word, _ in legend()]
    assert words[: len(SCHEDULES)] == [kind.name for kind in SCHEDULES]
    assert len(set(words)) == len(words)
    for kind in KERNELS:
        text = str(schedule_of(kind)[1])
        assert any(word in text for word, _ in kind.words), text


# -- a new kind ----------------------------------------------------------------------------

BLOCK = 16


@dataclass(frozen=True)
class Blocks(Schedule):
    """y[j, i] = f(x[i, j], …) in square blocks: only what a kind has to say."""

    name: ClassVar[str] = "blocks"
    meaning: ClassVar[str] = "square blocks"
    row: Axis
    column: Axis

    @classmethod
    def propose(cls, given: Given) -> "Blocks | Refusal":
        axes = given.kernel.axes
        if len(axes) != 2 or any(a.extent % BLOCK for a in axes):
            return Refusal(f"it has not two axes of whole blocks of {BLOCK}")
        return cls(*axes)

    @property
    def units(self) -> int:
        return self.row.extent // BLOCK

    def cycles(self, kernel, target) -> float:
        return float(self.row.extent * self.column.extent)

    def emit(self, e: Emitter, kernel: Kernel, given: Arguments, in_place: bool) -> None:
        size = i64(self.column.extent)
        with e.loop(given.begin, given.end) as unit, e.loop(i64(0), size, BLOCK) as left:
            top = e.b.mul(unit, i64(BLOCK))
            bottom, right = (e.b.add(x, i64(BLOCK)) for x in (top, left))
            rows, columns = e.loop(top, bottom), e.loop(left, right)
            with rows as i, e.at(self.row, i), columns as j, e.at(self.column, j):
                emit_store(e, kernel.stores[0])

    def __str__(self) -> str:
        return f"blocks of {BLOCK}"


@pytest.fixture
def with_blocks(monkeypatch):
    monkeypatch.setattr(codegen, "SCHEDULES", (Blocks, *SCHEDULES))


def transposed(m: int, n: int) -> tuple[Kernel, dict[Buffer, np.ndarray]]:
    x = np.arange(m * n, dtype=np.float32).reshape(m, n)
    a = buffer_of("a", x)
    return store((n, m), lambda i, j: a[j, i] * 2.0), {a: x}


def test_a_new_kind_is_one_class_and_one_line(with_blocks):
    kernel, arrays = transposed(64, 48)
    assert type(scheduled(program_of(kernel, arrays))) is Blocks
    received, expected = both(kernel, arrays)
    np.testing.assert_array_equal(received, expected)


def test_a_new_kind_is_not_asked_where_sizes_are_open(with_blocks):
    """Unless it says that it is right for all of them."""
    x = Buffer("x", TensorType(F32, (N, 48)))
    i, j = Axis("i", 48), Axis("j", N)
    out = Buffer("out", TensorType(F32, (48, N)))
    index = (s.axis(i), s.axis(j))
    kernel = flat(Kernel("test", (i, j), (Store(out, index, x[s.axis(j), s.axis(i)]),)))
    code = schedule_kernel(kernel, V3, frozenset(), False)
    assert type(code.schedule) is BlockedTransposeSchedule
    assert code.refused["blocks"] == Refusal("it is made for known sizes, and some are open")


def test_what_a_new_kind_refuses_goes_to_the_next(with_blocks):
    kernel, arrays = transposed(64, 49)
    assert type(scheduled(program_of(kernel, arrays))) is BlockedTransposeSchedule
    _, refused = choose_schedule(given(flat(kernel)))
    assert refused["blocks"] == Refusal("it has not two axes of whole blocks of 16")
