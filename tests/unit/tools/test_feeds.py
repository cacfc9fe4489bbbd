"""`--shapes` and random inputs: parsing, symbolic dims, values by dtype and name, errors."""

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, save
from tessel.compiler.analysis.input_limits import InputLimit, input_limits
from tessel.compiler.errors import InputError, ModelError, UnsupportedError, UsageError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dims import Sym
from tessel.tools import cli
from tessel.tools.common.feeds import ModelInput, parse_shapes, random_feeds, read_signature


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        (None, {}),
        ("", {}),
        ("x:1x3x224x224", {"x": (1, 3, 224, 224)}),
        ("x[1,3,224,224]", {"x": (1, 3, 224, 224)}),
        ("x[ 1, 3 ]", {"x": (1, 3)}),
        ("x:7", {"x": (7,)}),
        ("x[]", {"x": ()}),
        ("x:0x4", {"x": (0, 4)}),
        ("a:1x2,b[3,4] c:5", {"a": (1, 2), "b": (3, 4), "c": (5,)}),
        (["a:1x2", "b[3,4]"], {"a": (1, 2), "b": (3, 4)}),
        ("x[batch,4]", {"x": ("batch", 4)}),
        ("input:0:1x3", {"input:0": (1, 3)}),
        ("onnx::in/x.1[2]", {"onnx::in/x.1": (2,)}),
        ("x:2 x[2]", {"x": (2,)}),
    ],
)
def test_shapes(text, shapes):
    assert parse_shapes(text) == shapes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "not a shape"),
        ("x:", "not a shape"),
        ("[1,2]", "not a shape"),
        ("x[1,2", "not a shape"),
        ("x:1x2]", "not a shape"),
        ("y:1 x", "not a shape"),
        ("x:1x-3", "a dim cannot be '-3'"),
        ("x:batchx3", "a dim cannot be 'batch'"),
        ("x[1,,2]", "a dim cannot be ''"),
        ("x[1.5]", "a dim cannot be '1.5'"),
        ("x:1 x:2", "two shapes"),
    ],
)
def test_what_is_not_a_shape(text, message):
    with pytest.raises(UsageError, match=message):
        parse_shapes(text)


def bert_inputs() -> list[ModelInput]:
    names = ["input_ids", "attention_mask", "token_type_ids"]
    return [ModelInput(name, np.dtype(np.int64), ("batch", "sequence")) for name in names]


def test_a_symbolic_dim_has_one_size_in_all_inputs():
    feeds = random_feeds(bert_inputs(), shapes={"input_ids": (2, 9)})
    assert {name: array.shape for name, array in feeds.items()} == {
        "input_ids": (2, 9),
        "attention_mask": (2, 9),
        "token_type_ids": (2, 9),
    }


def test_other_symbolic_dims_are_one():
    [array] = random_feeds([ModelInput("x", np.dtype(np.float32), ("n", 3))]).values()
    assert array.shape == (1, 3)


def test_the_seed_decides():
    first, again = (random_feeds(bert_inputs(), 7, {"input_ids": (1, 64)}) for _ in range(2))
    other = random_feeds(bert_inputs(), 8, {"input_ids": (1, 64)})
    assert np.array_equal(first["input_ids"], again["input_ids"])
    assert not np.array_equal(first["input_ids"], other["input_ids"])


def test_names_tell_what_integers_mean():
    feeds = random_feeds(bert_inputs(), shapes={"input_ids": (1, 500)})
    assert set(feeds["attention_mask"].flat) == {1}
    assert set(feeds["token_type_ids"].flat) == {0, 1}
    assert 90 < feeds["input_ids"].max() < 100


@pytest.mark.parametrize(
    "dtype",
    [
        *[bool, np.int8, np.uint64, np.float16, np.float64, np.complex64, object],
        *[ml_dtypes.bfloat16, ml_dtypes.int4, ml_dtypes.float8_e4m3fn],
    ],
)
@pytest.mark.parametrize("shape", [(2, 3), ()])
def test_every_dtype_has_values(dtype, shape):
    [array] = random_feeds([ModelInput("x", np.dtype(dtype), shape)]).values()
    assert isinstance(array, np.ndarray)
    assert array.dtype == dtype
    assert array.shape == shape


def test_all_misfits_are_in_one_error():
    shapes = {"ids": (1, 2), "input_ids": (1, 2, 3)}
    with pytest.raises(InputError) as caught:
        random_feeds(bert_inputs(), shapes=shapes)
    text = str(caught.value)
    assert "No input is called 'ids'" in text
    assert "input_ids[batch,sequence]" in text
    assert "received: (1, 2, 3)" in text


def test_a_dim_with_two_sizes():
    with pytest.raises(InputError, match="Dim 'batch' has two sizes"):
        random_feeds(bert_inputs(), shapes={"input_ids": (1, 9), "attention_mask": (2, 9)})


def test_a_fixed_dim_cannot_change():
    with pytest.raises(InputError, match="cannot have this shape"):
        random_feeds([ModelInput("x", np.dtype(np.float32), (1, 3))], shapes={"x": (1, 4)})


def model_file(path, inputs):
    node = helper.make_node("Identity", [inputs[0].name], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    save(helper.make_model(helper.make_graph([node], "g", inputs, [output], [weight])), path)
    return path


def test_the_signature_of_an_onnx_file(tmp_path):
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["n", 3, 0, None]),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [1]),  # a weight listed as an input
    ]
    assert read_signature(model_file(tmp_path / "m.onnx", inputs)) == [
        ModelInput("x", np.dtype(np.float16), ("n", 3, "x.2", "x.3"))
    ]


def test_an_input_that_is_no_tensor(tmp_path):
    inputs = [helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)]
    with pytest.raises(UnsupportedError, match="not a tensor"):
        read_signature(model_file(tmp_path / "m.onnx", inputs))


def test_a_file_that_is_no_model(tmp_path):
    path = tmp_path / "m.onnx"
    with pytest.raises(UsageError, match="no file"):
        read_signature(path)
    path.write_bytes(b"not a model")
    with pytest.raises(ModelError, match="not an ONNX file"):
        read_signature(path)


def test_shared_models_have_signatures(shared_model):
    given = shared_model.inputs
    for item in read_signature(shared_model.path):
        assert given[item.name].dtype == item.dtype
        assert given[item.name].ndim == len(item.shape)


@pytest.fixture
def call(capsys):
    """Run a command; (exit code, stdout, stderr)."""

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return call


def limited(name: str, *bounds) -> dict:
    return {name: [InputLimit(low, high, "an index", "node", True) for low, high in bounds]}


@pytest.mark.parametrize(
    ("bounds", "low", "high"),
    [
        ([(-7, 7)], 0, 6),
        ([(0, 7), (-4, 4)], 0, 3),
        ([(2, None)], 2, 99),
        ([(-Sym.named("N"), Sym.named("N"))], 0, 4),
        ([(0, 0)], 0, 0),  # nothing is right
    ],
)
def test_integers_are_what_a_model_allows(bounds, low, high):
    inputs = [ModelInput("i", np.dtype(np.int64), ("N", 400))]
    limits = limited("i", *bounds)
    values = random_feeds(inputs, shapes={"i": (5, 400)}, limits=limits)["i"]
    assert (values.min(), values.max()) == (low, high)


def test_limits_of_inputs_are_found_through_what_moves_them():
    b = Builder()
    x, i, n = b.input("x", "f32[N,3]"), b.input("i", "i32[4]"), b.input("n", "i64[4]")
    b.output("y", b.gather(x, i.cast("i64").reshape(2, 2), axis=0))
    b.output("z", b.gather(x, n + 1, axis=1))
    b.output("w", b.gather(x, n[:2], axis=1))
    found = input_limits(b.graph)
    said = {k: [(str(l.low), str(l.high), l.certain) for l in v] for k, v in found.items()}
    assert said == {"i": [("-N", "N", True)], "n": [("-3", "3", False)]}


@pytest.mark.parametrize("command", [["verify"], ["run", "--random", "3"]])
def test_random_indices_do_not_fail_a_command(command, call, tmp_path):
    nodes = [
        helper.make_node("GatherND", ["x", "i"], ["g"]),
        helper.make_node("ReverseSequence", ["g", "n"], ["y"], batch_axis=0, time_axis=1),
    ]
    value = helper.make_tensor_value_info
    inputs = [
        value("x", TensorProto.FLOAT, ["a", 3]),
        value("i", TensorProto.INT64, ["b", 1]),
        value("n", TensorProto.INT64, ["b"]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, [value("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, tmp_path / "m.onnx")
    assert call(command[0], tmp_path / "m.onnx", *command[1:])[0] == 0


def test_the_command_line_says_where_an_index_is_out_of_range(call, tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Gather", ["x", "i"], ["y"], name="rows")],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 2]),
            helper.make_tensor_value_info("i", TensorProto.INT64, [1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path, feeds, package = (tmp_path / name for name in ("m.onnx", "in.npz", "m.tsl"))
    save(model, path)
    np.savez(feeds, x=np.ones((4, 2), np.float32), i=np.array([9]))
    for command in ("run", "verify"):
        code, _, said = call(command, path, "--inputs", feeds)
        assert code == 2 and "rows" in said and "-4 to 3" in said
    assert call("run", path, "--inputs", feeds, "--unchecked")[0] == 0
    assert call("compile", path, "-o", package, "--unchecked")[0] == 0
    assert call("run", package, "--inputs", feeds)[0] == 0
    code, _, said = call("run", package, "--inputs", feeds, "--unchecked")
    assert code == 2 and "when it is compiled" in said
