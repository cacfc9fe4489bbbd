"""Results as large as data says, and operands that decide shapes and follow from data: against
ONNX Runtime, through the interpreter, numpy loops and machine code."""

import numpy as np
import onnx
import pytest
import tessel
from onnx.reference import ReferenceEvaluator
from tessel.compiler.errors import UnsupportedError

from ..support.onnx_models import assert_equal, graph_of, model, onnxruntime, run

INDICES = "int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[2] both = {0, 1}"
NUMBERS = "float half = {0.5}, float low = {0.2}, float high = {0.8}"
RNG = np.random.default_rng(0)


def units(*shape) -> np.ndarray:
    return RNG.uniform(0, 1, shape).astype(np.float32)


def boxes(*shape) -> np.ndarray:
    """Corners of boxes that overlap here and there."""
    middle, size = RNG.uniform(0, 10, (*shape, 2)), RNG.uniform(1, 4, (*shape, 2))
    return np.concatenate([middle - size / 2, middle + size / 2], -1).astype(np.float32)


def parsed(body: str, inputs: str, outputs: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]>\n'
        f"g ({inputs}) => ({outputs}) <{INDICES}, {NUMBERS}> {{ {body} }}"
    )


MASKS = {
    "the indices of a mask, and what lies there": (
        "m = Greater(x, half) nz = NonZero(m) t = Transpose(nz) y = GatherND(x, t)",
        "float[A,B] x",
        "int64[R,K] nz, float[K] y",
        [[units(3, 4)], [units(2, 5)], [units(3, 4) * 0]],
    ),
    "one mask after the other": (
        "m = Greater(x, half) nz = NonZero(m) i = Squeeze(nz, zero) a = Gather(x, i)"
        "m2 = Less(a, high) nz2 = NonZero(m2) i2 = Squeeze(nz2, zero) y = Gather(a, i2)"
        "w = Where(m2, a, low) n = NonZero(w)",
        "float[N] x",
        "float[K] y, int64[1,M] n",
        [[units(20)], [units(3)], [units(20) * 0.4], [units(20)]],
    ),
    "rows that are kept": (
        "c = Greater(s, half) y = Compress<axis=1>(x, c) n = Shape(y) z = ReduceSum(y)",
        "float[A,B] x, float[B] s",
        "float[A,C] y, int64[2] n, float[1,1] z",
        [[units(2, 7), units(7)], [units(2, 7), units(7) * 0]],
    ),
    "updates for what is chosen": (
        "m = Greater(x, half) nz = NonZero(m) t = Transpose(nz) s = Shape(t)"
        "n = Slice(s, zero, one) u = Slice(v, zero, n) y = ScatterND(x, t, u)",
        "float[A,B] x, float[M] v",
        "float[A,B] y",
        [[units(3, 4), units(12)]] * 2,
    ),
    "a branch on whether anything is found": (
        "m = Greater(x, half) nz = NonZero(m) s = Shape(nz) n = Gather(s, one) e = Equal(n, zero)"
        "y = If (e) <then_branch = a () => (float[1] t) { t = Constant<value_floats=[-1.0]>() },"
        " else_branch = b () => (float[1] t) { t = ReduceMax(x, zero) }>",
        "float[A] x",
        "float[1] y",
        [[units(5)], [units(5) * 0.1]],
    ),
    "what is distinct": (
        "y, i, j, k = Unique<axis=1>(x)",
        "float[A,B] x",
        "float[A,C] y, int64[C] i, int64[B] j, int64[C] k",
        [[units(2, 7).round()], [units(3, 4).round()]],
    ),
    "in the order of its first": (
        "y, i, j, k = Unique<sorted=0>(x)",
        "int64[B] x",
        "int64[C] y, int64[C] i, int64[B] j, int64[C] k",
        [[RNG.integers(0, 5, 12)], [RNG.integers(0, 2, 3)]],
    ),
}

DETECTORS = {
    "as YOLO's exports have it": (
        "sizes = Constant<value_ints=[4, 5]>() b, s = Split<axis=2>(x, sizes)"
        "scores = Transpose<perm=[0, 2, 1]>(s) most = Constant<value_ints=[20]>()"
        "found = NonMaxSuppression<center_point_box=1>(b, scores, most, half, low)"
        "box = Gather<axis=1>(found, two) image = Gather<axis=1>(found, zero)"
        "pair = Concat<axis=1>(image, box) y = GatherND(b, pair) z = GatherND(scores, found)",
        "float[B,N,9] x",
        "int64[K,3] found, float[K,4] y, float[K] z",
        [
            [
                np.concatenate(
                    [
                        RNG.uniform(0, 10, (2, 40, 2)),
                        RNG.uniform(1, 4, (2, 40, 2)),
                        RNG.uniform(0, 1, (2, 40, 5)),
                    ],
                    2,
                ).astype(np.float32)
            ],
            [np.zeros((1, 5, 9), np.float32)],
        ],
    ),
    "scores first, then the best, then NMS": (
        "m = Greater(s, half) nz = NonZero(m) i = Squeeze(nz, zero) s1 = Gather(s, i)"
        "b1 = Gather(b, i) n = Shape(s1) five = Constant<value_ints=[5]>() k = Min(n, five)"
        "s2, best = TopK(s1, k) b2 = Gather(b1, best) b3 = Unsqueeze(b2, zero)"
        "s3 = Unsqueeze(s2, both) three = Constant<value_ints=[3]>()"
        "found = NonMaxSuppression(b3, s3, three, half) at = Gather<axis=1>(found, two)"
        "at1 = Squeeze(at, one) y = Gather(b2, at1) z = Gather(s2, at1)",
        "float[N,4] b, float[N] s",
        "float[K,4] y, float[K] z",
        [[boxes(30), units(30)], [boxes(12), units(12)], [boxes(30), units(30) * 0.3]],
    ),
    "filled up to a fixed number": (
        "ten = Constant<value_ints=[10]>() three = Constant<value_ints=[3]>()"
        "found = NonMaxSuppression(b, s, ten, half, low) i = Slice(found, two, three, one)"
        "at = Squeeze(i, one) n = Shape(at) left = Sub(ten, n) more = Max(left, zero)"
        "pads = Concat<axis=0>(zero, more) all = Pad(at, pads) b1 = Squeeze(b, zero)"
        "y = Gather(b1, all)",
        "float[1,N,4] b, float[1,1,N] s",
        "float[K,4] y, int64[1] n",
        [[boxes(1, 30), units(1, 1, 30)], [boxes(1, 8), units(1, 1, 8) * 0.1]],
    ),
}

OPERANDS = {
    "TopK, Slice, Reshape, Expand, Tile, ConstantOfShape": (
        "i = Cast<to=7>(x) k = ReduceMax<keepdims=1>(i, zero) v, j = TopK(x, k)"
        "a = Slice(x, zero, k) to = Constant<value_ints=[1, -1]>() b = Reshape(v, to)"
        "f = Unsqueeze(half, zero) c = Expand(f, k) d = Tile(f, k)"
        "e = ConstantOfShape<value=float[1] {2.0}>(k)",
        "float[N] x",
        "float[K] v, float[L] a, float[P,Q] b, float[R] c, float[S] d, float[T] e",
        [[np.float32([1, 2, 3, 4.5, 2, 1])], [np.float32([1, 0.5, 1])]],
    ),
    "Range": (
        "s = ReduceSum<keepdims=0>(x) n = Cast<to=7>(s) i = Constant<value=int64 {0}>()"
        "k = Constant<value=int64 {2}>() y = Range(i, n, k) z = Range(low, s, half)",
        "float[N] x",
        "int64[K] y, float[L] z",
        [[np.float32([1, 2.5])], [np.float32([1, -2.5])], [np.float32([10, 2.5])]],
    ),
    "Resize": (
        "s = ReduceMax<keepdims=0>(x) i = Cast<to=7>(s) n = Unsqueeze(i, zero)"
        'to = Concat<axis=0>(one, one, n, n) y = Resize<mode="linear">(x, , , to)',
        "float[1,1,H,W] x",
        "float[1,1,A,B] y",
        [[units(1, 1, 3, 4) * 4 + 1]],
    ),
    "OneHot": (
        "s = ReduceMax<keepdims=0>(x) i = Cast<to=7>(s) k = Constant<value=int64 {1}>()"
        "n = Add(i, k) j = Cast<to=7>(x) v = Constant<value_floats=[0.0, 1.0]>()"
        "y = OneHot(j, n, v)",
        "float[N] x",
        "float[N,D] y",
        [[np.float32([1, 0, 3])], [np.float32([1, 0, 1])]],
    ),
    "a Slice backwards, and from the end": (
        "i = Cast<to=7>(x) k = ReduceMin<keepdims=1>(i, zero) m = Neg(k)"
        "back = Constant<value_ints=[-1]>() far = Constant<value_ints=[-9223372036854775807]>()"
        "end = Constant<value_ints=[9223372036854775807]>()"
        "y = Slice(x, m, end, zero) z = Slice(x, k, far, zero, back)",
        "float[N] x",
        "float[K] y, float[L] z",
        [[np.float32([3, 1, 2, 5])], [np.float32([4, 3, 9, 8, 7])], [np.float32([7, 8])]],
    ),
    "Reshape with what is kept and what is left": (
        "i = Cast<to=7>(s) k = ReduceMax<keepdims=1>(i, zero) z = Sub(k, k) m = Neg(one)"
        "to = Concat<axis=0>(z, k, m) y = Reshape(x, to)",
        "float[2,12] x, float[N] s",
        "float[P,Q,R] y",
        [[units(2, 12), np.float32([1, 3])], [units(2, 12), np.float32([4, 2])]],
    ),
    "Expand where 1 keeps what is there": (
        "i = Cast<to=7>(s) k = ReduceMax<keepdims=1>(i, zero) a = Concat<axis=0>(k, one)"
        "y = Expand(x, a) z = Expand(x, k) w = Expand(s, a)",
        "float[N,2] x, float[M] s",
        "float[P,Q] y, float[R,S] z, float[T,U] w",
        [[units(1, 2), np.float32([2, 1])], [units(3, 2), np.float32([1, 1])]],
    ),
    "a mask of lengths": (
        "q = Cast<to=7>(x) n = ReduceMax<keepdims=0>(q) i = Constant<value=int64 {0}>()"
        "k = Constant<value=int64 {1}>() r = Range(i, n, k) r1 = Unsqueeze(r, zero)"
        "l = Unsqueeze(q, one) m = Less(r1, l) y = Cast<to=1>(m)",
        "float[B] x",
        "float[B,T] y",
        [[np.float32([1, 3, 2])], [np.float32([0, 0, 5])]],
    ),
}

ALL = {**MASKS, **DETECTORS, **OPERANDS}


@pytest.mark.sweep(20, suite=29)
@pytest.mark.parametrize("target", ["interpreter", "numpy", "cpu"])
@pytest.mark.parametrize("name", ALL)
def test_agrees_with_onnx_runtime(name, target):
    body, inputs, outputs, feeds = ALL[name]
    proto = parsed(body, inputs, outputs)
    exe = None if target == "interpreter" else tessel.compile(proto, target=target, cache=False)
    for arrays in feeds:
        got = run(proto, *arrays) if exe is None else exe(*arrays)
        got, want = list(got) if isinstance(got, tuple) else got, onnxruntime(proto, *arrays)
        got = got if isinstance(got, list) else [got]
        assert [y.shape for y in got] == [y.shape for y in want]
        assert_equal(got, want)


# -- ops against numpy and the standard's reference -----------------------------------------

DTYPES = ["float", "double", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_nonzero_of_every_dtype(dtype):
    proto = model("y = NonZero(x)", inputs=f"{dtype}[3,4] x", outputs="int64[2,K] y")
    exe = tessel.compile(proto)
    x = RNG.integers(0, 2, (3, 4)).astype(exe.inputs[0].dtype)
    np.testing.assert_array_equal(exe(x), np.nonzero(x))


@pytest.mark.sweep(5, suite=9)
@pytest.mark.parametrize(
    ("dtype", "axis", "in_order"),
    [(d, None, 1) for d in DTYPES]
    + [(d, 0, 0) for d in ("bfloat16", "int64", "bool")]
    + [("float", axis, order) for axis in (None, 0, -1) for order in (0, 1)],
)
def test_unique_of_every_dtype(dtype, axis, in_order):
    text = f"sorted={in_order}" + ("" if axis is None else f", axis={axis}")
    proto = model(
        f"y, i, j, k = Unique<{text}>(x)",
        inputs=f"{dtype}[5,2] x",
        outputs=f"{dtype}[{'A' if axis is None else 'A,B'}] y, int64[C] i, int64[D] j, int64[E] k",
    )
    exe = tessel.compile(proto, cache=False)
    x = RNG.integers(0, 2, (5, 2)).astype(exe.inputs[0].dtype)
    wide = x.astype(np.float64)
    y, i, j, k = np.unique(wide, True, True, True, axis=axis)
    if not in_order:
        order = np.argsort(i)
        y, i, k = np.take(y, order, axis or 0), i[order], k[order]
        j = np.argsort(order)[j.reshape(-1)]
    got = exe(x)
    assert got[0].dtype == x.dtype
    for mine, theirs in zip(got, (y, i, j.reshape(-1), k)):
        np.testing.assert_array_equal(mine.astype(np.float64), theirs)


def test_unique_takes_all_nans_for_one():
    proto = model("y = Unique(x)", inputs="float[5] x", outputs="float[K] y")
    x = np.float32([np.nan, 1, np.nan, -np.inf, 1])
    np.testing.assert_array_equal(tessel.compile(proto)(x), np.unique(x))


def test_strings_have_an_order_too():
    proto = model(
        "y, i, j, k = Unique<sorted=0>(x) n = NonZero(x) z = Compress(x, c)",
        inputs="string[5] x, bool[5] c",
        outputs="string[K] y, int64[K] i, int64[5] j, int64[K] k, int64[1,N] n, string[M] z",
    )
    x, c = np.array(["b", "", "a", "b", ""], object), np.array([1, 0, 0, 1, 0], bool)
    y, i, j, k, n, z = run(proto, x, c)
    assert (list(y), list(i), list(j), list(k)) == (
        ["b", "", "a"],
        [0, 1, 2],
        [0, 1, 2, 0, 1],
        [2, 2, 1],
    )
    assert n.tolist() == [[0, 2, 3]] and list(z) == ["b", "b"]


@pytest.mark.parametrize("body", ["y = NonZero(x)", "y = Unique(x)", "y = Compress(x, c)"])
@pytest.mark.parametrize("shape", [(0,), (1,), (7,)])
def test_sizes_of_nothing(body, shape):
    inputs = "float[N] x" + (", bool[N] c" if "c)" in body else "")
    outputs = "int64[1,K] y" if "NonZero" in body else "float[K] y"
    proto = model(body, inputs=inputs, outputs=outputs)
    arrays = [np.zeros(shape, np.float32), np.zeros(shape, bool)][: inputs.count("[")]
    want = ReferenceEvaluator(proto).run(None, dict(zip(("x", "c"), arrays)))
    assert_equal([tessel.compile(proto)(*arrays)], want)


def test_nonzero_of_a_scalar_has_no_rows():
    proto = model("y = NonZero(x)", inputs="float x", outputs="int64[R,K] y")
    assert tessel.compile(proto)(np.float32(3)).shape == (0, 1)


LIMITS = "int64 most, float overlap, float score"


@pytest.mark.parametrize("most", [0, 3, 100])
@pytest.mark.parametrize("overlap", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("score", [-1.0, 0.5, 2.0])
def test_non_max_suppression_with_limits_of_the_run(most, overlap, score, suppression):
    proto = nms_model("y = NonMaxSuppression(b, s, most, overlap, score)", LIMITS)
    arrays = boxes(2, 25), units(2, 3, 25), np.int64(most), np.float32(overlap), np.float32(score)
    assert_equal([suppression(*arrays)], onnxruntime(proto, *arrays))


def nms_model(body: str, limits: str) -> onnx.ModelProto:
    inputs = f"float[B,N,4] b, float[B,C,N] s, {limits}"
    return parsed(body, inputs, "int64[K,3] y")


@pytest.fixture(scope="module")
def suppression():
    return tessel.compile(nms_model("y = NonMaxSuppression(b, s, most, overlap, score)", LIMITS))


# -- what is refused ------------------------------------------------------------------------

BRANCH = (
    "c = ReduceMax<keepdims=0>(x) d = Greater(c, half) y = If (d) <"
    "then_branch = a () => (int64[1,K] t) { t = NonZero(x) },"
    "else_branch = b () => (int64[1,K] t) { t = NonZero(x) }>"
)


def test_inside_of_branches_they_run_by_the_host():
    proto = parsed(BRANCH, "float[N] x", "int64[1,K] y")
    assert "host_if" in [n.op.name for n in graph_of(proto).nodes]
    x = np.float32([0, 2, 0, 1])
    np.testing.assert_array_equal(tessel.compile(proto, target="numpy")(x), [[1, 3]])


def test_a_rank_cannot_follow_from_data():
    body = "n = NonZero(x) f = Unsqueeze(half, zero) i = Squeeze(n, zero) y = Expand(f, i)"
    with pytest.raises(UnsupportedError, match="the number of elements of an operand"):
        graph_of(parsed(body, "float[N] x", "float[K] y"))


def test_axes_cannot_follow_from_data():
    body = "i = Cast<to=7>(x) a = ReduceMax<keepdims=1>(i, zero) y = Unsqueeze(x, a)"
    with pytest.raises(UnsupportedError, match="the value of operand axes must be known"):
        graph_of(parsed(body, "float[100] x", "float[P,Q] y"))
