"""com.microsoft's quantised operators against ONNX Runtime, to the last bit where no row says
otherwise. `_steps=1`: ONNX Runtime computes a factor or a sum in another order, so that its ties
may fall on the other side."""

import ml_dtypes
import numpy as np
import pytest

from ...support.microsoft import case, check, f, q, scale, zero

pytest.importorskip("onnxruntime", reason="the comparison needs ONNX Runtime")
pytestmark = pytest.mark.saturates(
    "QLinearConv",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "QGemm",
)

I8 = np.int8
ALL = np.arange(256).astype(np.uint8).reshape(16, 16)
SIGNED = ALL.astype(I8)
ROWS, COLUMNS = np.arange(256).astype(np.uint8)[:, None], np.arange(256).astype(np.uint8)[None]


def signed(x):
    return zero(x, dtype=I8)


ELEMENTWISE = [
    case(
        "QLinearAdd",
        ROWS,
        scale(0.02),
        zero(120),
        COLUMNS,
        scale(0.03),
        zero(100),
        scale(0.04),
        zero(128),
        _steps=1,
    ),
    case(
        "QLinearAdd",
        ROWS.astype(I8),
        scale(0.5),
        signed(3),
        COLUMNS.astype(I8),
        scale(0.5),
        signed(-7),
        scale(1.0),
        signed(5),
        name="ties",
    ),
    case(
        "QLinearMul",
        ROWS,
        scale(0.02),
        zero(120),
        COLUMNS,
        scale(0.03),
        zero(100),
        scale(0.04),
        zero(128),
    ),
    case(
        "QLinearMul",
        ROWS.astype(I8),
        scale(0.5),
        signed(3),
        COLUMNS.astype(I8),
        scale(0.5),
        signed(-7),
        scale(1.0),
        signed(5),
        name="ties",
    ),
    case("QLinearSigmoid", ALL, scale(0.05), zero(120), scale(1 / 256), zero(0)),
    case("QLinearSigmoid", SIGNED, scale(0.05), signed(3), scale(1 / 256), signed(-128), name="i8"),
    case("QLinearLeakyRelu", ALL, scale(0.05), zero(120), scale(0.04), zero(20), alpha=0.2),
    case("QLinearLeakyRelu", SIGNED, scale(0.05), None, scale(0.04), None, name="i8"),
    case("QLinearSoftmax", q(3, 9), scale(0.02), zero(3), scale(1 / 256), zero(0), opset=13),
    case(
        "QLinearSoftmax",
        q(2, 9, 4),
        scale(0.02),
        zero(3),
        scale(1 / 256),
        zero(0),
        opset=13,
        axis=1,
    ),
    case(
        "QLinearSoftmax",
        q(2, 5, 4),
        scale(0.02),
        zero(3),
        scale(1 / 256),
        zero(0),
        opset=12,
        axis=1,
    ),
    case(
        "QLinearSoftmax",
        q(3, 9, dtype=I8),
        scale(0.02),
        signed(3),
        scale(1 / 256),
        signed(-128),
        opset=13,
        name="i8",
    ),
    case(
        "QLinearConcat",
        scale(0.03),
        zero(12),
        q(2, 3),
        scale(0.02),
        zero(0),
        q(2, 4, seed=1),
        scale(0.03),
        zero(12),
        q(2, 5, seed=2),
        scale(0.1),
        zero(200),
        axis=1,
    ),
    case(
        "QLinearWhere",
        f(16, 16) > 0,
        ALL,
        scale(0.05),
        zero(120),
        ALL.T,
        scale(0.02),
        zero(3),
        scale(0.04),
        zero(9),
    ),
    case("QuantizeLinear", f(4, 8) * 9, scale(0.001), zero(40000, dtype=np.uint16)),
    case("QuantizeLinear", f(4, 8) * 9, scale(0.001), zero(-3, dtype=np.int16)),
    case("QuantizeLinear", f(4, 3), scale(0.1, 0.2, 0.3), zero(1, 2, 3), axis=1),
    case("QuantizeLinear", f(4, 8), scale(0.1), None, name="no-zero"),
    case("DequantizeLinear", q(4, 8, dtype=np.uint16), scale(0.1), zero(77, dtype=np.uint16)),
    case("DequantizeLinear", q(4, 8, dtype=np.int16), scale(0.1), None, name="no-zero"),
    case("DequantizeLinear", q(4, 3), scale(0.1, 0.2, 0.3), zero(1, 2, 3), axis=1),
    case("DequantizeLinear", q(4, 8, dtype=np.int32), scale(0.1), None, name="i32"),
]

IMAGE, LAST = q(2, 4, 7, 6), q(2, 7, 6, 4)
PARAMETERS = scale(0.02), zero(120), scale(0.03), zero(9)
TAPS = q(8, 4, 3, 3, seed=1, dtype=I8)
PER_CHANNEL = np.linspace(0.001, 0.01, 8).astype(np.float32)
I32_BIAS = np.arange(-4000, 4000, 1000).astype(np.int32)


def convolution(x, w, w_scale, w_zero, *bias, domain="com.microsoft", **options):
    return case(
        "QLinearConv",
        x,
        scale(0.02),
        zero(120),
        w,
        w_scale,
        w_zero,
        scale(0.1),
        zero(7),
        *bias,
        _domain=domain,
        _weights=(3, 4, 5),
        **options,
    )


WINDOWS = [
    case("QLinearGlobalAveragePool", IMAGE, *PARAMETERS, name="first"),
    case("QLinearGlobalAveragePool", LAST, *PARAMETERS, channels_last=1),
    case(
        "QLinearGlobalAveragePool",
        IMAGE.astype(I8),
        scale(0.02),
        signed(-3),
        scale(0.01),
        signed(4),
        name="i8",
    ),
    case("QLinearAveragePool", IMAGE, *PARAMETERS, kernel_shape=[3, 2], strides=[2, 1]),
    case("QLinearAveragePool", IMAGE, *PARAMETERS, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    case(
        "QLinearAveragePool",
        IMAGE,
        *PARAMETERS,
        kernel_shape=[3, 3],
        pads=[1, 1, 1, 1],
        count_include_pad=1,
    ),
    # Sums of four fall on ties, which the order of the terms decides.
    case("QLinearAveragePool", LAST, *PARAMETERS, kernel_shape=[2, 2], channels_last=1, _steps=1),
    case("NhwcMaxPool", LAST, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("NhwcMaxPool", LAST.astype(I8), kernel_shape=[2, 3], name="i8"),
    convolution(IMAGE, TAPS, scale(0.005), signed(0), name="first"),
    convolution(IMAGE, TAPS, PER_CHANNEL, np.zeros(8, I8), I32_BIAS, pads=[1, 1, 1, 1]),
    convolution(IMAGE, TAPS, PER_CHANNEL, np.zeros(8, I8), I32_BIAS, domain="", strides=[2, 2]),
    convolution(
        LAST, TAPS, PER_CHANNEL, np.zeros(8, I8), I32_BIAS, channels_last=1, pads=[1, 0, 1, 2]
    ),
    convolution(LAST, TAPS[:4, :1], scale(0.005), signed(0), channels_last=1, group=4),
]

A, B, COLUMN_ZEROS = q(3, 8), q(8, 5, seed=1, dtype=I8), np.array([0, 3, -3, 1, 0], I8)
COLUMN_SCALES = np.linspace(0.01, 0.02, 5).astype(np.float32)
GEMM = A, scale(0.02), zero(120)

PRODUCTS = [
    case("DynamicQuantizeMatMul", f(2, 3, 8), B, scale(0.02), signed(3), name="scalar"),
    case("DynamicQuantizeMatMul", f(3, 8), B, COLUMN_SCALES, COLUMN_ZEROS, f(5), name="columns"),
    case("DynamicQuantizeMatMul", f(3, 8), q(8, 5), scale(0.02), zero(120), name="u8"),
    case("DynamicQuantizeMatMul", f(3, 8), B, scale(0.02), None, name="no-zero"),
    case("MatMulIntegerToFloat", A, B, scale(0.02), scale(0.01), zero(120), signed(3)),
    case(
        "MatMulIntegerToFloat",
        A,
        B,
        scale(0.02),
        COLUMN_SCALES,
        zero(120),
        COLUMN_ZEROS,
        f(5),
        name="columns",
    ),
    case("MatMulIntegerToFloat", A.astype(I8), B, scale(0.02), scale(0.01), name="i8"),
    case("QGemm", *GEMM, B, scale(0.01), signed(0), None, scale(0.05), zero(3)),
    case(
        "QGemm",
        *GEMM,
        B,
        COLUMN_SCALES,
        np.zeros(5, I8),
        np.arange(5, dtype=np.int32) * 99,
        scale(0.05),
        zero(3),
        alpha=0.5,
        name="columns",
    ),
    case("QGemm", *GEMM, B, scale(0.01), signed(0), None, name="to-floats"),
    case(
        "QGemm",
        A.T.copy(),
        scale(0.02),
        zero(120),
        B.T.copy(),
        scale(0.01),
        signed(0),
        None,
        scale(0.05),
        zero(3),
        transA=1,
        transB=1,
    ),
]


def nbits(
    k,
    n,
    block,
    bits,
    *,
    zeros=None,
    rows=(2, 3),
    dtype=np.float32,
    g=None,
    bias=None,
    flat=False,
    **o,
):
    blocks = -(-k // block)
    packed = q(n, blocks, block * bits // 8, seed=1)
    scales = np.random.default_rng(2).uniform(0.01, 0.02, (n, blocks)).astype(dtype)
    if zeros == "packed":
        zeros = q(n, -(-blocks * bits // 8), seed=3)
    elif zeros == "floats":
        zeros = np.random.default_rng(3).uniform(3, 9, (n, blocks)).astype(dtype)
    if flat:  # as older files have them
        scales, zeros = scales.reshape(-1), zeros.reshape(-1)
    inputs = [f(*rows, k, dtype=dtype), packed, scales, zeros, g, bias]
    while inputs[-1] is None:
        inputs.pop()
    weights = tuple(i for i in (1, 2, 3) if i < len(inputs))
    return case(
        "MatMulNBits", *inputs, K=k, N=n, block_size=block, bits=bits, _weights=weights, **o
    )


IDS = np.array([[3, 0, 4, 1], [2, 2, 0, 4]], np.int32)
U4, I4 = ml_dtypes.uint4, ml_dtypes.int4


def gathered(data, indices, scales, zeros=None, **options):
    weights = (0, 2) if zeros is None else (0, 2, 3)
    return case("GatherBlockQuantized", data, indices, scales, zeros, _weights=weights, **options)


FEW_BITS = [
    nbits(64, 8, 32, 4, name="4"),
    nbits(64, 8, 32, 4, zeros="packed", name="4-zeros"),
    nbits(64, 8, 32, 4, zeros="packed", flat=True, name="4-flat"),
    nbits(96, 8, 32, 4, zeros="packed", name="4-odd-blocks"),
    nbits(64, 8, 16, 4, zeros="floats", name="4-float-zeros"),
    nbits(80, 8, 32, 4, name="4-part-of-a-block"),
    nbits(64, 8, 32, 4, bias=f(8), name="4-bias"),
    nbits(64, 8, 32, 8, name="8"),
    nbits(64, 8, 32, 8, zeros="packed", name="8-zeros"),
    nbits(64, 8, 32, 4, dtype=np.float16, _rtol=2e-2, _atol=2e-2, name="4-f16"),
    case(
        "MatMulBnb4",
        f(3, 32),
        q(8 * 32 // 2),
        np.arange(1, 9).astype(np.float32),
        K=32,
        N=8,
        block_size=32,
        quant_type=0,
        _weights=(1, 2),
    ),
    case(
        "MatMulBnb4",
        f(3, 32),
        q(8 * 32 // 2),
        (np.arange(1, 17) / 9).astype(np.float32),
        K=32,
        N=8,
        block_size=16,
        quant_type=1,
        _weights=(1, 2),
    ),
    gathered(q(6, 32).astype(U4), IDS, f(6, 2), block_size=16, name="u4"),
    gathered(
        (q(6, 32) % 16).astype(U4),
        IDS,
        f(6, 2),
        (q(6, 2) % 16).astype(U4),
        block_size=16,
        name="u4-zeros",
    ),
    gathered((q(6, 32) % 16 - 8).astype(I4), np.array([1, -2]), f(6, 1), block_size=32, name="i4"),
    gathered(q(6, 16), np.array([5, 6, -7, -6]), f(6, 2), block_size=16, name="outside"),
    gathered(q(6, 16), IDS, f(6, 2), q(6, 1), block_size=16, name="bytes"),
    gathered(q(6, 32), IDS, f(6, 2), q(6, 2), block_size=16, bits=8),
]


@pytest.mark.parametrize("row", ELEMENTWISE + WINDOWS + PRODUCTS + FEW_BITS)
def test_results_are_onnxruntimes(row):
    check(*row)


@pytest.mark.parametrize("row", ELEMENTWISE + WINDOWS + PRODUCTS)
def test_constant_scales_change_nothing(row):
    """What is folded while compiling is divided and rounded as at run time; but an average pool
    divides by its scale itself, for which -O2 multiplies by the reciprocal."""
    op, inputs, outputs, options = row
    if op == "QLinearAveragePool":
        options = options | {"_steps": 1}
    data = {"QLinearConcat": 2}.get(op, 0)
    weights = tuple(i for i, x in enumerate(inputs) if x is not None and i != data)
    check(op, inputs, outputs, options | {"_weights": weights})
