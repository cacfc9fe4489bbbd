"""Models that cannot be read: what is said, all at once, and never another exception."""

import gzip
import random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tessel.compiler.errors import (
    InputError,
    ModelError,
    TesselError,
    TypeMismatch,
    UnsupportedError,
)
from tessel.frontends.onnx.importer import read

from ...support.onnx_models import graph_of, model, rand, run

# -- findings -----------------------------------------------------------------------------


def test_everything_unreadable_is_listed_once():
    proto = model(
        """
        a = com.acme.Whirl(x)
        b = com.acme.Whirl(x)
        t = com.acme.Swirl(x)
        u = Relu(t)
        v = Add(x, w)
        y = Frobnicate(u)
        """,
        extra=', "com.acme": 3',
        inputs="float[2,2] x, float[3] w",
    )
    with pytest.raises(UnsupportedError) as caught:
        read(proto)
    lines = [f.message for f in caught.value.findings]
    assert lines == [
        "com.acme:Whirl (opset 3) of f32[2,2], 2 times: unsupported operator",
        "com.acme:Swirl (opset 3) of f32[2,2]: unsupported operator",
        "Add (opset 21) of f32[2,2], f32[3]: shapes do not broadcast",
        "Frobnicate (opset 21) of ?: opset 21 of ONNX has no such operator",
    ]
    assert caught.value.findings[0].where == "Whirl#0, Whirl#1"
    assert "5 problems" in caught.value.message


WRONG = [
    ("y = Relu(nowhere)", {}, ModelError, "nothing makes the value 'nowhere'"),
    ("a = Relu(b) b = Relu(a) y = Add(a, b)", {}, ModelError, "used before it is made"),
    ("z = Relu(x)", {}, ModelError, "no node makes this output"),
    ("y = Relu(x) y = Abs(x)", {}, ModelError, "two values have one name"),
    ("y = Relu(x, x)", {}, ModelError, "wrong number of operands"),
    ("y = LeakyRelu<alpha=3>(x)", {}, ModelError, "attribute alpha has the wrong type"),
    ("y = Cast(x)", {}, ModelError, "attribute to is missing"),
    ("y = Concat<axis=7>(x, x)", {}, TypeMismatch, "axis out of range"),
    ("y = Cast<to=14>(x)", {}, UnsupportedError, "unsupported dtype COMPLEX64"),
    ("y = Cast<to=99>(x)", {}, ModelError, "not an ONNX element type"),
    ("y = Relu<spin=1>(x)", {}, UnsupportedError, "unsupported attribute spin"),
    ("y = com.acme.Relu(x)", {}, ModelError, "imports no opset for domain 'com.acme'"),
    ("y = Gelu(x)", {"opset": 13}, UnsupportedError, "opset 13 of ONNX has no such operator"),
    ("y = Relu(x)", {"opset": 99}, UnsupportedError, "newer than the onnx package"),
    (
        "y = Reshape(x, s)",
        {"inputs": "float[2,3] x, int64[2] s"},
        UnsupportedError,
        "the value of operand shape must be known when the graph is read",
    ),
    ("s = Shape(x) y = Transpose<perm=[0,1,1]>(x)", {}, TesselError, "perm"),
    (
        "y = Squeeze(x, a)",
        {"inputs": "float[N,3] x, int64[1] a"},
        UnsupportedError,
        "the value of operand axes must be known",
    ),
    (
        "s = Constant<value_ints=[1, 1, 1]>() y, z = Split<axis=1>(x, s)",
        {},
        ModelError,
        "Split has a size for each output",
    ),
    (
        "n = NonZero(x) y = ConstantOfShape(n)",
        {"outputs": "float y"},
        UnsupportedError,
        "the number of elements of an operand that decides a shape is not known",
    ),
    (
        "y = local.F(x)",
        {
            "extra": ', "local": 1',
            "functions": '<domain: "local", opset_import: ["local": 1]>\n'
            " F (x) => (y) { y = local.F(x) }",
        },
        ModelError,
        "a function calls itself",
    ),
]


@pytest.mark.parametrize(("body", "options", "kind", "message"), WRONG, ids=lambda v: str(v)[:30])
def test_what_is_wrong_with_a_node(body, options, kind, message):
    with pytest.raises(kind, match=message):
        read(model(body, **options))


def test_a_shape_operand_says_what_to_do():
    with pytest.raises(UnsupportedError, match="make it an initializer, or give s with --inputs"):
        read(model("y = Reshape(x, s)", inputs="float[2,3] x, int64[2] s"))


def test_branches_of_different_types_need_a_known_condition():
    body = """
        y = If(c) <
            then_branch = a () => (float[2,3] t) { t = Identity(x) },
            else_branch = b () => (float[3] e) { i = Constant<value_int=0>() e = Gather(x, i) }
        >
    """
    with pytest.raises(UnsupportedError, match="the branches give different types"):
        read(model(body, inputs="bool c, float[2,3] x"))


# -- inputs and shapes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"z": (2,)}, "no input named 'z'"),
        ({"x": (2, 4)}, "the shape does not fit the model"),
        ({"x": (2,)}, "the shape does not fit the model"),
        ({"x": (-2, 3)}, "the shape does not fit the model"),
        ({"x": (2, 3), "w": (4,)}, "the shape does not fit the model"),
    ],
)
def test_shapes_that_do_not_fit(shapes, message):
    proto = model("y = Add(x, w)", inputs="float[N,3] x, float[N] w", outputs="float[N,3] y")
    with pytest.raises(InputError, match=message):
        read(proto, shapes=shapes)


def test_inputs_that_cannot_be():
    with pytest.raises(UnsupportedError, match="the rank of an input is unknown"):
        read(
            model("y = Relu(x)", inputs="float x", outputs="float y").__class__.FromString(
                _without_shape(model("y = Relu(x)"))
            )
        )
    with pytest.raises(UnsupportedError, match="the structure of an input is unknown"):
        read(model("y = SequenceLength(x)", inputs="seq(float[2]) x", outputs="int64 y"))
    negative = model("y = Relu(x)")
    negative.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -7
    with pytest.raises(ModelError, match="a negative dim"):
        read(negative)
    absurd = model("y = Relu(x)", inputs=f"float[{1 << 30},{1 << 30}] x")
    with pytest.raises(ModelError, match="absurd dims"):
        read(absurd)


def _without_shape(proto) -> bytes:
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    return proto.SerializeToString()


# -- files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (gzip.compress(b"x", mtime=0), "compressed by gzip"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"not a model at all", "not an ONNX file"),
        (b"\x08\x07", "not an ONNX file"),
    ],
)
def test_files_that_are_not_models(tmp_path, content, message):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        read(path)
    assert caught.value.where == str(path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ModelError, match="there is no such file"):
        read(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="is a directory"):
        read(tmp_path)
    text = tmp_path / "m.onnxtxt"
    text.write_text("g (float x) => {")
    with pytest.raises(ModelError, match="the ONNX text does not parse"):
        read(text)


def _weighted(array: np.ndarray) -> onnx.ModelProto:
    proto = model("y = Add(x, w)")
    proto.graph.initializer.append(numpy_helper.from_array(array, "w"))
    return proto


def test_damaged_tensors():
    truncated = _weighted(rand(2, 3))
    truncated.graph.initializer[0].raw_data = b"abc"
    with pytest.raises(ModelError, match="truncated or too long"):
        read(truncated)
    negative = _weighted(rand(2, 3))
    negative.graph.initializer[0].dims[0] = -2
    with pytest.raises(ModelError, match="absurd dims of a tensor"):
        read(negative)
    short = _weighted(rand(2, 3))
    short.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, [2], [1, 2]))
    short.graph.initializer[0].dims[0] = 9
    with pytest.raises(ModelError, match="do not fit its type"):
        read(short)


def test_any_damage_gives_a_tessel_error(tmp_path):
    """Bytes changed at random: the model reads, or says what is wrong."""
    proto = _weighted(rand(300, 200))
    proto.graph.node.append(helper.make_node("Reshape", ["y", "s"], ["z"], name="r"))
    proto.graph.initializer.append(numpy_helper.from_array(np.int64([-1]), "s"))
    data = proto.SerializeToString()
    random.seed(0)
    path = tmp_path / "m.onnx"
    refused = 0
    for turn in range(300):
        damaged = bytearray(data)
        for _ in range(1 + turn % 5):
            place = random.choice([random.randrange(120), -random.randrange(1, 200)])
            damaged[place] = random.randrange(256)
        path.write_bytes(damaged[: len(data) - (turn % 7) * 50])
        try:
            read(path)
        except TesselError as error:
            refused += bool(error.message)
    assert refused > 100


# -- external data ------------------------------------------------------------------------


def _external(tmp_path, **entries):
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    weights = rand(2, 3)
    (folder / "w.bin").write_bytes(b"skip" * 4 + weights.tobytes())
    proto = _weighted(weights)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "w.bin", "offset": 16, "length": 24} | entries).items():
        tensor.external_data.add(key=key, value=str(value))
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path, weights


def test_external_data_are_mapped(tmp_path):
    path, weights = _external(tmp_path)
    assert np.array_equal(run(path, np.zeros((2, 3), np.float32))[0], weights)
    constants = [v for v in graph_of(path).values() if v.constant is not None]
    assert not constants[0].constant.flags.writeable


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "/etc/passwd"}, "must lie in the model's folder"),
        ({"location": "../w.bin"}, "must lie in the model's folder"),
        ({"location": "C:\\w.bin"}, "must lie in the model's folder"),
        ({"location": "link"}, "must lie in the model's folder"),
        ({"location": ""}, "must lie in the model's folder"),
        ({"location": "other.bin"}, "the file with external data is missing"),
        ({"offset": 1000}, "end after the file's end"),
        ({"offset": -4}, "offset of external data is not a number"),
        ({"length": 12}, "does not fit the tensor"),
    ],
)
def test_external_data_that_are_refused(tmp_path, entries, message):
    path, _ = _external(tmp_path, **entries)
    outside = tmp_path / "secret.bin"
    outside.write_bytes(bytes(40))
    (path.parent / "link").symlink_to(outside)
    with pytest.raises(ModelError, match=message):
        read(path)


def test_external_data_need_a_folder(tmp_path):
    path, _ = _external(tmp_path)
    with pytest.raises(ModelError, match="its folder is not known"):
        read(path.read_bytes())
