"""com.microsoft's operators on tensors against ONNX Runtime, and what is refused."""

import numpy as np
import pytest
import tessel
from tessel.compiler.errors import UnsupportedError

from ...support.microsoft import case, check, f, model_of, run

pytest.importorskip("onnxruntime", reason="the comparison needs ONNX Runtime")

F64 = np.float64


def ints(*values):
    return np.array(values, np.int64)


BOXES = np.array([[0.1, 0.2, 0.8, 0.9], [-0.2, 0, 0.5, 1.1], [0.52, 0.51, 0.2, 0.1]], np.float32)
CROP = f(2, 3, 6, 7), BOXES, np.array([0, 1, 1], np.int32)


def crop(height, width, **options):
    sizes = np.array([height, width], np.int32)
    return case("CropAndResize", *CROP, sizes, _weights=(3,), **options)


ROWS = [
    crop(4, 5),
    crop(4, 5, mode="nearest", extrapolation_value=7.0),
    crop(1, 3, extrapolation_value=-1.0),
    case("Pad", f(2, 3), ints(0, 2, 1, 0), _weights=(1,)),
    case("Pad", f(2, 3), ints([0, 2, 1, 0]), np.array([7], np.float32), _weights=(1,), name="2-D"),
    case("Pad", f(4, 5), ints(1, 2, 1, 0), mode="reflect", _weights=(1,)),
    case("Pad", f(4, 5), ints(1, 2, -1, 0), mode="edge", _weights=(1,)),
    case("Trilu", f(2, 3, 4)),
    case("Trilu", f(2, 3, 4, dtype=F64), np.array(1), upper=0, _weights=(1,)),
    case("GatherND", f(3, 4, 5), np.array([[0, 1], [2, 3]])),
    case("GatherND", f(3, 4), np.array([[[0, 1]], [[2, 3]]], np.int32)),
    case("Range", np.array(2), np.array(9), np.array(3), _weights=(0, 1, 2)),
    case("Range", np.array([1.0], np.float32), np.array([2.5], np.float32), _weights=(0, 1)),
    case("ExpandDims", f(2, 3), np.array(-1, np.int32), _weights=(1,)),
    case("UnfoldTensor", f(2, 7, 3), dim=1, size=3, step=2),
    case("UnfoldTensor", f(2, 7), size=2),
    case("CDist", f(4, 3), f(5, 3, seed=1), metric="euclidean"),
    case("CDist", f(4, 3, dtype=F64), f(5, 3, seed=1, dtype=F64)),
    case("Inverse", f(4, 4)),
    case("Inverse", f(2, 3, 5, 5, dtype=F64)),
    case("Inverse", np.array([[0, 1], [2, 0]], np.float32), name="pivots"),
    case("ScaledSiLU", f(3, 4), alpha=0.5),
    case("ScaledSiLU", f(3, 4), np.array(2, np.float32), name="scale"),
    case("GatedAdd", f(3, 4), f(3, 4, seed=1), f(3, 1, seed=2)),
]


@pytest.mark.parametrize("row", ROWS)
def test_results_are_onnxruntimes(row):
    check(*row)


@pytest.mark.parametrize("n", [2, 6, 16])
def test_transforms_of_real_signals(n):
    """ONNX Runtime has these on GPUs only; numpy has the same ones."""
    x = f(3, n)
    (y,) = run("Rfft", x, normalized=0, onesided=1, signal_ndim=1)
    want = np.fft.rfft(x)
    np.testing.assert_allclose(y, np.stack([want.real, want.imag], -1), atol=1e-5)
    (back,) = run("Irfft", y, normalized=0, onesided=1, signal_ndim=1)
    np.testing.assert_allclose(back, x, atol=1e-5)


def test_products_of_complex_numbers():
    x, y = f(3, 4, 2), f(3, 4, 2, seed=1)
    a, b = x[..., 0] + 1j * x[..., 1], y[..., 0] + 1j * y[..., 1]
    for op, want in [("ComplexMul", a * b), ("ComplexMulConj", a * b.conj())]:
        (got,) = run(op, x, y)
        np.testing.assert_allclose(got[..., 0] + 1j * got[..., 1], want, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "attributes", "finite"),
    [
        ([1.0, 2.0], {}, True),
        ([1.0, np.inf], {}, False),
        ([np.nan, 2.0], {}, False),
        ([np.nan, 2.0], {"isinf_only": 1}, True),
        ([1.0, np.inf], {"isnan_only": 1}, True),
    ],
)
def test_whether_all_is_finite(x, attributes, finite):
    (got,) = run("IsAllFinite", f(2, 2), np.array(x, np.float32), **attributes)
    assert got == np.array(finite)


def test_a_gate_of_two_halves():
    x = f(3, 8)
    g, l = x[:, :4], x[:, 4:]
    silu = g / (1 + np.exp(-g))
    np.testing.assert_allclose(run("SwiGLU", x)[0], silu * l, rtol=1e-5)
    np.testing.assert_allclose(run("SwiGLU", g, l)[0], silu * l, rtol=1e-5)
    high = np.minimum(g, 0.5)
    want = high / (1 + np.exp(-2 * high)) * (np.clip(l, -0.5, 0.5) + 1)
    got = run("SwiGLU", g, l, limit=0.5, activation_alpha=2.0, activation_beta=1.0)[0]
    np.testing.assert_allclose(got, want, rtol=1e-5)


REFUSED = [
    ("BeamSearch", "com.microsoft", "export the decoder by itself"),
    ("Sampling", "com.microsoft", "call it from your own loop"),
    ("PackedAttention", "com.microsoft", "export with padding"),
    ("Conv", "com.microsoft.nchwc", "ORT_ENABLE_EXTENDED instead"),
    ("ReorderOutput", "com.microsoft.nchwc", "ORT_ENABLE_EXTENDED instead"),
    ("Conv", "com.ms.internal.nhwc", "for the CPUExecutionProvider instead"),
]


@pytest.mark.parametrize(("op", "domain", "fix"), REFUSED)
def test_what_is_refused_says_what_to_do_instead(op, domain, fix):
    with pytest.raises(UnsupportedError, match=fix):
        tessel.compile(model_of(op, [f(1, 4, 4, 4)], _domain=domain))
