"""Inputs that decide shapes: the model is compiled for each of their values."""

import threading

import numpy as np
import pytest
import tessel
from tessel.compiler.errors import InputError, ModelError, UnsupportedError, UsageError
from tessel.compiler.ir.text import parse_graph, print_graph
from tessel.tools import cli

from ..support.onnx_models import model, onnxruntime

X = np.arange(12, dtype=np.float32).reshape(2, 6) - 5


def ints(*values) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values) -> np.ndarray:
    return np.array(values, np.float32)


def compiled(body, inputs, outputs="float[a,b] y", **options):
    """The executable on numpy loops, and its model."""
    proto = model(body, inputs=inputs, outputs=outputs)
    return tessel.compile(proto, target="numpy", **options), proto


def reshaping(**options):
    return compiled("y = Reshape(x, shape)", "float[2,6] x, int64[2] shape", **options)[0]


# -- which operands -------------------------------------------------------------------------

S = "float[2,6] x, int64[2] s"
OPERANDS = {
    "Reshape": ("y = Reshape(x, s)", S, [(X, ints(4, -1)), (X, ints(0, 6))]),
    "Expand": (
        "y = Expand(x, s)",
        "float[2,1] x, int64[2] s",
        [(X[:, :1], ints(2, 3)), (X[:, :1], ints(1, 5))],
    ),
    "Slice": (
        "y = Slice(x, s, e, a, t)",
        "float[2,6] x, int64[1] s, int64[1] e, int64[1] a, int64[1] t",
        [(X, ints(1), ints(5), ints(1), ints(2)), (X, ints(-1), ints(-9), ints(1), ints(-1))],
    ),
    "Pad": (
        "y = Pad(x, p)",
        "float[2,6] x, int64[4] p",
        [(X, ints(0, 1, 2, 0)), (X, ints(0, -1, 0, -2))],
    ),
    "Tile": ("y = Tile(x, s)", S, [(X, ints(2, 1)), (X, ints(1, 3))]),
    "TopK": ("y, i = TopK(x, k)", "float[2,6] x, int64[1] k", [(X, ints(2)), (X, ints(5))]),
    "ReduceSum": ("y = ReduceSum(x, a)", "float[2,6] x, int64[1] a", [(X, ints(0)), (X, ints(-1))]),
    "ReduceSum of no axes": ("y = ReduceSum(x, a)", "float[2,6] x, int64[0] a", [(X, ints())]),
    "ReduceSum noop": (
        "y = ReduceSum<noop_with_empty_axes=1>(x, a)",
        "float[2,6] x, int64[0] a",
        [(X, ints())],
    ),
    "Split": ("y, z = Split<axis=1>(x, s)", S, [(X, ints(2, 4)), (X, ints(5, 1))]),
    "ConstantOfShape": ("y = ConstantOfShape(s)", "int64[2] s", [(ints(2, 3),), (ints(0, 3),)]),
    "OneHot": (
        "y = OneHot(i, d, v)",
        "int64[3] i, int64 d, float[2] v",
        [(ints(0, 2, 1), ints(4).reshape(()), floats(0, 1))],
    ),
    "CumSum": (
        "y = CumSum(x, a)",
        "float[2,6] x, int64 a",
        [(X, ints(0).reshape(())), (X, ints(1).reshape(()))],
    ),
    "Trilu": ("y = Trilu(x, k)", "float[2,6] x, int64 k", [(X, np.array(1)), (X, np.array(-1))]),
    "Unsqueeze": (
        "u = Unsqueeze(x, a) y = ReduceMax<keepdims=0>(u, a)",
        "float[2,6] x, int64[1] a",
        [(X, ints(0)), (X, ints(2))],
    ),
    "computed": (
        "n = Shape(x) c = Div(n, s) m = Mul(n, s) r = Gather(m, one) o = Gather(c, zero) "
        "t = Concat<axis=0>(o, r) y = Reshape(x, t)",
        S + ", int64[1] one, int64[1] zero",
        [(X, ints(2, 2), ints(1), ints(0))],
    ),
}


@pytest.mark.parametrize("name", OPERANDS)
def test_an_operand_may_be_an_input(name):
    body, inputs, cases = OPERANDS[name]
    exe, proto = compiled(body, inputs)
    for arrays in cases:
        (want,) = onnxruntime(proto, *arrays)
        got = exe(*arrays)
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-6)
    assert len(exe.specializations) == len(cases)


@pytest.mark.parametrize("arrays", [floats(0, 5, 0.5), floats(3, -1, -2), ints(2, 9, 3)])
def test_a_range(arrays):
    kind = "float" if arrays.dtype == np.float32 else "int64"
    exe, _ = compiled("y = Range(a, b, c)", f"{kind} a, {kind} b, {kind} c", outputs=f"{kind}[n] y")
    np.testing.assert_allclose(exe(*arrays), np.arange(*arrays))


def test_a_resize_by_scales_that_are_an_input():
    exe, proto = compiled(
        "y = Resize<mode='nearest'>(x, , s)".replace("'", '"'), "float[2,6] x, float[2] s"
    )
    for scales in (floats(1, 2), floats(2, 0.5)):
        np.testing.assert_allclose(exe(X, scales), onnxruntime(proto, X, scales)[0])


def test_branches_of_different_shapes():
    exe, _ = compiled(
        """
        y = If(c) < then_branch = a () => (float[p,q] t) { t = Identity(x) },
                    else_branch = b () => (float[r,s] e) { e = Reshape(x, shape) } >
        """,
        "float[2,6] x, bool c, int64[2] shape",
    )
    assert exe.static == ("shape",)
    assert exe(X, np.array(True), ints(3, 4)).shape == (2, 6)
    assert exe.static == ("c", "shape")  # found out once the branches could be read
    assert len(exe.notes) == 1 and exe.notes[0].endswith("each value of c, shape")
    assert exe(X, np.array(False), ints(3, 4)).shape == (3, 4)
    assert exe(X, np.array(False), ints(4, 3)).shape == (4, 3)


def test_an_output_of_which_the_file_does_not_say_the_rank():
    exe, proto = compiled("y = Reshape(x, shape)", "float[2,6] x, int64[n] shape", "float y")
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    exe = tessel.compile(proto, target="numpy")
    assert str(exe.outputs[0]) == "y: f32[…]" and exe.outputs[0].shape is None
    assert exe(X, ints(3, 2, 2)).shape == (3, 2, 2)
    assert exe(X, ints(12)).shape == (12,)


# -- specializations ------------------------------------------------------------------------


def test_each_value_is_compiled_once():
    exe = reshaping()
    assert exe.static == ("shape",) and exe.specializations == []
    assert exe.notes == ["inputs decide shapes; this is compiled for each value of shape"]
    for sizes in [(3, 4), (4, 3), (3, 4)]:
        np.testing.assert_array_equal(exe(X, ints(*sizes)), X.reshape(sizes))
    assert [b.values["shape"].tolist() for b in exe.specializations] == [[4, 3], [3, 4]]


def test_a_value_that_the_caller_changes_later_is_another_one():
    exe, shape = reshaping(), ints(3, 4)
    exe(X, shape)
    shape[:] = 6, 2
    assert exe(X, shape).shape == (6, 2)
    assert exe(X, ints(3, 9, 4)[::2]).shape == (3, 4)  # not contiguous


def test_the_last_values_are_kept():
    exe, _ = compiled("y = Tile(x, s)", S)
    for n in range(20):
        exe(X, ints(1, n + 1))
    assert [int(b.values["s"][1]) for b in exe.specializations] == list(range(5, 21))


def test_sizes_and_values_together():
    exe, _ = compiled("y = Reshape(x, shape)", "float[N,6] x, int64[2] shape")
    assert exe(X, ints(3, 4)).shape == (3, 4)
    assert exe(X[:1], ints(3, 2)).shape == (3, 2)
    assert [b.binding for b in exe.specializations] == [{"N": 2}, {"N": 1}]


def test_the_input_is_data_too():
    exe, _ = compiled(
        "r = Cast<to=1>(s) e = Expand(x, s) y = Add(e, r)", "float[1,2] x, int64[2] s"
    )
    np.testing.assert_array_equal(exe(floats([1, 2]), ints(3, 2)), floats([4, 4]).repeat(3, 0))


def test_several_threads():
    exe, failures = reshaping(), []

    def work(sizes):
        try:
            for _ in range(20):
                for s in sizes:
                    np.testing.assert_array_equal(exe(X, ints(*s)), X.reshape(s))
        except BaseException as error:
            failures.append(error)

    shapes = [(3, 4), (4, 3), (6, 2), (2, 6)]
    workers = [threading.Thread(target=work, args=(shapes[i:] + shapes[:i],)) for i in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not failures and len(exe.specializations) == 4


def test_machine_code():
    proto = model(
        "y = Reshape(x, shape)", inputs="float[2,6] x, int64[2] shape", outputs="float[a,b] y"
    )
    exe = tessel.compile(proto, threads=1)
    for sizes in [(3, 4), (4, 3)]:
        np.testing.assert_array_equal(exe(X, ints(*sizes)), X.reshape(sizes))


# -- errors ---------------------------------------------------------------------------------


def test_values_that_make_no_sense():
    exe = reshaping()
    with pytest.raises(InputError, match="a reshape must keep the number of elements") as caught:
        exe(X, ints(5, 5))
    assert "shape = [5, 5]" in caught.value.received and exe.specializations == []
    assert exe(X, ints(3, 4)).shape == (3, 4)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (floats(3, 4), "wrong dtype"),
        (ints(3, 4, 1), "wrong size"),
        (np.array(3), "wrong rank"),
        (np.int32([3, 4]), "wrong dtype"),
    ],
)
def test_misfits_are_said_as_for_any_input(shape, message):
    exe = reshaping()
    exe(X, ints(3, 4))
    with pytest.raises(InputError, match=message):
        exe(X, shape)


REFUSED = [
    (
        "i = ArgMax<keepdims=0>(x) s = Mul(i, t) y = Squeeze(x, s)",
        "float[2,600] x, int64[600] t",
        "it follows from x: f32\\[2,600\\], t: i64\\[600\\]",
    ),
    (
        "n = ReduceSum(x) i = Cast<to=7>(n) y = Unsqueeze(x, i)",
        "float[2,2] x",
        "it follows from x: f32\\[2,2\\]",
    ),
    (
        "n = NonZero(x) y = Reshape(x, n)",
        "float[2,6] x",
        "the number of elements of an operand that decides a shape is not known",
    ),
]


@pytest.mark.parametrize(("body", "inputs", "message"), REFUSED)
def test_data_cannot_decide_axes_and_ranks(body, inputs, message):
    with pytest.raises(UnsupportedError, match=message):
        compiled(body, inputs)


def test_an_input_whose_size_was_open_may_be_too_large():
    exe, _ = compiled("y = ConstantOfShape(s)", "int64[n] s", "float y")
    with pytest.raises(InputError, match="at most 64 elements"):
        exe(np.ones(65, np.int64))


def test_what_else_is_wrong_is_said_at_once():
    proto = model(
        "r = Reshape(x, shape) y = com.acme.Whirl(r)",
        inputs="float[2,6] x, int64[2] shape",
        extra=', "com.acme": 3',
    )
    with pytest.raises(UnsupportedError, match="unsupported operator"):
        tessel.compile(proto, target="numpy")


# -- graphs and packages --------------------------------------------------------------------


def test_a_graph_read_with_values_takes_no_others():
    proto = model("y = Reshape(x, s)", inputs=S, outputs="float[a,b] y")
    graph = tessel.read(proto, values={"s": ints(3, 4)})
    table = {}
    graph = parse_graph(print_graph(graph, table), table)
    exe = tessel.compile(graph, target="numpy")
    assert exe.static == ("s",)
    assert exe.notes == ["inputs decide shapes; this is compiled for s = [3, 4]"]
    assert exe(X, ints(3, 4)).shape == (3, 4)
    with pytest.raises(InputError, match="wrong value"):
        exe(X, ints(4, 3))


def test_values_for_read_are_checked():
    proto = model("y = Reshape(x, s)", inputs=S, outputs="float[a,b] y")
    with pytest.raises(InputError, match="the value does not fit"):
        tessel.read(proto, values={"s": floats(3, 4)})
    with pytest.raises(InputError, match="no input named 't'"):
        tessel.read(proto, values={"t": ints(3, 4)})
    with pytest.raises(UsageError, match="never depend on values"):
        tessel.read(tessel.read(proto, values={"s": ints(3, 4)}), values={"s": ints(3, 4)})


@pytest.mark.parametrize("text", ["", "[]", "3", '{"t": [1]}', '{"s": [1]}', '{"s": "x"}'])
def test_metadata_that_make_no_sense(text):
    graph = parse_graph("graph g(%s: i64[2]) -> (%s) {}")
    graph.metadata["tessel.values"] = text
    with pytest.raises(ModelError, match="make no sense"):
        tessel.compile(graph, target="numpy")


def test_a_package_holds_one_value(tmp_path):
    proto = model("y = Reshape(x, s)", inputs=S, outputs="float[a,b] y")
    exe = tessel.compile(proto, threads=1)
    with pytest.raises(UsageError, match="a package holds one"):
        exe.save(tmp_path / "m.tsl")
    exe(X, ints(3, 4))
    exe.save(tmp_path / "m.tsl")
    for native in (True, False):
        loaded = tessel.load(tmp_path / "m.tsl", native=native)
        assert loaded(X, ints(3, 4)).shape == (3, 4)
        with pytest.raises(InputError, match="wrong value"):
            loaded(X, ints(4, 3))
    loaded.save(tmp_path / "n.tsl")
    with pytest.raises(InputError, match="wrong value"):
        tessel.load(tmp_path / "n.tsl")(X, ints(4, 3))


# -- the command line -----------------------------------------------------------------------


@pytest.fixture
def call(tmp_path, capsys):
    """Run a command on the model `m.onnx` or its package: (exit code, output)."""
    proto = model("y = Reshape(x, s)", inputs=S, outputs="float[a,b] y")
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    np.savez(tmp_path / "in.npz", x=X, s=ints(3, 4))

    def call(command, file, *options):
        paths = (str(tmp_path / o) if "." in o else o for o in options)
        with pytest.raises(SystemExit) as end:
            cli.main([command, str(tmp_path / file), *paths])
        return end.value.code, "".join(capsys.readouterr())

    return call


@pytest.mark.parametrize("command", ["run", "verify", "explain", "inspect"])
def test_commands_take_the_values_from_a_file(call, command):
    code, text = call(command, "m.onnx", "--inputs", "in.npz")
    assert code == 0, text
    code, text = call(command, "m.onnx")
    assert code == (0 if command == "inspect" else 2) and f"tessel {command} " in text
    assert "--inputs 's=[1,-1]'" in text


def test_compile_makes_a_package_for_the_values_of_a_file(call):
    code, text = call("compile", "m.onnx", "-o", "m.tsl")
    assert code == 2 and "tessel compile" in text and "--inputs 's=[1,-1]'" in text
    code, text = call("compile", "m.onnx", "--inputs", "in.npz", "-o", "m.tsl")
    assert code == 0, text
    code, text = call("run", "m.tsl")
    assert code == 0 and "float32[3, 4]" in text and "s = [3, 4]" in text
