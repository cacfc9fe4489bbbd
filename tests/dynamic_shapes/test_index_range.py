"""Indices out of range fail a run, as in ONNX Runtime: where, which value, and what was allowed."""

import numpy as np
import pytest
import tessel
from onnx import parser
from tessel.compiler.errors import InputError
from tessel.compiler.ir.interpret import interpret


def model(body, inputs, outputs="y", opset=21, extra="", constants=""):
    """An ONNX model of the text of its nodes; outputs are f32 of any shape."""
    outs = ", ".join(f"float[{','.join(f'{n}{i}' for i in range(3))}] {n}" for n in outputs.split())
    head = f'<ir_version: 9, opset_import: ["": {opset}, "com.microsoft": 1, "ai.onnx.ml": 3]>'
    proto = parser.parse_model(f"{head} g ({inputs}) => ({outs}) {constants} {{ {body} }}")
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    return proto


def f32(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 9


def i64(*values):
    return np.array(values, np.int64)


def i32(*values):
    return np.array(values, np.int32)


GATHER = ("y = Gather(x, i)", "float[4,2] x, int64[2] i", {"x": f32(4, 2)})
ELEMENTS = ("y = GatherElements(x, i)", "float[4] x, int64[2] i", {"x": f32(4)})
GATHER_ND = ("y = GatherND(x, i)", "float[4,3] x, int64[2,2] i", {"x": f32(4, 3)})
SCATTER = (
    "y = ScatterElements(x, i, u)",
    "float[4] x, int64[2] i, float[2] u",
    {"x": f32(4), "u": f32(2)},
)
SCATTER_ND = (
    "y = ScatterND(x, i, u)",
    "float[4,2] x, int64[1,1] i, float[1,2] u",
    {"x": f32(4, 2), "u": f32(1, 2)},
)
REVERSE = (
    "y = ReverseSequence<batch_axis=0, time_axis=1>(x, i)",
    "float[2,3] x, int64[2] i",
    {"x": f32(2, 3)},
)
ROI = (
    "y = RoiAlign<output_height=1, output_width=1, sampling_ratio=1>(x, r, i)",
    "float[2,1,4,4] x, float[1,4] r, int64[1] i",
    {"x": f32(2, 1, 4, 4), "r": f32(1, 4)},
)
UNPOOL = (
    "y = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(x, i)",
    "float[1,1,1,2] x, int64[1,1,1,2] i",
    {"x": f32(1, 1, 1, 2)},
)
LOSS = ("y = NegativeLogLikelihoodLoss(x, i)", "float[2,4] x, int64[2] i", {"x": f32(2, 4)})
IGNORED = ("y = NegativeLogLikelihoodLoss<ignore_index=9>(x, i)", *LOSS[1:])
ENTROPY = ("y = SoftmaxCrossEntropyLoss(x, i)", *LOSS[1:])
EXTRACT = (
    "y = ai.onnx.ml.ArrayFeatureExtractor(x, i)",
    "float[2,4] x, int64[1] i",
    {"x": f32(2, 4)},
)
EMBED = (
    "y, m = com.microsoft.EmbedLayerNormalization(i, s, w, p, q, g, b)",
    "int32[1,2] i, int32[1,2] s, float[4,8] w, float[5,8] p, float[2,8] q, float[8] g, float[8] b",
    {"s": i32([0, 1]), "w": f32(4, 8), "p": f32(5, 8), "q": f32(2, 8), "g": f32(8), "b": f32(8)},
)
ROTARY = (
    "y = com.microsoft.RotaryEmbedding(x, i, c, s)",
    "float[1,1,2,4] x, int64[1,2] i, float[3,2] c, float[3,2] s",
    {"x": f32(1, 1, 2, 4), "c": f32(3, 2), "s": f32(3, 2)},
)
CROP = (
    "y = com.microsoft.CropAndResize(x, r, i, c)",
    "float[1,1,4,4] x, float[1,4] r, int32[1] i",
    {"x": f32(1, 1, 4, 4), "r": f32(1, 4) / 4},
)
QUERIES = (
    "y, a, b = com.microsoft.GroupQueryAttention<num_heads=1, kv_num_heads=1>(q, k, v, , , i, t)",
    "float[1,2,8] q, float[1,2,8] k, float[1,2,8] v, int32[1] i",
    dict.fromkeys("qkv", f32(1, 2, 8)),
)


def recurrent(op, gates):
    feeds = {"x": f32(3, 2, 2), "w": f32(1, gates * 2, 2), "r": f32(1, gates * 2, 2)}
    shapes = f"float[3,2,2] x, float[1,{2 * gates},2] w, float[1,{2 * gates},2] r, int32[2] i"
    return f"y = {op}<hidden_size=2>(x, w, r, , i)", shapes, feeds


def tensor_scatter(mode="linear"):
    return (
        f'y = TensorScatter<axis=1, mode="{mode}">(x, u, i)',
        "float[1,4,1] x, float[1,2,1] u, int64[1] i",
        {"x": f32(1, 4, 1), "u": f32(1, 2, 1)},
    )


# (nodes, inputs, arrays), indices that are right, (indices that are not, the value that is named,
# the range that is named) …
CASES = [
    pytest.param(
        GATHER,
        [i64(0, 3), i64(-1, -4)],
        [
            (i64(0, 4), 4, "-4 to 3"),
            (i64(-5, 9), -5, "-4 to 3"),
            (i64(2**63 - 1, 0), 2**63 - 1, "-4 to 3"),
            (i64(0, -(2**63)), -(2**63), "-4"),
        ],
        id="Gather",
    ),
    pytest.param(
        ELEMENTS,
        [i64(3, -4)],
        [(i64(1, 4), 4, "-4 to 3"), (i64(-5, 1), -5, "-4 to 3")],
        id="GatherElements",
    ),
    pytest.param(
        GATHER_ND,
        [i64([3, 2], [-4, -3])],
        [
            (i64([4, 0], [0, 0]), 4, "-4 to 3"),
            (i64([0, 3], [0, 0]), 3, "-3 to 2"),
            (i64([0, 0], [3, -4]), -4, "-3 to 2"),
        ],
        id="GatherND",
    ),
    pytest.param(
        SCATTER,
        [i64(0, -4)],
        [(i64(1, 4), 4, "-4 to 3"), (i64(-5, 1), -5, "-4 to 3")],
        id="ScatterElements",
    ),
    pytest.param(SCATTER_ND, [i64([3]), i64([-4])], [(i64([9]), 9, "-4 to 3")], id="ScatterND"),
    pytest.param(
        REVERSE,
        [i64(0, 3)],
        [
            (i64(1, 4), 4, "0 to 3"),
            (i64(3, -1), -1, "0 to 3"),
            (i64(2**63 - 1, 1), 2**63 - 1, "0 to 3"),
        ],
        id="ReverseSequence",
    ),
    pytest.param(ROI, [i64(1)], [(i64(2), 2, "0 to 1"), (i64(-1), -1, "0 to 1")], id="RoiAlign"),
    pytest.param(
        UNPOOL,
        [i64([[[0, 2]]])],
        [(i64([[[0, 8]]]), 8, "0 to 7"), (i64([[[-1, 2]]]), -1, "0 to 7")],
        id="MaxUnpool",
    ),
    pytest.param(LOSS, [i64(0, 3), i64(0, -1)], [(i64(0, 4), 4, "-4 to 3")], id="loss"),
    pytest.param(IGNORED, [i64(0, 9)], [(i64(0, 4), 4, "-4 to 3")], id="loss, one ignored"),
    pytest.param(ENTROPY, [i64(0, 3)], [(i64(0, -5), -5, "-4 to 3")], id="cross entropy"),
    pytest.param(
        EXTRACT,
        [i64(3)],
        [(i64(9), 9, "0 to 3"), (i64(-1), -1, "0 to 3")],
        id="ArrayFeatureExtractor",
    ),
    pytest.param(
        EMBED,
        [i32([0, 3])],
        [(i32([1, 4]), 4, "0 to 3"), (i32([1, -1]), -1, "0 to 3")],
        id="EmbedLayerNormalization",
    ),
    pytest.param(
        ROTARY,
        [i64([0, 2])],
        [(i64([0, 9]), 9, "0 to 2"), (i64([0, -1]), -1, "0 to 2")],
        id="RotaryEmbedding",
    ),
    pytest.param(
        CROP, [i32(0)], [(i32(1), 1, "0 to 0"), (i32(-1), -1, "0 to 0")], id="CropAndResize"
    ),
    pytest.param(
        QUERIES,
        [i32(1)],
        [(i32(9), 9, "0 to 1"), (i32(-2), -2, "0 to 1")],
        id="GroupQueryAttention",
    ),
    pytest.param(
        tensor_scatter(),
        [i64(2)],
        [(i64(3), 3, "0 to 2"), (i64(-1), -1, "0 to 2")],
        id="TensorScatter",
    ),
    pytest.param(
        tensor_scatter("circular"), [i64(5)], [(i64(-1), -1, "at least 0")], id="circular"
    ),
    *[
        pytest.param(
            recurrent(op, gates),
            [i32(0, 3)],
            [(i32(5, 2), 5, "0 to 3"), (i32(1, -1), -1, "0 to 3")],
            id=op,
        )
        for op, gates in [("RNN", 1), ("GRU", 3), ("LSTM", 4)]
    ],
]
OPSETS = {"TensorScatter": 24}
CONSTANTS = {"CropAndResize": "<int32[2] c = {2, 2}>", "GroupQuery": "<int32[1] t = {2}>"}


def proto_of(what):
    body, inputs, _ = what
    opset = next((v for k, v in OPSETS.items() if k in body), 21)
    constants = next((v for k, v in CONSTANTS.items() if k in body), "")
    return model(body, inputs, opset=opset, constants=constants)


def check_error(error, value, allowed):
    assert error.value.where, error.value
    assert error.value.received == value and str(error.value.expected).startswith(allowed)
    assert "is out of range" in error.value.message


@pytest.mark.parametrize(("what", "right", "wrong"), CASES)
def test_an_operator_refuses_what_onnx_runtime_refuses(what, right, wrong):
    proto, feeds = proto_of(what), what[2]
    graph = tessel.from_onnx(proto)
    names = [v.name for v in graph.inputs]
    exe = tessel.compile(proto, threads=2)
    for indices in right:
        exe.run({**feeds, "i": indices})
    for indices, value, allowed in wrong:
        arrays = {**feeds, "i": indices}
        with pytest.raises(InputError) as error:
            exe.run(arrays)
        check_error(error, value, allowed)
        with pytest.raises(InputError) as error:  # the definition says the same
            interpret(graph, [arrays[n] for n in names])
        check_error(error, value, allowed)
    exe.run({**feeds, "i": right[0]})  # a run after one that failed is like any other


@pytest.mark.parametrize(("what", "right", "wrong"), CASES)
def test_onnx_runtime_agrees_on_what_is_refused(what, right, wrong):
    ort = pytest.importorskip("onnxruntime", reason="compares with ONNX Runtime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    proto = proto_of(what).SerializeToString()
    session = ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    for indices in right:
        session.run(None, {**what[2], "i": indices})
    for indices, _, _ in wrong:
        with pytest.raises(Exception, match=r".+"):
            session.run(None, {**what[2], "i": indices})


def run(body, inputs, feeds, **options):
    return tessel.compile(model(body, inputs, **options)).run(feeds)["y"]


def test_what_has_a_meaning_out_of_range_keeps_it():
    one_hot = run(
        "y = OneHot(i, d, v)",
        "int64[3] i, float[2] v",
        {"i": i64(-4, 9, -5), "v": f32(2)},
        constants="<int64[1] d = {4}>",
    )
    np.testing.assert_array_equal(one_hot[:, 0], [f32(2)[1], 0, 0])
    body = "y = com.microsoft.GatherBlockQuantized<block_size=16, bits=8>(x, i, s)"
    feeds = {"x": np.full((4, 16), 129, np.uint8), "i": i64(9, -1), "s": f32(4, 1)}
    rows = run(body, "uint8[4,16] x, int64[2] i, float[4,1] s", feeds)
    np.testing.assert_array_equal(rows[:, 0], [0, feeds["s"][3, 0]])
    sliced = run(
        "y = Slice(x, s, e)",
        "float[4] x, int64[1] s, int64[1] e",
        {"x": f32(4), "s": i64(-9), "e": i64(99)},
    )
    np.testing.assert_array_equal(sliced, f32(4))


def test_an_unpooled_element_may_lie_in_any_window():
    body, inputs, _ = UNPOOL
    y = run(body, inputs, {"x": f32(1, 1, 1, 2) + 1, "i": i64([[[7, 0]]])})
    np.testing.assert_array_equal(y.reshape(-1)[[0, 7]], (f32(2) + 1)[::-1])
    assert np.count_nonzero(y) == 2


def test_a_place_in_a_sequence_is_looked_at():
    body = "s = SequenceConstruct(a, b) y = SequenceAt(s, i)"
    exe = tessel.compile(model(body, "float[2] a, float[2] b, int64 i"))
    feeds = {"a": f32(2), "b": f32(2) + 1}
    for i, y in [(0, feeds["a"]), (-1, feeds["b"]), (-2, feeds["a"])]:
        np.testing.assert_array_equal(exe.run({**feeds, "i": np.array(i)})["y"], y)
    for i in (2, -3):
        with pytest.raises(InputError) as error:
            exe.run({**feeds, "i": np.array(i)})
        check_error(error, i, "-2 to 1")
