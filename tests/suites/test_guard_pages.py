"""Generated machine code never leaves its arrays: a sample of `make fuzz`, and its own tests.

Every array lies between pages that nobody may touch; cases run in child processes. See
`tests/guards/`.
"""

import itertools
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tessel
from tessel.compiler.ir.builder import Builder
from tessel.runtime.native.module import NativeModule

from ..conformance.cases import ROOT
from ..guards import perturb, pool
from ..guards.attempt import AGREES, ALONE, REFUSED, SKIPPED, attempt, difference
from ..guards.memory import FILLS, GuardedMemory, Region
from ..guards.plan import Tally, plan
from ..guards.pool import Worker, run_cases
from ..guards.subject import Feed, Refused, Subject
from ..support import damage

MODELS, CASES = 150, 500  # of the same seed each time; a case is a model with inputs


@pytest.mark.slow
def test_a_sample_of_the_cases():
    """`make fuzz` has forty times as many, and other seeds."""
    tally, jobs = Tally(), len(os.sched_getaffinity(0))
    run_cases(itertools.islice(plan(seed=0), MODELS), jobs, tally.add)
    assert not tally.failures, "\n".join([*tally.failures, tally.table()])
    agree = sum(count[AGREES] for count in tally.counts.values())
    assert tally.cases >= CASES and agree > CASES // 2, tally.table()


# -- guards ----------------------------------------------------------------------------------

TOUCH = """
import ctypes, sys
import numpy as np
from tests.guards.memory import GuardedMemory
memory = GuardedMemory(sys.argv[1])
x = getattr(memory, sys.argv[2])(np.zeros(5, np.float32)) if sys.argv[2] != "output" else \
    memory.output((5,), np.float32)
place = x.ctypes.data + {"first": 0, "last": 16, "before": -4, "behind": 20}[sys.argv[3]]
word = ctypes.c_uint32.from_address(place)
print(word.value, flush=True)
word.value = 7
print("written")
"""


def touch(side: str, kind: str, place: str) -> tuple[bool, bool]:
    """Whether a word of an array, or beside it, can be read and be written to."""
    done = subprocess.run(
        [sys.executable, "-c", TOUCH, side, kind, place], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode in (0, -signal.SIGSEGV), done.stderr
    return bool(done.stdout), "written" in done.stdout


@pytest.mark.parametrize(
    ("side", "kind", "place", "expected"),
    [
        ("end", "output", "last", (True, True)),
        ("end", "output", "behind", (False, False)),
        ("start", "output", "first", (True, True)),
        ("start", "output", "before", (False, False)),
        ("end", "input", "last", (True, False)),
        ("start", "weight", "first", (True, False)),
    ],
)
def test_what_lies_beside_an_array_cannot_be_touched(side, kind, place, expected):
    assert touch(side, kind, place) == expected


def test_the_other_side_of_an_array_is_looked_at():
    memory = GuardedMemory("end")
    x = memory.output((3,), np.float32)
    assert x.tobytes() == bytes([FILLS["end"]]) * 12
    assert memory.check() is None
    region = Region(12, "start")
    assert region.is_intact()
    region._slack[1][5] = 0
    assert not region.is_intact()


def test_blocks_have_the_bytes_that_were_asked_for():
    arena, scratch = GuardedMemory("end").workspace().place([100, 8])
    assert (arena.nbytes, scratch.nbytes) == (104, 8)
    assert (arena.ctypes.data + 104) % 4096 == (scratch.ctypes.data + 8) % 4096 == 0


# -- what is a failure -------------------------------------------------------------------------


def double(reference=lambda arrays: [arrays["x"] * 2]) -> Subject:
    """y = x + x, and what numpy is said to make of it."""
    b = Builder()
    x = b.input("x", "f32[N]")
    b.output("y", x + x)
    feed = Feed({"x": np.arange(5, dtype=np.float32)})
    return Subject(b.graph, [feed], reference, options={"opt_level": 2})


def kinds(subject) -> list[str]:
    return [o.kind for o in attempt(lambda: subject, damage.seed("order"))]


def fail(*_):
    raise ValueError("no")


def test_a_subject_agrees_or_is_wrong():
    assert kinds(double()) == [AGREES]
    assert kinds(double(fail)) == [ALONE]
    assert kinds(double(lambda arrays: [arrays["x"]])) == ["wrong"]


def test_errors_of_ours_are_answers_and_others_are_failures(monkeypatch):
    subject = double()
    subject.feeds = [Feed({"x": np.zeros((2, 2), np.float32)})]
    assert kinds(subject) == [REFUSED]

    def refuse():
        raise Refused("sizes do not fit")

    assert [o.kind for o in attempt(refuse, damage.seed("order"))] == [SKIPPED]
    monkeypatch.setattr(tessel.Executable, "run", fail)
    (outcome,) = attempt(double, damage.seed("order"))
    assert outcome.kind == "exception" and "ValueError: no" in outcome.message


def test_what_is_not_written_is_seen(monkeypatch):
    """An entry that does nothing leaves what was in memory, which differs between the runs."""
    monkeypatch.setattr(
        NativeModule,
        "__call__",
        lambda self, inputs, threads, *rest: [self.memory.output(np.shape(inputs[0]), np.float32)],
    )
    assert kinds(double()) == ["unstable"]


def test_a_crash_and_a_hang_stay_in_their_process(monkeypatch):
    worker = Worker("tests.guards.worker")
    try:
        (outcome,) = worker.run("ops/nothing.0/0")
        assert (outcome["kind"], worker.process) == ("crash", None)
        outcomes = worker.run("ops/add.0/0")
        assert all(o["kind"] in (AGREES, ALONE, REFUSED, SKIPPED) for o in outcomes)
        monkeypatch.setattr(pool, "SECONDS", 0.0)
        (outcome,) = worker.run("ops/add.0/1")
        assert (outcome["kind"], worker.process) == ("hang", None)
    finally:
        worker.close()


def test_differences():
    x = np.ones(3, np.float32)
    assert difference(x, x + 1e-5, 1e-3) is None
    assert "first at (1,)" in difference(np.array([1, 2]), np.array([1, 3]), 1e-3)
    assert difference(x, x.astype(np.float64), 1e-3) == "float32[3] instead of float64[3]"
    assert difference(x * np.nan, x * np.nan, 1e-3) is None
    assert "nan" in difference(x * np.nan, x, 1e-3)
    assert difference([1], [2], 1e-3) == "[1] instead of [2]"


# -- cases -------------------------------------------------------------------------------------


def test_a_seed_stands_for_the_same_cases():
    first, again, other = (list(itertools.islice(plan(s), 50)) for s in (0, 0, 1))
    assert first == again != other
    assert {name.partition("/")[0] for name in first} == {"ops", "onnx", "schedules"}
    assert all(n.startswith("ops/conv.") for n in itertools.islice(plan(0, "ops/conv."), 9))


def test_shapes_are_perturbed_within_bounds():
    given, rng = [(3, 4), None, (4, 5), ()], damage.seed("shapes")
    seen = [perturb.shapes(given, rng) for _ in range(200)]
    assert all(s[1] is None and s[3] == () and len(s[0]) == 2 for s in seen)
    assert max(np.prod(s[0]) for s in seen) <= perturb.MOST
    assert any(s[0][1] == s[2][0] != 4 for s in seen), "together"
    assert any(s[0][1] != s[2][0] for s in seen), "one alone"
    assert any(0 in s[0] for s in seen)


def test_values_are_strayed():
    x = np.arange(50).reshape(5, 10)
    y = perturb.stray(x, [5, 10], damage.seed("values"))
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    assert (y != x).any()
    assert perturb.stray(x > 3, [5], damage.seed("values")).dtype == bool


def test_a_tally_goes_on_where_it_was(tmp_path):
    first = Tally(tmp_path / "seed-0.jsonl")
    assert first.add("ops/add.0/0.0", [{"kind": AGREES, "message": ""}] * 2) == []
    (line,) = first.add("onnx/test_add/0.0", [{"kind": "crash", "message": "SIGSEGV"}])
    assert line == "crash: SIGSEGV\n    python -m tests.guards onnx/test_add/0.0"
    again = Tally(tmp_path / "seed-0.jsonl")
    again.load()
    assert (again.cases, again.failed, again.seen) == (3, 1, first.seen)
    assert again.table() == first.table()
