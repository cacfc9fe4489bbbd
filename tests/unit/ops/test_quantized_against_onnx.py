"""Quantized and recurrent operators, and classical models, against ONNX Runtime."""

import ml_dtypes
import numpy as np
import pytest
from tessel.compiler.ops.common import array, floats, ints

from ...support.onnx_runtime import case, check, compare, onnx_results, our_results

# -- quantized: within one step ----------------------------------------------------------------

U, I = ints((1, 4, 6, 5), high=256, dtype="u8"), ints((6, 4, 3, 3), low=-128, high=128, dtype="i8")
BIAS = ints((6,), low=-3000, high=3000, dtype="i32")
X, W = (array(0.02), array(120, "u8")), (array(0.01), array(0, "i8"))
CHANNELS = floats((6,), low=0.005, high=0.03), np.zeros(6, np.int8)
Y = array(0.4), array(128, "u8")
ROW = ints((3, 4), high=256, dtype="u8")
COLUMNS = ints((4, 5), seed=1, low=-128, high=128, dtype="i8")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        case("QLinearConv", "qlinear_conv", [U, *X, I, *W, *Y]),
        case(
            "QLinearConv",
            "qlinear_conv",
            [U, *X, I, *CHANNELS, *Y, BIAS],
            same={"pads": [1, 1, 1, 1], "strides": [2, 2]},
        ),
        case(
            "QLinearConv",
            "qlinear_conv",
            [U, *X, I[:4, :1], *W, *Y, BIAS[:4]],
            same={"group": 4, "pads": [1, 0, 1, 2]},
        ),
        case("QLinearMatMul", "qlinear_matmul", [ROW, *X, COLUMNS, *W, array(0.05), Y[1]]),
        case(
            "QLinearAdd",
            "qlinear_add",
            [ROW, *X, ROW[::-1], array(0.03), array(90, "u8"), *Y],
            domain="com.microsoft",
        ),
        case("QuantizeLinear", "quantize_linear", [floats((3, 50)), *X]),
        case(
            "QuantizeLinear",
            "quantize_linear",
            [floats((2, 6, 9), low=-9, high=9), CHANNELS[0], ints((6,), dtype="i8")],
            {"dtype": "i8"},
        ),
        case(
            "QuantizeLinear",
            "quantize_linear",
            [array([0.5, 1.5, 2.5, -0.5, 300.0, -300.0]), array(1.0), array(0, "i8")],
            {"dtype": "i8"},
        ),
        case(
            "ConvInteger",
            "conv_integer",
            [U, I.view(np.uint8), X[1], array(3, "u8")],
            same={"pads": [1, 1, 0, 0]},
        ),
        case("MatMulInteger", "matmul_integer", [ROW, COLUMNS, X[1], array(4, "i8")]),
        case("DequantizeLinear", "dequantize_linear", [ROW, *X]),
        case("DequantizeLinear", "dequantize_linear", [I, *CHANNELS], same={"axis": 0}),
    ],
)
@pytest.mark.saturates("QLinearConv", "QLinearMatMul", "MatMulInteger")
def test_quantized(theirs, ours):
    check(theirs, ours, steps=1)


def test_quantizing_to_float8():
    x, zero = floats((3, 4), low=-900, high=900), array(0.0, "f8e4m3fn")
    model_zero = zero.astype(ml_dtypes.float8_e4m3fn)
    theirs = onnx_results("QuantizeLinear", [x, array(1.0), model_zero], 1, reference=True)
    ours = our_results("quantize_linear", [x, array(1.0), zero], {"dtype": "f8e4m3fn"})
    np.testing.assert_array_equal(
        ours[0].astype(np.float32), np.asarray(theirs[0]).astype(np.float32)
    )


# -- recurrent ---------------------------------------------------------------------------------


def recurrent(op_type, gates, inputs=(), **attrs):
    """x [5, 2, 3], hidden size 4; y and the final states are compared."""
    d = 2 if attrs.get("direction") == "bidirectional" else 1
    weights = floats((d, gates * 4, 3), seed=1), floats((d, gates * 4, 4), seed=2)
    bias = floats((d, gates * 8), seed=3)
    more = [floats((d, 2, 4), seed=4 + i) if kind else None for i, kind in enumerate(inputs)]
    lengths = array([5, 3], "i32")
    given = [floats((5, 2, 3)), *weights, bias, lengths, *more]
    return case(op_type, op_type.lower(), given, same={"hidden_size": 4} | attrs)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        recurrent("LSTM", 4),
        recurrent("LSTM", 4, (True, True), direction="bidirectional"),
        recurrent("LSTM", 4, direction="reverse", clip=0.5),
        recurrent("GRU", 3),
        recurrent("GRU", 3, (True,), direction="bidirectional", linear_before_reset=1),
        recurrent("RNN", 1, (True,), direction="reverse"),
    ],
)
def test_recurrent(theirs, ours):
    check(theirs, ours)


# -- classical models --------------------------------------------------------------------------

COEFFICIENTS = [0.3, 0.2, -0.1, 0.4, 0.1, 0.1]


@pytest.mark.parametrize("post_transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
@pytest.mark.parametrize(
    ("rows", "labels"), [(3, [4, 5, 6]), (1, [4, 9]), (3, ["a", "b", "c"]), (1, ["no", "yes"])]
)
def test_linear_classifier(post_transform, rows, labels):
    x = array([[1.0, 2.0], [-1.0, 0.5], [0.0, 0.0], [-3.0, -3.0]])
    same = {
        "coefficients": COEFFICIENTS[: 2 * rows],
        "intercepts": [0.1, 0.0, -0.1][:rows],
        "post_transform": post_transform,
    }
    kind = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_ints"
    theirs = onnx_results("LinearClassifier", [x], 2, "ai.onnx.ml", **{kind: labels}, **same)
    compare(our_results("linear_classifier", [x], {"labels": labels} | same), theirs)


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_normalizer(norm):
    x = array([[1.0, 2.0], [-1.0, 0.5], [0.0, 0.0], [-3.0, -1.0]])
    theirs = onnx_results("Normalizer", [x], 1, "ai.onnx.ml", norm=norm)
    compare(our_results("normalizer", [x], {"norm": norm}), theirs)
