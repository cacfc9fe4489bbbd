"""The real models give the outputs of ONNX Runtime, at one thread and at two, and from packages."""

import numpy as np
import pytest
import tessel

from ..conftest import SATURATED, saturates

# Allowed errors, as shares of an output's largest magnitude; everything else must be equal.
TOLERANCE = {"float32": 1e-3, "float16": 2e-3}
# Its outputs were made on a CPU where ONNX Runtime's int8 convolutions saturate between products
# (AVX2's vpmaddubsw); on CPUs with VNNI it gives other ones, as any exact evaluation does.
SATURATES = "shufflenet_v2_int8"


def assert_agrees(name: str, given, right) -> None:
    if isinstance(given, list):  # a sequence of maps
        keys = list(given[0])
        given = np.array([[row[k] for k in keys] for row in given], np.float32)
    assert given.dtype == right.dtype
    assert given.shape == right.shape
    allowed = TOLERANCE.get(right.dtype.name, 0)
    scale = np.abs(right.astype(np.float64)).max(initial=0)
    error = np.abs(given.astype(np.float64) - right.astype(np.float64)).max(initial=0)
    assert error <= allowed * scale, f"{name}: off by {error / scale:.1e} of its scale"


def expected(model) -> dict[str, np.ndarray]:
    if model.name != SATURATES:
        return model.outputs
    ort = pytest.importorskip("onnxruntime", reason="compares with ONNX Runtime on this CPU")
    if saturates():
        pytest.skip(SATURATED)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, model.inputs)))


@pytest.mark.parametrize("threads", [1, 2])
def test_outputs(shared_model, threads):
    right = expected(shared_model)
    exe = tessel.compile(shared_model.path, threads=threads)
    outputs = exe.run(shared_model.inputs)
    assert list(outputs) == [p.name for p in exe.outputs]
    for name, y in right.items():
        assert_agrees(name, outputs[name], y)


def test_a_package_computes_the_same(shared_model, tmp_path):
    exe = tessel.compile(shared_model.path, threads=1)
    outputs = exe.run(shared_model.inputs)
    exe.save(tmp_path / "model.tsl")

    loaded = tessel.load(tmp_path / "model.tsl", threads=1)
    code = loaded.for_all_sizes is not None or len(loaded.specializations) == 1
    assert code and set(loaded.notes) <= set(exe.notes)
    again = loaded.run(shared_model.inputs)
    for name, y in outputs.items():
        assert again[name] == y if isinstance(y, list) else np.array_equal(again[name], y)


def test_a_branch_that_cannot_be_meant_is_noted(shared_models):
    """Its If picks a sample rate; the recorded shapes fit one of the two only."""
    model = shared_models("silero_vad")
    exe = tessel.compile(model.path)
    right = exe.run(model.inputs)
    (note,) = [n for n in exe.notes if "impossible" in n]
    assert "If_0, else_branch" in note
    with pytest.raises(tessel.TesselError, match="lstm: x has the wrong rank"):
        exe.run({**model.inputs, "sr": np.array(8000)})
    again = exe.run(model.inputs)
    assert all(np.array_equal(again[name], y) for name, y in right.items())


SUPPRESSION = """
<ir_version: 8, opset_import: ["": 13]>
tail (float[1,4420,2] scores, float[1,4420,4] boxes) => (float[K,4] faces, float[K] sure)
<int64[1] most = {100}, float[1] overlap = {0.3}, float[1] least = {0.03}, int64[1] one = {1},
 int64 two = {2}, int64[1] zero = {0}> {
  s = Transpose<perm = [0, 2, 1]>(scores) face = Gather<axis = 1>(s, one)
  found = NonMaxSuppression(boxes, face, most, overlap, least)
  at = Gather<axis = 1>(found, two) all = Squeeze(boxes, zero) faces = Gather(all, at)
  sure = GatherND(face, found)
}
"""


def test_a_face_detector_with_suppression_behind_it(shared_models):
    import onnx
    from onnx.version_converter import convert_version

    ort = pytest.importorskip("onnxruntime", reason="compares with ONNX Runtime")
    given = shared_models("ultraface_rfb320")
    whole = convert_version(onnx.load(given.path), 13)
    whole.ir_version = 8
    tail = onnx.parser.parse_model(SUPPRESSION)
    pairs = [(o.name, i.name) for o, i in zip(whole.graph.output, tail.graph.input)]
    proto = onnx.compose.merge_models(whole, tail, io_map=pairs)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options)
    exe = tessel.compile(proto)
    rng = np.random.default_rng(0)
    (name,) = given.inputs
    for x in (given.inputs[name], rng.standard_normal(exe.inputs[0].shape).astype(np.float32)):
        right = session.run(None, {name: x})
        assert right[0].size
        for y, want in zip(exe.run({name: x}).values(), right):
            assert_agrees("faces", y, want)
