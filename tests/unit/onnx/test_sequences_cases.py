"""Sequences and optionals through loops, branches and functions, against ONNX's own evaluator, or
against what the operators' texts say where that cannot run a case."""

import numpy as np
import pytest
import tessel
from onnx.reference import ReferenceEvaluator

from ...support.onnx_models import model, rand
from .test_sequences import assert_same

S = "seq(float[?,3]) xs"
OUT = "seq(float[?,3]) y"
XS = [rand(2, 3), rand(1, 3, seed=1), rand(3, 3, seed=2)]
ROWS = [rand(3), rand(3, seed=1), rand(3, seed=2)]
GO = "go = Constant<value = bool {1}>()"
CHOOSE = """
    h = OptionalHasElement(o)
    y = If(h) <
        then_branch = t () => (seq(float[?,3]) v) { v = OptionalGetElement(o) },
        else_branch = e () => (seq(float[?,3]) v) { v = SequenceConstruct(x, x) }
    >
"""
# An optional state that is empty in the first turn: x, -x, -2 x, -4 x, …
FIRST = """
    y, z = Loop(m, go, o, x) <
        body = f (int64 i, bool c, optional(float[3]) p, float[3] v)
            => (bool c2, optional(float[3]) p2, float[3] v2) {
            c2 = Identity(c)
            h = OptionalHasElement(p)
            v2 = If(h) <
                then_branch = t () => (float[3] r) { e = OptionalGetElement(p) r = Add(e, v) },
                else_branch = e () => (float[3] r) { r = Neg(v) }
            >
            p2 = Optional(v2)
        }
    >
"""
LOCAL = {"extra": ', "local": 1'}

CASES = {
    "a position from behind": (
        "i = Constant<value_int=-2>() y = SequenceAt(xs, i)",
        S,
        "float[?,3] y",
        [XS],
        None,
        {},
    ),
    "a new axis at the end": (
        "y = ConcatFromSequence<axis=-1, new_axis=1>(xs)",
        "seq(float[3]) xs",
        "float[3,k] y",
        [ROWS],
        None,
        {},
    ),
    "integers": (
        "i = Constant<value_int=1>() y = SequenceInsert(xs, a, i)",
        "seq(int64[?]) xs, int64[2] a",
        "seq(int64[?]) y",
        [[np.array([1]), np.array([2, 3])], np.array([7, 8])],
        None,
        {},
    ),
    "halves": (
        "y = ConcatFromSequence<axis=0>(xs)",
        "seq(float16[?]) xs",
        "float16[k] y",
        [[np.ones(2, np.float16), np.zeros(1, np.float16)]],
        None,
        {},
    ),
    "a list that begins empty": (
        "e = SequenceEmpty<dtype=7>() y = SequenceInsert(e, a) n = SequenceLength(y) "
        "m = SequenceLength(e)",
        "int64[2] a",
        "seq(int64[?]) y, int64 n, int64 m",
        [np.array([7, 8])],
        None,
        {},
    ),
    "shapes of a list's items": (
        "y = ConcatFromSequence<axis=0>(xs) s = Shape(y) r = ReduceSum<keepdims=0>(y)",
        "seq(float[?,?]) xs",
        "float[?,?] y, int64[2] s, float r",
        [XS],
        None,
        {},
    ),
    "a map in a loop": (
        f"{GO} y = Loop(m, go, xs) <body = f (int64 i, bool c, {S.replace('xs', 's')}) => "
        "(bool c2, seq(float[?,3]) s2) { c2 = Identity(c) s2 = SequenceMap<body = g (float[?,3] v)"
        " => (float[?,3] w) { w = Add(v, v) }>(s) }>",
        f"int64 m, {S}",
        OUT,
        [np.array(3), XS],
        None,
        {},
    ),
    "a list turned round": (
        f"{GO} n = SequenceLength(xs) e = SequenceEmpty() y = Loop(n, go, e) <body = f (int64 i, "
        "bool c, seq(float[?,3]) s) => (bool c2, seq(float[?,3]) s2) { c2 = Identity(c) "
        "v = SequenceAt(xs, i) z = Constant<value_int=0>() s2 = SequenceInsert(s, v, z) }>",
        S,
        OUT,
        [XS],
        [XS[::-1]],
        {},
    ),
    "items by the turn of a loop": (
        f"{GO} y = Loop(m, go, x) <body = f (int64 i, bool c, float[3] s) => "
        "(bool c2, float[3] s2) { c2 = Identity(c) v = SequenceAt(xs, i) s2 = Add(s, v) }>",
        "int64 m, float[3] x, seq(float[3]) xs",
        "float[3] y",
        [np.array(2), ROWS[0], ROWS],
        None,
        {},
    ),
    "items stacked": (
        f"{GO} n = SequenceLength(xs) y = Loop(n, go) <body = f (int64 i, bool c) => "
        "(bool c2, float[3] v) { c2 = Identity(c) v = SequenceAt(xs, i) }>",
        "seq(float[3]) xs",
        "float[k,3] y",
        [ROWS],
        None,
        {},
    ),
    "an optional list that is there": (
        CHOOSE,
        "optional(seq(float[?,3])) o, float[2,3] x",
        OUT,
        [XS, rand(2, 3)],
        None,
        {},
    ),
    "an optional list that is not": (
        CHOOSE,
        "optional(seq(float[?,3])) o, float[2,3] x",
        OUT,
        [None, rand(2, 3)],
        None,
        {},
    ),
    "an optional state": (
        GO + FIRST,
        "int64 m, optional(float[3]) o, float[3] x",
        "optional(float[3]) y, float[3] z",
        [np.array(3), None, ROWS[0]],
        [-4 * ROWS[0], -4 * ROWS[0]],
        {},
    ),
    "a function of lists": (
        "y = local.F(xs)",
        S,
        "float[?,3] y",
        [XS],
        None,
        LOCAL
        | {
            "functions": '<domain: "local", opset_import: ["": 21]> F (s) => (y) '
            "{ n = SequenceErase(s) y = ConcatFromSequence<axis=0>(n) }"
        },
    ),
    "a function whose operand is absent": (
        "y = local.F(x)",
        "float[2,3] x",
        "float[2,3] y",
        [rand(2, 3)],
        [-rand(2, 3)],
        LOCAL
        | {
            "functions": '<domain: "local", opset_import: ["": 21]> F (x, b) => (y) '
            "{ h = OptionalHasElement(b) y = If(h) <then_branch = t () => (float[2,3] v) "
            "{ v = Add(x, b) }, else_branch = e () => (float[2,3] v) { v = Neg(x) }> }"
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_lists_and_optionals(name):
    body, inputs, outputs, values, want, options = CASES[name]
    proto = model(body, inputs=inputs, outputs=outputs, **options)
    feeds = dict(zip([i.name for i in proto.graph.input], values))
    if want is None:
        want = ReferenceEvaluator(proto).run(None, feeds)
    exe = tessel.compile(proto)
    assert_same(list(exe.run(feeds).values()), want)


def test_a_graph_with_further_outputs_takes_tensors():
    from tessel.frontends.onnx.importer import read

    proto = model(
        "j = ConcatFromSequence<axis=0>(xs) loss = ReduceSum<keepdims=0>(j)",
        inputs="seq(float[3]) xs",
        outputs="float loss",
    )
    graph = read(proto, structures={"xs": (1, 1)})
    assert tessel.compile(graph)(ROWS[:2]) == pytest.approx(sum(map(np.sum, ROWS[:2])), 1e-5)
    exe = tessel.compile(tessel.gradients(graph, wrt=["xs[1]"]))
    found = exe.run({"xs[0]": ROWS[0], "xs[1]": ROWS[1]})
    assert sorted(found) == ["d_xs[1]", "loss"]
    np.testing.assert_array_equal(found["d_xs[1]"], np.ones(3))
