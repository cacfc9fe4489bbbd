"""Operators read, compiled and run, one node at a time, against ONNX Runtime or onnx's reference.

What the conformance suite leaves out: modes, versions, dtypes and sizes that it never asks for.
"""

import itertools

import numpy as np
import onnx
import pytest
import tessel
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from tessel.compiler.ops.common import array, floats, ints

RTOL = {"float16": 4e-3, "bfloat16": 3e-2}


def is_fixed(x):
    """Sizes, axes and the like, which decide shapes: initializers here."""
    return x.dtype == np.int64 and x.ndim < 2 and x.size < 9


def model_of(op_type, inputs, outputs=1, version=22, **attrs):
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    given = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in zip(names, inputs)
        if x is not None and not is_fixed(x)
    ]
    graph = helper.make_graph(
        [helper.make_node(op_type, names, results, **attrs)],
        "one",
        given,
        [helper.make_empty_tensor_value_info(y) for y in results],
        [
            numpy_helper.from_array(x, n)
            for n, x in zip(names, inputs)
            if x is not None and is_fixed(x)
        ],
    )
    opsets = [helper.make_opsetid("", version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def feeds_of(inputs):
    return {f"x{i}": x for i, x in enumerate(inputs) if x is not None and not is_fixed(x)}


def ours(model, inputs):
    exe = tessel.compile(model, threads=1)
    results = exe.run(feeds_of(inputs))
    return [results[f"y{i}"] for i in range(len(model.graph.output))]


def by_reference(model, inputs):
    return ReferenceEvaluator(model).run(None, feeds_of(inputs))


def by_runtime(model, inputs):
    ort = pytest.importorskip("onnxruntime", reason="the comparison needs ONNX Runtime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options)
    return session.run(None, feeds_of(inputs))


def check(op_type, inputs, *, by=by_runtime, rtol=None, atol=1e-5, outputs=1, version=22, **attrs):
    model = model_of(op_type, inputs, outputs, version, **attrs)
    for got, want in zip(ours(model, inputs), by(model, inputs), strict=True):
        want = np.asarray(want)
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        tolerance = RTOL.get(want.dtype.name, 1e-4) if rtol is None else rtol
        np.testing.assert_allclose(
            got.astype(np.float64),
            want.astype(np.float64),
            rtol=tolerance,
            atol=max(atol, tolerance / 10),
        )


# -- GridSample -----------------------------------------------------------------------------------


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_grid_sample_has_all_modes(mode, padding_mode, align_corners):
    attrs = {"padding_mode": padding_mode, "align_corners": align_corners}
    x, grid = floats((2, 2, 5, 4)), floats((2, 3, 4, 2), 1, -2.5, 2.5)
    if mode != "cubic" or padding_mode == "zeros":
        check("GridSample", [x, grid], mode=mode, by=by_reference, **attrs)
    old = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    check("GridSample", [x, grid], mode=old, version=16, **attrs)
    if mode != "cubic":
        volume, places = floats((1, 2, 3, 4, 2)), floats((1, 2, 2, 3, 3), 2, -1.5, 1.5)
        check("GridSample", [volume, places], mode=mode, **attrs)


# -- DFT, STFT ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 31, 64, 97, 360, 1009])
def test_dft_of_any_length(n):
    x = floats((2, n, 2), n)
    z = x[..., 0].astype(np.float64) + 1j * x[..., 1]
    (y,) = ours(model_of("DFT", [x], version=17), [x])
    want = np.fft.fft(z, axis=1)
    np.testing.assert_allclose(y[..., 0] + 1j * y[..., 1], want, rtol=1e-5, atol=1e-5 * n)
    (back,) = ours(model_of("DFT", [y], version=17, inverse=1), [y])
    np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [None, 12, 7])
@pytest.mark.parametrize(("axis", "version"), [(1, 17), (2, 19), (-2, 20), (0, 20)])
def test_dft_along_an_axis_cut_or_filled(axis, version, length):
    x = floats((3, 9, 8, 1))
    size = None if length is None else array(length, "i64")
    inputs = [x, size] if version < 20 else [x, size, array(axis, "i64")]
    attrs = {"axis": axis} if version < 20 else {}
    for onesided in (0, 1):
        check("DFT", inputs, by=by_reference, version=version, onesided=onesided, **attrs)


@pytest.mark.parametrize("onesided", [0, 1])
def test_stft_of_frames_that_overlap(onesided):
    signal, window = floats((2, 100, 1)), floats((24,), 1, 0, 1)
    step, length = array(7, "i64"), array(24, "i64")
    for inputs in ([signal, step, window], [signal, step, None, length]):
        check("STFT", inputs, by=by_reference, version=17, onesided=onesided, atol=1e-4)


def test_stft_in_double_precision():
    signal = floats((1, 64, 1), dtype="f64")
    inputs = [signal, array(16, "i64"), floats((16,), 1, 0, 1, "f64")]
    check("STFT", inputs, by=by_reference, version=17, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bins", [4, 20])
def test_mel_weights(bins):
    inputs = [array(v, "i64") for v in (bins, 128, 16000)] + [array(20.0), array(7600.0)]
    check("MelWeightMatrix", inputs, version=17)


# -- windows --------------------------------------------------------------------------------------


def test_col2im_in_three_dimensions_with_dilations():
    x = floats((2, 16, 27))
    shape, block = array([5, 4, 5], "i64"), array([2, 2, 2], "i64")
    attrs = {"dilations": [2, 1, 2], "strides": [1, 1, 1]}
    check("Col2Im", [x, shape, block], by=by_reference, version=18, **attrs)


@pytest.mark.parametrize(("group", "offset_group"), [(1, 1), (2, 1), (1, 2), (2, 4)])
def test_deform_conv_with_groups(group, offset_group):
    x, w = floats((2, 4, 6, 5)), floats((4, 4 // group, 3, 3), 1)
    offset = floats((2, offset_group * 18, 3, 3), 2, -1, 1)
    mask = floats((2, offset_group * 9, 3, 3), 3, 0, 1)
    attrs = {"group": group, "offset_group": offset_group, "strides": [2, 2], "pads": [1, 1, 1, 1]}
    for version in (19, 22):
        check(
            "DeformConv",
            [x, w, offset, floats((4,), 4), mask],
            by=by_reference,
            version=version,
            rtol=1e-3,
            **attrs,
        )


@pytest.mark.parametrize("p", [1, 2, 3])
def test_global_lp_pool_of_all_versions(p):
    x = floats((2, 3, 4, 5))
    wanted = (np.abs(x.astype(np.float64)) ** p).sum((2, 3), keepdims=True) ** (1 / p)
    for version, power in ((1, float(p)), (2, p), (22, p)):
        (y,) = ours(model_of("GlobalLpPool", [x], version=version, p=power), [x])
        np.testing.assert_allclose(y, wanted, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f64"])
def test_global_lp_pool_of_halves_and_doubles(dtype):
    x = floats((1, 2, 8, 8), dtype=dtype)
    (y,) = ours(model_of("GlobalLpPool", [x], p=3), [x])
    assert y.dtype == x.dtype
    wanted = (np.abs(x.astype(np.float64)) ** 3).sum((2, 3), keepdims=True) ** (1 / 3)
    rtol = {"f16": 2e-3, "bf16": 2e-2, "f64": 1e-9}[dtype]
    np.testing.assert_allclose(y.astype(np.float64), wanted, rtol=rtol)


# -- regions --------------------------------------------------------------------------------------

REGIONS = array([[0.4, 0.7, 6.1, 5.2], [-2.0, 1.0, 3.0, 9.0], [3.0, 3.0, 3.5, 4.25]])


@pytest.mark.parametrize("sampling_ratio", [0, 1, 3])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_of_all_versions(mode, sampling_ratio):
    inputs = [floats((2, 3, 8, 9)), REGIONS, array([1, 0, 1], "i64")]
    attrs = {
        "mode": mode,
        "sampling_ratio": sampling_ratio,
        "output_height": 2,
        "output_width": 3,
        "spatial_scale": 0.9,
    }
    check("RoiAlign", inputs, by=by_reference, version=16, **attrs)
    kind = {"coordinate_transformation_mode": "output_half_pixel"}
    check("RoiAlign", inputs, by=by_reference, version=22, **attrs, **kind)
    old, new = (
        model_of("RoiAlign", inputs, version=10, **attrs),
        model_of("RoiAlign", inputs, version=16, **attrs, **kind),
    )
    np.testing.assert_array_equal(*ours(old, inputs), *ours(new, inputs))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_max_roi_pool(scale):
    rows = [[1, 0, 0, 5, 4], [0, 2, 3, 11, 9], [1, 4, 4, 4, 4]]
    inputs = [floats((2, 3, 8, 9)), array(rows)]
    check("MaxRoiPool", inputs, version=16, pooled_shape=[2, 3], spatial_scale=scale)


# -- running products, caches, determinants -------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "bf16", "i32", "u64"])
def test_cumprod_of_every_dtype(dtype):
    x = ints((3, 40), low=1, high=3).astype(floats((), dtype=dtype).dtype)[:, :9]
    for exclusive, reverse in itertools.product((0, 1), repeat=2):
        check(
            "CumProd",
            [x, array(1, "i64")],
            by=by_reference,
            version=26,
            exclusive=exclusive,
            reverse=reverse,
        )


def test_a_long_cumsum():
    x = floats((2, 1000, 3))
    check("CumSum", [x, array(1, "i64")], rtol=1e-3, atol=1e-3)
    check("CumSum", [ints((5000,)), array(0, "i64")], exclusive=1, reverse=1)


def test_tensor_scatter_along_other_axes():
    cache, update = floats((2, 3, 6, 2)), floats((2, 2, 6, 2), 1)
    start = array([1, 0], "i64")
    check("TensorScatter", [cache, update, start], by=by_reference, version=24, axis=1)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 12])
def test_determinants(n):
    check("Det", [floats((2, n, n), n)], rtol=1e-3)


# -- Resize ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("exclude_outside", [0, 1])
def test_resize_without_aliasing(mode, exclude_outside):
    x = floats((1, 2, 17, 11))
    sizes = array([1, 2, 6, 8], "i64")
    check(
        "Resize",
        [x, None, None, sizes],
        by=by_reference,
        version=19,
        mode=mode,
        antialias=1,
        exclude_outside=exclude_outside,
    )


@pytest.mark.parametrize("dtype", ["u8", "i8", "i16", "u16", "i32", "i64"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_of_integers_rounds(mode, dtype):
    x = ints((1, 1, 5, 5), low=0, high=120, dtype=dtype)
    sizes = array([1, 1, 7, 3], "i64")
    check("Resize", [x, None, None, sizes], by=by_reference, version=19, mode=mode)


# -- BatchNormalization ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", [6, 7, 9, 14, 15])
def test_batch_norm_in_training_mode(version):
    x = floats((4, 3, 5)).astype(np.float64)
    scale, bias, mean, variance = (floats((3,), i, 0.5, 2).astype(np.float64) for i in range(4))
    training = {"training_mode": 1} if version >= 14 else {}
    outputs = 3 if version >= 14 else 5
    inputs = [x, scale, bias, mean, variance]
    model = model_of("BatchNormalization", inputs, outputs, version, momentum=0.8, **training)
    y, *statistics = ours(model, inputs)
    now = x.mean((0, 2)), x.var((0, 2))
    wanted = [old * 0.8 + new * 0.2 for old, new in zip((mean, variance), now)]
    for got, want in zip(statistics, wanted if version >= 14 else [*wanted, *now], strict=True):
        np.testing.assert_allclose(got, want)
    normal = (x - now[0][:, None]) / np.sqrt(now[1][:, None] + 1e-5)
    np.testing.assert_allclose(y, normal * scale[:, None] + bias[:, None])


def test_batch_norm_of_single_elements_in_training_mode():
    x = floats((4, 2, 3), dtype="f64")
    rest = [floats((2, 3), i, 0.5, 2, "f64") for i in range(4)]
    model = model_of("BatchNormalization", [x, *rest], 5, 7, spatial=0)
    y, _, _, mean, variance = ours(model, [x, *rest])
    np.testing.assert_allclose(mean, x.mean(0))
    np.testing.assert_allclose(variance, x.var(0))
    wanted = (x - mean) / np.sqrt(variance + 1e-5) * rest[0] + rest[1]
    np.testing.assert_allclose(y, wanted)


# -- dtypes ----------------------------------------------------------------------------------------


def test_every_numeric_operator_of_onnx_is_read():
    """What is neither in the table nor a function of the standard is known and counted here."""
    from tessel.frontends.onnx.operators.table import TABLE

    newest = {s.name: s for s in onnx.defs.get_all_schemas() if s.domain == ""}
    missing = {
        name
        for name, s in newest.items()
        if ("", name) not in TABLE
        and not (s.has_function or s.has_context_dependent_function)
        and not s.deprecated
    }
    others = {
        "BitCast",
        "Compress",
        "ImageDecoder",
        "NonMaxSuppression",
        "RegexFullMatch",
        "StringConcat",
        "StringNormalizer",
        "StringSplit",
        "TfIdfVectorizer",
        "Unique",
    }
    assert missing <= others
