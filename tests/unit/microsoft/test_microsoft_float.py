"""com.microsoft's products, activations and normalisations against ONNX Runtime."""

import numpy as np
import pytest
import tessel
from tessel.compiler.errors import UnsupportedError

from ...support.microsoft import case, check, f, model_of, run

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
    case(
        "FusedGemm",
        f(4, 3),
        f(5, 4, seed=1),
        f(3, 1),
        transA=1,
        transB=1,
        beta=0.5,
        activation="LeakyRelu",
        activation_alpha=0.3,
    ),
    case(
        "FusedGemm",
        f(3, 4),
        f(4, 5, seed=1),
        activation="HardSigmoid",
        activation_alpha=0.3,
        activation_beta=0.4,
    ),
    case("FusedGemm", f(3, 4), f(4, 5, seed=1), activation="Elu", activation_alpha=0.7),
    case("FusedGemm", f(3, 4), f(4, 5, seed=1), activation="Softplus"),
    case("FusedConv", IMAGE, TAPS, f(8), activation="Relu", pads=[1, 1, 1, 1]),
    case("FusedConv", IMAGE, TAPS, activation="Sigmoid", strides=[2, 2], auto_pad="SAME_UPPER"),
    case("FusedConv", IMAGE, TAPS, activation="LeakyRelu", activation_params=[0.2]),
    case("FusedConv", IMAGE, TAPS, f(8), activation="Clip", activation_params=[-0.5, 0.7]),
    case("FusedConv", IMAGE, TAPS, activation="HardSigmoid", activation_params=[0.3, 0.4]),
    case("FusedConv", IMAGE, TAPS, f(8), f(1, 8, 5, 4, seed=3), activation="Relu"),
    case("FusedConv", IMAGE, f(4, 1, 3, 3), f(4), f(1, 4, 5, 4), group=4, dilations=[1, 1]),
    case(
        "ConvTransposeWithDynamicPads",
        IMAGE,
        f(4, 3, 3, 3),
        np.array([1, 0, 1, 2]),
        f(3),
        strides=[2, 2],
        _weights=(2,),
    ),
    case(
        "MatMulInteger16",
        np.array([[300, -5], [7, 90]], np.int16),
        np.array([[-400, 2], [30, 1]], np.int16),
    ),
]

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
    case(
        "EmbedLayerNormalization",
        IDS,
        None,
        *TABLES[:2],
        None,
        *TABLES[3:],
        outputs=2,
        name="no-segments",
    ),
    case(
        "EmbedLayerNormalization",
        IDS,
        IDS // 3,
        *TABLES,
        None,
        IDS[:1],
        outputs=2,
        name="positions",
    ),
]


@pytest.mark.parametrize("row", PRODUCTS + ACTIVATIONS + NORMS)
def test_results_are_onnxruntimes(row):
    check(*row)


# -- what ONNX Runtime has on GPUs only: numpy says what it should be ------------------------


def silu(x):
    return x / (1 + np.exp(-x))


def test_softmax_with_a_bias():
    x, bias = f(2, 4, 3, 5), f(2, 1, 1, 5, seed=1)
    e = np.exp(x + bias)
    (got,) = run("BiasSoftmax", x, bias, axis=3, is_inner_broadcast=1)
    np.testing.assert_allclose(got, e / e.sum(-1, keepdims=True), rtol=1e-5)
    (got,) = run("BiasSoftmax", x, bias[:1], axis=2, is_inner_broadcast=0)
    e = np.exp(x + bias[:1])
    np.testing.assert_allclose(got, e / e.sum((-1, -2), keepdims=True), rtol=1e-5)


def test_dropout_with_a_bias_drops_nothing():
    x, bias, residual = f(2, 3), f(3, seed=1), f(2, 3, seed=2)
    y, mask = run("BiasDropout", x, bias, residual, np.array(0.5, np.float32), outputs=2)
    np.testing.assert_array_equal(y, x + bias + residual)
    assert mask.all() and mask.shape == y.shape
    np.testing.assert_array_equal(run("BiasAdd", x, bias, residual)[0], x + bias + residual)


def test_dropout_with_a_bias_is_refused_in_training():
    inputs = [f(2, 3), f(3), None, np.array(0.5, np.float32), np.array(True)]
    with pytest.raises(UnsupportedError, match="training mode draws random numbers"):
        tessel.compile(model_of("BiasDropout", inputs, _weights=(4,)))


def test_two_halves_and_a_gelu():
    x, bias = f(2, 8), f(8, seed=1)
    left, right = np.split(x + bias, 2, -1)
    (want,) = run("Gelu", right)
    np.testing.assert_allclose(run("BiasSplitGelu", x, bias)[0], left * want, rtol=1e-5)


def test_products_with_an_activation():
    a, b, bias = f(3, 4), f(4, 5, seed=1), f(5, seed=2)
    (got,) = run("FusedMatMulActivation", a, b, activation="Relu", alpha=0.5)
    np.testing.assert_allclose(got, np.maximum(a @ b * 0.5, 0), rtol=1e-4, atol=1e-6)
    (want,) = run("FastGelu", a @ b, bias)
    np.testing.assert_allclose(run("GemmFastGelu", a, b, bias)[0], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("last", [0, 1])
def test_group_norm(last, dtype):
    """Of data channels first or last; with a skip connection; with SiLU."""
    x = f(2, 6, 4, 5)
    gamma, beta, skip, bias = f(6, seed=1), f(6, seed=2), f(2, 6, seed=3), f(6, seed=4)

    def norm(x):
        groups = x.reshape(2, 3, 2, 4, 5)
        axes = (2, 3, 4)
        mean, variance = groups.mean(axes, keepdims=True), groups.var(axes, keepdims=True)
        y = ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
        return y * gamma[:, None, None] + beta[:, None, None]

    def place(x):
        return x.transpose(0, 2, 3, 1) if last else x

    close = {"rtol": 2e-2, "atol": 2e-2} if dtype == np.float16 else {"rtol": 1e-4, "atol": 1e-5}
    given = place(x).astype(dtype)
    attrs = {"channels_last": last, "groups": 3}
    (got,) = run("GroupNorm", given, gamma, beta, activation=1, **attrs)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, place(silu(norm(x))), **close)
    total = x + skip[:, :, None, None] + bias[:, None, None]
    more = skip.astype(dtype), bias.astype(dtype)
    y, s = run("SkipGroupNorm", given, gamma, beta, *more, outputs=2, activation=0, **attrs)
    np.testing.assert_allclose(s, place(total), **close)
    np.testing.assert_allclose(y, place(norm(total)), **close)


@pytest.mark.parametrize("op", ["NhwcFusedConv", "NhwcConv"])
def test_convolutions_channels_last(op):
    (want,) = run("FusedConv", IMAGE, TAPS, f(8), pads=[1, 0, 1, 0], strides=[2, 1])
    last = np.ascontiguousarray(IMAGE.transpose(0, 2, 3, 1))
    (got,) = run(op, last, TAPS, f(8), pads=[1, 0, 1, 0], strides=[2, 1])
    np.testing.assert_allclose(got, want.transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-6)
    if op == "NhwcFusedConv":
        z = f(*got.shape, seed=5)
        (fused,) = run(
            op, last, TAPS, f(8), z, pads=[1, 0, 1, 0], strides=[2, 1], activation="Relu"
        )
        np.testing.assert_allclose(fused, np.maximum(got + z, 0), rtol=1e-4, atol=1e-6)


def test_statistics_of_a_sum():
    """The mean and 1 / deviation, which ONNX Runtime leaves out on CPUs."""
    total = X + SKIP
    _, mean, inverse, _ = run(
        "SkipLayerNormalization", X, SKIP, GAMMA, BETA, outputs=4, epsilon=0.1
    )
    np.testing.assert_allclose(mean, total.mean(-1, keepdims=True), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(inverse, 1 / np.sqrt(total.var(-1, keepdims=True) + 0.1), rtol=1e-5)
    names = ["y", "", "inverse", ""]
    (_, inverse) = run("SkipSimplifiedLayerNormalization", X, SKIP, GAMMA, outputs=names)
    want = 1 / np.sqrt((total**2).mean(-1, keepdims=True) + 1e-12)
    np.testing.assert_allclose(inverse, want, rtol=1e-5)


def test_an_activation_that_is_not_known_is_named():
    model = model_of("FusedConv", [IMAGE, TAPS], activation="Wavy")
    with pytest.raises(UnsupportedError, match=r"expected: *Relu or[\s\S]*'Wavy'"):
        tessel.compile(model)
