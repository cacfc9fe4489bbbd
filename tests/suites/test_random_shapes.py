"""Random graphs of shape arithmetic at sizes that nobody planned, against ONNX Runtime.

`python -m tests.random_shapes --help` runs more of them, and shows what is wrong with one.
"""

import numpy as np
import pytest
from onnx import TensorProto, helper
from tessel.compiler.errors import UnsupportedError

from ..random_shapes.check import KNOWN, is_failure, outcomes, smallest
from ..random_shapes.draw import Drawn, draw

SEEDS, EACH = 40, 8


@pytest.mark.parametrize("first", range(0, SEEDS, EACH))
def test_graphs_agree_with_onnx_runtime(first):
    found = {seed: outcomes(draw(seed)) for seed in range(first, first + EACH)}
    wrong = {seed: [o for o in own if is_failure(o)] for seed, own in found.items()}
    assert not {seed: own[0] for seed, own in wrong.items() if own}
    assert sum(o.kind == "same" for own in found.values() for o in own) > 4 * EACH


def test_a_seed_stands_for_one_model():
    first, again = draw(3), draw(3)
    assert first.model == again.model != draw(4).model
    assert len(first.feeds) == 6
    for a, b in zip(first.feeds, again.feeds):
        assert all(np.array_equal(a[name], b[name]) for name in a)


def of(*nodes, feeds: dict) -> Drawn:
    """A model of one input, drawn by hand."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(op, reads, [made], **attrs) for op, reads, made, attrs in nodes],
        "g",
        [info("x", TensorProto.FLOAT, ["N"])],
        [info(nodes[-1][2], TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return Drawn(0, model, [feeds])


def test_a_wrong_value_is_a_failure_and_its_part_is_shown():
    """The mean of nothing, which ONNX leaves open, is drawn by no seed."""
    nodes = [("Relu", ["x"], "a", {}), ("ReduceMean", ["a"], "b", {}), ("Neg", ["b"], "c", {})]
    drawn = of(*nodes, feeds={"x": np.zeros(0, np.float32)})
    (outcome,) = outcomes(drawn, "interpreter")
    assert outcome.kind == "wrong" and "nan" in outcome.message
    part = smallest(drawn, "interpreter")
    assert [n.op_type for n in part.model.graph.node] == ["Relu", "ReduceMean"]


def test_what_tessel_alone_refuses_is_a_failure(monkeypatch):
    def refuse(*_, **__):
        raise UnsupportedError("words of the refusal")

    feeds = {"x": np.ones(3, np.float32)}
    (both,) = outcomes(of(("MatMul", ["x", "none"], "y", {}), feeds=feeds))
    assert (both.kind, is_failure(both)) == ("both refuse", False)
    monkeypatch.setattr("tessel.compile", refuse)
    (alone,) = outcomes(of(("Relu", ["x"], "y", {}), feeds=feeds))
    assert (alone.kind, is_failure(alone)) == ("refused", True)
    monkeypatch.setitem(KNOWN, "of the refusal", "a reason")
    (known,) = outcomes(of(("Relu", ["x"], "y", {}), feeds=feeds))
    assert (known.kind, is_failure(known)) == ("known", False)
