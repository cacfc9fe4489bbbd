"""Real models: read, bound to the sizes of their inputs, run, compared with ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from tessel.compiler.ir.interpret import bind_shapes, interpret
from tessel.compiler.ir.specialize import specialize
from tessel.compiler.ir.verify import verify
from tessel.frontends.onnx.importer import read

from ..conftest import SATURATED, SharedModel, saturates
from ..support.onnx_models import graph_of, onnxruntime

LIGHT = sorted(Path(onnx.__file__).parent.glob("backend/test/data/light/*.onnx"))
BY_SHAPE = {"silero_vad"}  # branches depend on sizes: they must be known while reading


def test_numbers_of_real_models(shared_model: SharedModel):
    inputs = shared_model.inputs
    shapes = {k: v.shape for k, v in inputs.items()} if shared_model.name in BY_SHAPE else None
    graph = graph_of(shared_model.path, shapes=shapes)
    arrays = [inputs[v.name] for v in graph.inputs]
    static = specialize(graph, bind_shapes(graph, arrays))
    verify(static)
    outputs = dict(zip(graph.output_names, interpret(static, arrays)))
    for name, expected in _expected(shared_model).items():
        _compare(outputs[name], expected)


def _expected(shared_model: SharedModel) -> dict[str, np.ndarray]:
    """The recorded outputs; for int8, this machine's, whose sums must not saturate."""
    if "int8" not in shared_model.name:
        return shared_model.outputs
    if saturates():
        pytest.skip(SATURATED)
    proto = onnx.load(shared_model.path)
    names = [o.name for o in proto.graph.output]
    return dict(zip(names, onnxruntime(proto, *shared_model.inputs.values())))


def _compare(got, expected: np.ndarray) -> None:
    got = np.asarray(got)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    if expected.dtype.kind in "iub":
        assert np.array_equal(got, expected)
        return
    rtol, atol = (2e-3, 2e-3) if expected.dtype == np.float16 else (1e-3, 1e-4)
    scale = float(np.abs(expected.astype(np.float64)).max())
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol * scale)


@pytest.mark.parametrize("path", LIGHT, ids=lambda p: p.stem)
def test_the_light_models_read(path):
    graph = read(path)
    verify(graph)
    assert str(graph.outputs[0].type).startswith("f32[1,1000")


@pytest.mark.shared
def test_models_read_without_shapes_stay_symbolic(shared_models):
    graph = graph_of(shared_models("tinybert_untrained").path)
    assert graph.symbols() == ["batch", "sequence"]
    # Its table has 100 positions: of more, the slice that is added would not fit.
    places = "broadcast(min(sequence,100),sequence)"
    assert [str(v.type) for v in graph.outputs] == [f"f32[batch,{places},50]", "f32[batch,50]"]
    assert not {"dims", "iota"} & {n.op.name for n in graph.nodes}
