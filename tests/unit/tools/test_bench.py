"""`tessel bench`: agreement before timing, a report per backend, exit codes."""

import csv
import importlib.util
import json
import re
from contextlib import nullcontext

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper, save
from tessel.compiler.errors import CheckFailed, InputError, UsageError
from tessel.tools.bench import bench, check
from tessel.tools.benchmark.compare import Settings, choose_cpus, compare, summary
from tessel.tools.common.agreement import disagreement

# Backends of our own, each a function in a file, as a user would add one.
BACKENDS = """
import os, sys, time
import numpy as np

def relu(feeds):
    return {"y": np.maximum(feeds["x"], 0)}

def right(path, options):
    return relu

def slow(path, options):
    return lambda feeds: time.sleep(0.02) or relu(feeds)

def wrong(path, options):
    return lambda feeds: {"y": relu(feeds)["y"] + 0.1}

def reuses_its_buffer(path, options):
    buffer = np.zeros((2, 8), np.float32)
    def run(feeds):
        np.maximum(feeds["x"], 0, out=buffer)
        return {"y": buffer}
    return run

def refuses(path, options):
    raise ValueError("cannot read\\n\\n  this model")

def crashes(path, options):
    print("out of luck", file=sys.stderr, flush=True)
    os.abort()

def hangs(path, options):
    time.sleep(60)

def tells_its_threads(path, options):
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
    threads = [options["threads"], *(int(os.environ[name]) for name in names)]
    return lambda feeds: {"y": np.array(threads)}

def tells_whether_tessel_is_there(path, options):
    return lambda feeds: {"y": np.array("tessel" in sys.modules)}

def threes(path, options):
    return lambda feeds: {"y": np.full(3, 3)}

def no(path, options):
    return lambda feeds: {"y": np.array(False)}

def fails_later(path, options):
    calls = []
    def run(feeds):
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("enough")
        return relu(feeds)
    return run
"""

FEEDS = {"x": np.linspace(-1, 1, 16, dtype=np.float32).reshape(2, 8)}
SHORT = {"duration": 0.05, "rounds": 2, "warmup": 1}

without_torch = pytest.mark.skipif(
    all(importlib.util.find_spec(name) is not None for name in ("torch", "onnx2torch")),
    reason="needs an engine that is not installed, and torch is here",
)


@pytest.fixture
def backend(tmp_path):
    """The name of one of the backends above, as it is given to `--backends`."""
    file = tmp_path / "backends.py"
    file.write_text(BACKENDS)
    return lambda function: f"{file}:{function}"


@pytest.fixture
def model(tmp_path) -> str:
    """y = relu(x * w), w = 1."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])
    nodes = [helper.make_node("Mul", ["x", "w"], ["s"]), helper.make_node("Relu", ["s"], ["y"])]
    weight = numpy_helper.from_array(np.ones(8, np.float32), "w")
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    path = tmp_path / "relu.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return str(path)


def invoke(*arguments: str):
    return CliRunner().invoke(bench, [str(a) for a in arguments])


def test_two_backends_that_agree_are_timed(model, backend):
    pytest.importorskip("onnxruntime", reason="compares with ONNX Runtime")
    right = backend("right")
    reports = compare(model, [right, "onnxruntime"], FEEDS, Settings(**SHORT))

    assert list(reports) == [right, "onnxruntime"]
    for report in reports.values():
        assert report["status"] == "ok"
        assert 0 < report["min_ms"] <= report["p50_ms"] <= report["p90_ms"] <= report["p99_ms"]
        assert report["peak_rss_mib"] > 1
        assert report["load_s"] >= 0
        assert report["max_error"] < 1e-6
        assert report["baseline"] == right
        assert report["ratio_low"] <= report["ratio_high"]
    assert reports["onnxruntime"]["reference"]
    assert reports[right]["ratio"] == 1.0


def test_who_disagrees_is_not_timed(model, backend):
    names = [backend("right"), backend("wrong")]
    reports = compare(model, names, FEEDS, Settings(**SHORT))
    wrong = reports[names[1]]
    assert wrong["status"] == "disagrees"
    assert "off by 1.0e-01 of its scale, allowed 1e-03" in wrong["reason"]
    assert "p50_ms" not in wrong
    assert reports[names[0]]["status"] == "ok"


def test_a_wider_tolerance_lets_it_pass(model, backend):
    names = [backend("right"), backend("wrong")]
    reports = compare(model, names, FEEDS, Settings(tolerance=0.2, **SHORT))
    assert reports[names[1]]["status"] == "ok"
    assert reports[names[1]]["max_error"] == pytest.approx(0.1, rel=1e-3)


def test_the_reference_decides_who_is_right(model, backend):
    names = [backend("right"), backend("wrong")]
    reports = compare(model, names, FEEDS, Settings(reference=names[1], **SHORT))
    assert reports[names[0]]["status"] == "disagrees"
    assert reports[names[1]]["status"] == "ok"


def test_a_reference_that_does_not_run(model, backend):
    names = [backend("right"), backend("refuses")]
    with pytest.raises(CheckFailed, match="did not run"):
        compare(model, names, FEEDS, Settings(reference=names[1], **SHORT))


def test_outputs_are_copied_before_the_next_run(model, backend):
    names = [backend("right"), backend("reuses_its_buffer")]
    reports = compare(model, names, FEEDS, Settings(**SHORT))
    assert [report["status"] for report in reports.values()] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("refuses", "ValueError: cannot read this model"),
        ("crashes", "the process ended with signal 6: out of luck"),
        ("fails_later", "RuntimeError: enough"),
        ("absent", "has no attribute 'absent'"),
    ],
)
def test_a_backend_that_fails_leaves_the_others(model, backend, function, reason):
    names = [backend(function), backend("right")]
    reports = compare(model, names, FEEDS, Settings(**SHORT))
    assert reports[names[0]]["status"] == "failed"
    assert reason in reports[names[0]]["reason"]
    assert reports[names[1]]["status"] == "ok"


def test_a_backend_that_hangs_is_ended(model, backend):
    [report] = compare(model, [backend("hangs")], FEEDS, Settings(timeout=2.0)).values()
    assert report["status"] == "failed"
    assert "no answer in 2 s" in report["reason"]


@without_torch
def test_what_is_not_installed_is_said(model, backend):
    reports = compare(model, ["torch", backend("right")], FEEDS, Settings(**SHORT))
    assert reports["torch"]["status"] == "unavailable"
    assert reports["torch"]["reason"].startswith("not installed")


def test_a_package_is_only_for_tessel(tmp_path):
    reports = compare(tmp_path / "m.tsl", ["onnxruntime"], {}, Settings(**SHORT))
    assert reports["onnxruntime"] == {
        "status": "unavailable",
        "reason": "does not read .tsl files",
    }


def test_threads_are_equal(model, backend):
    names = [backend("tells_its_threads"), backend("threes")]
    reports = compare(model, names, FEEDS, Settings(threads=3, **SHORT))
    assert [report["status"] for report in reports.values()] == ["ok", "ok"]


def test_other_engines_do_not_carry_tessel(model, backend):
    names = [backend("tells_whether_tessel_is_there"), backend("no")]
    reports = compare(model, names, FEEDS, Settings(**SHORT))
    assert [report["status"] for report in reports.values()] == ["ok", "ok"]


def test_iterations_instead_of_a_duration(model, backend):
    settings = Settings(iterations=7, rounds=3)
    [report] = compare(model, [backend("right")], FEEDS, settings).values()
    assert report["runs"] == 7


def test_a_slow_backend_keeps_to_its_time(model, backend):
    settings = Settings(duration=0.06, rounds=6, warmup=0)
    [report] = compare(model, [backend("slow")], FEEDS, settings).values()
    assert 3 <= report["runs"] <= 5


def test_the_summary_of_slices():
    slices = {0: {"ms": [1.0, 3.0], "cpu_s": 0.004, "wall_s": 0.004}}
    slices[1] = {"ms": [2.0], "cpu_s": 0.004, "wall_s": 0.002}
    figures = summary(slices, (90,))
    assert figures["runs"] == 3
    assert figures["p50_ms"] == figures["mean_ms"] == 2.0
    assert figures["p90_ms"] == pytest.approx(2.8)
    assert figures["cv"] == pytest.approx(np.std([1, 2, 3]) / 2)
    assert figures["throughput"] == pytest.approx(500)
    assert figures["cpu_cores"] == pytest.approx(4 / 3)


def test_cpus_to_pin_to():
    cpus = choose_cpus(1)
    assert cpus is None or len(cpus) == 1
    assert choose_cpus(10**6) is None


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("right", "given", "error"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0.0),
        ([1.0, -4.0], [1.001, -4.0], 0.00025),
        ([NAN, INF, 1.0], [NAN, INF, 1.0], 0.0),
        ([], [], 0.0),
    ],
)
def test_outputs_agree(right, given, error):
    worst, reason = disagreement([np.array(right)], [np.array(given)], None)
    assert reason is None
    assert worst == pytest.approx(error)


@pytest.mark.parametrize(
    ("right", "given", "reason"),
    [
        (np.ones(2), np.ones(3), r"float64\[3\], expected float64\[2\]"),
        (np.ones(2, np.float32), np.ones(2), "float64.*expected float32"),
        (np.ones(2), np.array([1, NAN]), "off by inf"),
        (np.array([1, NAN]), np.ones(2), "off by inf"),
        (np.array([1, INF]), np.array([1, -INF]), "off by inf"),
        (np.zeros(2), np.array([0, 1e-9]), "off by"),
        (np.array([5]), np.array([6]), "allowed 0e"),
        (np.array(["a"], object), np.array(["b"], object), "values differ"),
        (np.array([True]), np.array([False]), "values differ"),
        ([np.ones(1)], [np.ones(1), np.ones(1)], "2 values, expected 1"),
        ([{0: 0.5}], [{1: 0.5}], "keys"),
        ([{0: 0.5}], [{0: 0.6}], "off by"),
    ],
)
def test_outputs_disagree(right, given, reason):
    _, found = disagreement([right], [given], None)
    assert found is not None
    assert re.search(reason, found)


def test_the_number_of_outputs():
    assert disagreement([1.0], [], None) == (np.inf, "0 values, expected 1")


def test_the_command_writes_table_json_and_csv(model, backend, tmp_path):
    right, slow = backend("right"), backend("slow")
    done = invoke(
        *[model, "--backends", f"{right},{slow}", "--shapes", "x:2x8", "--iterations", 4],
        *["--percentile", "75", "--json", tmp_path / "r.json", "--csv", tmp_path / "r.csv"],
    )
    assert done.exit_code == 0, done.output
    assert "p75" in done.output
    assert "p99" not in done.output
    assert "75 % of the runs take less" in done.output

    report = json.loads((tmp_path / "r.json").read_text())
    assert report["machine"]["cpus"] >= 1
    assert report["settings"]["iterations"] == 4
    entry = report["models"][model]
    assert entry["inputs"] == {"x": "float32[2, 8]"}
    assert entry["backends"][slow]["ratio"] > 1

    rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert [row["backend"] for row in rows] == [right, slow]
    assert float(rows[1]["p50_ms"]) >= 20


def test_the_command_fails_when_a_backend_disagrees(model, backend, tmp_path):
    wrong = backend("wrong")
    done = invoke(
        *[model, "--backends", f"{backend('right')},{wrong}", "--iterations", 2],
        *["--json", tmp_path / "r.json"],
    )
    assert isinstance(done.exception, CheckFailed)
    assert done.exception.exit_code == 1
    assert f"{wrong} disagrees" in done.output
    # The report is written all the same.
    entry = json.loads((tmp_path / "r.json").read_text())["models"][model]
    assert entry["backends"][wrong]["status"] == "disagrees"


@pytest.mark.parametrize(("name", "fails"), [("onnxruntime", False), ("tessel", True)])
def test_whose_failure_fails_the_check(name, fails):
    rows = {"other": {"status": "ok"}, name: {"status": "failed", "reason": "no such op " * 99}}
    report = {"models": {"m.onnx": {"backends": rows}}}
    with pytest.raises(CheckFailed, match="tessel failed") if fails else nullcontext():
        check(report)


@without_torch
def test_nothing_to_time_is_a_failure(model):
    done = invoke(model, "--backends", "torch")
    assert isinstance(done.exception, CheckFailed)


def test_inputs_from_a_file(model, backend, tmp_path):
    np.savez(tmp_path / "x.npz", extra=np.zeros(1), **FEEDS)
    json_file = tmp_path / "r.json"
    done = invoke(
        *[model, "--backends", backend("right"), "--inputs", tmp_path / "x.npz"],
        *["--iterations", 1, "--json", json_file],
    )
    assert done.exit_code == 0, done.output
    assert json.loads(json_file.read_text())["models"][model]["inputs"] == {"x": "float32[2, 8]"}


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["--backends", "nope"], UsageError, "No backend is called 'nope'"),
        (["--backends", "missing.py:f"], UsageError, "No backend is called"),
        (["--backends", "torch,torch"], UsageError, "named twice"),
        (["--reference", "torch"], UsageError, "reference is not among"),
        (["--shapes", "x:1x9"], InputError, "do not fit"),
        (["--inputs", "{npz}", "--shapes", "x:2x8"], UsageError, "already says"),
        (["--inputs", "{npz}"], InputError, "inputs are missing: x"),
        (["--inputs", "{model}"], UsageError, "not a .npz"),
    ],
)
def test_wrong_usage(model, tmp_path, arguments, kind, message):
    np.savez(tmp_path / "z.npz", z=np.zeros(1))
    arguments = [a.format(npz=tmp_path / "z.npz", model=model) for a in arguments]
    done = invoke(model, *arguments)
    assert isinstance(done.exception, kind), done.output
    assert message in str(done.exception)
    assert done.exception.exit_code == 2


@pytest.mark.parametrize("percentile", ["high", "101", "-1"])
def test_wrong_percentiles(model, percentile):
    done = invoke(model, f"--percentile={percentile}")
    assert done.exit_code == 2
    assert "percentile" in done.output
