"""Threads that help each other: which kernels are cut into pieces, and that each is computed once
by somebody, run after run."""

import threading

import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.backends.llvm.program.entry import build_plan
from tessel.compiler.backends.llvm.program.work_stealing import (
    LINE,
    OWNERS,
    PIECES,
    counter_bytes,
    piece_of,
)
from tessel.compiler.errors import PackageError
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.builder import Builder

from ....support.kernels import buffer_of, native, program_of, store

RNG = np.random.default_rng(0)


def product(m, k, n):
    x, w = (RNG.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n)))
    a, b = buffer_of("a", x), buffer_of("b", w)
    body = lambda i, j: s.reduce("sum", [k], lambda p: a[i, p] * b[p, j])
    return program_of(store((m, n), body), {a: x, b: w}, [b]), x


def code_of(program, target="x86-64-v4"):
    (code,) = build_plan(program, NAMED[target]).codes.values()
    return code


# -- pieces ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3136, 64, 256), (128, 768, 768), (784, 512, 128)])
def test_large_kernels_are_cut_into_pieces(shape):
    code = code_of(product(*shape)[0])
    piece = piece_of(code)
    assert 4 <= code.units / piece <= 2 * PIECES
    panels = code.schedule.panels
    assert piece % panels == 0 or 2 * piece >= panels  # rows are packed twice at most


@pytest.mark.parametrize("shape", [(4, 16, 16), (32, 64, 64)])
def test_small_ones_are_not(shape):
    assert piece_of(code_of(product(*shape)[0])) is None


def test_counters_are_two_sets_behind_a_word():
    assert counter_bytes(0) == 0
    assert counter_bytes(3) == LINE + 2 * 3 * OWNERS * 8


# -- runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [2, 3, OWNERS, OWNERS + 1])
def test_every_unit_is_computed_in_every_run(threads):
    program, x = product(700, 256, 256)
    module = native(program)
    assert module.code.counters
    module.code.parallel = True
    one = module([x], 1)[0]
    for _ in range(5):
        out = np.full_like(one, np.nan)
        assert module([x], threads, [out])[0].tobytes() == one.tobytes()


def test_runs_at_the_same_time_have_counters_of_their_own():
    program, x = product(700, 256, 256)
    module = native(program)
    module.code.parallel = True
    one = module([x], 1)[0]
    wrong = []

    def runs():
        for _ in range(20):
            out = np.full_like(one, np.nan)
            if module([x], 2, [out])[0].tobytes() != one.tobytes():
                wrong.append(1)

    workers = [threading.Thread(target=runs) for _ in range(3)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


# -- packages --------------------------------------------------------------------------------------


def two_products():
    b = Builder()
    x = b.input("x", "f32[600,256]")
    for _ in range(2):
        w = b.constant((RNG.standard_normal((256, 256)) / 16).astype(np.float32))
        x = b.relu(x @ w)
    b.output("y", x)
    return tessel.compile(b.graph, threads=2)


def test_packages_know_their_counters(tmp_path):
    exe = two_products()
    x = RNG.standard_normal((600, 256)).astype(np.float32)
    exe.save(tmp_path / "m.tsl")
    loaded = tessel.load(tmp_path / "m.tsl", threads=2)
    for _ in range(3):
        np.testing.assert_array_equal(loaded(x), exe(x))


def test_more_counters_than_memory_are_refused(tmp_path):
    exe = two_products()
    exe.specializations[-1].code.counters = 1 << 40
    exe.save(tmp_path / "m.tsl")
    with pytest.raises(PackageError, match="memory does not fit its code"):
        tessel.load(tmp_path / "m.tsl").run({"x": np.zeros((600, 256), np.float32)})
