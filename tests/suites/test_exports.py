"""The command that compares exports with ONNX Runtime, as far as it needs no torch."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, save

pytest.importorskip("onnxruntime", reason="exports are compared with ONNX Runtime")
from ..exports import __main__ as command
from ..exports.compare import compare, difference


def test_a_missing_torch_is_named(tmp_path, root):
    if importlib.util.find_spec("torch") is not None:
        pytest.skip("there is torch")
    done = subprocess.run(
        [sys.executable, "-m", "tests.exports", str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    for word in ("needs a Python that has torch", sys.executable, "--torch PYTHON"):
        assert word in done.stderr


@pytest.fixture
def doubling(tmp_path):
    """x + x over dynamic dims, as an export of three sizes, one of them empty."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "g",
        [info("x", TensorProto.FLOAT, ["n", "m"])],
        [info("y", TensorProto.FLOAT, ["n", "m"])],
    )
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9),
        tmp_path / "model.onnx",
    )
    sizes = [{"n": 2, "m": 3}, {"n": 1, "m": 1}, {"n": 0, "m": 5}]
    for i, s in enumerate(sizes):
        x = np.arange(s["n"] * s["m"], dtype=np.float32).reshape(s["n"], s["m"]) + 1
        np.savez(tmp_path / f"sizes{i}.npz", **{"x": x, "=0": x + x})
    about = {"exporter": "dynamo", "opset": 20, "sizes": sizes}
    (tmp_path / "about.json").write_text(json.dumps(about))
    return tmp_path


def test_an_export_is_compared_at_each_of_its_sizes(doubling):
    found = compare(doubling)
    assert not found.faults
    assert (found.nodes, found.dims, found.error) == (1, ["n", "m"], 0)
    assert "sizes0" not in found.apart
    row = command.compare(doubling.parent, doubling.name)
    assert "dynamo, 20 | 1 | n/m | 2/3 1/1 0/5 | 0e+00" in row.markdown()


def test_a_size_that_the_model_does_not_take_is_a_fault(doubling):
    np.savez(doubling / "sizes0.npz", **{"x": np.ones(3, np.float32), "=0": np.ones(3)})
    [fault] = compare(doubling).faults
    assert "sizes0: " in fault


@pytest.mark.parametrize(
    ("got", "want", "says"),
    [
        ([1.0, 2.0], [1.0, 2.0], None),
        ([1.0, 2.0], [1.0, 2.1], "differs by 0.048"),
        ([1.0, np.nan], [1.0, 2.0], "differs by nan"),
        ([1.0, np.nan], [1.0, np.nan], "should be finite"),
        ([1.0, 1.0], [1.0, 1.0], "everywhere the same"),
        ([1.0], [1.0, 2.0], "(1,), not"),
        ([1, 2], [1, 3], "1 of 2 places"),
        ([], [], None),
    ],
)
def test_differences(got, want, says):
    _, fault = difference(np.asarray(got), np.asarray(want))
    assert (fault is None) if says is None else says in fault
