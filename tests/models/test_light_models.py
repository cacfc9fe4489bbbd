"""The nine classic networks that onnx ships without weights, with random ones, as ONNX Runtime
computes them without its optimiser."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import tessel
from onnx import helper, numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
ort = pytest.importorskip("onnxruntime", reason="compares with ONNX Runtime")


def with_weights(path: Path) -> onnx.ModelProto:
    """The model with random weights where it fills arrays with one number.

    Convolutions and products keep the scale of what they read (He et al., 2015), so that
    activations neither die nor explode; scales, biases, means and variances are about 1.
    """
    model = onnx.load(path)
    rng = np.random.default_rng(0)
    shapes = {
        t.name: tuple(numpy_helper.to_array(t))
        for t in model.graph.initializer
        if t.data_type == onnx.TensorProto.INT64
    }
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type != "ConstantOfShape":
            model.graph.node.append(node)
            continue
        shape = shapes[node.input[0]]
        if len(shape) > 1:
            w = rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            w = rng.uniform(0.5, 1.5, shape)
        model.graph.initializer.append(
            numpy_helper.from_array(np.asarray(w, np.float32), node.output[0])
        )
    return model


def feeds(model: onnx.ModelProto) -> Iterator[tuple[str, np.ndarray]]:
    """Random images; old exporters list the weights as inputs too."""
    given = {t.name for t in model.graph.initializer}
    rng = np.random.default_rng(1)
    for i in model.graph.input:
        if i.name not in given:
            tensor = i.type.tensor_type
            shape = [d.dim_value for d in tensor.shape.dim]
            dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            yield i.name, rng.uniform(0, 1, shape).astype(dtype)


@pytest.mark.sweep(1, suite=5)
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(p.stem for p in LIGHT.glob("light_*.onnx")))
def test_a_classic_network(name):
    model = with_weights(LIGHT / f"{name}.onnx")
    x = dict(feeds(model))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (right,) = session.run(None, x)
    del session

    exe = tessel.compile(model, threads=2)
    (given,) = exe.run(x).values()

    assert given.shape == right.shape
    assert np.isfinite(right).all()
    assert right.std() > 0, "the activations died: nothing is tested"
    assert np.abs(given - right).max() <= 1e-3 * np.abs(right).max()
