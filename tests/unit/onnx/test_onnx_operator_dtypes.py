"""Operators of ONNX in every dtype that they have, against its evaluator and ONNX Runtime."""

import numpy as np
import pytest
from tessel.compiler.ops.common import array, floats, ints

from .test_onnx_operators import by_reference, check, model_of, ours


@pytest.mark.parametrize("dtype", ["u8", "i8", "u16", "i16"])
def test_einsum_of_narrow_ints(dtype):
    x, y = ints((3, 4), dtype=dtype), ints((4, 2), 1, dtype=dtype)
    check("Einsum", [x, y], by=by_reference, equation="ij,jk->ik")


@pytest.mark.parametrize("dtype", ["i32", "i64", "u32", "u64"])
def test_roots_and_logarithms_of_ints_are_truncated(dtype):
    x, axis = ints((3, 4), low=1, high=9, dtype=dtype), array([1], "i64")
    wide = x.astype(np.float64)
    for op_type, want in [
        ("ReduceL2", np.sqrt((wide**2).sum(1))),
        ("ReduceLogSum", np.log(wide.sum(1))),
        ("ReduceLogSumExp", np.log(np.exp(wide).sum(1))),
    ]:
        (y,) = ours(model_of(op_type, [x, axis], version=18, keepdims=0), [x, axis])
        assert y.dtype == x.dtype
        np.testing.assert_array_equal(y, np.trunc(want))


@pytest.mark.parametrize("dtype", ["u8", "i8", "u32", "i64", "f32", "f16", "f64"])
def test_shrink_of_every_dtype(dtype):
    x = ints((20,), low=-5, high=6, dtype="i8").astype(floats((), dtype=dtype).dtype)
    check(
        "Shrink",
        [abs(x) if dtype[0] == "u" else x],
        by=by_reference,
        version=9,
        bias=1.5,
        lambd=2.0,
    )


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f64"])
def test_mean_variance_norm_of_every_dtype(dtype):
    x = floats((2, 3, 4, 4), dtype=dtype)
    wide = x.astype(np.float64)
    for axes in ([0, 2, 3], [1]):
        (y,) = ours(model_of("MeanVarianceNormalization", [x], version=13, axes=axes), [x])
        mean, std = (f(wide, axis=tuple(axes), keepdims=True) for f in (np.mean, np.std))
        assert y.dtype == x.dtype
        rtol = {"f16": 2e-3, "bf16": 2e-2}.get(dtype, 1e-6)
        wanted = (wide - mean) / (std + 1e-9)
        np.testing.assert_allclose(y.astype(np.float64), wanted, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("scale", ["f32", "f64", "f16"])
def test_rms_norm_has_the_dtype_of_its_scale(scale):
    x, weights = floats((3, 8), dtype="f16"), floats((8,), 1, dtype=scale)
    (y,) = ours(model_of("RMSNormalization", [x, weights], version=23), [x, weights])
    assert y.dtype == weights.dtype
    wide = x.astype(np.float64)
    wanted = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5) * weights
    np.testing.assert_allclose(y.astype(np.float64), wanted, rtol=2e-3, atol=1e-3)
