"""Weights of a model read from ONNX as inputs that are trained, and back."""

import numpy as np
import onnx
import pytest
import tessel
from tessel.compiler.autodiff.parameters import with_constants, with_parameters
from tessel.compiler.errors import UsageError
from tessel.compiler.ir.builder import Builder

RNG = np.random.default_rng(0)


def model():
    """A convolution, its batch norm, a mask, a scalar and a product."""
    shapes = {"w": (4, 2, 3, 3), "g": (4,), "beta": (4,), "mean": (4,), "var": (4,), "fc": (4, 3)}
    arrays = {n: RNG.uniform(0.5, 1, s).astype(np.float32) for n, s in shapes.items()}
    arrays["mask"] = np.zeros((5, 5), np.float32)
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        m (float[N,2,5,5] x) => (float[N,3] y) {
            a = Conv <pads: ints = [1,1,1,1]> (x, w)
            b = BatchNormalization (a, g, beta, mean, var)
            c = Add (b, mask)
            p = GlobalAveragePool (c)
            f = Flatten (p)
            y = MatMul (f, fc)
        }""")
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in arrays.items())
    return proto, arrays


def test_weights_become_inputs_and_statistics_and_masks_stay():
    proto, arrays = model()
    graph, values = tessel.from_onnx(proto, trainable="*")
    assert set(values) == {"w", "g", "beta", "fc"}
    assert [v.name for v in graph.inputs] == ["x", *values]
    for name, value in values.items():
        np.testing.assert_array_equal(value, arrays[name])


def test_back_as_constants_it_is_the_model():
    proto, _ = model()
    graph, values = tessel.from_onnx(proto, trainable="*")
    x = RNG.standard_normal((2, 2, 5, 5)).astype(np.float32)
    again = tessel.compile(with_constants(graph, values))
    np.testing.assert_allclose(again(x), tessel.compile(proto)(x), rtol=1e-5)
    assert [v.name for v in with_constants(graph, values).inputs] == ["x"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [("fc", {"fc"}), (("w", "f?"), {"w", "fc"}), (("mask",), {"mask"}), ("mean", {"mean"})],
)
def test_patterns_choose_and_names_are_taken_as_they_are(patterns, expected):
    assert set(tessel.from_onnx(model()[0], trainable=patterns)[1]) == expected


def test_a_pattern_that_names_nothing_is_refused():
    with pytest.raises(UsageError, match="no weight 'head") as error:
        tessel.from_onnx(model()[0], trainable="head*")
    assert "fc" in str(error.value)


def test_tables_that_indices_choose_from_are_weights():
    b = Builder()
    table = b.constant(RNG.standard_normal((5, 3)).astype(np.float32), name="table")
    b.output("y", b.gather(table, b.input("i", "i64[N]"), axis=0))
    assert set(with_parameters(b.graph)[1]) == {"table"}


def test_an_imported_model_is_trained():
    """y = x @ w is fitted from a file whose w is wrong."""
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        m (float[8,4] x, float[8,2] t) => (float loss) {
            y = MatMul (x, w)
            d = Sub (y, t)
            s = Mul (d, d)
            loss = ReduceMean <keepdims: int = 0> (s)
        }""")
    start = np.zeros((4, 2), np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(start, "w"))
    graph, values = tessel.from_onnx(proto, trainable="*")
    trainer = tessel.Trainer(graph, values, tessel.optimizers.SGD(0.3))
    x, w = RNG.standard_normal((64, 4)), RNG.standard_normal((4, 2))
    data = {"x": x.astype(np.float32), "t": (x @ w).astype(np.float32)}
    trainer.fit(data, epochs=30, batch_size=8, progress=False)
    np.testing.assert_allclose(trainer.values["w"], w, atol=1e-2)
