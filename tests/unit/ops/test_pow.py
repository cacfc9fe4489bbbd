"""ONNX's Pow over all pairs of dtypes that ONNX Runtime has, and its gradients."""

import numpy as np
import pytest
import tessel
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret

from ...support.onnx_models import graph_of, model, onnxruntime

NAMES = {"f4": "float", "f8": "double", "f2": "float16", "i8": "int64", "i4": "int32"}
TOLERANCE = {"f2": 1e-3, "f4": 2e-7, "f8": 3e-16}
FLOATS = [0.0, -0.0, 1, 2, 0.5, -1, -2.5, 3, 1e3, 6e4, 7.3, np.inf, -np.inf, np.nan]
INTEGERS = [*range(-5, 30), 100, 125, 343, 4097, 5001, 40001, -4097]
WHOLE = [0, 1, 2, 3, 4, 5, 6, 11, -1, -2, -3]
FRACTIONS = [0.5, -0.5, 1.5, 2.5, 0.25]


def powers(base, exponent, y=None):
    """The model of x^y, with `y` as a constant if it is given."""
    inputs = f"{NAMES[base]}[n] x" + ("" if y is not None else f", {NAMES[exponent]}[m,1] y")
    proto = model("z = Pow(x, y)", inputs=inputs, outputs=f"{NAMES[base]}[m,n] z")
    if y is not None:
        from onnx import numpy_helper

        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(y, exponent), "y"))
        proto.graph.output[0].type.tensor_type.ClearField("shape")
    return proto


def defined(x, y, dtype):
    """Where the power fits the type, and is not lost in double precision: ONNX leaves open what
    integer powers beyond their type are."""
    with np.errstate(all="ignore"):
        true = np.abs(np.power(x.astype("f8"), y.astype("f8")))
    return true < min(2.0**53, 2.0 ** (8 * np.dtype(dtype).itemsize - 1))


@pytest.mark.parametrize("exponent", NAMES)
@pytest.mark.parametrize("base", NAMES)
def test_all_pairs_of_types_as_in_onnx_runtime(base, exponent):
    x = np.array(FLOATS if base[0] == "f" else INTEGERS, base)
    if base == "i8":
        x = np.append(x, [10**6, 16777217, 2**31 + 5, -(2**26) - 1])
    y = np.array(WHOLE + (FRACTIONS if exponent[0] == "f" else []), exponent)[:, None]
    proto = powers(base, exponent)
    (want,) = onnxruntime(proto, x, y)
    outputs = [interpret(graph_of(proto), [x, y])[0], tessel.compile(proto, cache=False)(x, y)]
    for got in outputs:
        if base[0] == "f":
            np.testing.assert_allclose(got.astype("f8"), want.astype("f8"), TOLERANCE[base])
        else:
            where = defined(x, y, base)
            np.testing.assert_array_equal(got[where], want[where])


@pytest.mark.parametrize("y", [2.0, 3.0, 0.5, 4.0, 5.0, -1.0])
def test_integers_to_a_constant_float_power(y):
    x = np.array(INTEGERS[5 if y < 1 else 0 :], np.int64)[1 if y < 0 else 0 :]
    proto = powers("i8", "f4", y)
    (want,) = onnxruntime(proto, x)
    got = tessel.compile(proto, target="numpy")(x)
    exact = np.array([int(v) ** int(y) for v in x.tolist()]) if y >= 2 else want
    where = np.abs(exact.astype("f8")) < 2.0**53
    np.testing.assert_array_equal(got[where], want[where])
    np.testing.assert_array_equal(got[where], exact[where])


def test_the_last_bit_of_an_exponent_decides_the_sign():
    x, y = np.array([-1, -1], np.float32), np.array([[16777217], [16777216]], np.int64)
    got = tessel.compile(powers("f4", "i8"), target="numpy")(x, y)
    np.testing.assert_array_equal(got, [[-1, -1], [1, 1]])
    (want,) = onnxruntime(powers("f4", "i8"), x, y)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("base", "exponent"), [("f8", "i8"), ("f4", "f8"), ("f8", "f4")])
def test_gradients_reach_operands_of_other_types(base, exponent):
    x = np.array([0.7, 1.3, 2.1], base)
    y = np.array([[2], [3]], exponent)
    proto = powers(base, exponent)
    proto.graph.node.add(op_type="ReduceSum", input=["z"], output=["s"]).attribute.add(
        name="keepdims", type=2, i=0
    )
    proto.graph.output[0].name = "s"
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    step = tessel.gradients(graph_of(proto), wrt=["x"])
    _, found = interpret(step, [x, y])
    want = (y.astype("f8") * x.astype("f8") ** (y - 1.0)).sum(0)
    np.testing.assert_allclose(found, want, 1e-5)


def test_integers_that_overflow_wrap_around():
    """As in numpy; ONNX leaves it open."""
    base, exponent = np.array([2, 3, -3, 7]), np.array([64, 71, 65, 100])
    b = Builder()
    b.output("y", b.pow(b.input("x", "i64[4]"), b.input("e", "i64[4]")))
    with np.errstate(all="ignore"):
        expected = base**exponent
    np.testing.assert_array_equal(tessel.compile(b.graph, threads=1)(base, exponent), expected)
