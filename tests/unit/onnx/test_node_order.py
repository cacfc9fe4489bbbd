"""Files whose nodes are not in order, as some tools leave them."""

import numpy as np
import pytest
from tessel.compiler.errors import ModelError
from tessel.frontends.onnx.file.order import in_order

from ...support.onnx_models import model, rand, run


def test_nodes_in_order_stay_as_they_are():
    nodes = model("a = Relu(x) y = Neg(a)").graph.node
    assert in_order(nodes) is nodes


def test_nodes_are_sorted_and_the_earlier_ones_of_a_file_come_first():
    nodes = model("y = Add(b, a) d = Neg(x) a = Relu(c) b = Abs(x) c = Exp(x)").graph.node
    assert [n.output[0] for n in in_order(nodes)] == ["d", "b", "c", "a", "y"]


def test_a_model_out_of_order_computes_what_it_means():
    x = rand(2, 3)
    (y,) = run(model("y = Add(b, a) a = Relu(x) b = Neg(a)"), x)
    np.testing.assert_array_equal(y, np.zeros((2, 3), np.float32))


def test_what_a_branch_reads_from_outside_comes_before_it():
    body = """
        y = If(c) <then_branch = t () => (float[2,3] u) { u = Neg(late) },
                   else_branch = e () => (float[2,3] v) { v = Abs(late) }>
        late = Relu(x)
    """
    proto = model(body, inputs="float[2,3] x, bool c")
    x = rand(2, 3)
    for c in (True, False):
        (y,) = run(proto, x, np.array(c))
        np.testing.assert_array_equal(y, np.maximum(x, 0) * (-1 if c else 1))


def test_a_cycle_is_named():
    with pytest.raises(ModelError, match="'b' is used before it is made: nodes form a cycle"):
        run(model("y = Add(x, a) a = Relu(b) b = Neg(a)"), rand(2, 3))
