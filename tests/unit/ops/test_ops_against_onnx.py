"""Our numpy references against ONNX Runtime, one node at a time.

A case is an ONNX node with its inputs, and the same thing as a record's `ref` with our attributes.
Where ONNX Runtime's CPU provider has no kernel, onnx's own ReferenceEvaluator stands in.
"""

import numpy as np
import pytest
from tessel.compiler.ops.common import array, floats, ints, spaced

from ...support.onnx_runtime import case, check, compare, onnx_results, our_results

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
