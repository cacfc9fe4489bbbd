"""Functions of ONNX models: with attributes, calling each other, of one name."""

import numpy as np
import pytest
import tessel
from onnx.reference import ReferenceEvaluator
from tessel.compiler.errors import ModelError
from tessel.frontends.onnx.importer import read

from ...support.onnx_models import model, rand

FUNCTIONS = """
    <domain: "local", opset_import: ["": 21, "local": 1]>
    Scaled <by> (x) => (y) { f = Constant<value_float: float = @by>() y = Mul(x, f) }

    <domain: "local", opset_import: ["": 21, "local": 1]>
    Twice <by> (x, c) => (y) {
        s = local.Scaled <by: float = @by>(x)
        y = If(c) <
            then_branch = t () => (float[2,3] v) { v = local.Scaled <by: float = @by>(s) },
            else_branch = e () => (float[2,3] v) { v = Neg(s) }
        >
    }
"""


def test_functions_call_functions_with_their_attributes():
    proto = model(
        "y = local.Twice<by = 3.0>(x, c)",
        inputs="float[2,3] x, bool c",
        extra=', "local": 1',
        functions=FUNCTIONS,
    )
    x = rand(2, 3)
    for c in (True, False):
        want = ReferenceEvaluator(proto).run(None, {"x": x, "c": np.array(c)})[0]
        np.testing.assert_allclose(tessel.compile(proto)(x, np.array(c)), want, 1e-6)


def test_functions_of_one_name_differ_by_their_overload():
    proto = model(
        "y = local.F(x)",
        extra=', "local": 1',
        functions="""
        <domain: "local", opset_import: ["": 21]> F (x) => (y) { y = Neg(x) }
        <domain: "local", opset_import: ["": 21]> G (x) => (y) { y = Abs(x) }
    """,
    )
    for f, overload in zip(proto.functions, ("a", "b")):
        f.name, f.overload = "F", overload
    x = rand(2, 3)
    for overload, want in (("a", -x), ("b", np.abs(x))):
        proto.graph.node[0].overload = overload
        np.testing.assert_array_equal(tessel.compile(proto)(x), want)


def test_functions_must_not_call_themselves():
    functions = """
        <domain: "local", opset_import: ["": 21, "local": 1]> F (x) => (y) { y = local.G(x) }
        <domain: "local", opset_import: ["": 21, "local": 1]> G (x) => (y) { y = local.F(x) }
    """
    proto = model("y = local.F(x)", extra=', "local": 1', functions=functions)
    with pytest.raises(ModelError, match="a function calls itself"):
        read(proto)
