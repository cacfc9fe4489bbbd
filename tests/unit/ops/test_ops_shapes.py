"""Shape rules of the ops that contract and move: symbolic dims, shape arithmetic, refusals."""

import numpy as np
import pytest
from tessel.compiler.autodiff.gradients import gradients
from tessel.compiler.errors import TypeMismatch
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.op import OPS

N, H = Sym.named("N"), Sym.named("H")


def emit(name, *types, **attrs):
    b = Builder()
    results = b.emit(name, *(t and b.input(f"x{i}", t) for i, t in enumerate(types)), **attrs)
    return results if isinstance(results, tuple) else (results,)


@pytest.mark.parametrize(
    ("name", "types", "attrs", "expected"),
    [
        ("matmul", ["f32[N,1,M,4]", "f32[7,4,K]"], {}, "f32[N,7,M,K]"),
        ("conv", ["f32[N,3,H,W]", "f32[8,3,3,3]"], {"pads": [1] * 4}, "f32[N,8,H,W]"),
        (
            "conv",
            ["f32[N,H,3]", "f32[3,3,8]"],
            {"strides": [2], "channels_last": True},
            "f32[N,((H-3)//(2))+1,8]",
        ),
        (
            "conv_transpose",
            ["f32[N,4,H]", "f32[4,2,3]"],
            {"strides": [2], "pads": [1, 1], "output_padding": [1]},
            "f32[N,2,2*H]",
        ),
        ("max_pool", ["f32[N,3,2*H,W]"], {"kernel": [2, 1], "strides": [2, 1]}, "f32[N,3,H,W]"),
        (
            "average_pool",
            ["f32[N,3,7]"],
            {"kernel": [2], "strides": [2], "ceil_mode": True},
            "f32[N,3,4]",
        ),
        ("einsum", ["f32[N,H,4]", "f32[4,D]"], {"equation": "nhd,de->nhe"}, "f32[N,H,D]"),
        ("reshape", ["f32[N,8,4]"], {"shape": [N, 32]}, "f32[N,32]"),
        ("transpose", ["f32[N,H,4]"], {"perm": [2, 0, 1]}, "f32[4,N,H]"),
        ("expand", ["f32[N,1]"], {"shape": [3, N, H]}, "f32[3,N,H]"),
        (
            "slice",
            ["f32[N,4]"],
            {"axes": [0], "starts": [N - 1], "steps": [1], "sizes": [1]},
            "f32[1,4]",
        ),
        ("pad", ["f32[N,4]"], {"pads": [0, 1, 0, 2]}, "f32[N,7]"),
        ("concat", ["f32[N,4]", "f32[H,4]"], {"axis": 0}, "f32[N+H,4]"),
        ("gather", ["f32[N,4]", "i64[2,H]"], {"axis": 0}, "f32[2,H,4]"),
        ("gather_nd", ["f32[N,4,5]", "i64[H,2]"], {}, "f32[H,5]"),
        ("tile", ["f32[N,4]"], {"repeats": [2, H]}, "f32[2*N,4*H]"),
        ("depth_to_space", ["f32[N,8,H,W]"], {"block": 2}, "f32[N,2,2*H,2*W]"),
        ("one_hot", ["i64[N]", "f32[2]"], {"depth": H}, "f32[N,H]"),
        ("iota", [], {"shape": [N, 2], "axis": 0}, "i64[N,2]"),
        ("dims", [], {"values": [N, 2, N * H]}, "i64[3]"),
        (
            "qlinear_matmul",
            ["u8[N,4]", "f32[]", "u8[]", "i8[4,5]", "f32[5]", "i8[5]", "f32[]", "i8[]"],
            {},
            "i8[N,5]",
        ),
    ],
)
def test_symbolic_shapes(name, types, attrs, expected):
    (result,) = emit(name, *types, **attrs)
    assert str(result.type) == str(Builder().input("expected", expected).type)


def on_dims(name, *inputs, **attrs):
    """The reference on arrays of dims, as the ONNX reader evaluates shape arithmetic."""
    op = OPS[name]
    arrays = [np.array(x, object) if isinstance(x, list) else np.asarray(x) for x in inputs]
    result = op.ref(*arrays, **op.bind(attrs, name))
    return [r.tolist() for r in result] if isinstance(result, tuple) else result.tolist()


@pytest.mark.parametrize(
    ("name", "inputs", "attrs", "expected"),
    [
        ("concat", ([N, 3], [H]), {"axis": 0}, [N, 3, H]),
        ("gather", ([N, 3, H], -1), {"axis": 0}, H),
        ("gather", ([N, 3, H], np.array([2, 0])), {"axis": 0}, [H, N]),
        (
            "slice",
            ([N, 3, H],),
            {"axes": [0], "starts": [2], "steps": [-1], "sizes": [3]},
            [H, 3, N],
        ),
        ("reshape", ([N, 3],), {"shape": [2, 1]}, [[N], [3]]),
        ("transpose", ([[N, 3], [1, H]],), {"perm": [1, 0]}, [[N, 1], [3, H]]),
        ("split", ([N, 3, H],), {"axis": 0, "sizes": [1, 2]}, [[N], [3, H]]),
        ("expand", ([N],), {"shape": [2, 1]}, [[N], [N]]),
        ("tile", ([N, 2],), {"repeats": [2]}, [N, 2, N, 2]),
        ("reverse", ([N, 2],), {"axes": [0]}, [2, N]),
        ("pad", ([N],), {"pads": [1, 0]}, [0, N]),
        ("gather_elements", ([N, H], np.array([1, -2])), {"axis": 0}, [H, N]),
        ("scatter_elements", ([N, 2], np.array([1]), [H]), {"axis": 0}, [N, H]),
        ("dims", (), {"values": [N, 2]}, [N, 2]),
    ],
)
def test_shape_arithmetic(name, inputs, attrs, expected):
    assert on_dims(name, *inputs, **attrs) == expected


@pytest.mark.parametrize(
    ("name", "types", "attrs", "message"),
    [
        ("matmul", ["f32[2,3]", "f32[4,5]"], {}, "inner sizes"),
        ("matmul", ["f32[]", "f32[4,5]"], {}, "at least one axis"),
        ("matmul", ["f32[2,2,3]", "f32[5,3,4]"], {}, "do not broadcast"),
        ("gemm", ["f32[2,3]", "f32[3]"], {}, "multiplies matrices"),
        ("gemm", ["f32[2,3]", "f32[3,4]", "f32[1,2,4]"], {}, "does not broadcast"),
        ("conv", ["f32[1,3,5]", "f32[4,2,3]"], {}, "channels of x"),
        ("conv", ["f32[1,4,5]", "f32[3,2,3]"], {"group": 2}, "split into groups"),
        ("conv", ["f32[1,4]", "f32[3,4]"], {}, "spatial axes"),
        ("conv", ["f32[1,4,5]", "f32[3,4,3]"], {"strides": [1, 1]}, "window attributes"),
        ("conv", ["f32[1,4,5]", "f32[3,4,3]"], {"dilations": [0]}, "must be positive"),
        ("conv_transpose", ["f32[1,4,5]", "f32[3,4,3]"], {}, "rows of w"),
        (
            "conv_transpose",
            ["f32[1,4,5]", "f32[4,4,3]"],
            {"output_padding": [1, 1]},
            "output_padding",
        ),
        ("max_pool", ["f32[1,4]"], {"kernel": []}, r"needs \[N, C"),
        ("max_pool", ["f32[1,4,5]"], {"kernel": [2, 2]}, "kernel does not fit"),
        ("einsum", ["f32[2,3]"], {"equation": "ij,jk"}, "does not fit"),
        ("einsum", ["f32[2,3]"], {"equation": "ijk"}, "does not fit"),
        ("einsum", ["f32[2,3]", "f32[4]"], {"equation": "ij,j"}, "does not fit"),
        ("einsum", ["f32[2,3]"], {"equation": "ij->ik"}, "does not fit"),
        ("einsum", ["f32[2,3]"], {"equation": "i1"}, "does not fit"),
        ("reshape", ["f32[2,3]"], {"shape": [5]}, "number of elements"),
        ("transpose", ["f32[2,3]"], {"perm": [0, 0]}, "not a permutation"),
        ("expand", ["f32[2,3]"], {"shape": [3]}, "do not broadcast|cannot drop"),
        ("expand", ["f32[2,3]"], {"shape": [2, 1]}, "only repeats"),
        ("expand", ["f32[2,3]"], {"shape": [3, 3]}, "do not broadcast"),
        ("slice", ["f32[4]"], {"axes": [0], "starts": [2], "steps": [1], "sizes": [3]}, "leaves"),
        ("slice", ["f32[4]"], {"axes": [0], "starts": [2], "steps": [0], "sizes": [3]}, "is 0"),
        ("slice", ["f32[4]"], {"axes": [0], "starts": [], "steps": [1], "sizes": [1]}, "one start"),
        ("pad", ["f32[4]"], {"pads": [1]}, "pads do not fit"),
        ("pad", ["f32[4]"], {"pads": [-3, -2]}, "crop more"),
        ("pad", ["f32[4]"], {"pads": [1, 1], "mode": "mirror"}, "pads do not fit"),
        ("concat", ["f32[2,3]", "f32[3,4]"], {"axis": 1}, "equal shapes elsewhere"),
        ("split", ["f32[5]"], {"axis": 0, "sizes": [2, 2]}, "do not add up"),
        ("gather", ["f32[5]", "i64[2]"], {"axis": 1}, "axis out of range"),
        ("gather_elements", ["f32[5,2]", "i64[2]"], {"axis": 0}, "rank of the data"),
        ("gather_nd", ["f32[5,2]", "i64[2,3]"], {}, "more axes"),
        ("gather_nd", ["f32[5,2]", "i64[2]"], {"batch_dims": 1}, "static last axis"),
        ("scatter_elements", ["f32[5]", "i64[2]", "f32[3]"], {}, "must have one shape"),
        (
            "scatter_elements",
            ["f32[5]", "i64[2]", "f32[2]"],
            {"reduction": "sum"},
            "unknown reduction",
        ),
        ("scatter_nd", ["f32[5]", "i64[2,1]", "f32[2,2]"], {}, "updates of scatter_nd"),
        ("scatter_nd", ["f32[5]", "i64[2,2]", "f32[2]"], {}, "static last axis"),
        ("top_k", ["f32[5]"], {"k": 6}, "more than there is"),
        ("one_hot", ["i64[5]", "f32[3]"], {"depth": 6}, r"\[off, on\]"),
        ("tile", ["f32[5]"], {"repeats": [2, 2]}, "count per axis"),
        ("trilu", ["f32[5]"], {}, "needs matrices"),
        ("depth_to_space", ["f32[1,6,2,2]"], {"block": 2}, "multiple of block"),
        ("space_to_depth", ["f32[1,6,3,2]"], {"block": 2}, "multiples of the block"),
        ("space_to_depth", ["f32[6,3,2]"], {"block": 2}, r"needs \[N, C, H, W\]"),
        ("resize", ["f32[1,2]"], {"sizes": [3]}, "one size"),
        ("resize", ["f32[2]"], {"sizes": [3], "mode": "area"}, "unknown mode"),
        ("quantize_linear", ["f32[2,3]", "f32[2]"], {}, "scale does not fit"),
        ("quantize_linear", ["f32[2,3]", "f32[1,3]"], {}, "a scalar, a vector along one axis"),
        ("quantize_linear", ["f32[2,3]", "f32[]", "i8[]"], {"dtype": "u8"}, "wrong type"),
        (
            "qlinear_conv",
            ["u8[1,2,5]", "f32[]", "u8[]", "i8[4,2,3]", "f32[3]", "i8[]", "f32[]", "u8[]"],
            {},
            "per output channel",
        ),
        ("linear_classifier", ["f32[1,2]"], {"coefficients": [1, 2, 3], "labels": [0, 1]}, "rows"),
        ("linear_classifier", ["f32[1,2]"], {"coefficients": [1, 2], "labels": [0]}, "one label"),
        (
            "linear_classifier",
            ["f32[1,2]"],
            {"coefficients": [1, 2], "labels": [0, 1], "post_transform": "PROBIT"},
            "post_transform",
        ),
        ("normalizer", ["f32[1,2]"], {"norm": "L3"}, "unknown normalizer"),
        ("zip_map", ["f32[1,2]"], {"labels": [1]}, "one label per column"),
    ],
)
def test_refusals(name, types, attrs, message):
    with pytest.raises(TypeMismatch, match=message):
        emit(name, *types, **attrs)


def gradient_of(name, types, arrays, attrs, wrt):
    """d sum(y * y) / d operands `wrt`, computed for a symbolic batch."""
    b = Builder()
    given = [b.input(f"x{i}", t) for i, t in enumerate(types)]
    y = b.emit(name, *given, **attrs)
    found = gradients(b, [b.mul(y, y).sum()], [given[i] for i in wrt])
    for i, d in enumerate(found):
        b.output(f"d{i}", d)
    return interpret(b.graph, arrays)


@pytest.mark.parametrize(
    ("name", "types", "attrs", "wrt"),
    [
        (
            "conv",
            ["f64[N,4,7,6]", "f64[6,2,3,2]", "f64[6]"],
            {"group": 2, "strides": [2, 1], "pads": [1, 0, 1, 1]},
            [0, 1, 2],
        ),
        ("conv_transpose", ["f64[N,4,5]", "f64[4,2,3]"], {"strides": [2]}, [0, 1]),
        ("max_pool", ["f64[N,2,7]"], {"kernel": [3], "strides": [2], "ceil_mode": True}, [0]),
        ("average_pool", ["f64[N,2,7]"], {"kernel": [3], "strides": [2], "ceil_mode": True}, [0]),
        ("average_pool", ["f64[N,2,H]"], {"kernel": [3], "pads": [1, 1]}, [0]),
        ("resize", ["f64[N,2,3]"], {"sizes": [N, 2, 7], "mode": "linear"}, [0]),
        ("einsum", ["f64[N,3,4]", "f64[4,2]"], {"equation": "...ij,jk->...k"}, [0, 1]),
        ("matmul", ["f64[N,3,4]", "f64[4,2]"], {}, [0, 1]),
        ("tile", ["f64[N,3]"], {"repeats": [2, 2]}, [0]),
        ("pad", ["f64[N,3]"], {"pads": [0, 2, 0, 1], "mode": "reflect"}, [0]),
    ],
)
def test_gradients_for_a_symbolic_batch(name, types, attrs, wrt):
    def static(d):
        return {N: 2, H: 7}.get(d, d)

    rng = np.random.default_rng(0)
    symbolic = [Builder().input("x", t).type for t in types]
    arrays = [rng.standard_normal([static(d) for d in t.shape]) for t in symbolic]
    known = [t.with_shape(map(static, t.shape)) for t in symbolic]
    fixed = {k: [static(d) for d in v] if k == "sizes" else v for k, v in attrs.items()}
    for a, b in zip(
        gradient_of(name, types, arrays, attrs, wrt), gradient_of(name, known, arrays, fixed, wrt)
    ):
        np.testing.assert_allclose(a, b)


def test_the_gradient_of_resize_along_a_symbolic_axis_is_refused():
    with pytest.raises(TypeMismatch, match="static sizes"):
        gradient_of("resize", ["f64[1,H]"], [], {"sizes": [1, 2 * H], "mode": "linear"}, [0])


# -- regions -----------------------------------------------------------------------------------


def body(*inputs, outputs):
    b = Builder(name="body")
    given = [b.input(f"x{i}", t) for i, t in enumerate(inputs)]
    for i, y in enumerate(outputs(b, *given)):
        b.output(f"y{i}", y)
    return b.graph


@pytest.mark.parametrize(
    ("types", "then_type", "message"),
    [
        (["bool[]"], "f32[2]", "another number of values"),
        (["bool[]", "f32[3]"], "f32[2]", "another type"),
        (["f32[]", "f32[2]"], "f32[2]", "wrong dtype|one bool"),
        (["bool[2]", "f32[2]"], "f32[2]", "one bool"),
    ],
)
def test_if_checks_its_branches(types, then_type, message):
    branch = body(then_type, outputs=lambda b, x: [x])
    with pytest.raises(TypeMismatch, match=message):
        emit("if", *types, then_graph=branch, else_graph=branch)


def test_the_branches_of_if_must_agree():
    same = body("f32[2]", outputs=lambda b, x: [x])
    other = body("f32[2]", outputs=lambda b, x: [x.sum()])
    with pytest.raises(TypeMismatch, match="branches of if"):
        emit("if", "bool[]", "f32[2]", then_graph=same, else_graph=other)


@pytest.mark.parametrize(
    ("types", "scans", "message"),
    [
        (["f32[2]"], 0, "at least one array"),
        (["f32[2]", "f32[]"], 1, "axis 0"),
        (["f32[2]", "f32[5,3]"], 1, "another type"),
        (["f32[2]", "f32[5,2]", "f32[4,2]"], 2, "axis 0"),
        (["f32[2]", "f32[5,2]", "f32[2]"], 1, "another number of values"),
    ],
)
def test_scan_checks_its_body(types, scans, message):
    graph = body("f32[2]", "f32[2]", outputs=lambda b, h, x: [h + x])
    with pytest.raises(TypeMismatch, match=message):
        emit("scan", *types, body=graph, states=1, scans=scans)


def test_the_gradient_of_a_scan_is_that_of_its_unrolling():
    """A state, an array, a captured weight and a step counter, backwards in time."""
    step = body(
        "f64[2]",
        "i64[]",
        "f64[2]",
        "f64[2,2]",
        outputs=lambda b, h, n, x, w: (b.tanh(h @ w + x), n + 1, h * x * n.cast("f64")),
    )
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s) for s in [(2,), (3, 2), (2, 2)]]

    def results(unrolled):
        b = Builder()
        h, xs, w = (b.input(n, f"f64[{s}]") for n, s in [("h", "2"), ("x", "3,2"), ("w", "2,2")])
        n = b.scalar(1, "i64")
        if unrolled:
            state, ys = [h, n], []
            for t in (2, 1, 0):
                *state, y = b.inline(step, [*state, xs[t], w])
                ys.append(b.mul(y, y).sum())
            last, total = state[0], ys[0] + ys[1] + ys[2]
        else:
            last, _, ys = b.scan(h, n, xs, w, body=step, states=2, scans=1, reverse=True)
            total = b.mul(ys, ys).sum()
        for i, d in enumerate(gradients(b, [total + last.sum()], [h, xs, w])):
            b.output(f"d{i}", d)
        return interpret(b.graph, arrays)

    for a, b in zip(results(unrolled=True), results(unrolled=False), strict=True):
        np.testing.assert_allclose(a, b)


def test_pieces_of_a_mosaic_leave_nothing_out():
    (y,) = emit("mosaic", "f32[N,2]", "f32[N,3]", shape=[N, 5], starts=[0, 0, 0, 2])
    assert str(y.type) == "f32[N,5]"
    with pytest.raises(TypeMismatch, match="leave something out"):
        emit("mosaic", "f32[4,2]", "f32[4,2]", shape=[4, 5], starts=[0, 0, 0, 2])
