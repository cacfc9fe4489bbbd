"""ONNX files as they are found: old, untidy, damaged in harmless ways, large, as text."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from google.protobuf import json_format, text_format
from onnx import TensorProto, helper, numpy_helper
from tessel.compiler.errors import ModelError, UnsupportedError
from tessel.frontends.onnx.exporter import write
from tessel.frontends.onnx.importer import read
from tessel.tools import cli

from ...support.onnx_models import (
    assert_agrees,
    assert_equal,
    graph_of,
    model,
    onnxruntime,
    ops,
    rand,
    run,
)

X = rand(2, 3)


@pytest.mark.parametrize("version", range(3, 15))
def test_every_ir_version(version):
    proto = model("y = Relu(x)")
    proto.ir_version = version
    assert_equal(run(proto, X), [np.maximum(X, 0)])


def test_a_model_of_the_first_years():
    """Initializers are inputs too, and attributes are where operands are now."""
    proto = model(
        "h = Gemm <transB = 1, broadcast = 1> (x, w, b) y, m = Dropout <ratio = 0.5> (h)",
        opset=6,
        inputs="float[2,3] x, float[3,3] w, float[3] b",
    )
    proto.ir_version = 3
    w, b = rand(3, 3, seed=1), rand(3, seed=2)
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for a, n in ((w, "w"), (b, "b")))
    assert [v.name for v in graph_of(proto).inputs] == ["x"]
    assert_equal(run(proto, X), [X @ w.T + b])


# -- what files say of values, rightly or not ---------------------------------------------


def _info(name: str, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def test_value_info_is_not_believed():
    proto = model("h = Transpose(x) y = Exp(h)", outputs="float[3,2] y")
    proto.graph.value_info.append(_info("h", [7, 7], TensorProto.INT64))
    assert_equal(run(proto, X), [np.exp(X.T)])


def test_declared_outputs_are_not_believed():
    proto = model("y = Transpose(x)", outputs="float[2,3] y")
    assert [str(v.type) for v in graph_of(proto).outputs] == ["f32[3,2]"]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    assert [str(v.type) for v in graph_of(proto).outputs] == ["f32[3,2]"]
    proto.graph.output[0].ClearField("type")
    assert_equal(run(proto, X), [X.T])


def test_an_input_without_a_shape_gets_it_from_shapes():
    proto = model("y = Relu(x)")
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UnsupportedError, match="the rank of an input is unknown"):
        read(proto)
    assert_equal(run(proto, X, shapes={"x": (2, 3)}), [np.maximum(X, 0)])


# -- names --------------------------------------------------------------------------------


def test_nodes_without_names_are_told_apart():
    proto = model("a = Relu(x) b = Relu(a) y = Exp(b)")
    assert all(not n.name for n in proto.graph.node)
    assert [n.origin for n in graph_of(proto).nodes] == ["Relu#0", "Relu#1", "Exp#2"]


def test_nodes_of_one_name():
    proto = model("a = Relu(x) y = Exp(a)")
    for node in proto.graph.node:
        node.name = "node"
    assert_equal(run(proto, X), [np.exp(np.maximum(X, 0))])
    assert len({n.name for n in write(read(proto)).graph.node}) == 2


def test_branches_use_the_same_names():
    proto = model(
        """y = If (c) <
             then_branch = t () => (float[2,3] r) { h = Exp(x) r = Neg(h) },
             else_branch = e () => (float[2,3] r) { h = Relu(x) r = Abs(h) }>""",
        inputs="float[2,3] x, bool c",
    )
    for choice in (True, False):
        assert_agrees(proto, X, np.bool_(choice))


def test_a_branch_hides_an_outer_name():
    """ONNX forbids it; some exporters do it."""
    proto = model(
        """h = Exp(x) g = If (c) <
             then_branch = t () => (float[2,3] r) { h = Neg(x) r = Abs(h) },
             else_branch = e () => (float[2,3] r) { r = Identity(h) }> y = Add(g, h)""",
        inputs="float[2,3] x, bool c",
    )
    assert_equal(run(proto, X, np.bool_(True)), [np.abs(X) + np.exp(X)])
    assert_equal(run(proto, X, np.bool_(False)), [2 * np.exp(X)])


def test_initializers_of_branches_and_of_the_graph_share_names():
    proto = model(
        """y = If (c) <
             then_branch = t () => (float[2,3] r) <float[1] w = {2.0}> { r = Mul(x, w) },
             else_branch = e () => (float[2,3] r) { r = Mul(x, w) }>""",
        inputs="float[2,3] x, bool c",
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.float32([3]), "w"))
    assert_equal(run(proto, X, np.bool_(True)), [2 * X])
    assert_equal(run(proto, X, np.bool_(False)), [3 * X])


def test_names_with_any_characters():
    proto = model("h = Relu(x) y = Exp(h)")
    odd = 'a/b:0 "q" %ü\n'
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = odd
    assert_agrees(proto, X)


def test_initializers_nobody_reads_and_outputs_nobody_wants():
    proto = model("y, m = Dropout(x) z = Not(m)")
    proto.graph.initializer.append(numpy_helper.from_array(X, "unused"))
    assert_equal(run(proto, X), [X])


def test_optimised_by_onnxruntime(tmp_path):
    """Its optimised files mix domains; ONNX's checker knows none of them."""
    import onnxruntime as ort

    proto = model(
        "h = MatMul(x, w) b = Add(h, c) d = Div(b, s) e = Erf(d) f = Add(e, o) g = Mul(b, f)"
        " y = Mul(g, k)",
        inputs="float[2,3] x",
        outputs="float[2,4] y",
        opset=17,
    )
    arrays = {
        "w": rand(3, 4),
        "c": rand(4),
        "s": np.float32(2**0.5),
        "o": np.float32(1),
        "k": np.float32(0.5),
    }
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()
    )
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(proto.SerializeToString(), options)
    optimised = onnx.load(tmp_path / "optimised.onnx")
    assert any(n.domain == "com.microsoft" for n in optimised.graph.node)
    assert_equal(run(optimised, X), onnxruntime(proto, X), rtol=1e-4)


# -- text ---------------------------------------------------------------------------------

TEXT = '<ir_version: 8, opset_import: ["": 21]>\ng (float[2,3] x) => (float[2,3] y) { y = Relu(x) }'


@pytest.mark.parametrize("name", ["m.onnx", "m.onnxtxt", "m.txt"])
@pytest.mark.parametrize("form", ["onnx", "protobuf", "json"])
def test_text_is_recognised_by_what_it_says(tmp_path, name, form):
    proto = onnx.parser.parse_model(TEXT)
    text = {
        "onnx": TEXT,
        "protobuf": "# a model\n" + text_format.MessageToString(proto),
        "json": json_format.MessageToJson(proto),
    }[form]
    if name == "m.onnxtxt" and form != "onnx":
        return
    (tmp_path / name).write_text("\n  " + text, encoding="utf-8-sig")
    assert ops(read(tmp_path / name)) == ["relu"]
    assert ops(read(text.encode())) == ["relu"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<ir_version: >", "the ONNX text does not parse: .*line: 1"),
        ("ir_version: 8 graph {", "the protobuf text does not parse: 1:"),
        ('{"graph": 3}', "the JSON does not parse: .*graph"),
        (b"<ir\xff", "the text is not UTF-8"),
    ],
)
def test_text_that_does_not_parse(tmp_path, text, message):
    path = tmp_path / "m.onnx"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ModelError, match=message) as caught:
        read(path)
    assert caught.value.where == str(path)


# -- size ---------------------------------------------------------------------------------

GIB = 1 << 30
PEAK = """
import resource, sys
from tessel.frontends.onnx.importer import read
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
graph = read(sys.argv[1])
constants = [n.attrs["value"] for n in graph.nodes if n.op.name == "constant"]
print(sum(a.nbytes for a in constants),
      1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before),
      float(constants[0][-1, -1]))
"""


def _external(path, rows: int, columns: int) -> None:
    """A model whose weights are in a file beside it, which takes no room on the disk."""
    proto = model("y = MatMul(x, w)", inputs=f"float[1,{rows}] x", outputs=f"float[1,{columns}] y")
    weight = TensorProto(
        name="w",
        data_type=TensorProto.FLOAT,
        dims=[rows, columns],
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", "w.bin"), ("offset", 4096), ("length", 4 * rows * columns)):
        weight.external_data.add(key=key, value=str(value))
    proto.graph.initializer.append(weight)
    onnx.save(proto, path)
    with open(path.parent / "w.bin", "wb") as file:
        file.seek(4096 + 4 * (rows * columns - 1))
        file.write(np.float32(1.5).tobytes())


def test_weights_of_more_than_two_gigabytes_are_mapped(tmp_path):
    """Only what is read of them is ever in memory."""
    _external(tmp_path / "m.onnx", 3 * GIB // 4 // 4096, 4096)
    run = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path / "m.onnx"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    size, peak, last = run.stdout.split()
    assert int(size) == 3 * GIB and float(last) == 1.5
    assert int(peak) < GIB // 10


# -- what is missing ----------------------------------------------------------------------

LACKS = """
    a = com.acme.Foo(x)  b = com.acme.Foo(x)  d = com.acme.Bar(a)
    e = If (c) <
        then_branch = t () => (float[2,3] u) { u = com.acme.Baz(x) },
        else_branch = f () => (float[2,3] v) { w = Relu(x) v = com.acme.Baz(w) }>
    f = com.acme.Foo(e)
    p = Greater(f, x)
    q = ReduceMax<keepdims=0>(f)
    r = Cast<to=9>(q)
    g = If (r) <
        then_branch = t () => (float[2,3] u) { u = com.acme.Qux(x) },
        else_branch = f () => (float[2,3] v) { v = com.acme.Baz(x) }>
    y = Relu(d)
"""


def test_explain_lists_all_that_is_missing(tmp_path, capsys):
    """Also in both branches, and behind what cannot be read itself."""
    path = tmp_path / "m.onnx"
    onnx.save(model(LACKS, inputs="float[2,3] x, bool c", extra=', "com.acme": 1'), path)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["explain", str(path)])
    text = capsys.readouterr().err
    assert "8 problems" in text
    for line in [
        "com.acme:Foo (opset 1) of f32[2,3], 3 times: unsupported operator",
        "com.acme:Bar (opset 1) of ?: unsupported operator",
        "3 times: unsupported operator\n      where:    If#3/Baz#0, If#3/Baz#1",
        "com.acme:Qux (opset 1)",
    ]:
        assert line in text
