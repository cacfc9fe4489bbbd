"""`tessel bench --predictions`: what kernels take beside what the cost model expects."""

import json

import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, save
from tessel.tools.bench import bench
from tessel.tools.benchmark.predictions import Compared, print_predictions, share


@pytest.fixture
def model(tmp_path) -> str:
    """Exponentials of numbers enough to take more than some µs, and a kernel that does not."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [300, 400]) for n in "xy")
    nodes = [helper.make_node("Exp", ["x"], ["y"])]
    graph = helper.make_graph(nodes, "g", [x], [y])
    opsets = [helper.make_opsetid("", 17)]
    path = tmp_path / "model.onnx"
    save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return str(path)


def test_every_kernel_is_compared(model, tmp_path):
    arguments = [model, "--predictions", "--duration", "0.1", "--json", str(tmp_path / "r.json")]
    result = CliRunner().invoke(bench, arguments)
    assert result.exit_code == 0, result.output
    assert "of 1 kernels within 1.5×" in result.output
    (row,) = json.loads((tmp_path / "r.json").read_text())["predictions"]
    assert (row["kernel"], row["schedule"]) == ("exp", "nest")
    assert row["measured_ns"] > 0
    assert row["predicted_ns"] > 0


def test_those_furthest_off_are_listed(capsys):
    kernels = [compared(ratio, kind) for ratio, kind in ((1.2, "nest"), (0.5, "nest"), (3, "scan"))]
    assert share(kernels) == pytest.approx(1 / 3)
    print_predictions("model.onnx", kernels)
    text = capsys.readouterr().out
    assert "33% of 3 kernels within 1.5×" in text
    listed = [line.split()[0] for line in text.splitlines() if line.rstrip().endswith(" exp")]
    assert listed == ["3.00", "0.50"]


def compared(ratio: float, schedule: str) -> Compared:
    """A kernel of 10 µs."""
    return Compared("m", "exp", schedule, "lanes 8", 10e3, 10e3 * ratio)


def test_no_kernel_may_be_long_enough(capsys):
    print_predictions("model.onnx", [])
    assert "no kernel takes 5 µs" in capsys.readouterr().out


def test_it_shows_one_thing_each(model):
    result = CliRunner().invoke(bench, [model, "--predictions", "--profile"])
    assert result.exit_code == 2
    assert "one thing each" in result.output
