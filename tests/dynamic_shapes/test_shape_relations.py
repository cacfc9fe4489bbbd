"""Operands whose shapes do not fit each other are refused: when the model is read where sizes are
known, before the run where they are open. Never is there code that leaves an array."""

import contextlib

import numpy as np
import pytest
import tessel
from onnx import parser
from tessel.compiler.errors import InputError, TesselError, TypeMismatch
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.types import tensor_type_of

from ..support.onnx_models import onnxruntime


def f(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def zeros(*shape):
    return np.zeros(shape, np.int64)


def made(body, feeds, dims=None, opset=21):
    """A model of one line; `dims` gives inputs symbolic dims: {"x": "N,2"}."""
    kinds = {"float32": "float", "int64": "int64", "bool": "bool", "uint8": "uint8"}
    ins = ", ".join(
        f"{kinds[str(x.dtype)]}[{(dims or {}).get(n) or ','.join(map(str, x.shape))}] {n}"
        for n, x in feeds.items()
    )
    text = f'<ir_version: 9, opset_import: ["": {opset}]> g ({ins}) => (float[] y) {{ {body} }}'
    model = parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def run(body, feeds, dims=None, **more):
    return tessel.compile(made(body, feeds, dims, **more), threads=1).run(feeds)["y"]


# -- operands that do not fit: (model, fitting feeds, misfits, symbolic dims) --------------------

SCAN = "y = Scan<num_scan_inputs=2,body=b (float[2] p, float[2] q) => (float[2] r) {r=Add(p,q)}>"
MISFITS = {
    "ScatterElements indices": (
        "y = ScatterElements<axis=1>(x,i,u)",
        {"x": f(2, 2), "i": zeros(2, 2), "u": f(2, 2)},
        {"i": zeros(40, 2), "u": f(40, 2)},
        {"x": "N,2", "i": "M,2", "u": "M,2"},
    ),
    "ScatterElements updates": (
        "y = ScatterElements<axis=0>(x,i,u)",
        {"x": f(3, 2), "i": zeros(1, 2), "u": f(1, 2)},
        {"u": f(40, 2)},
        {"i": "N,2", "u": "M,2"},
    ),
    "ScatterND updates": (
        "y = ScatterND(x,i,u)",
        {"x": f(4, 2), "i": zeros(3, 1), "u": f(3, 2)},
        {"u": f(1, 2)},
        {"i": "N,1", "u": "M,2"},
    ),
    "GatherElements indices": (
        "y = GatherElements<axis=1>(x,i)",
        {"x": f(2, 2), "i": zeros(2, 5)},
        {"i": zeros(40, 5)},
        {"x": "N,2", "i": "M,5"},
    ),
    "GatherND batches": (
        "y = GatherND<batch_dims=1>(x,i)",
        {"x": f(2, 2), "i": zeros(2, 1)},
        {"i": zeros(40, 1)},
        {"x": "N,2", "i": "M,1"},
    ),
    "Conv bias": (
        "y = Conv(x,w,b)",
        {"x": f(1, 1, 8, 8), "w": f(40, 1, 3, 3), "b": f(40)},
        {"b": f(2)},
        {"w": "M,1,3,3", "b": "K"},
    ),
    "Conv bias too long": (
        "y = Conv(x,w,b)",
        {"x": f(1, 1, 4, 4), "w": f(4, 1, 3, 3), "b": f(4)},
        {"b": f(40)},
        {"b": "K"},
    ),
    "ConvTranspose bias": (
        "y = ConvTranspose(x,w,b)",
        {"x": f(1, 1, 4, 4), "w": f(1, 40, 3, 3), "b": f(40)},
        {"b": f(2)},
        {"w": "1,M,3,3", "b": "K"},
    ),
    "PRelu slope": (
        "y = PRelu(x,s)",
        {"x": -f(3, 40), "s": f(40)},
        {"s": f(7)},
        {"x": "3,N", "s": "K"},
    ),
    "PRelu slope wider than x": (
        "y = PRelu(x,s)",
        {"x": -f(1, 4), "s": f(1, 4)},
        {"s": f(3, 4)},
        {"x": "N,4", "s": "K,4"},
    ),
    "NegativeLogLikelihoodLoss targets": (
        'y = NegativeLogLikelihoodLoss<reduction="none">(x,t)',
        {"x": f(3, 4), "t": zeros(3)},
        {"t": zeros(40)},
        {"x": "N,4", "t": "M"},
    ),
    "MatMul batches": (
        "y = MatMul(x,w)",
        {"x": f(3, 2, 2), "w": f(3, 2, 2)},
        {"w": f(40, 2, 2)},
        {"x": "N,2,2", "w": "M,2,2"},
    ),
    "GridSample images": (
        "y = GridSample(x,g)",
        {"x": f(1, 1, 4, 4), "g": 0 * f(1, 2, 2, 2)},
        {"g": 0 * f(30, 2, 2, 2)},
        {"x": "N,1,4,4", "g": "M,2,2,2"},
    ),
    "RoiAlign batch indices": (
        "y = RoiAlign<output_height=2,output_width=2,sampling_ratio=2>(x,r,b)",
        {"x": f(1, 1, 4, 4), "r": f(3, 4) % 3, "b": zeros(3)},
        {"b": zeros(1)},
        {"r": "R,4", "b": "B"},
    ),
    "Scan lengths": (
        f"{SCAN}(x,w)",
        {"x": f(3, 2), "w": f(3, 2)},
        {"w": f(30, 2)},
        {"x": "N,2", "w": "M,2"},
    ),
    "Scan lengths and widths": (
        f"{SCAN}(x,w)",
        {"x": f(3, 2), "w": f(3, 2)},
        {"w": f(30, 2)},
        {"x": "N,K", "w": "M,L"},
    ),
    "BatchNormalization scale": (
        "y = BatchNormalization(x,s,b,m,v)",
        {"x": f(2, 3, 4), **{n: 1 + f(3) for n in "sbmv"}},
        {"s": f(2)},
        {"s": "K"},
    ),
    "MatMulInteger zero points": (
        "z = MatMulInteger(x,w,p,q) y = Cast<to=1>(z)",
        {
            "x": f(3, 4).astype(np.uint8),
            "w": f(4, 5).astype(np.uint8),
            "p": np.uint8([1]),
            "q": f(5).astype(np.uint8),
        },
        {"q": f(3).astype(np.uint8)},
        {"q": "K"},
    ),
    "DequantizeLinear zero points": (
        "y = DequantizeLinear<axis=0>(x,s,z)",
        {"x": f(3, 2).astype(np.uint8), "s": f(3), "z": f(3).astype(np.uint8)},
        {"z": f(2).astype(np.uint8)},
        {"z": "K"},
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_operands_that_do_not_fit_are_refused(name):
    body, fitting, changed, dims = MISFITS[name]
    feeds = fitting | changed
    with pytest.raises(TesselError) as error:
        run(body, feeds)
    assert body.split("=")[1].split("<")[0].split("(")[0].strip() in str(error.value)
    exe = tessel.compile(made(body, fitting, dims), threads=1)
    with pytest.raises(TesselError):
        exe.run(feeds)
    np.testing.assert_array_equal(exe.run(fitting)["y"], run(body, fitting))


# -- what holds nothing -----------------------------------------------------------------------

EMPTY = {
    "Resize": (
        'y = Resize<mode="linear">(x,,,s)',
        {"x": f(1, 1, 0, 4), "s": np.array([1, 1, 4, 4])},
        {"x": "1,1,H,4"},
    ),
    "RoiAlign": (
        "y = RoiAlign<output_height=2,output_width=2,sampling_ratio=2>(x,r,b)",
        {"x": f(0, 1, 4, 4), "r": f(2, 4), "b": zeros(2)},
        {"x": "N,1,4,4"},
    ),
    "Pad": (
        'y = Pad<mode="edge">(x,p)',
        {"x": f(0, 2), "p": np.array([1, 0, 1, 0])},
        {"x": "N,2"},
    ),
    "GridSample": (
        "y = GridSample(x,g)",
        {"x": f(1, 1, 0, 4), "g": f(1, 2, 2, 2)},
        {"x": "1,1,H,4"},
    ),
}


@pytest.mark.parametrize("name", EMPTY)
def test_nothing_is_read_of_what_is_empty(name):
    body, feeds, dims = EMPTY[name]
    with pytest.raises(TesselError):
        run(body, feeds, dims)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("op", ["ScatterElements<axis=0,", "ScatterND<"])
def test_nothing_is_stored_to_what_is_empty(op, reduction):
    body = f'y = {op}reduction="{reduction}">(x,i,u)'
    feeds = {"x": f(0, 2), "i": zeros(1, 2 if "Elements" in op else 1), "u": f(1, 2)}
    with contextlib.suppress(TesselError):  # no index is inside of nothing
        assert run(body, feeds, {"x": "N,2"}).shape == (0, 2)


def test_a_gather_of_nothing_gives_nothing_that_was_not_there():
    feeds = {"x": f(0, 2), "i": zeros(3)}
    with contextlib.suppress(TesselError):
        assert not run("y = Gather<axis=0>(x,i)", feeds, {"x": "N,2"}).any()


# -- operators that say themselves what does not fit --------------------------------------------


@pytest.mark.parametrize("dims", [None, {"x": "N,2", "c": "M"}])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_compress_takes_as_much_of_the_condition_as_there_is(n, dims):
    feeds = {"x": f(3, 2), "c": np.arange(n) != 1}
    model = made("y = Compress<axis=0>(x,c)", feeds, dims)
    received = tessel.compile(model, threads=1).run(feeds)["y"]
    np.testing.assert_array_equal(received, *onnxruntime(model, *feeds.values()))


@pytest.mark.parametrize("dims", [None, {"b": "1,K,4", "s": "1,1,S"}])
def test_non_max_suppression_wants_a_score_for_each_box(dims):
    body = "z = NonMaxSuppression(b,s,m,i,t) y = Cast<to=1>(z)"
    one = np.ones(1, np.float32)
    feeds = {"b": f(1, 3, 4), "s": f(1, 1, 3), "m": np.array([5]), "i": one, "t": -one}
    assert run(body, feeds, dims).shape == (3, 3)
    with pytest.raises(TesselError):
        run(body, feeds | {"s": f(1, 1, 40)}, dims)


# -- records --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "operands", "attrs"),
    [
        ("gather_elements", [f(2, 3), zeros(3, 3)], {"axis": 1}),
        ("scatter_elements", [f(2, 3), zeros(3, 3), f(3, 3)], {"axis": 1}),
        ("cache_update", [f(2, 4, 3), f(2, 1, 3), zeros(3)], {}),
        ("suppress", [f(1, 3, 4), f(1, 1, 4), f()], {"steps": 2}),
        ("max_unpool", [f(1, 1, 2), zeros(1, 1, 3)], {"kernel": (2,), "sizes": (4,)}),
        ("deform_conv", [f(1, 1, 4), f(2, 1, 2), f(1, 2, 3), f(3)], {}),
        ("roi_max_pool", [f(0, 1, 4, 4), f(2, 5)], {"size": (2, 2)}),
        ("pad", [f(0, 2)], {"pads": (1, 0, 1, 0), "mode": "reflect"}),
    ],
)
def test_records_refuse_operands_that_do_not_fit(op, operands, attrs):
    b = Builder()
    inputs = [b.input(f"x{i}", tensor_type_of(x)) for i, x in enumerate(operands)]
    with pytest.raises(TypeMismatch):
        b.emit(op, *inputs, **attrs)


def test_the_error_of_a_run_names_the_sizes_and_the_node():
    body, fitting, changed, dims = MISFITS["Conv bias"]
    exe = tessel.compile(made(body, fitting, dims), threads=1)
    with pytest.raises(InputError, match="M=40, K=2") as error:
        exe.run(fitting | changed)
    assert "Conv" in error.value.where and error.value.expected == "[40]"
