"""Kernels that take little of a run are compiled with less effort, to the same bits."""

import numpy as np
import pytest
from tessel.compiler.backends.llvm.backend import compile_program
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.backends.llvm.kernel.objects import Passes
from tessel.compiler.backends.llvm.program import effort
from tessel.compiler.backends.llvm.schedules.contraction.schedule import ContractSchedule
from tessel.compiler.ir.text import parse_graph
from tessel.compiler.lowering.lower import lower
from tessel.runtime.native.module import NativeModule

from ....support.kernels import NO_CACHE

TEXT = """graph g(%x: f32[ROWS,40], %w: f32[40,500], %v: f32[500,24], %u: f32[24,40]) -> (%d) {
  %a = matmul(%x, %w) : f32[ROWS,500]
  %b = relu(%a) : f32[ROWS,500]
  %c = matmul(%b, %v) : f32[ROWS,24]
  %d = matmul(%c, %u) : f32[ROWS,40]
}"""


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({}, set()),
        ({"a": 1.0}, set()),
        ({"a": 80.0, "b": 20.0}, {"b"}),
        ({"a": 79.0, "b": 21.0}, set()),
        ({"a": 5.0, "b": 90.0, "c": 4.0, "d": 1.0}, {"a", "c", "d"}),
    ],
)
def test_the_kernels_worth_little_take_a_fifth_of_the_time_at_most(times, expected):
    assert effort.least(times, 0.2) == expected


def compiled(rows, few: float, little: float, monkeypatch):
    monkeypatch.setattr(effort, "FEW", few)
    monkeypatch.setattr(effort, "LITTLE", little)
    graph = parse_graph(TEXT.replace("ROWS", str(rows)))
    program = lower(graph, dynamic_shapes=isinstance(rows, str))
    code = compile_program(program, host(), cache=NO_CACHE)
    return code, NativeModule(code, program.outputs, {})


def contractions(code) -> list:
    return [c for c in code.plan.codes.values() if isinstance(c.schedule, ContractSchedule)]


def test_less_effort_gives_the_same_bits(monkeypatch):
    rng = np.random.default_rng(0)
    shapes = [(300, 40), (40, 500), (500, 24), (24, 40)]
    arrays = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    (full, best), (some, usual), (few, quick) = (
        compiled(300, *shares, monkeypatch) for shares in ((0, 0), (0.2, 0.1), (1, 1))
    )
    assert all(c.passes == Passes.MOST for c in contractions(full))
    assert {c.passes for c in contractions(some)} == {Passes.MOST, Passes.FEW}
    assert all(c.passes == Passes.FEW for c in contractions(few))
    (expected,) = best(arrays, 1)
    for module in (usual, quick):
        for threads in (1, 2):
            np.testing.assert_array_equal(module(arrays, threads)[0], expected)


def heights(code, kernel) -> set[int]:
    """The heights of a kernel's tiles."""
    same = (c for c in contractions(code) if c.kernel.text() == kernel.text())
    return {c.schedule.tile.rows for c in same}


def test_an_open_number_of_rows_has_tiles_of_two_heights_then(monkeypatch):
    full, _ = compiled("N", 0, 0, monkeypatch)
    few, _ = compiled("N", 1, 1, monkeypatch)
    for c in contractions(full):
        own = heights(full, c.kernel)
        assert heights(few, c.kernel) == {min(own), max(own)}
