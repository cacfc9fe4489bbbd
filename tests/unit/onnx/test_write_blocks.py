"""Products with packed weights as ONNX: MatMulNBits, which ONNX Runtime computes alike."""

import numpy as np
import onnxruntime
import pytest
import tessel

from ..llvm.products.test_packed_weights import graph_of, rows


def written(graph):
    return tessel.to_onnx(graph)


@pytest.mark.parametrize("activations", ["f32", "int8"])
@pytest.mark.parametrize("zero", ["each", None, 8])
@pytest.mark.parametrize("bits", [4, 8])
def test_matmul_nbits(bits, zero, activations):
    graph, x = graph_of(3, 20, 64, bits=bits, zero=zero, activations=activations), rows(3, 64)
    model = written(graph)
    (node,) = [n for n in model.graph.node if n.op_type != "Identity"]
    assert (node.domain, node.op_type) == ("com.microsoft", "MatMulNBits")
    again = tessel.compile(model)
    ours = tessel.compile(graph)(x)
    np.testing.assert_allclose(again(x), ours, rtol=1e-6, atol=1e-6)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (theirs,) = session.run(None, {"x": x})
    limit = 0.02 if activations == "int8" else 1e-5  # bytes may be rounded otherwise
    assert np.abs(ours - theirs).max() <= limit * np.abs(theirs).max()


@pytest.mark.parametrize("attrs", [{"bits": 3}, {"block": 8}, {"block": 40}])
@pytest.mark.parametrize("activations", ["f32", "int8"])
def test_others_are_arithmetic(attrs, activations):
    graph, x = graph_of(3, 20, 72, activations=activations, **attrs), rows(3, 72)
    model = written(graph)
    assert all(n.domain == "" for n in model.graph.node)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (theirs,) = session.run(None, {"x": x})
    np.testing.assert_allclose(tessel.compile(graph)(x), theirs, rtol=1e-4, atol=1e-4)
