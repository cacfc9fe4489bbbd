"""`tessel` itself: compile's options, what it reads, what it re-exports, how quickly it imports."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
import tessel
from onnx import TensorProto, helper
from tessel.compiler.errors import (
    InputError,
    ModelError,
    PackageError,
    UnsupportedError,
    UsageError,
)
from tessel.compiler.ir.text import parse_graph


@pytest.fixture
def model() -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [info("x", TensorProto.FLOAT, ["N", 3])],
        [info("y", TensorProto.FLOAT, ["N", 3])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


X = np.array([[-1, 0, 2]], np.float32)


# -- models --------------------------------------------------------------------------------


def test_a_model_is_a_path_bytes_a_proto_or_a_graph(model, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    graph = parse_graph("graph g(%x: f32[N,3]) -> (%y) {\n %y = relu(%x)\n}")
    for source in (path, str(path), path.read_bytes(), model, graph):
        assert tessel.compile(source)(X).tolist() == [[0, 0, 2]]


def test_a_graph_is_not_changed_by_compiling_it():
    graph = parse_graph("graph g(%x: f32[3]) -> (%y) {\n %d = neg(%x)\n %y = relu(%x)\n}")
    before = str(graph)
    tessel.compile(graph)
    assert str(graph) == before


def test_a_file_that_is_no_model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model at all")
    with pytest.raises(ModelError, match=str(path)):
        tessel.compile(path)


# -- options -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["onnx", "graph"])
def test_shapes_fix_what_the_model_leaves_open(model, kind):
    source = model if kind == "onnx" else tessel.compile(model).graph
    exe = tessel.compile(source, shapes={"x": (4, 3)})
    assert exe.inputs[0].shape == (4, 3)
    assert len(exe.specializations) == 1
    with pytest.raises(InputError, match="wrong size"):
        exe(X)


@pytest.mark.parametrize("kind", ["onnx", "graph"])
@pytest.mark.parametrize("shapes", [{"x": (4, 5)}, {"x": (4,)}, {"other": (1,)}])
def test_shapes_that_do_not_fit(model, kind, shapes):
    source = model if kind == "onnx" else tessel.compile(model).graph
    with pytest.raises(InputError):
        tessel.compile(source, shapes=shapes)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_all_levels_compute_the_same(model, level):
    assert tessel.compile(model, opt_level=level)(X).tolist() == [[0, 0, 2]]


@pytest.mark.parametrize("level", [-1, 4, "2", None, True])
def test_an_unknown_level(model, level):
    with pytest.raises(UsageError, match="optimisation level"):
        tessel.compile(model, opt_level=level)


@pytest.mark.parametrize("target", ["gpu", "cpu:z80", "", "NUMPY"])
def test_an_unknown_target(model, target):
    with pytest.raises(UsageError, match="unknown"):
        tessel.compile(model, target=target)


@pytest.mark.parametrize("option", ["precision", "prune"])
def test_options_that_are_not_there_are_refused(model, option):
    with pytest.raises(UsageError, match=f"{option} is not supported"):
        tessel.compile(model, **{option: "f16"})


def test_kernels_are_cached_in_the_folder_that_is_named(model, tmp_path):
    tessel.compile(model, shapes={"x": (1, 3)}, cache=tmp_path)
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert files
    tessel.compile(model, shapes={"x": (1, 3)}, cache=False)
    assert [f for f in tmp_path.rglob("*") if f.is_file()] == files


def test_the_observer_sees_each_pass(model):
    seen = []
    tessel.compile(model, observer=lambda action, graph, changed: seen.append(action.name))
    assert seen[0] == "dce"


def test_strict_refuses_what_runs_in_python():
    graph = parse_graph(
        'graph g(%x: f32[2,2]) -> (%y) {\n %y = zip_map(%x) {labels=[1, 2]}  # "Zip"\n}'
    )
    assert tessel.compile(graph)(np.eye(2, dtype=np.float32)) == [{1: 1, 2: 0}, {1: 0, 2: 1}]
    with pytest.raises(UnsupportedError, match="zip_map is a host callback") as caught:
        tessel.compile(graph, strict=True)
    assert caught.value.findings[0].where == "Zip"


# -- models that need sizes to be read -----------------------------------------------------


@pytest.fixture
def branching() -> onnx.ModelProto:
    """y = x[0] if x has one row, else x: the type depends on a size."""
    info, node = helper.make_tensor_value_info, helper.make_node
    branches = [
        helper.make_graph(
            [node("Squeeze", ["x", "axes"], ["s"])],
            "then",
            [],
            [info("s", TensorProto.FLOAT, None)],
        ),
        helper.make_graph(
            [node("Identity", ["x"], ["i"])], "else", [], [info("i", TensorProto.FLOAT, None)]
        ),
    ]
    ints = lambda name, value: helper.make_tensor(name, TensorProto.INT64, [1], [value])
    graph = helper.make_graph(
        [
            node("Shape", ["x"], ["shape"]),
            node("Gather", ["shape", "axes"], ["rows"]),
            node("Equal", ["rows", "one"], ["flag"]),
            node("If", ["flag"], ["y"], then_branch=branches[0], else_branch=branches[1]),
        ],
        "branching",
        [info("x", TensorProto.FLOAT, ["N", 3])],
        [info("y", TensorProto.FLOAT, ["M", 3])],
        [ints("axes", 0), ints("one", 1)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_branches_of_different_shapes_are_read_for_each_size(branching):
    exe = tessel.compile(branching)
    assert exe.inputs[0].shape == ("N", 3)
    assert exe(X).shape == (3,)
    assert exe(np.zeros((2, 3), np.float32)).shape == (2, 3)
    assert [b.binding for b in exe.specializations] == [{"N": 1}, {"N": 2}]


def test_packages_of_such_models_hold_one_size(branching, tmp_path):
    exe = tessel.compile(branching)
    with pytest.raises(UsageError, match="one set of sizes"):
        exe.save(tmp_path / "m.tsl")
    exe(X)
    exe.save(tmp_path / "m.tsl")
    assert tessel.load(tmp_path / "m.tsl")(X).shape == (3,)


# -- the rest of the face ------------------------------------------------------------------


def test_errors_are_one_family():
    for kind in (InputError, ModelError, PackageError, UnsupportedError, UsageError):
        assert issubclass(kind, tessel.TesselError)


def test_functions_are_transformed():
    f = tessel.jit(lambda x: (x * x).sum())
    assert f(X) == 5
    assert tessel.grad(lambda x: (x * x).sum())(X).tolist() == [[-2, 0, 4]]
    value, gradient = tessel.value_and_grad(lambda x: (x * x).sum())(X)
    assert value == 5 and gradient.tolist() == [[-2, 0, 4]]


def test_gradients_of_a_graph():
    graph = parse_graph(
        "graph g(%x: f32[3]) -> (%y) {\n %s = mul(%x, %x)\n"
        " %y = reduce_sum(%s) {axes=[0], keepdims=false}\n}"
    )
    exe = tessel.compile(tessel.gradients(graph, wrt=["x"]))
    (dx,) = [y for y in exe.run({"x": X[0]}).values() if y.shape == (3,)]
    assert dx.tolist() == [-2, 0, 4]


@pytest.mark.parametrize("name", tessel.__all__)
def test_what_is_promised_is_there(name):
    assert getattr(tessel, name) is not None
    assert name in dir(tessel)


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tessel.nothing  # noqa: B018


def test_the_version_is_the_projects(root):
    assert f'version = "{tessel.__version__}"' in (root / "pyproject.toml").read_text()


def test_import_loads_nothing_heavy():
    code = "import sys, tessel; print(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "onnx", "llvmlite", "triton", "click"} & set(done.stdout.split())
