"""`--tune` on the command line: what it prints, and what it refuses."""

import json

import numpy as np
import pytest
import tessel
from tessel.compiler.ir.builder import Builder
from tessel.frontends.onnx.exporter import write
from tessel.runtime.tuning import tasks
from tessel.runtime.tuning.benchmark import Candidate
from tessel.tools import cli


class Shorter:
    """A stage on which tiles of fewer rows are faster."""

    def __init__(self, *_):
        pass

    def enter(self, code):
        return Candidate(code, lambda: 1000.0 + 100 * code.schedule.tile.rows)


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Run a command with a cache folder of its own; (exit code, stdout, stderr)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return call


@pytest.fixture
def model(tmp_path):
    weights = np.random.default_rng(0).standard_normal((40, 96)).astype(np.float32)
    b = Builder(name="dense")
    b.origin = "dense"
    b.output("y", b.input("x", "f32[24,40]") @ b.constant(weights))
    path = tmp_path / "dense.onnx"
    write(b.graph, path)
    return path


def test_a_tiny_budget_compiles_all_the_same(call, model, tmp_path):
    code, _, err = call("compile", model, "--tune", "0.01", "-o", tmp_path / "dense.tsl")
    assert code == 0
    assert "note: tuning measured 0 of 1 contractions: 0 are faster now" in err
    x = np.ones((24, 40), np.float32)
    plain = tessel.compile(model)(x)
    np.testing.assert_array_equal(tessel.load(tmp_path / "dense.tsl")(x), plain)


def test_winners_are_explained_of_models_and_of_packages(call, model, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "open_stage", Shorter)
    package = tmp_path / "dense.tsl"
    code, _, err = call("compile", model, "--tune", "60", "-o", package)
    assert code == 0
    assert "tuning 1 of 1, " in err
    assert "note: tuning measured 1 of 1 contractions: 1 are faster now" in err
    for arguments in ([model, "--tune", "0"], [package]):
        code, out, _ = call("explain", *arguments)
        assert code == 0
        assert "Tuned schedules" in out
        assert "× as fast by " in out
    assert "Tuned schedules" not in call("explain", model)[1]
    assert "tuning records: 1 " in call("inspect", package)[1]


def test_a_package_of_a_package_keeps_its_winners(call, model, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "open_stage", Shorter)
    call("compile", model, "--tune", "60", "-o", tmp_path / "first.tsl")
    assert call("compile", tmp_path / "first.tsl", "-o", tmp_path / "second.tsl")[0] == 0
    assert "Tuned schedules" in call("explain", tmp_path / "second.tsl")[1]


@pytest.mark.parametrize("command", ["compile", "explain", "bench"])
@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        ("-1", "expected: seconds ≥ 0"),
        ("nan", "expected: seconds ≥ 0"),
        ("inf", "expected: seconds ≥ 0"),
        ("much", "'much' is not a valid float"),
    ],
)
def test_seconds_that_are_none(call, model, command, seconds, message):
    code, _, err = call(command, model, "--tune", seconds)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_a_target_without_schedules(call, model):
    code, _, err = call("explain", model, "--target", "numpy", "--tune", "1")
    assert code == 2
    assert "there is nothing to tune" in err


def test_bench_measures_schedules_before_it_times(call, model, tmp_path):
    report = tmp_path / "bench.json"
    code, *_ = call(
        "bench",
        model,
        "--backends",
        "tessel",
        "--tune",
        "0.05",
        "--iterations",
        "2",
        "--rounds",
        "1",
        "--no-pin",
        "--json",
        report,
    )
    assert code == 0
    data = json.loads(report.read_text())
    assert data["settings"]["tune"] == 0.05
    assert data["models"][str(model)]["backends"]["tessel"]["status"] == "ok"
