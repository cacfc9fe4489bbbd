"""Whole models as ONNX Runtime's tools write them: a language model's step with its cache, files of
its graph optimiser, files of its quantisers."""

import numpy as np
import onnx
import pytest
import tessel
from onnx import TensorProto, helper, numpy_helper
from tessel.compiler.ir import specialize

from ..support.microsoft import MICROSOFT, compare, f, onnxruntime_of, q

ort = pytest.importorskip("onnxruntime", reason="the comparison needs ONNX Runtime")

# -- a step of a language model -------------------------------------------------------------

HIDDEN, HEADS, GROUPS, WIDTH, WORDS = 64, 4, 2, 16, 50


class Nodes:
    """Collects nodes and weights of a graph in the making."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def weight(self, array) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def __call__(self, op, *inputs, outputs=1, domain=MICROSOFT, **attrs):
        inputs = [x if isinstance(x, str) else self.weight(x) for x in inputs]
        results = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, results, domain=domain, **attrs))
        return results[0] if outputs == 1 else results


def linear(g: Nodes, x, k: int, n: int, seed: int):
    """A product with 4-bit weights."""
    scales = np.full((n, k // 32), 0.02, np.float32)
    return g(
        "MatMulNBits", x, q(n, k // 32, 16, seed=seed), scales, K=k, N=n, block_size=32, bits=4
    )


def language_model() -> onnx.ModelProto:
    """One layer with a cache, as model builders for generation export it: 4-bit weights, rotary
    positions inside of GroupQueryAttention, lengths from the attention mask."""
    g = Nodes()
    lengths = g("ReduceSum", "attention_mask", np.array([1]), domain="", keepdims=0)
    ends = g("Cast", g("Sub", lengths, np.array([1]), domain=""), domain="", to=TensorProto.INT32)
    shape = g("Shape", "attention_mask", domain="")
    total = g("Gather", shape, np.array(1), domain="", axis=0)
    total = g("Cast", total, domain="", to=TensorProto.INT32)
    table, scales = q(WORDS, HIDDEN // 2), f(WORDS, 2, seed=1, scale=0.1)
    x = g("GatherBlockQuantized", table, "input_ids", scales, block_size=32)
    normed = g("SimplifiedLayerNormalization", x, f(HIDDEN, seed=2), domain="", epsilon=1e-6)
    query, key, value = (
        linear(g, normed, HIDDEN, n, seed)
        for seed, n in enumerate((HIDDEN, GROUPS * WIDTH, GROUPS * WIDTH))
    )
    angles = f(64, WIDTH // 2, seed=3)
    attended, present_key, present_value = g(
        "GroupQueryAttention",
        query,
        key,
        value,
        "past_key",
        "past_value",
        ends,
        total,
        np.cos(angles),
        np.sin(angles),
        outputs=3,
        num_heads=HEADS,
        kv_num_heads=GROUPS,
        do_rotary=1,
    )
    out = linear(g, attended, HIDDEN, HIDDEN, 4)
    skip = helper.make_node(
        "SkipSimplifiedLayerNormalization",
        [x, out, g.weight(f(HIDDEN, seed=5))],
        ["normed", "", "", "total"],
        domain=MICROSOFT,
        epsilon=1e-6,
    )
    g.nodes.append(skip)
    gate, up = linear(g, "normed", HIDDEN, 96, 6), linear(g, "normed", HIDDEN, 96, 7)
    silu = g("Mul", gate, g("Sigmoid", gate, domain=""), domain="")
    down = linear(g, g("Mul", silu, up, domain=""), 96, HIDDEN, 8)
    logits = linear(g, g("Add", "total", down, domain=""), HIDDEN, WORDS, 9)
    for old, new in [
        (logits, "logits"),
        (present_key, "present_key"),
        (present_value, "present_value"),
    ]:
        g.nodes.append(helper.make_node("Identity", [old], [new]))
    float_, int_ = TensorProto.FLOAT, TensorProto.INT64
    past = ["batch", GROUPS, "past", WIDTH]
    present = ["batch", GROUPS, "total", WIDTH]
    graph = helper.make_graph(
        g.nodes,
        "step",
        [
            helper.make_tensor_value_info("input_ids", int_, ["batch", "sequence"]),
            helper.make_tensor_value_info("attention_mask", int_, ["batch", "total"]),
            helper.make_tensor_value_info("past_key", float_, past),
            helper.make_tensor_value_info("past_value", float_, past),
        ],
        [
            helper.make_tensor_value_info("logits", float_, ["batch", "sequence", WORDS]),
            helper.make_tensor_value_info("present_key", float_, present),
            helper.make_tensor_value_info("present_value", float_, present),
        ],
        g.weights,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def test_a_language_model_writes_word_after_word():
    """A prompt, then four words, each run with the cache that the one before left."""
    model = language_model()
    exe = tessel.compile(model, threads=1)
    ids = np.array([[3, 7, 1, 9, 4], [2, 2, 8, 0, 6]])
    cache = {k: np.zeros((2, GROUPS, 0, WIDTH), np.float32) for k in ("past_key", "past_value")}
    for length in range(5, 10):
        feeds = {"input_ids": ids, "attention_mask": np.ones((2, length), np.int64)} | cache
        got, want = exe.run(feeds), onnxruntime_of(model, feeds)
        compare(list(got.values()), want, rtol=1e-3, atol=1e-4)
        assert got["present_key"].shape == (2, GROUPS, length, WIDTH)
        ids = got["logits"][:, -1:].argmax(-1)
        cache = {f"past_{k}": got[f"present_{k}"] for k in ("key", "value")}


def test_a_language_model_whose_sizes_are_named_apart(monkeypatch):
    """As dynamo exports them. A new length is looked at by equations alone: no graph is walked."""
    model = language_model()
    for i, info in enumerate(model.graph.input):
        for axis, d in enumerate(info.type.tensor_type.shape.dim):
            if d.dim_param:
                d.dim_param = f"s{i}_{axis}"
    exe = tessel.compile(model, threads=1)
    cache = {k: f(2, GROUPS, 4, WIDTH, seed=3) for k in ("past_key", "past_value")}
    monkeypatch.setattr(specialize, "specialize", lambda *_: pytest.fail("a graph is walked"))
    for length in range(5, 10):
        feeds = {"input_ids": np.array([[3], [1]]), "attention_mask": np.ones((2, length), int)}
        got, want = exe.run(feeds | cache), onnxruntime_of(model, feeds | cache)
        compare(list(got.values()), want, rtol=1e-3, atol=1e-4)
        cache = {f"past_{k}": got[f"present_{k}"] for k in ("key", "value")}
    assert all(b.is_dynamic for b in exe.specializations)


def test_attention_of_dynamic_dims():
    """A GPT-2's step: the numbers of sentences, tokens and cached tokens are open, and the mask's
    length has a name of its own."""
    weights = numpy_helper.from_array(f(8, 24, scale=0.4), "w")
    node = helper.make_node(
        "Attention",
        ["x", "w", "", "mask", "past"],
        ["y", "present"],
        domain=MICROSOFT,
        num_heads=4,
        unidirectional=1,
    )
    graph = helper.make_graph(
        [node],
        "step",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "sequence", 8]),
            helper.make_tensor_value_info("mask", TensorProto.INT32, ["batch", "total"]),
            helper.make_tensor_value_info("past", TensorProto.FLOAT, [2, "batch", 4, "past", 2]),
        ],
        [helper.make_empty_tensor_value_info(y) for y in ("y", "present")],
        [weights],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    exe = tessel.compile(model, threads=1)
    for batch, sequence, past in [(2, 3, 0), (2, 1, 3), (1, 2, 4)]:
        mask = np.ones((batch, past + sequence), np.int32)
        mask[:, 0] = 0
        feeds = {"x": f(batch, sequence, 8), "mask": mask, "past": f(2, batch, 4, past, 2)}
        compare(list(exe.run(feeds).values()), onnxruntime_of(model, feeds))


# -- files of the graph optimiser ------------------------------------------------------------


def optimised(model: onnx.ModelProto, path, level="ORT_ENABLE_EXTENDED") -> str:
    """The file that ONNX Runtime's optimiser makes of a model."""
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return str(path)


def agrees(path, feeds, rtol=1e-3, atol=1e-4, steps=0):
    got = tessel.compile(path, threads=1).run(feeds)
    want = onnxruntime_of(onnx.load(path), feeds)
    compare(list(got.values()), want, rtol=rtol, atol=atol, steps=steps)


def operators(path) -> set[str]:
    return {n.op_type for n in onnx.load(path).graph.node if n.domain == MICROSOFT}


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "level", "some"),
    [
        ("tinybert_untrained", "ORT_ENABLE_ALL", {"Attention", "BiasGelu", "FusedGemm"}),
        ("ultraface_rfb320", "ORT_ENABLE_EXTENDED", {"FusedConv"}),
        ("super_resolution_10", "ORT_ENABLE_EXTENDED", {"FusedConv"}),
        (
            "shufflenet_v2_int8",
            "ORT_ENABLE_ALL",
            {"QLinearConv", "QLinearConcat", "QLinearAdd", "NhwcMaxPool"},
        ),
    ],
)
@pytest.mark.saturates("shufflenet_v2_int8")
def test_optimised_files_of_real_models(shared_models, tmp_path, name, level, some):
    shared = shared_models(name)
    path = optimised(onnx.load(shared.path), tmp_path / "optimised.onnx", level)
    assert some <= operators(path)
    agrees(path, shared.inputs)


@pytest.mark.shared
def test_layer_norms_of_old_opsets(shared_models, tmp_path):
    """The optimiser puts LayerNormalization into a model of opset 16: onnx's checker refuses it."""
    shared = shared_models("libtashkeel_fp32")
    path = optimised(onnx.load(shared.path), tmp_path / "optimised.onnx")
    model = onnx.load(path)
    assert "LayerNormalization" in {n.op_type for n in model.graph.node}
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model)
    agrees(path, shared.inputs)


# -- files of the quantisers -----------------------------------------------------------------


def small_cnn() -> onnx.ModelProto:
    """Convolution, pool, sum, sigmoid, classifier: what static quantisation has operators for."""
    g = Nodes()
    x = g("Conv", "x", f(8, 3, 3, 3, scale=0.3), f(8), domain="", pads=[1, 1, 1, 1])
    x = g("Relu", x, domain="")
    y = g("Conv", x, f(8, 8, 3, 3, scale=0.2), f(8), domain="", pads=[1, 1, 1, 1])
    x = g("Add", x, y, domain="")
    x = g("Mul", x, g("Sigmoid", x, domain=""), domain="")
    x = g("LeakyRelu", x, domain="", alpha=0.1)
    x = g("Concat", x, y, domain="", axis=1)
    x = g("AveragePool", x, domain="", kernel_shape=[2, 2], strides=[2, 2])
    x = g("GlobalAveragePool", x, domain="")
    x = g("Flatten", x, domain="")
    x = g("Gemm", x, f(10, 16, seed=3), f(10), domain="", transB=1)
    x = g("Softmax", x, domain="", axis=1)
    g.nodes.append(helper.make_node("Identity", [x], ["y"]))
    return _model(g, ["batch", 3, 16, 16], ["batch", 10])


def small_mlp() -> onnx.ModelProto:
    g = Nodes()
    x = g("MatMul", "x", f(32, 48, scale=0.2), domain="")
    x = g("Relu", g("Add", x, f(48), domain=""), domain="")
    x = g("MatMul", x, f(48, 10, seed=1, scale=0.2), domain="")
    g.nodes.append(helper.make_node("Identity", [x], ["y"]))
    return _model(g, ["batch", 32], ["batch", 10])


def _model(g: Nodes, x, y) -> onnx.ModelProto:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, x)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, y)
    graph = helper.make_graph(g.nodes, "small", [given], [made], g.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


class Examples:
    """Calibration data: five batches of normal numbers."""

    def __init__(self, *shape):
        self.batches = iter([{"x": f(*shape, seed=s)} for s in range(5)])

    def get_next(self):
        return next(self.batches, None)


@pytest.fixture
def quantization():
    return pytest.importorskip("onnxruntime.quantization", reason="ONNX Runtime's quantisers")


@pytest.mark.saturates("QUInt8")
@pytest.mark.parametrize("form", ["QOperator", "QDQ"])
@pytest.mark.parametrize("kind", ["QUInt8", "QInt8"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_static_quantisation(quantization, tmp_path, form, kind, per_channel):
    """As the file says, and as ONNX Runtime's optimiser rewrites it once more.

    Within a step of the last integers: sums of floats on the way are ordered differently.
    """
    source, target = tmp_path / "float.onnx", str(tmp_path / "int8.onnx")
    onnx.save(small_cnn(), source)
    quantization.quantize_static(
        str(source),
        target,
        Examples(4, 3, 16, 16),
        quant_format=quantization.QuantFormat[form],
        activation_type=quantization.QuantType[kind],
        weight_type=quantization.QuantType.QInt8,
        per_channel=per_channel,
    )
    feeds = {"x": f(2, 3, 16, 16, seed=9)}
    agrees(target, feeds, atol=1.01 / 127)
    again = optimised(onnx.load(target), tmp_path / "again.onnx")
    assert {"QLinearAdd", "QLinearSoftmax"} <= operators(again)
    agrees(again, feeds, atol=1.01 / 127)


def test_dynamic_quantisation(quantization, tmp_path):
    source, target = tmp_path / "float.onnx", str(tmp_path / "int8.onnx")
    onnx.save(small_mlp(), source)
    quantization.quantize_dynamic(str(source), target)
    feeds = {"x": f(5, 32, seed=9)}
    agrees(target, feeds)
    again = optimised(onnx.load(target), tmp_path / "again.onnx")
    assert operators(again) & {"DynamicQuantizeMatMul", "MatMulIntegerToFloat"}
    agrees(again, feeds)


def test_four_bit_weights(quantization, tmp_path):
    """ONNX Runtime's own quantiser of weights."""
    module = pytest.importorskip(
        "onnxruntime.quantization.matmul_nbits_quantizer", reason="needs its own packages"
    )
    quantizer = module.MatMulNBitsQuantizer(small_mlp(), block_size=16, is_symmetric=False)
    quantizer.process()
    path = str(tmp_path / "four.onnx")
    onnx.save(quantizer.model.model, path)
    assert operators(path) == {"MatMulNBits"}
    agrees(path, {"x": f(5, 32, seed=9)})
