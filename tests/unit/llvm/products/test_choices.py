"""Schedules that may be chosen for a contraction: each gives the same bits, or is refused."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tessel.compiler.backends.llvm.backend import compile_program
from tessel.compiler.backends.llvm.base.target import NAMED, host, runs_here
from tessel.compiler.backends.llvm.program.entry import build_plan
from tessel.compiler.backends.llvm.schedules.contraction.candidates import (
    key_of,
    readings,
    tiles,
)
from tessel.compiler.backends.llvm.schedules.contraction.choose import is_possible
from tessel.compiler.backends.llvm.schedules.tuning_records import Choice, TuningRecord
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.expr import Axis
from tessel.runtime.native.module import NativeModule
from tessel.runtime.tuning.tasks import tasks_of

from ....support.kernels import NO_CACHE, buffer_of, program_of, store


def numbers(*shape, dtype="f4"):
    x = np.random.default_rng(0).standard_normal(shape)
    return x.astype("f4") if dtype == "f4" else (x * 40).astype(dtype)


# -- contractions ------------------------------------------------------------------------------


def matmul(m, n, k, constant=True, dtype="f4"):
    """x[m,k] @ w[k,n], summed in f32, or of bytes in i32."""
    a, b = numbers(m, k, dtype=dtype), numbers(k, n, dtype=dtype)
    x, w = buffer_of("x", a), buffer_of("w", b)
    sums = "f32" if dtype == "f4" else "i32"

    def body(i, j):
        z = Axis("z", k)
        product = s.cast(x[i, s.axis(z)], sums) * s.cast(w[s.axis(z), j], sums)
        return s.reduce("sum", (z,), product)

    return program_of(store((m, n), body, sums), {x: a, w: b}, {w} if constant else ()), a, b


def conv(size, channels, filters):
    """A 3×3 convolution of a padded square image: tiles may cover several lines."""
    a, b = numbers(size + 2, size + 2, channels), numbers(3, 3, channels, filters)
    x, w = buffer_of("x", a), buffer_of("w", b)

    def body(i, j, f):
        taps = [Axis("z", d) for d in (3, 3, channels)]
        u, v, c = map(s.axis, taps)
        total = s.reduce("sum", taps, x[i + u, j + v, c] * w[u, v, c, f])
        return s.maximum(total, 0.0)

    return program_of(store((size, size, filters), body), {x: a, w: b}, {w}), a, b


sizes, depths = st.integers(1, 70), st.integers(5, 70)
PROGRAMS = st.one_of(
    st.builds(matmul, sizes, st.integers(16, 300), depths),
    st.builds(matmul, st.integers(4, 70), st.integers(16, 300), depths, st.just(False)),
    st.builds(
        matmul, st.integers(4, 70), st.integers(16, 80), depths, st.booleans(), st.just("i1")
    ),
    st.builds(conv, st.integers(3, 16), st.sampled_from([3, 16, 32]), st.sampled_from([16, 40])),
    st.builds(conv, st.just(7), st.just(16), st.just(300)),
)
CHOICES = st.builds(
    Choice,
    st.integers(1, 30),
    st.sampled_from([1, 1, 2, 3]),
    st.sampled_from([1, 1, 1, 2]),
    st.sampled_from([False, False, True]),
    st.sampled_from(["direct", "pack", "turn"]),
    st.sampled_from([1, 2, 3]),
)
TARGETS = [t for t in (host(), NAMED["x86-64-v3"], NAMED["x86-64-v2"]) if runs_here(t) is None]


def default_of(program, target):
    """(key, default code) of the program's one kernel."""
    (task,) = tasks_of(program, target)
    return task.key, task.code


def output(program, a, b, target, tuning_records=None):
    code = compile_program(program, target, cache=NO_CACHE, tuning_records=tuning_records)
    inputs = [a, b][: len(program.inputs)]
    (y,) = NativeModule(code, program.outputs, {})(inputs, 1)
    return y


@settings(max_examples=20, deadline=None)
@given(PROGRAMS, st.sampled_from(TARGETS), st.data())
def test_every_candidate_gives_the_bits_of_the_default(made, target, data):
    program, a, b = made
    key, code = default_of(program, target)
    candidates = tiles(code.kernel, code.schedule, target) + readings(code.schedule, target)
    if not candidates:
        return
    choice = Choice.of(data.draw(st.sampled_from(candidates)))
    assert choice.apply(code.schedule) in candidates
    received = output(program, a, b, target, {key: TuningRecord(choice)})
    np.testing.assert_array_equal(received, output(program, a, b, target))


@settings(max_examples=40, deadline=None)
@given(PROGRAMS, st.sampled_from(TARGETS), CHOICES)
def test_any_choice_is_refused_or_right(made, target, choice):
    program, a, b = made
    key, code = default_of(program, target)
    if not is_possible(choice.apply(code.schedule), target):
        return
    received = output(program, a, b, target, {key: TuningRecord(choice)})
    np.testing.assert_array_equal(received, output(program, a, b, target))


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"])
def test_candidates_are_few_and_begin_with_the_most_promising(target):
    program, *_ = conv(14, 32, 64)
    _, code = default_of(program, NAMED[target])
    shapes = tiles(code.kernel, code.schedule, NAMED[target])
    assert 1 <= len(shapes) <= 6
    assert code.schedule.tile not in [p.tile for p in shapes]
    assert len({p.tile for p in shapes}) == len(shapes)


@pytest.mark.parametrize(
    "choice",
    [
        Choice(0, 1),
        Choice(30, 4),
        Choice(11, 1),
        Choice(4, 1, spread=2),
        Choice(4, 1, flat=True),
        Choice(4, 1, a="sideways"),
        Choice(4, 1, group=0),
        Choice(4, 1, group=100),
        Choice(4, 1, a="turn"),
    ],
    ids=str,
)
def test_a_choice_that_does_not_fit_is_ignored(choice):
    program, *_ = matmul(10, 64, 7)
    key, default = default_of(program, host())
    (code,) = build_plan(program, host(), None, {key: TuningRecord(choice)}).codes.values()
    assert code.tuning_record is None
    assert code.name == default.name


def test_a_key_is_of_text_constants_and_target():
    (call,) = matmul(10, 64, 7)[0].steps
    (same,) = matmul(10, 64, 7)[0].steps
    (other,) = matmul(11, 64, 7)[0].steps
    w = frozenset(call.kernel.params[1:2])
    key = key_of(call.kernel, host(), w)
    assert key == key_of(same.kernel, host(), frozenset(same.kernel.params[1:2]))
    assert key not in {
        key_of(call.kernel, host(), frozenset()),
        key_of(call.kernel, NAMED["x86-64-v2"], w),
        key_of(other.kernel, host(), frozenset(other.kernel.params[1:2])),
    }


def test_choices_of_older_versions_are_found():
    """Keys are in the user's folder and in packages, so they say the target as they always did."""
    (call,) = matmul(8, 32, 16)[0].kernels()
    said = (
        "CpuTarget(name='x86-64-v3', triple='x86_64-unknown-linux-gnu', cpu='x86-64-v3', "
        "features='', vector_bytes=32, registers=16, l1=32768, l2=524288, converts_half=True)"
    )
    text = f"{said}\n[]\n{call.kernel.text()}"
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    assert key_of(call.kernel, NAMED["x86-64-v3"], frozenset()) == key
