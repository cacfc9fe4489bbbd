"""`tessel inspect`: facts of any file that can be read, findings below them, exit code 0."""

import numpy as np
import onnx
import pytest
import tessel
from onnx import TensorProto, helper, numpy_helper, parser
from tessel.runtime.training.checkpoint import save_checkpoint
from tessel.tools import cli

HEAD = '<ir_version: 9, opset_import: ["": 21, "com.acme": 3], producer_name: "acme-export"> g '


@pytest.fixture
def call(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main(["inspect", *map(str, arguments)])
        return end.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def save(tmp_path):
    def save(body, inputs="float[N,2] x", outputs="float[N,2] y", **options):
        model = parser.parse_model(f"{HEAD}({inputs}) => ({outputs}) {{ {body} }}")
        model.graph.initializer.append(numpy_helper.from_array(np.ones((2, 2), np.float32), "w"))
        onnx.save(model, tmp_path / "m.onnx", **options)
        return tmp_path / "m.onnx"

    return save


FACTS = (
    "IR version 9, opset ai.onnx 21, com.acme 3",
    "made by acme-export",
    "in   x: f32[N,2]",
    "out  y: f32[N,2]",
    "1 initializers (f32 16 B)",
)


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        ("y = MatMul(x, w)", None),
        ("y = com.acme.Foo(x)", "com.acme:Foo"),
        ("y = Foo(x)", "Foo"),
        ("h = Relu(x, w, w, w) y = Relu(h)", "Relu"),
        ("z = Add(x, nothing) y = Relu(z)", "nothing"),
    ],
)
@pytest.mark.parametrize("types", [(), ("--types",)])
def test_facts_come_first_and_findings_below(call, save, body, finding, types):
    code, out, err = call(save(body), *types)
    assert code == 0 and err == ""
    assert all(text in out for text in FACTS)
    assert ("tessel cannot compile it as it is" in out) == (finding is not None)
    if finding is not None:
        assert finding in out


def test_nodes_of_bodies_are_counted(call, save):
    body = (
        "c = Constant<value = bool {1}>() y = If(c) <then_branch = t () => (float[N,2] a) "
        "{ a = Relu(x) }, else_branch = e () => (float[N,2] b) { b = Neg(x) }>"
    )
    _, out, _ = call(save(body))
    assert "4 nodes in the file" in out and "Neg" in out


def test_files_of_weights(call, save, tmp_path):
    path = save("y = MatMul(x, w)", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert "file w.bin: 16 B" in call(path)[1]
    (tmp_path / "w.bin").unlink()
    code, out, _ = call(path)
    assert code == 0 and "file w.bin: missing" in out and "cannot compile" in out


def test_types_that_tessel_has_not(call, tmp_path):
    info = helper.make_tensor_value_info
    types = [
        info("c", TensorProto.COMPLEX64, [2]),
        info("r", TensorProto.FLOAT, None),
        onnx.ValueInfoProto(name="u"),
    ]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["y"])],
        "g",
        types,
        [info("y", TensorProto.COMPLEX64, [2])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    code, out, _ = call(tmp_path / "m.onnx")
    assert code == 0
    for text in ("c: complex64[2]", "r: f32[…]", "u: ?", "cannot compile"):
        assert text in out


def test_what_was_asked_for_wrongly_is_an_error(call, save):
    path = save("y = MatMul(x, w)")
    assert call(path, "--shapes", "x:5x3")[0] == 2
    assert call(path, "--inputs", "z=1")[0] == 2


def test_checkpoints(call, tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, {"w": np.ones((2, 3), np.float32), "step": np.array(7)})
    code, out, _ = call(path)
    assert (
        code == 0 and "tessel.checkpoint" in out and "F32    [2,3]  w" in out and "2 arrays" in out
    )
    path.write_bytes(b"nothing")
    assert call(path)[0] == 2


def test_a_package_of_which_the_graph_is_damaged(call, save, tmp_path):
    from tessel.runtime.package.container import Container, Writer

    tessel.compile(save("y = MatMul(x, w)"), threads=1).save(tmp_path / "m.tsl")
    good = Container(tmp_path / "m.tsl")
    with Writer(tmp_path / "bad.tsl") as out:
        for name in good.table:
            out.add(name, [b"\xff" if name == "graph" else bytes(good.section(name))])
    code, out, _ = call(tmp_path / "bad.tsl")
    assert code == 0 and "tessel package" in out and "graph cannot be read" in out
