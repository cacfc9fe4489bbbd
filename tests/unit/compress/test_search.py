"""A metric that must not fall by more than so much: what stays f32, and how a search ends."""

import json

import numpy as np
import pytest
import tessel
from click.testing import CliRunner
from tessel.compiler.ir.builder import Builder
from tessel.runtime.compress.data import Data
from tessel.runtime.compress.metrics import metric_of
from tessel.tools.quantize import quantize as command

RNG = np.random.default_rng(0)
X = RNG.standard_normal((64, 32)).astype(np.float32)


def skewed() -> tessel.Graph:
    """Four layers; the third has channels of very different sizes, which one scale cannot hold."""
    b = Builder()
    x = b.input("x", "f32[N,32]")
    for i in range(4):
        b.origin = f"layer{i}"
        w = (RNG.standard_normal((32, 32)) / 6).astype(np.float32)
        sizes = np.geomspace(1, 3000, 32, dtype=np.float32)
        w = w * sizes if i == 1 else w / sizes[:, None] if i == 2 else w
        x = b.relu(x @ w)
    b.output("y", x)
    return b.graph


def sqnr(exact):
    """In dB, as a metric."""
    signal = np.square(exact).sum()
    return lambda exe: 10 * np.log10(signal / max(np.square(exact - exe(X)).sum(), 1e-9 * signal))


@pytest.fixture(scope="module")
def net():
    graph = skewed()
    return graph, tessel.compile(graph)(X)


def test_the_layer_to_blame_stays(net):
    graph, exact = net
    metric = sqnr(exact)
    whole = tessel.quantize(graph, X, tessel.Recipe(small=0), metric=metric)
    assert whole.report.measured["metric after"] < 25
    q = tessel.quantize(graph, X, tessel.Recipe(small=0), metric=metric, max_drop=65)
    assert q.report.measured["metric after"] >= 25
    assert "layer2" in q.report.kept and len(q.report.kept) < 4
    assert "rank 1" in q.report.kept["layer2"]
    assert len(q.report.measured["evaluations"]) <= 8
    assert metric(tessel.compile(q)) == pytest.approx(q.report.measured["metric after"], abs=0.5)


def test_a_goal_that_is_not_met_gives_the_best_so_far(net):
    graph, exact = net
    q = tessel.quantize(graph, X, metric=sqnr(exact), max_drop=0, evaluations=2)
    assert "2 evaluations" in q.report.notes[-1]
    assert len(q.report.measured["evaluations"]) == 2


def test_an_interrupt_keeps_what_was_found(net):
    graph, _ = net
    calls = []

    def metric(exe):
        calls.append(exe)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return 100.0 if len(calls) == 1 else float(len(calls))

    q = tessel.quantize(graph, X, metric=metric, max_drop=1)
    assert q.report.measured["metric after"] == 3.0
    assert "interrupted" in q.report.notes[-1]


def test_metrics_by_name():
    graph, labels = skewed(), np.zeros(50, np.int64)
    exe = tessel.compile(graph)
    data = Data.of(X[:50], exe.inputs)
    y = exe(X[:50])
    assert metric_of("accuracy", data, y.argmax(1))(exe) == 100
    assert metric_of("accuracy", data, labels)(exe) == 100 * (y.argmax(1) == 0).mean()
    with pytest.raises(tessel.TesselError, match="a label for each sample"):
        metric_of("accuracy", data, labels[:3])
    with pytest.raises(tessel.TesselError, match="unknown metric") as caught:
        metric_of("acuracy", data, labels)
    assert caught.value.fix == "did you mean 'accuracy'?"


def test_the_command(net, tmp_path):
    graph, exact = net
    tessel.to_onnx(graph, tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=X)
    np.save(tmp_path / "y.npy", exact.argmax(1))
    given = [tmp_path / "m.onnx", "--data", tmp_path / "x.npz", "-o", tmp_path / "q.onnx"]
    given += ["--labels", tmp_path / "y.npy", "--max-drop", 60, "--report", tmp_path / "r.json"]
    given += ["--write-recipe", tmp_path / "r.toml"]
    done = CliRunner().invoke(command, list(map(str, given)), catch_exceptions=False)
    assert done.exit_code == 0
    assert "metric: 100 -> " in done.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["measured"]["metric before"] == 100
    given[-3] = tmp_path / "r.html"
    CliRunner().invoke(command, list(map(str, given)), catch_exceptions=False)
    assert "<td>layer1</td>" in (tmp_path / "r.html").read_text()
    again = ["--recipe", tmp_path / "r.toml", "-o", tmp_path / "again.onnx", tmp_path / "m.onnx"]
    CliRunner().invoke(command, list(map(str, again)), catch_exceptions=False)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "q.onnx").read_bytes()


def test_a_search_goes_on_from_an_earlier_one(net, tmp_path):
    graph, exact = net
    calls = []

    def metric(exe):
        calls.append(exe)
        return sqnr(exact)(exe)

    options = {"metric": metric, "max_drop": 65}
    first = tessel.quantize(graph, X, tessel.Recipe(small=0), evaluations=1, **options)
    assert len(calls) == 2
    path = tmp_path / "r.json"
    path.write_text(json.dumps(first.report.to_dict()))
    whole = tessel.quantize(graph, X, tessel.Recipe(small=0), resume=path, **options)
    tried = whole.report.measured["evaluations"]
    assert len(calls) == 2 + len(tried) - 1
    assert tried[0] == first.report.measured["evaluations"][0]
    assert "layer2" in whole.report.kept
    with pytest.raises(tessel.TesselError, match="ranks other products"):
        tessel.quantize(graph, X, keep="layer0", resume=first.report.measured, **options)
    with pytest.raises(tessel.TesselError, match="nothing that a search can go on from"):
        tessel.quantize(graph, X, resume={"a": 1}, **options)
