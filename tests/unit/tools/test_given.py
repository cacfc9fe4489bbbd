"""What commands are fed: `--inputs` in all its ways, sizes that are guessed, values that decide
shapes."""

import sys

import numpy as np
import onnx
import pytest
import tessel
from onnx import numpy_helper, parser
from tessel.compiler.errors import InputError, TesselError, UsageError
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.types import DTYPES, SequenceType, TensorType
from tessel.runtime.base.signature import Port
from tessel.tools import cli
from tessel.tools.common.given import read_given
from tessel.tools.common.guess import guess

HEAD = '<ir_version: 9, opset_import: ["": 21]> g '
N, H, W = map(Sym.named, "NHW")


def tensor(dtype, *shape):
    return TensorType(DTYPES[dtype], shape)


@pytest.fixture
def call(capsys):
    """Run a command; (exit code, stdout, stderr)."""

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main([str(a) for a in arguments])
        return end.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def save(tmp_path):
    """Write a model of ONNX's text; its path."""

    def save(inputs, body, outputs="float[?] y", **weights):
        model = parser.parse_model(f"{HEAD}({inputs}) => ({outputs}) {{ {body} }}")
        for name, array in weights.items():
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        onnx.save(model, tmp_path / "m.onnx")
        return tmp_path / "m.onnx"

    return save


# -- values on the command line ---------------------------------------------------------------

PORTS = [
    Port("f", tensor("f32", N, 2)),
    Port("h", tensor("f16")),
    Port("i", tensor("i8", N)),
    Port("u", tensor("u64")),
    Port("b", tensor("bool", N)),
    Port("s", tensor("str", N)),
    Port("t", tensor("bf16", 1, N)),
    Port("xs", SequenceType(tensor("f32", N))),
]


def given(*texts):
    return read_given(texts, lambda: PORTS).arrays


@pytest.mark.parametrize(
    ("text", "dtype", "value"),
    [
        ("f=[[1,2.5]]", "float32", [[1, 2.5]]),
        ("f=[]", "float32", []),
        ("h=-Infinity", "float16", -np.inf),
        ("i=[-128,127]", "int8", [-128, 127]),
        ("u=18446744073709551615", "uint64", 2**64 - 1),
        ("i=3", "int8", [3]),
        ("t=3", "bfloat16", [[3]]),
        ("b=[true,false]", "bool", [True, False]),
        ('s=["a","=b"]', "object", ["a", "=b"]),
        ("s=plain text", "object", ["plain text"]),
        ("xs[1]=[1]", "float32", [1]),
    ],
)
def test_values(text, dtype, value):
    [array] = given(text).values()
    assert array.dtype == dtype
    np.testing.assert_array_equal(array.astype(object), np.array(value, object))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("i=[128]", "does not fit"),
        ("i=[1.5]", "does not fit"),
        ("i=[true]", "does not fit"),
        ("b=[1]", "does not fit"),
        ("f=[null]", "does not fit"),
        ('f=["a"]', "does not fit"),
        ("s=[1]", "does not fit"),
        ("h=1e9", "too large"),
        ("h=1" + "0" * 400, "does not fit"),
        ("f=[[1],[2,3]]", "one length"),
        ("f=[[1],2]", "one length"),
        ('f={"a": 1}', "one length"),
        ("f=[1", "cannot be read"),
        ("f=__import__('os')", "cannot be read"),
        ("f=" + "[" * 100_000, "nests too deep"),
        ("z=1", "no input is called 'z'"),
        ("xs=[1]", r"xs\[0\]=…"),
        ("f=1.npy", "no such file"),
        ("h=1.png", "takes no image"),
        ("absent", "no such file"),
        ("x" * 5000, "name is too long"),
    ],
)
def test_what_is_no_value(text, message):
    with pytest.raises(TesselError, match=message) as caught:
        given(text)
    assert len(str(caught.value)) < 1000


def test_an_input_is_given_once():
    with pytest.raises(UsageError, match="twice"):
        given("i=1", "i=2")


def test_arrays_of_files(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 2), np.float32))
    np.testing.assert_array_equal(given(f"f={tmp_path}/x.npy")["f"], np.ones((3, 2)))
    np.save(tmp_path / "o.npy", np.array([{}], object))
    with pytest.raises(UsageError, match=r"not a \.npy of a plain array"):
        given(f"f={tmp_path}/o.npy")


# -- images -----------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path):
    """A file of 6×4 pixels, all of them red."""
    library = pytest.importorskip("PIL.Image")
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[..., 0] = 255
    library.fromarray(pixels).save(tmp_path / "red.png")
    return tmp_path / "red.png"


@pytest.mark.parametrize(
    ("type", "shape", "largest", "said"),
    [
        (tensor("f32", 1, 3, 2, 2), (1, 3, 2, 2), 1, "6×4, resized to 2×2, RGB, NCHW, scaled"),
        (tensor("u8", N, 8, 6, 3), (1, 8, 6, 3), 255, "6×4, resized to 6×8, RGB, NHWC, bytes"),
        (tensor("f16", N, 3, H, W), (1, 3, 4, 6), 1, "6×4, RGB, NCHW, scaled"),
        (tensor("f32", 1, 4, 6), (1, 4, 6), 76 / 255, "6×4, L, CHW, scaled"),
        (tensor("f32", H, W, 4), (4, 6, 4), 1, "6×4, RGBA, HWC, scaled"),
    ],
)
def test_images(image, type, shape, largest, said, capsys):
    array = read_given([f"x={image}"], lambda: [Port("x", type)]).arrays["x"]
    assert array.shape == shape and array.dtype == type.dtype.numpy
    assert abs(float(array.max()) - largest) < 1e-3
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("type", "message"),
    [
        (tensor("f32", N, 2), "takes no image"),
        (tensor("i64", 1, 3, 4, 4), "takes no image"),
        (tensor("f32", 8, 3, 4, 4), "no batch"),
        (tensor("f32", 1, 7, 9, 9), "1, 3 or 4 channels"),
    ],
)
def test_inputs_that_take_no_image(image, type, message):
    with pytest.raises(InputError, match=message):
        read_given([f"x={image}"], lambda: [Port("x", type)])


def test_files_that_are_no_image(tmp_path, monkeypatch):
    port = Port("x", tensor("f32", 1, 3, 4, 4))
    (tmp_path / "no.png").write_bytes(b"nothing")
    pytest.importorskip("PIL")
    with pytest.raises(UsageError, match="no image that can be read"):
        read_given([f"x={tmp_path}/no.png"], lambda: [port])
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(TesselError, match=r"tessel\[images\]"):
        read_given([f"x={tmp_path}/no.png"], lambda: [port])


# -- folders of ONNX's tests ------------------------------------------------------------------


@pytest.fixture
def data_set(tmp_path):
    folder = tmp_path / "test_data_set_0"
    folder.mkdir()
    for name, array in (("input_0", [[1, -2]]), ("input_1", [[3, 3]]), ("output_0", [[4, 1]])):
        tensor = numpy_helper.from_array(np.array(array, np.float32))
        (folder / f"{name}.pb").write_bytes(tensor.SerializeToString())
    return folder


def test_a_folder_of_tests(call, save, data_set):
    path = save("float[N,2] a, float[N,2] b", "y = Add(a, b)", "float[N,2] y")
    code, out, _ = call("run", path, "--inputs", data_set)
    assert code == 0 and "[4., 1.]" in out
    assert call("verify", path, "--inputs", data_set, "--expect", data_set)[0] == 0
    (data_set / "output_0.pb").write_bytes(
        numpy_helper.from_array(np.zeros((1, 2), "f")).SerializeToString()
    )
    assert call("verify", path, "--inputs", data_set, "--expect", data_set)[0] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "input_1.pb").unlink(), "inputs are missing: b"),
        (lambda f: (f / "input_1.pb").write_bytes(b"\xff"), "damaged"),
        (lambda f: (f / "input_2.pb").write_bytes(b""), "more than the model's 2 inputs"),
        (lambda f: [p.unlink() for p in f.iterdir()], "has no input_0.pb"),
    ],
)
def test_folders_that_do_not_fit(call, save, data_set, change, message):
    path = save("float[N,2] a, float[N,2] b", "y = Add(a, b)", "float[N,2] y")
    change(data_set)
    code, _, err = call("run", path, "--inputs", data_set)
    assert code == 2 and message in err


def test_lists_of_a_folder(call, save, tmp_path):
    path = save("seq(float[N]) xs", "y = ConcatFromSequence<axis=0>(xs)", "float[M] y")
    value = numpy_helper.from_list([np.array([1], "f"), np.array([2, 3], "f")])
    (tmp_path / "input_0.pb").write_bytes(value.SerializeToString())
    code, out, _ = call("run", path, "--inputs", tmp_path)
    assert code == 0 and "[1., 2., 3.]" in out


# -- some given, the rest made up -------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "verify", "explain"])
def test_what_is_not_given_is_random_and_said_to_be(call, save, command):
    path = save("float[N,2] a, float[N,2] b", "y = Add(a, b)", "float[N,2] y")
    code, _, err = call(command, path, "--inputs", "a=[[1,2],[3,4],[5,6]]")
    assert code == 0
    assert command == "explain" or "at random, as --inputs does not have them: b" in err
    assert ("guessed" in err) == (command == "explain")  # the sizes are those of a


def test_a_file_has_all_inputs_unless_random_ones_are_asked_for(call, save, tmp_path):
    path = save("float[N,2] a, float[N,2] b", "y = Add(a, b)", "float[N,2] y")
    np.savez(tmp_path / "a.npz", a=np.ones((3, 2), np.float32))
    code, _, err = call("run", path, "--inputs", tmp_path / "a.npz")
    assert code == 2 and "inputs are missing: b" in err
    code, out, _ = call("run", path, "--inputs", tmp_path / "a.npz", "--random", 1)
    assert code == 0 and "y: float32[3, 2]" in out
    code, _, err = call("run", path, "--inputs", tmp_path / "a.npz", "--inputs", "b=[[1,1]]")
    assert code == 2 and "axis 0" in err


def test_nothing_is_left_to_be_random(call, save):
    path = save("float[N] a", "y = Relu(a)", "float[N] y")
    assert "nothing is left" in call("run", path, "--inputs", "a=[1]", "--random", 1)[2]
    assert "already says" in call("run", path, "--inputs", "a=[1]", "--shapes", "a:1")[2]


# -- sizes that are guessed -------------------------------------------------------------------


def sized(*ports, read=lambda sizes: tessel.compiler.ir.graph.Graph(), shapes=(), equal=None):
    return guess([Port(f"x{i}", t) for i, t in enumerate(ports)], dict(shapes), read, equal)


def refuse(taken):
    def read(sizes):
        if not taken(**sizes):
            raise InputError("no")
        return tessel.compiler.ir.graph.Graph()

    return read


def test_sizes_are_1_where_the_model_takes_them():
    found = sized(tensor("f32", N, 3, H), tensor("f32", N))
    assert found.shapes == {"x0": (1, 3, 1), "x1": (1,)} and found.guessed == {"N": 1, "H": 1}
    assert str(found) == "N=1, H=1: guessed; --shapes 'x0:1x3x1 x1:1' sets them"


@pytest.mark.parametrize(
    ("taken", "sizes"),
    [
        (lambda N, H: H >= 30, {"N": 1, "H": 32}),
        (lambda N, H: N == H == 224, {"N": 224, "H": 224}),
        (lambda N, H: N >= 8 and H == N, {"N": 8, "H": 8}),
        (lambda N, H: False, {"N": 1, "H": 1}),  # its own error says what is wrong
    ],
)
def test_other_sizes_are_tried(taken, sizes):
    assert sized(tensor("f32", N, 3, H), read=refuse(taken)).sizes == sizes


def test_one_dim_may_be_large_alone():
    types = tensor("f32", N, H), tensor("f32", 2, W, 128)
    found = sized(*types, read=refuse(lambda N, H, W: N == W and H > 500))
    assert found.sizes == {"N": 1, "H": 512, "W": 1}


def test_sizes_that_are_given_or_follow_are_not_guessed():
    types = tensor("f32", N, 2 * H), tensor("f32", N, W)
    found = sized(*types, shapes={"x0": (5, 6)})
    assert found.sizes == {"N": 5, "H": 3, "W": 1} and found.guessed == {"W": 1}
    found = sized(*types, equal={"W": 2 * H})
    assert found.shapes["x1"] == (1, 2)
    with pytest.raises(InputError, match="cannot have this shape"):
        sized(*types, shapes={"x0": (5,)})


CONV = "c = Conv<strides=[4,4]>(x, w) s = Shape(c) v = Reshape(c, f) u = Relu(v) y = Reshape(u, s)"


@pytest.mark.parametrize(
    "command", ["run", "verify", "explain", "bench --iterations 1 --backends tessel"]
)
def test_each_command_guesses_what_the_model_takes(call, save, command):
    path = save(
        "float[n,3,h,w_] x",
        CONV,
        "float[a,b,c,d] y",
        w=np.ones((4, 3, 7, 7), "f"),
        f=np.array([0, 4, -1]),
    )
    name, *options = command.split()
    code, _, err = call(name, path, *options)
    assert code == 0, err
    assert "n=1, h=8, w_=8: guessed; --shapes x:1x3x8x8 sets them" in err
    if name != "explain":  # whose package of one size is another command's
        code, _, err = call(name, path, *options, "--shapes", "x:1x3x9x9")
        assert code == 0 and "guessed" not in err


def test_nothing_empty_is_guessed(call, save):
    path = save(
        "float[N] x", "y = Slice(x, one, end)", "float[M] y", one=np.array([1]), end=np.array([99])
    )
    assert "N=2: guessed" in call("run", path)[2]


# -- values that decide shapes ----------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "verify", "explain", "compile", "bench"])
def test_one_message_where_values_decide_shapes(call, save, command, tmp_path):
    path = save("float[N,4] x, int64[2] s", "y = Reshape(x, s)", "float[a,b] y")
    name, *options = command.split()
    code, _, err = call(name, path, *options)
    assert code == 2 and "values of inputs decide shapes" in err and f"tessel {name} " in err
    assert "--inputs 's=[1,-1]'" in err
    more = {
        "bench": ["--iterations", 1, "--backends", "tessel"],
        "compile": ["-o", tmp_path / "m.tsl"],
    }.get(name, [])
    code, _, err = call(name, path, *options, *more, "--inputs", "s=[1,-1]")
    assert code == 0, err


def test_the_example_fits_the_input(call, save):
    path = save(
        "float[N] x, int64 k",
        "u = Unsqueeze(k, z) y, i = TopK(x, u)",
        "float[a] y",
        z=np.array([0]),
    )
    assert "--inputs k=1" in call("run", path)[2] or call("run", path)[0] == 0
