"""com.microsoft's products, activations and normalisations against ONNX Runtime."""

import numpy as np
import pytest

from .microsoft import case, check, f

pytest.importorskip("onnxruntime", reason="the comparison needs ONNX Runtime")

I32 = np.int32
IMAGE, TAPS = f(1, 4, 7, 6), f(8, 4, 3, 3, seed=1, scale=0.2)
IDS = np.array([[3, 0, 4, 1], [2, 2, 0, 4]], I32)
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], I32)
TABLES = f(5, 8), f(6, 8, seed=1), f(2, 8, seed=2), f(8, seed=3), f(8, seed=4)


def halves(*arrays):
    return [None if x is None else x.astype(np.float16) for x in arrays]


PRODUCTS = [
    case("FusedMatMul", f(2, 3, 4), f(2, 4, 5, seed=1), alpha=0.5),
    case("FusedMatMul", f(2, 4, 3), f(2, 5, 4, seed=1), transA=1, transB=1),
    case("FusedMatMul", f(2, 4, 3, dtype=np.float64), f(4, 5, dtype=np.float64), transA=1),
    case("FusedMatMul", f(3, 2, 6, 4), f(2, 6, 4, 5, seed=1), transBatchA=1),
    case("FusedMatMul", f(4, 2, 6, 3), f(2, 6, 4, 5, seed=1), transBatchA=1, transA=1),
    case("FusedMatMul", f(2, 6, 3, 4), f(4, 2, 6, 5, seed=1), transBatchB=1),
    case("FusedMatMul", f(2, 6, 3, 4), f(5, 2, 6, 4, seed=1), transBatchB=1, transB=1),
    case("TransposeMatMul", f(2, 4, 3), f(4, 5, seed=1), transA=1, alpha=2.0),
    case("FusedGemm", f(3, 4), f(4, 5, seed=1), f(5, seed=2), activation="Relu"),
    case("FusedGemm", f(3, 4), f(4, 5, seed=1), None, activation="Tanh", alpha=0.5),
    case("FusedGemm", f(4, 3), f(5, 4, seed=1), f(3, 1), transA=1, transB=1, beta=0.5,
         activation="LeakyRelu", activation_alpha=0.3),
    case("FusedGemm", f(3, 4), f(4, 5, seed=1), activation="HardSigmoid", activation_alpha=0.3,
         activation_beta=0.4),
    case("FusedGemm", f(3, 4), f(4, 5, seed=1), activation="Elu", activation_alpha=0.7),
    case("FusedGemm", f(3, 4), f(4, 5, seed=1), activation="Softplus"),
    case("FusedConv", IMAGE, TAPS, f(8), activation="Relu", pads=[1, 1, 1, 1]),
    case("FusedConv", IMAGE, TAPS, activation="Sigmoid", strides=[2, 2], auto_pad="SAME_UPPER"),
    case("FusedConv", IMAGE, TAPS, activation="LeakyRelu", activation_params=[0.2]),
    case("FusedConv", IMAGE, TAPS, f(8), activation="Clip", activation_params=[-0.5, 0.7]),
    case("FusedConv", IMAGE, TAPS, activation="HardSigmoid", activation_params=[0.3, 0.4]),
    case("FusedConv", IMAGE, TAPS, f(8), f(1, 8, 5, 4, seed=3), activation="Relu"),
    case("FusedConv", IMAGE, f(4, 1, 3, 3), f(4), f(1, 4, 5, 4), group=4, dilations=[1, 1]),
    case("ConvTransposeWithDynamicPads", IMAGE, f(4, 3, 3, 3), np.array([1, 0, 1, 2]), f(3),
         strides=[2, 2], _weights=(2,)),
    case("MatMulInteger16", np.array([[300, -5], [7, 90]], np.int16),
         np.array([[-400, 2], [30, 1]], np.int16)),
]  # fmt: skip

ACTIVATIONS = [
    case("Gelu", f(3, 5)),
    case("BiasGelu", f(3, 5), f(5, seed=1)),
    case("FastGelu", f(3, 5)),
    case("FastGelu", f(3, 5), f(5, seed=1), name="bias"),
    case("QuickGelu", f(3, 5)),
    case("QuickGelu", f(3, 5), alpha=1.0),
]

X, SKIP = f(2, 3, 8), f(2, 3, 8, seed=1)
GAMMA, BETA, BIAS = f(8, seed=2), f(8, seed=3), f(8, seed=4)
SUMS = ["y0", "", "", "y3"]

NORMS = [
    case("SkipLayerNormalization", X, SKIP, GAMMA, BETA, name="plain"),
    case("SkipLayerNormalization", X, SKIP, GAMMA, None, BIAS, outputs=SUMS, name="sum"),
    case("SkipLayerNormalization", X, SKIP, GAMMA, BETA, BIAS, outputs=SUMS, epsilon=0.1),
    case("SkipLayerNormalization", X, SKIP[:1], GAMMA, BETA, name="skip-1SH"),
    case("SkipLayerNormalization", X, SKIP[0], GAMMA, BETA, name="skip-SH"),
    case("SkipLayerNormalization", X[0], SKIP[0], GAMMA, BETA, name="rank-2"),
    case("SkipLayerNormalization", *halves(X, SKIP, GAMMA, BETA, BIAS), outputs=SUMS, name="f16"),
    case("SkipSimplifiedLayerNormalization", X, SKIP, GAMMA, name="plain"),
    case("SkipSimplifiedLayerNormalization", X, SKIP, GAMMA, BIAS, outputs=SUMS, epsilon=0.1),
    case("SkipSimplifiedLayerNormalization", *halves(X, SKIP, GAMMA), outputs=SUMS, name="f16"),
    case("SimplifiedLayerNormalization", X, GAMMA, _domain="", name="plain"),
    case("SimplifiedLayerNormalization", X, GAMMA, outputs=2, _domain="", epsilon=0.1),
    case("SimplifiedLayerNormalization", X, f(3, 8), _domain="", axis=1),
    case("SimplifiedLayerNormalization", *halves(X, GAMMA), _domain="", name="f16"),
    case("LayerNormalization", X, GAMMA, BETA, _domain="", _opset=12, name="opset-12"),
    case("LayerNormalization", X, GAMMA, BETA, outputs=3, _domain="", _opset=16, epsilon=0.1),
    case("LayerNormalization", X, f(3, 8), None, _domain="", _opset=11, axis=1),
    case("EmbedLayerNormalization", IDS, IDS // 3, *TABLES, MASK, outputs=2, name="mask"),
    case("EmbedLayerNormalization", IDS, IDS // 3, *TABLES, outputs=3, epsilon=0.1),
    case("EmbedLayerNormalization", IDS, None, *TABLES[:2], None, *TABLES[3:], outputs=2,
         name="no-segments"),
    case("EmbedLayerNormalization", IDS, IDS // 3, *TABLES, None, IDS[:1], outputs=2,
         name="positions"),
]  # fmt: skip


@pytest.mark.parametrize("row", PRODUCTS + ACTIVATIONS + NORMS)
def test_results_are_onnxruntimes(row):
    check(*row)
