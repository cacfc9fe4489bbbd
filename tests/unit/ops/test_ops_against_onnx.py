"""Our numpy references against ONNX Runtime, one node at a time.

A case is an ONNX node with its inputs, and the same thing as a record's `ref` with our attributes.
Where ONNX Runtime's CPU provider has no kernel, onnx's own ReferenceEvaluator stands in.
"""

import ml_dtypes
import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from tessel.compiler.ir.op import OPS
from tessel.compiler.ir.types import dtype_of
from tessel.compiler.ops.common import array, floats, ints, spaced

ort = pytest.importorskip("onnxruntime", reason="the comparison needs ONNX Runtime")

OPSETS = [
    helper.make_opsetid("", 21),
    helper.make_opsetid("com.microsoft", 1),
    helper.make_opsetid("ai.onnx.ml", 3),
]


def onnx_results(op_type, inputs, count, domain="", reference=False, **attrs):
    """The node's outputs by ONNX Runtime, or by onnx's reference."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    outputs = [f"y{i}" for i in range(count)]
    node = helper.make_node(op_type, names, outputs, domain=domain, **attrs)
    given = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in zip(names, inputs)
        if x is not None
    ]
    results = [helper.make_empty_tensor_value_info(y) for y in outputs]
    graph = helper.make_graph([node], "one", given, results)
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=10)
    feeds = {n: x for n, x in zip(names, inputs) if x is not None}
    if reference:
        return ReferenceEvaluator(model).run(None, feeds)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options).run(None, feeds)


def our_results(name, inputs, attrs):
    op = OPS[name]
    inputs = list(inputs)
    if not (op.inputs and op.inputs[-1].variadic):
        inputs += [None] * (len(op.inputs) - len(inputs))
    results = op.ref(*inputs, **op.bind(attrs, name))
    return list(results) if isinstance(results, tuple) else [results]


def compare(ours, theirs, steps=0):
    """Equal types and values; quantized ones may be `steps` apart."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        b = np.asarray(b)
        assert a.shape == b.shape
        assert dtype_of(a) == dtype_of(b)
        if a.dtype == object:
            assert a.tolist() == b.tolist()
        elif dtype_of(a).is_float:
            np.testing.assert_allclose(
                a.astype(np.float64), b.astype(np.float64), rtol=1e-4, atol=1e-5
            )
        else:
            assert np.abs(a.astype(np.int64) - b.astype(np.int64)).max(initial=0) <= steps


def case(op_type, name, inputs, ours=None, theirs=None, *, same=None, **options):
    """`same` holds attributes that both spell alike; `options` go to `onnx_results`."""
    same = same or {}
    return pytest.param(
        (op_type, inputs, (theirs or {}) | same, options),
        (name, (ours or {}) | same),
        id=f"{op_type} {same or ''}{theirs or ''}".replace(" ", ""),
    )


def check(theirs, ours, steps=0):
    (op_type, inputs, attrs, options), (name, our_attrs) = theirs, ours
    mine = our_results(name, inputs, our_attrs)
    compare(mine, onnx_results(op_type, inputs, len(mine), **options, **attrs), steps)


IMAGE, WIDE = floats((2, 4, 7, 6)), floats((1, 4, 9))


def conv(x, w, b=None, **same):
    return case("Conv", "conv", [x, w] if b is None else [x, w, b], same=same)


def conv_transpose(x, w, b=None, **same):
    return case("ConvTranspose", "conv_transpose", [x, w] if b is None else [x, w, b], same=same)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        conv(IMAGE, floats((3, 4, 3, 3), seed=1), floats((3,), seed=2)),
        conv(IMAGE, floats((6, 2, 3, 2), seed=1), strides=[2, 1], pads=[1, 0, 2, 1], group=2),
        conv(IMAGE, floats((4, 1, 3, 3), seed=1), pads=[2, 2, 2, 2], dilations=[2, 2], group=4),
        conv(WIDE, floats((2, 4, 3), seed=1), strides=[3], pads=[0, 1]),
        conv(floats((1, 2, 4, 5, 3)), floats((3, 2, 2, 2, 2), seed=1), pads=[0, 1, 1, 0, 1, 0]),
        conv_transpose(IMAGE, floats((4, 3, 3, 3), seed=1), floats((3,), seed=2)),
        conv_transpose(
            IMAGE, floats((4, 2, 3, 2), seed=1), strides=[2, 3], pads=[1, 0, 1, 1], group=2
        ),
        conv_transpose(
            WIDE, floats((4, 2, 3), seed=1), strides=[3], dilations=[2], output_padding=[1]
        ),
    ],
)
def test_convolutions(theirs, ours):
    check(theirs, ours)


def pool(op_type, name, x, kernel, **same):
    theirs = {"kernel_shape": kernel} | {k: int(v) for k, v in same.items() if v is True}
    same = {k: v for k, v in same.items() if v is not True}
    flags = {k: True for k in theirs if k != "kernel_shape"}
    return case(op_type, name, [x], {"kernel": kernel} | flags, theirs, same=same)


POOLS = [
    {"kernel": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]},
    {"kernel": [2, 2], "strides": [2, 2], "ceil_mode": True},
    {"kernel": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": True},
    {"kernel": [2, 3], "strides": [3, 3], "pads": [0, 1, 0, 1], "ceil_mode": True},
    {"kernel": [2, 2], "dilations": [2, 3], "pads": [1, 1, 1, 1]},
]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [pool("MaxPool", "max_pool", IMAGE, **a) for a in POOLS]
    + [pool("MaxPool", "max_pool_indices", spaced(IMAGE.shape), **a) for a in POOLS]
    + [pool("AveragePool", "average_pool", IMAGE, **a) for a in POOLS]
    + [pool("AveragePool", "average_pool", IMAGE, count_include_pad=True, **a) for a in POOLS]
    + [pool("LpPool", "lp_pool", IMAGE, p=3, **a) for a in POOLS if "ceil_mode" not in a]
    + [pool("MaxPool", "max_pool", ints((1, 2, 8), dtype="i8"), [3], strides=[2], pads=[1, 1])],
)
def test_pools(theirs, ours):
    check(theirs, ours)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("b i d, b j d -> b i j", [(2, 3, 4), (2, 5, 4)]),
        ("bij,bjk", [(2, 3, 4), (2, 4, 5)]),
        ("...ij,...jk->...ik", [(2, 1, 3, 4), (2, 5, 4, 2)]),
        ("ii->i", [(3, 3)]),
        ("ij->", [(3, 4)]),
        ("i,j,k->kji", [(2,), (3,), (4,)]),
    ],
)
def test_einsum(equation, shapes):
    inputs = [floats(shape, seed=i) for i, shape in enumerate(shapes)]
    check(*case("Einsum", "einsum", inputs, same={"equation": equation}).values)


DATA, PAIRS = floats((3, 4, 5)), array([[0, -1], [2, 1]], "i64")
UPDATES = floats((2, 4, 5), seed=1)
ROWS = array([[[-1], [0]], [[1], [1]], [[2], [-3]]], "i64")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *(case("Gather", "gather", [DATA, PAIRS], same={"axis": a}) for a in (0, 1, -1)),
        case(
            "GatherElements",
            "gather_elements",
            [DATA, ints((3, 2, 5), low=-4, high=4)],
            same={"axis": 1},
        ),
        case("GatherND", "gather_nd", [DATA, PAIRS]),
        case("GatherND", "gather_nd", [DATA, ROWS], same={"batch_dims": 1}),
        *(
            case(
                "ScatterElements",
                "scatter_elements",
                [DATA, ints((2, 4, 5), low=-3, high=3), UPDATES],
                same={"axis": 0, "reduction": r},
            )
            for r in ("add", "mul", "max", "min")
        ),
        case(
            "ScatterElements",
            "scatter_elements",
            [DATA, np.tile(array([1, -3], "i64").reshape(2, 1, 1), (1, 4, 5)), UPDATES],
        ),
        *(
            case(
                "ScatterND",
                "scatter_nd",
                [DATA, array([[1], [-1]], "i64"), UPDATES],
                same={"reduction": r},
            )
            for r in ("none", "add", "mul", "max", "min")
        ),
        case("TopK", "top_k", [spaced((3, 6)), array([4], "i64")], {"k": 4}),
        case(
            "TopK",
            "top_k",
            [ints((3, 6), low=-2, high=2), array([3], "i64")],
            {"k": 3, "axis": 0, "largest": False},
            {"axis": 0, "largest": 0},
        ),
        case("Tile", "tile", [DATA, array([2, 1, 3], "i64")], {"repeats": (2, 1, 3)}),
        case("Trilu", "trilu", [DATA, array(1, "i64")], {"k": 1}),
        case(
            "DepthToSpace", "depth_to_space", [floats((1, 8, 2, 3))], {"block": 2}, {"blocksize": 2}
        ),
        case(
            "DepthToSpace",
            "depth_to_space",
            [floats((1, 8, 2, 3))],
            {"block": 2},
            {"blocksize": 2},
            same={"mode": "CRD"},
        ),
        case(
            "SpaceToDepth", "space_to_depth", [floats((1, 2, 4, 6))], {"block": 2}, {"blocksize": 2}
        ),
        *(
            case(
                "Pad",
                "pad",
                [DATA, array([1, 0, 2, 0, 3, 1], "i64")],
                {"pads": (1, 0, 2, 0, 3, 1)},
                same={"mode": mode},
            )
            for mode in ("constant", "edge", "reflect", "wrap")
        ),
        case(
            "Pad",
            "pad",
            [DATA, array([0, -1, 1, 0, -2, 0], "i64"), array(7.0)],
            {"pads": (0, -1, 1, 0, -2, 0)},
        ),
    ],
)
def test_moves(theirs, ours):
    (op_type, inputs, attrs, options), (name, our_attrs) = theirs, ours
    kept = inputs[:1] if name in ("top_k", "tile", "trilu") else inputs
    kept = [inputs[0], *inputs[2:]] if name == "pad" else kept
    mine = our_results(name, kept, our_attrs)
    compare(mine, onnx_results(op_type, inputs, len(mine), **options, **attrs))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot(axis):
    indices, values = array([[0, 2], [-1, 3]], "i64"), array([-1.0, 5.0])
    theirs = onnx_results("OneHot", [indices, array(3, "i64"), values], 1, axis=axis)
    compare(our_results("one_hot", [indices, values], {"depth": 3, "axis": axis}), theirs)


def resize(mode, coordinates, sizes, more=None):
    return pytest.param(
        mode,
        coordinates,
        sizes,
        more or {},
        id=f"{mode}-{coordinates}-{'x'.join(map(str, sizes))}{more or ''}".replace(" ", ""),
    )


@pytest.mark.parametrize(
    ("mode", "coordinates", "sizes", "more"),
    [
        resize(mode, coordinates, sizes)
        for mode in ("nearest", "linear", "cubic")
        for coordinates in ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
        for sizes in ((1, 2, 7, 9), (1, 2, 3, 2), (1, 2, 1, 12))
    ]
    + [
        resize("nearest", coordinates, (1, 2, 8, 9), {"nearest_mode": rounding})
        for coordinates in ("half_pixel", "asymmetric")
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ]
    + [
        resize("cubic", "half_pixel", (1, 2, 9, 3), {"exclude_outside": 1}),
        resize("cubic", "half_pixel", (1, 2, 9, 3), {"cubic_coeff_a": -0.5}),
        resize("linear", "half_pixel_symmetric", (1, 2, 5, 3)),
    ],
)
def test_resize_to_sizes(mode, coordinates, sizes, more):
    x = floats((1, 2, 4, 6))
    theirs = onnx_results(
        "Resize",
        [x, None, None, np.array(sizes, np.int64)],
        1,
        mode=mode,
        coordinate_transformation_mode=coordinates,
        **more,
    )
    renamed = {"cubic_coeff_a": "cubic_coeff"}
    ours = {renamed.get(k, k): v for k, v in more.items()}
    attrs = {"sizes": sizes, "mode": mode, "coordinate_mode": coordinates} | ours
    compare(our_results("resize", [x], attrs), theirs)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scales", [(1, 1, 2.6, 0.6), (1, 1, 0.34, 1.7)])
def test_resize_by_scales(mode, scales):
    x, scales = floats((1, 2, 5, 6)), np.array(scales, np.float32)
    sizes = tuple(int(np.floor(d * f)) for d, f in zip(x.shape, scales))
    theirs = onnx_results("Resize", [x, None, scales], 1, mode=mode)
    attrs = {"sizes": sizes, "mode": mode, "scales": tuple(scales)}
    compare(our_results("resize", [x], attrs), theirs)


def test_resize_of_a_region():
    x, roi = floats((1, 1, 4, 4)), array([0, 0, 0.4, 0.6, 1, 1, 1.2, 0.9])
    theirs = onnx_results(
        "Resize",
        [x, roi, None, np.array([1, 1, 3, 3])],
        1,
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=10.0,
    )
    attrs = {
        "sizes": (1, 1, 3, 3),
        "mode": "linear",
        "roi": roi.tolist(),
        "coordinate_mode": "tf_crop_and_resize",
        "extrapolation_value": 10.0,
    }
    compare(our_results("resize", [x], attrs), theirs)


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
