"""Measured schedules: who wins, how tuning records are kept, used and carried by packages."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.backends.llvm.schedules.tuning_records import (
    Choice,
    TuningRecord,
    read_tuning_records,
)
from tessel.compiler.errors import PackageError, UsageError
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.expr import Axis
from tessel.compiler.ir.builder import Builder
from tessel.runtime.tuning.benchmark import FINAL, TRIAL_PAIRS, Candidate, Stage, best_of
from tessel.runtime.tuning.tasks import tasks_of
from tessel.runtime.tuning.tune import FORMAT, Tuning, tuning_file

from ...support.kernels import NO_CACHE, buffer_of, program_of, store


def numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


# -- who wins ----------------------------------------------------------------------------------


def candidate(*ns):
    """One that takes these times in turn, over and over."""
    state = {"n": 0}

    def slice():
        state["n"] += 1
        return float(ns[(state["n"] - 1) % len(ns)])

    return Candidate(None, slice)


never = lambda: False


def test_the_fastest_wins_by_its_median_ratio():
    default, slow, fast = candidate(100), candidate(120), candidate(80)
    assert best_of(default, [slow, fast], never) == (fast, 1.25)


def test_less_than_the_margin_is_no_win():
    default = candidate(100)
    assert best_of(default, [candidate(98)], never) == (default, 1.0)
    assert best_of(default, [], never) == (default, 1.0)


def test_a_challenger_that_was_only_lucky_loses_the_final():
    times = iter([80.0] * TRIAL_PAIRS + [101.0] * FINAL)
    default = candidate(100)
    assert best_of(default, [Candidate(None, lambda: next(times))], never) == (default, 1.0)


def test_a_gain_within_the_noise_is_no_win():
    """Faster in most pairs, and much slower in a third of them."""
    default, noisy = candidate(100), candidate(90, 90, 150)
    assert best_of(default, [noisy], never) == (default, 1.0)


def test_outliers_of_either_side_do_not_matter():
    default, fast = candidate(*[100] * 9, 900), candidate(*[80] * 10, 900)
    assert best_of(default, [fast], never) == (fast, 1.25)


def test_nothing_is_decided_when_time_was_over():
    assert best_of(candidate(100), [candidate(50)], lambda: True) is None


# -- a tuning, with a fake stage ---------------------------------------------------------------


def fake(ns):
    """A stage on which a code takes `ns(choice)`, and its clock, which counts what it measured."""
    seconds = [0.0]

    class FakeStage:
        def __init__(self, *_):
            pass

        def enter(self, code):
            def slice():
                seconds[0] += 1e-3
                return float(ns(Choice.of(code.schedule)))

            return Candidate(code, slice)

    return {"stage": FakeStage, "clock": lambda: seconds[0]}


def dense(rows=24, type=None):
    """Two layers: two different contractions."""
    rng = np.random.default_rng(0)
    b = Builder(name="dense")
    h = b.input("x", type or f"f32[{rows},40]")
    for k, n in ((40, 96), (96, 32)):
        h = b.relu(h @ b.constant(rng.standard_normal((k, n)).astype(np.float32)))
    b.output("y", h)
    return b.graph


X = numbers(24, 40)
taller = lambda c: 1000 / (4 + c.rows) + c.vectors  # more rows, fewer vectors: faster
shorter = lambda c: 1000 + 100 * c.rows


def codes(exe):
    return list(exe.specializations[0].code.plan.codes.values())


def program(graph):
    return tessel.compile(graph).specializations[0].program


def tuning_records(exe):
    return [c.tuning_record for c in codes(exe) if c.tuning_record is not None]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tessel"


def tuned(cache, ns=shorter, **options):
    return tessel.compile(dense(), tune=Tuning(60, cache / "winners.json", **fake(ns), **options))


def test_winners_are_used_and_give_the_same_bits_on_any_number_of_threads(cache):
    exe, plain = tuned(cache), tessel.compile(dense())
    assert len(tuning_records(exe)) == 2
    assert all(w.gain > 1.03 for w in tuning_records(exe))
    assert exe.notes == ["tuning measured 2 of 2 contractions: 2 are faster now"]
    expected = plain(X)
    for threads in (1, 2, 3):
        exe.threads = threads
        np.testing.assert_array_equal(exe(X), expected)


def test_who_wins_in_one_place_only_has_not_won(cache):
    stages = []

    class Moody:
        """The first of each two stages prefers small tiles, the second large ones."""

        def __init__(self, *_):
            stages.append(self)
            self.sign = 1 if len(stages) % 2 else -1

        def enter(self, code):
            return Candidate(code, lambda: 1000.0 + self.sign * 50 * code.schedule.tile.rows)

    assert tuning_records(tessel.compile(dense(), tune=Tuning(60, stage=Moody))) == []
    assert len(stages) == 4


def test_where_the_default_is_best_it_stays(cache):
    same = lambda c: 100
    exe = tuned(cache, same)
    assert tuning_records(exe) == []
    assert [c.name for c in codes(exe)] == [c.name for c in codes(tessel.compile(dense()))]


def test_progress_is_told_of_each_kernel(cache):
    lines = []
    tuned(cache, progress=lines.append)
    assert len(lines) == 2
    assert lines[0].startswith("tuning 1 of 2, ")
    assert "× as fast as" in lines[0]


def test_time_that_is_over_ends_the_search(cache):
    tuning = Tuning(0.02, **fake(shorter))  # 20 slices
    exe = tessel.compile(dense(), tune=tuning)
    assert tuning_records(exe) == []
    assert tuning.left == 0
    assert exe.notes == ["tuning measured 0 of 2 contractions: 0 are faster now"]


def test_what_takes_the_most_time_is_measured_first():
    rng = np.random.default_rng(0)
    b = Builder(name="two")
    x = b.input("x", "f32[24,40]")
    for name, n in (("small", 16), ("large", 900)):
        b.output(name, x @ b.constant(rng.standard_normal((40, n)).astype(np.float32)))
    tasks = tasks_of(program(b.graph), host())
    assert [t.code.kernel.outputs[0].type.shape[0] for t in tasks] == [24 * 900, 24 * 16]


def test_kernels_whose_places_depend_on_data_are_not_measured():
    table, rows, weights = numbers(50, 32), np.arange(8, dtype=np.int64), numbers(32, 64)
    t, r, w = (buffer_of("b", x) for x in (table, rows, weights))

    def body(i, j):
        z = Axis("z", 32)
        return s.reduce("sum", (z,), t[r[i], s.axis(z)] * w[s.axis(z), j])

    gathered = program_of(store((8, 64), body), {t: table, r: rows, w: weights}, {w})
    assert tasks_of(gathered, host()) == []


def test_dynamic_dims_are_tuned_when_they_are_known(cache):
    tuning = Tuning(60, **fake(shorter))
    exe = tessel.compile(dense(type="f32[N,40]"), tune=tuning)
    assert tuning.left == 60
    exe.run({"x": X})
    assert len(tuning_records(exe)) == 2
    assert tuning.left < 60


def test_the_stage_measures_a_kernel():
    for task in tasks_of(program(dense()), host()):
        candidate = Stage(host(), task.arrays, 1 << 20, NO_CACHE).enter(task.code)
        assert len(candidate.slice.kept[1]) > 1  # copies of the weights, to come from further away
        assert candidate.slice() > 0


# -- the file ----------------------------------------------------------------------------------


def test_later_compilations_use_the_file_when_they_are_asked_to(cache):
    first = tuned(cache)
    again = tessel.compile(dense(), tune=0)
    assert tuning_records(again) == tuning_records(first)
    assert tuning_records(tessel.compile(dense())) == []  # nobody asked
    forgetful = fake(lambda c: pytest.fail("it was measured before"))
    later = tessel.compile(dense(), tune=Tuning(60, tuning_file(), **forgetful))
    assert tuning_records(later) == tuning_records(first)


def test_the_file_is_json_and_grows(cache):
    tuned(cache)
    data = json.loads((cache / "winners.json").read_text())
    assert data["format"] == FORMAT
    assert len(read_tuning_records(data["winners"])) == 2
    smaller = Tuning(60, tuning_file(), **fake(lambda c: 100))
    tessel.compile(dense(4), tune=smaller)
    kept = json.loads((cache / "winners.json").read_text())["winners"]
    assert len(kept) == 4
    assert data["winners"].items() <= kept.items()
    assert [p.name for p in cache.glob("*winners*")] == ["winners.json"]


DAMAGE = {
    "cut": lambda text: text[: len(text) // 2],
    "emptied": lambda text: "",
    "no text": lambda text: "\udcff",
    "of another format": lambda text: text.replace(FORMAT, "tessel winners 999"),
    "a list": lambda text: "[]",
    "without winners": lambda text: json.dumps({"format": FORMAT}),
    "of strange types": lambda text: text.replace('"rows": ', '"rows": 0.'),
    "with other fields": lambda text: text.replace('"rows"', '"columns"'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_ignored_with_a_note_and_written_anew(cache, damage):
    tuned(cache)
    file = cache / "winners.json"
    whole = file.read_text()
    file.write_bytes(DAMAGE[damage](whole).encode(errors="surrogateescape"))
    exe = tessel.compile(dense(), tune=0)
    assert tuning_records(exe) == []
    assert exe.notes[0].startswith(f"the tuning records of {file} were ignored: ")
    assert len(tuning_records(tuned(cache))) == 2
    assert file.read_text() == whole


def test_a_file_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    exe = tuned(tmp_path / "file")
    assert len(tuning_records(exe)) == 2
    assert exe.notes[0].startswith("tuning records could not be kept: ")


def test_where_winners_are_kept(cache, tmp_path):
    assert tuning_file() == cache / "winners.json"
    assert tuning_file(tmp_path) == tmp_path / "winners.json"
    assert tuning_file(False) is None


# -- packages ----------------------------------------------------------------------------------


def test_a_package_carries_its_winners(cache, tmp_path):
    exe, path = tuned(cache), tmp_path / "dense.tsl"
    exe.save(path)
    (cache / "winners.json").unlink()
    anew = tessel.load(path, native=False)
    assert tuning_records(anew) == tuning_records(exe)
    np.testing.assert_array_equal(anew(X), tessel.load(path)(X))
    tessel.load(path).save(tmp_path / "again.tsl")
    assert tuning_records(tessel.load(tmp_path / "again.tsl", native=False)) == tuning_records(exe)


def test_loading_winners_needs_no_code_generator(cache, tmp_path):
    tuned(cache).save(tmp_path / "dense.tsl")
    code = "import sys, tessel; tessel.load(sys.argv[1]); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "dense.tsl"], capture_output=True, text=True
    ).stdout.split()
    assert "tessel.compiler.backends.llvm.schedules.tuning_records" in loaded
    assert "tessel.compiler.backends.llvm.kernel.codegen" not in loaded


def test_a_package_without_tuning_carries_none(cache, tmp_path):
    tuned(cache)
    tessel.compile(dense()).save(tmp_path / "plain.tsl")
    assert tuning_records(tessel.load(tmp_path / "plain.tsl", native=False)) == []


def test_winners_of_a_package_that_make_no_sense(cache, tmp_path, monkeypatch):
    exe = tuned(cache)
    monkeypatch.setattr(TuningRecord, "data", lambda self: {"gain": "much"})
    exe.save(tmp_path / "odd.tsl")
    with pytest.raises(PackageError, match="its tuning records: this is no tuning record"):
        tessel.load(tmp_path / "odd.tsl")


# -- wrong usage -------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "10", True])
def test_seconds_that_are_none(seconds):
    with pytest.raises(UsageError, match="tune is a time to measure for"):
        tessel.compile(dense(), tune=seconds)


def test_what_has_no_schedules_cannot_be_tuned():
    with pytest.raises(UsageError, match="there is nothing to tune"):
        tessel.compile(dense(), target="numpy", tune=1)


def test_code_that_does_not_run_here_cannot_be_measured(cache):
    with pytest.raises(UsageError, match="code for riscv64 cannot be measured on this machine"):
        tessel.compile(dense(), target="cpu:riscv64", tune=1)
    tessel.compile(dense(), target="cpu:riscv64", tune=0)
