"""`tessel bench --ops`: a model taken apart into its operators, each measured by itself."""

import csv
import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper, save
from tessel.compiler.errors import UsageError
from tessel.tools.bench import bench
from tessel.tools.benchmark.operators import operators_of, row_of, summary

IR, OPSET = 9, 17
FEEDS = {"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "i": np.array([2, 0])}


def saved(folder, nodes, outputs, weights=(), **more) -> str:
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4]),
        helper.make_tensor_value_info("i", TensorProto.INT64, [2]),
    ]
    outputs = [onnx.ValueInfoProto(name=n) for n in outputs]
    weights = [numpy_helper.from_array(a, n) for n, a in weights]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", OPSET)]
    path = folder / "model.onnx"
    save(helper.make_model(graph, opset_imports=opsets, ir_version=IR, **more), path)
    return str(path)


@pytest.fixture
def model(tmp_path) -> str:
    """Two ReLUs that are alike, a product with a weight, and places that the model computes."""
    node = helper.make_node
    nodes = [
        node("Relu", ["x"], ["a"], name="first"),
        node("Relu", ["a"], ["b"], name="second"),
        node("MatMul", ["b", "w"], ["c"], name="product"),
        node("Add", ["i", "one"], ["j"], name="after"),
        node("Mod", ["j", "three"], ["k"], name="inside"),
        node("Gather", ["c", "k"], ["y"], name="rows", axis=0),
        node("Neg", ["one"], ["minus"], name="constant"),
    ]
    weights = [
        ("w", np.ones((4, 40), np.float32)),
        ("one", np.array(1)),
        ("three", np.array(3)),
    ]
    return saved(tmp_path, nodes, ["y", "minus"], weights)


def test_nodes_that_are_alike_are_one_operator(model):
    found, left_out = operators_of(model, FEEDS)
    assert [op.text for op in found] == [
        "Relu 3×4",
        "MatMul 3×4, [4×40]",
        "Add 2",
        "Mod 2",
        "Gather 3×40, 2 axis=0",
    ]
    assert found[0].nodes == ("first", "second")
    assert left_out == {"it is made of constants, which are computed while compiling": 1}


def test_an_operator_gets_the_values_that_it_meets_in_the_model(model):
    found, _ = operators_of(model, FEEDS)
    gather = found[-1]
    np.testing.assert_array_equal(gather.feeds["k"], [0, 1])
    c = np.maximum(FEEDS["x"], 0) @ np.ones((4, 40), np.float32)
    np.testing.assert_allclose(gather.feeds["c"], c, rtol=1e-6)


def test_weights_stay_constants(model):
    product = operators_of(model, FEEDS)[0][1].model.graph
    assert [i.name for i in product.input] == ["b"]
    assert [t.name for t in product.initializer] == ["w"]


def test_attributes_and_small_constants_tell_operators_apart(tmp_path):
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["a"], axes=[0]),
        helper.make_node("ReduceMax", ["x"], ["b"], axes=[1]),
        helper.make_node("ReduceSum", ["x", "rows"], ["c"]),
        helper.make_node("ReduceSum", ["x", "columns"], ["d"]),
    ]
    weights = [("rows", np.array([0])), ("columns", np.array([1]))]
    found, _ = operators_of(saved(tmp_path, nodes, "abcd", weights), FEEDS)
    assert len(found) == 4
    assert all(len(op.nodes) == 1 for op in found)


def test_what_cannot_stand_by_itself_is_counted_with_the_reason(tmp_path):
    inner = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["t"])], "then", [], [onnx.ValueInfoProto(name="t")]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["e"])], "else", [], [onnx.ValueInfoProto(name="e")]
    )
    nodes = [
        helper.make_node("Equal", ["i", "i"], ["same"]),
        helper.make_node("Cast", ["same"], ["number"], to=TensorProto.INT64),
        helper.make_node("ReduceMin", ["number"], ["least"], keepdims=0),
        helper.make_node("Cast", ["least"], ["all"], to=TensorProto.BOOL),
        helper.make_node("If", ["all"], ["a"], then_branch=inner, else_branch=other),
        helper.make_node("SequenceConstruct", ["a", "x"], ["s"]),
        helper.make_node("ConcatFromSequence", ["s"], ["b"], axis=0),
    ]
    found, left_out = operators_of(saved(tmp_path, nodes, "b"), FEEDS)
    assert [op.text.split()[0] for op in found] == ["Equal", "Cast", "ReduceMin", "Cast"]
    assert left_out == {
        "it holds graphs: a loop, a branch or a scan": 1,
        "it works on sequences or optionals": 2,
    }


def test_only_onnx_files_are_taken_apart():
    with pytest.raises(UsageError, match="ONNX files"):
        operators_of("model.tsl", {})


def test_a_row_compares_with_the_fastest_other_engine(model):
    operator = operators_of(model, FEEDS)[0][0]
    timed = lambda ms: {"status": "ok", "p50_ms": ms}
    backends = {"tessel": timed(3.0), "onnxruntime": timed(4.0), "openvino": timed(2.0)}
    row = row_of(operator, backends)
    assert (row["engine"], row["ratio"], row["lost_ms"]) == ("openvino", 1.5, 2.0)
    assert "ratio" not in row_of(operator, {"tessel": timed(3.0)})
    other = row | {"ratio": 1 / 1.5, "calls": 1}
    assert summary([row, other]) == "geometric mean 1.00 of 2 operators (3 nodes); 1 above 1.10"
    assert summary([]) == "no operator was timed by tessel and another engine"


def test_the_command_prints_and_reports_every_operator(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Exp", ["a"], ["y"])]
    pytest.importorskip("onnxruntime", reason="compares with ONNX Runtime")
    path = saved(tmp_path, nodes, "y")
    arguments = [path, "--ops", "--backends", "tessel,onnxruntime", "--shapes", "x:2x4"]
    files = ["--json", str(tmp_path / "r.json"), "--csv", str(tmp_path / "r.csv")]
    quick = ["--iterations", "4", "--rounds", "2", "--warmup", "0"]
    result = CliRunner().invoke(bench, [*arguments, *files, *quick])
    assert result.exit_code == 0, result.output
    assert "Relu 2×4" in result.output
    assert "Exp 2×4" in result.output
    assert "geometric mean" in result.output
    report = json.loads((tmp_path / "r.json").read_text())
    rows = report["models"][path]["operators"]
    assert [row["operator"] for row in rows] == ["Relu 2×4", "Exp 2×4"]
    assert all(row["ratio"] > 0 for row in rows)
    with open(tmp_path / "r.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(r["operator"], r["backend"]) for r in lines] == [
        (op, backend) for op in ("Relu 2×4", "Exp 2×4") for backend in ("tessel", "onnxruntime")
    ]


def test_it_takes_no_profile_of_a_model_that_it_takes_apart(model):
    result = CliRunner().invoke(bench, [model, "--ops", "--profile"])
    assert result.exit_code == 2
    assert "one thing each" in result.output
