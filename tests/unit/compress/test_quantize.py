"""`tessel.quantize` on small models: what becomes integers, what stays, and what is refused."""

import numpy as np
import pytest
import tessel
from tessel.compiler.compress.on_compile import place_alone
from tessel.compiler.compress.quantize import Plan
from tessel.compiler.ir.builder import Builder


def small_net(channels: int = 8) -> tessel.Graph:
    """A convolution, a residual block with a pool, and a classifier, f32[N,3,8,8] → f32[N,5]."""
    rng = np.random.default_rng(0)
    weights = lambda *shape: (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype("f4")
    b = Builder()

    def conv(name, x, outputs, taps=3):
        b.origin = name
        w, bias = weights(outputs, x.shape[1], taps, taps), weights(outputs, 1)[:, 0]
        return b.conv(x, w, bias, pads=(taps // 2,) * 4)

    x = b.input("x", "f32[N,3,8,8]")
    x = b.relu(conv("first", x, channels))
    y = b.relu(conv("second", x, channels))
    x = b.relu(conv("third", y, channels) + x)
    b.origin = "pool"
    x = b.max_pool(x, kernel=(2, 2), strides=(2, 2))
    b.origin = "head"
    x = x.reshape(-1, channels * 16) @ weights(channels * 16, 5)
    b.output("y", x + weights(5, 1)[:, 0])
    return b.graph


def mlp() -> tessel.Graph:
    rng = np.random.default_rng(1)
    b = Builder()
    x = b.input("x", "f32[N,7,64]")
    for i in range(3):
        b.origin = f"layer{i}"
        x = b.gelu(x @ (rng.standard_normal((64, 64)) / 8).astype("f4"))
    b.output("y", x)
    return b.graph


DATA = np.random.default_rng(2).standard_normal((32, 3, 8, 8)).astype(np.float32)
ROWS = np.random.default_rng(3).standard_normal((4, 7, 64)).astype(np.float32)


def decibels(expected, received) -> float:
    signal, noise = np.square(expected).sum(), np.square(expected - received).sum()
    return 10 * np.log10(signal / max(noise, 1e-12 * signal))


def ops(exe) -> list[str]:
    return [n.op.name for n in exe.graph.nodes]


def test_int8_computes_with_integers():
    graph = small_net()
    q = tessel.quantize(graph, DATA)
    exe = tessel.compile(q)
    assert ops(exe).count("conv_integer") == 3
    assert ops(exe).count("matmul_integer") == 1
    assert decibels(tessel.compile(graph)(DATA), exe(DATA)) > 30
    assert not q.report.kept
    assert q.report.bytes_after < 0.4 * q.report.bytes_before


def test_every_observer_sees_the_same_pass():
    graph = small_net()
    for observer in ("minmax", "moving_average", "percentile", "entropy", "mse"):
        q = tessel.quantize(graph, DATA, tessel.Recipe(observer=observer))
        assert {r.observer for r in q.report.rows} == {observer}
        assert decibels(tessel.compile(graph)(DATA), tessel.compile(q)(DATA)) > 20, observer


@pytest.mark.parametrize(
    ("recipe", "least", "op"),
    [
        ("int8-dynamic", 33, "matmul_integer"),
        ("int8-weights", 36, "matmul_blocks"),
        ("int4", 15, "matmul_blocks"),
        ("int4-int8", 15, "matmul_blocks"),
    ],
)
def test_what_needs_no_data(recipe, least, op):
    graph = mlp()
    q = tessel.quantize(graph, recipe=recipe)
    exe = tessel.compile(q)
    assert ops(exe).count(op) == 3
    assert decibels(tessel.compile(graph)(ROWS), exe(ROWS)) > least
    assert q.report.bytes_after < 0.4 * q.report.bytes_before
    at_once = tessel.compile(graph, quantize=recipe)
    assert decibels(exe(ROWS), at_once(ROWS)) > 60


def test_a_compilation_says_what_it_quantized_and_what_not():
    exe = tessel.compile(small_net(), quantize="int8-dynamic")
    assert exe.report.count("weights => narrow numbers: int8-dynamic") == 1
    assert any("calibration" in declined.reason for declined in exe.report.why_not("first"))
    with pytest.raises(tessel.TesselError, match="names no recipe that needs no data"):
        tessel.compile(small_net(), quantize="int8")
    with pytest.raises(tessel.TesselError, match="quantized already"):
        tessel.compile(tessel.quantize(small_net(), DATA), quantize="int8-weights")


def test_convolutions_have_no_dynamic_scales():
    report = tessel.quantize(small_net(), recipe="int8-dynamic").report
    assert list(report.kept) == ["first", "second", "third"]
    assert "calibration" in report.kept["first"]


def test_keep_leaves_a_node_alone():
    q = tessel.quantize(small_net(), DATA, keep="hea?")
    assert q.report.kept == {"head": "the recipe keeps 'hea?'"}
    assert "matmul_integer" not in ops(tessel.compile(q))


def test_a_written_recipe_gives_the_same_graph_without_data(tmp_path):
    graph = small_net()
    first = tessel.quantize(graph, DATA)
    first.recipe.save(tmp_path / "r.toml")
    again = tessel.quantize(graph, recipe=tmp_path / "r.toml")
    assert str(again.graph) == str(first.graph)
    assert again.recipe == first.recipe
    assert len(first.recipe.data) == 16


def test_residual_sums_read_bytes_or_floats():
    graph = small_net()
    count = lambda sums: str(tessel.quantize(graph, DATA, tessel.Recipe(sums=sums)).graph).count(
        "quantize_linear"
    )
    assert count("quantized") == count("float")
    q = tessel.quantize(graph, DATA, tessel.Recipe(sums="float"))
    assert decibels(tessel.compile(graph)(DATA), tessel.compile(q)(DATA)) > 30


def test_a_recipe_that_gains_nothing_says_so():
    q = tessel.quantize(small_net(), DATA, keep="*")
    assert q.report.notes == [
        "nothing was quantized, so nothing is gained: the recipe keeps '*' × 4"
    ]
    b = Builder()
    b.output("y", b.relu(b.input("x", "f32[3]")))
    notes = tessel.quantize(b.graph, recipe="int8-weights").report.notes
    assert "no products with constant weights" in notes[0]


def test_onnx_runtime_computes_the_same():
    runtime = pytest.importorskip("onnxruntime")
    q = tessel.quantize(small_net(), DATA)
    model = tessel.to_onnx(q)
    kinds = [n.op_type for n in model.graph.node]
    assert kinds.count("Conv") == 3 and kinds.count("DequantizeLinear") > 4
    plain = runtime.SessionOptions()
    plain.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(model.SerializeToString(), plain)
    (expected,) = session.run(None, {"x": DATA})
    assert decibels(expected, tessel.compile(q)(DATA)) > 40


# -- what users get wrong -----------------------------------------------------------------


def test_int8_needs_data():
    with pytest.raises(tessel.TesselError, match="int8 needs data") as caught:
        tessel.quantize(small_net())
    assert "int8-dynamic, int8-weights" in caught.value.fix


def test_data_that_does_not_fit():
    with pytest.raises(tessel.TesselError, match="does not fit the model") as caught:
        tessel.quantize(small_net(), DATA[:, :, :4])
    assert caught.value.expected == "x: f32[N,3,8,8]"
    with pytest.raises(tessel.TesselError, match="wrong type"):
        tessel.quantize(small_net(), np.zeros((4, 3, 8, 8), np.uint8))
    with pytest.raises(tessel.TesselError, match="no samples"):
        tessel.quantize(small_net(), [])


def test_one_sample_without_its_batch():
    with pytest.raises(tessel.TesselError, match="does not fit") as caught:
        tessel.quantize(small_net(), DATA[0])
    assert caught.value.fix == "add the axis of the batch"


def test_nan_in_the_data():
    data = DATA.copy()
    data[20, 1, 2, 3] = np.nan
    with pytest.raises(tessel.TesselError, match="NaN or infinite") as caught:
        tessel.quantize(small_net(), data)
    assert caught.value.where == "input x, run 1"


def test_nan_that_a_node_makes():
    b = Builder()
    x = b.input("x", "f32[N,4]")
    b.origin = "the_log"
    y = b.log(x)
    b.origin = "product"
    b.output("y", y @ np.ones((4, 2), np.float32))
    with pytest.raises(tessel.TesselError, match="makes NaN or infinite") as caught:
        tessel.quantize(b.graph, -np.ones((4, 4), np.float32))
    assert caught.value.where == "the_log"


def test_a_model_that_is_quantized_already():
    q = tessel.quantize(small_net(), DATA)
    with pytest.raises(tessel.TesselError, match="quantized already"):
        tessel.quantize(q, DATA)


def test_a_pattern_that_names_nothing():
    with pytest.raises(tessel.TesselError, match="no product of the model is called") as caught:
        tessel.quantize(small_net(), DATA, keep="secnd")
    assert caught.value.fix == "did you mean 'second'?"


def test_scales_of_another_model():
    recipe = tessel.quantize(mlp(), ROWS).recipe
    with pytest.raises(tessel.TesselError, match="no scale for"):
        tessel.quantize(small_net(), recipe=recipe)


@pytest.mark.parametrize("recipe", ["int8", "int8-dynamic"])
def test_tables_become_bytes(recipe):
    b, rng = Builder(), np.random.default_rng(5)
    ids = b.input("ids", "i64[N]")
    b.origin = "table"
    x = b.gather(b.constant(rng.standard_normal((200, 64)).astype(np.float32)), ids, axis=0)
    b.origin = "product"
    b.output("y", x @ (rng.standard_normal((64, 64)) / 8).astype(np.float32))
    data = rng.integers(0, 200, 40)
    q = tessel.quantize(b.graph, {"ids": data} if recipe == "int8" else None, recipe)
    assert q.report.bytes_after < 0.29 * q.report.bytes_before
    assert "tables of 8 bits, a scale per row: table" in q.report.notes
    assert decibels(tessel.compile(b.graph)(data), tessel.compile(q)(data)) > 36


def test_a_native_module_is_quantized_with_its_parameters():
    net = tessel.native.Sequential(tessel.native.Linear(8, 64), tessel.native.Linear(64, 3))
    params = net.init(np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((32, 8)).astype(np.float32)
    q = tessel.quantize(net, x, params=params)
    assert str(q.graph.inputs[0]) == "%x: f32[N,8]"
    assert decibels(tessel.jit(lambda x: net(params, x))(x), tessel.compile(q)(x)) > 30
    by_shapes = tessel.quantize(net, None, "int8-weights", params=params, shapes={"a": (None, 8)})
    assert str(by_shapes.graph.inputs[0]) == "%a: f32[N,8]"
    with pytest.raises(tessel.TesselError, match="parameters lie outside"):
        tessel.quantize(net, x)
    with pytest.raises(tessel.TesselError, match="params are of a module"):
        tessel.quantize(small_net(), DATA, params=params)


def test_a_recipe_that_gains_no_time_is_said_with_figures():
    q = tessel.quantize(small_net(), DATA)
    floats, narrow = q.report.predicted_ms
    assert (narrow >= floats) == any("gain no time here" in n for n in q.report.notes)
    rows = {r.name: r for r in q.report.rows}
    assert all(len(rows[n].ms) == 2 for n in ("first", "second", "third"))
    assert tessel.quantize(small_net(), DATA, {"placement": "all"}).report.kept == {}


def test_what_loses_time_stays_and_the_recipe_says_so(tmp_path, monkeypatch):
    """A product that bytes would make ten times slower, if the prediction were so."""
    from tessel.compiler.compress import placement
    from tessel.runtime.compress import gains

    def predicted(graph, shapes):
        slow = any(
            n.op.name == "conv" and n.inputs[1].constant is None and n.origin == "second"
            for n in graph.nodes
        )
        return [(("first",), 0.9), (("second",), 10.0 if slow else 1.0), (("third",), 0.9)]

    monkeypatch.setattr(gains, "_predicted", predicted)
    monkeypatch.setattr(placement, "SLOWER", 1.0)
    q = tessel.quantize(small_net(), DATA)
    assert q.report.kept == {"second": "bytes would take 10 ms here, floats 1 (predicted)"}
    assert q.recipe.keep == ("second",)
    monkeypatch.undo()
    q.recipe.save(tmp_path / "r.toml")
    again = tessel.quantize(small_net(), recipe=tmp_path / "r.toml")
    assert str(again.graph) == str(q.graph)


def test_a_compilation_leaves_what_would_take_longer():
    b, rng = Builder(), np.random.default_rng(0)
    x = b.input("x", "f32[N,64]")
    for name, outputs in (("large", 64), ("again", 64), ("small", 4)):
        b.origin = name
        x = b.relu(x @ rng.standard_normal((64, outputs)).astype("f4"))
    b.output("y", x)
    asked = []

    def predict(graph):
        asked.append(graph.outputs[0].shape[1])
        is_narrow = any(n.op.name == "matmul_integer" for n in graph.nodes)
        return 2.0 if is_narrow and asked[-1] == 4 else 1.0

    plan = Plan.of(b.graph, tessel.Recipe.of("int8-dynamic"))
    place_alone(plan, predict)
    assert asked == [64, 64, 4, 4]  # products of one shape once, in both forms
    assert {p.where: p.keep for p in plan.candidates.products if p.keep} == {
        "small": "bytes would take 2 ms here, floats 1 (predicted)"
    }
    place_alone(Plan.of(b.graph, tessel.Recipe.of("int8-weights")), predict)
    assert len(asked) == 4  # which is for memory


@pytest.mark.parametrize("opset", [13, 21])
def test_operators_on_request(opset, tmp_path):
    q = tessel.quantize(small_net(), DATA)
    written = tessel.to_onnx(q, tmp_path / "q.onnx", operators=True, opset=opset)
    names = [n.op_type for n in written.graph.node]
    assert names.count("QLinearConv") == 1  # the others are read as floats, too
    assert "QLinearConv" not in [n.op_type for n in tessel.to_onnx(q, opset=opset).graph.node]
    read = tessel.compile(tmp_path / "q.onnx")
    assert decibels(tessel.compile(q)(DATA), read(DATA)) > 40
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "q.onnx"), providers=["CPUExecutionProvider"]
    )
    assert decibels(read(DATA), session.run(None, {"x": DATA})[0]) > 30


def test_older_opsets_have_what_they_have_words_for():
    graph = small_net()
    q = tessel.quantize(graph, DATA)
    written = tessel.to_onnx(q, opset=13)
    assert written.opset_import[0].version == 13
    assert decibels(tessel.compile(q)(DATA), tessel.compile(written)(DATA)) > 60
    with pytest.raises(tessel.TesselError, match="opset 13 cannot say this"):
        tessel.to_onnx(tessel.quantize(mlp(), ROWS, {"dtype": "i4"}), opset=13)
