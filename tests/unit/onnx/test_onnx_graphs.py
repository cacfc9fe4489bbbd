"""ONNX graphs in graphs: If, Loop, Scan, functions, sequences; and other domains."""

import numpy as np
import pytest
from tessel.compiler.errors import InputError
from tessel.compiler.ir.metadata.known_values import IMPOSSIBLE

from ...support.onnx_models import (
    assert_agrees,
    assert_equal,
    graph_of,
    model,
    onnxruntime,
    ops,
    rand,
    run,
)

# -- graphs in graphs ---------------------------------------------------------------------

IF = """
    y = If(c) <
        then_branch = a () => (float[2,3] t) { t = Add(x, w) },
        else_branch = b () => (float[2,3] e) { two = Constant<value_float=2.0>() e = Mul(x, two) }
    >
"""


def test_if_becomes_closed_regions():
    proto = model("w = Relu(x) " + IF, inputs="bool c, float[2,3] x")
    graph = graph_of(proto)
    assert ops(graph) == ["relu", "if"]
    assert [v.name for v in graph.nodes[-1].inputs[1:]] == ["x", "w"]
    x = rand(2, 3)
    assert_equal(run(proto, True, x), [x + np.maximum(x, 0)])
    assert_equal(run(proto, False, x), [x * 2])


def test_a_known_condition_leaves_one_branch():
    proto = model(
        """
        n = Size(x)
        six = Constant<value_int=6>()
        c = Equal(n, six)
        w = Relu(x)
        """
        + IF
    )
    assert ops(graph_of(proto)) == ["relu", "add"]


def test_nested_ifs_capture_through_both():
    proto = model(
        """
        y = If(c) <
            then_branch = a () => (float[2,3] t) {
                t = If(d) <
                    then_branch = p () => (float[2,3] u) { u = Neg(x) },
                    else_branch = q () => (float[2,3] v) { v = Abs(x) }
                >
            },
            else_branch = b () => (float[2,3] e) { e = Identity(x) }
        >
        """,
        inputs="bool c, bool d, float[2,3] x",
    )
    x = rand(2, 3)
    assert_equal(run(proto, True, True, x), [-x])
    assert_equal(run(proto, True, False, x), [np.abs(x)])
    assert_equal(run(proto, False, False, x), [x])


def test_taking_a_branch_that_contradicts_the_shapes_fails():
    body = """
        y = If(c) <
            then_branch = a () => (float[2,3] t) { t = Add(x, ok) },
            else_branch = b () => (float[2,3] e) { e = Add(x, bad) }
        >
    """
    proto = model(body, inputs="bool c, float[2,3] x, float[3] ok, float[4] bad")
    graph = graph_of(proto)
    assert "else_branch" in graph.metadata[IMPOSSIBLE]
    x, ok, bad = rand(2, 3), rand(3), rand(4)
    assert_equal(run(proto, True, x, ok, bad), [x + ok])
    with pytest.raises(InputError, match=r"the inputs choose a branch .* impossible: .*4.* at "):
        run(proto, False, x, ok, bad)


LOOP = """
    y, s = Loop(m, go, x) <
        body = b (int64 i, bool c, float[2] h) => (bool c2, float[2] n, float[2] o) {
        c2 = Identity(c)
        f = Cast<to=1>(i)
        n = Add(h, f)
        o = Neg(n)
    }
    >
"""


@pytest.mark.parametrize(("turns", "left"), [(3, "add"), (300, "scan")])
def test_loops(turns, left):
    proto = model(
        f"m = Constant<value_int={turns}>() go = Constant<value=bool {{1}}>()" + LOOP,
        inputs="float[2] x",
        outputs="float[2] y, float[K,2] s",
    )
    assert left in ops(graph_of(proto))
    assert_agrees(proto, rand(2))


def test_scan_backwards_along_any_axis():
    proto = model(
        """
        y, s = Scan<num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1],
                    scan_input_directions=[1],
                    body = b (float[2] h, float[2] e) => (float[2] n, float[2] o) {
            n = Add(h, e)
            o = Mul(n, e)
        }>(h0, x)
        """,
        inputs="float[2] h0, float[2,5] x",
        outputs="float[2] y, float[2,5] s",
    )
    assert ops(graph_of(proto)).count("scan") == 1
    assert_agrees(proto, rand(2), rand(2, 5))


def test_functions_are_inlined_with_their_attributes():
    functions = """
    <domain: "local", opset_import: ["": 21]>
    Twice <a> (x, absent) => (y) { t = LeakyRelu<alpha: float = @a>(x) y = Add(t, t) }

    <domain: "local", opset_import: ["": 21, "local": 1]>
    Outer <a> (x) => (z) { z = local.Twice<a: float = @a>(x) }
    """
    proto = model("y = local.Outer<a=0.5>(x)", extra=', "local": 1', functions=functions)
    graph = graph_of(proto)
    assert ops(graph) == ["leaky_relu", "add"]
    assert graph.nodes[0].origin == "Outer#0/Twice#0/LeakyRelu#0"
    x = rand(2, 3)
    assert_equal(run(proto, x), [2 * np.where(x > 0, x, 0.5 * x)])


def test_standard_functions_stand_in_for_missing_ops():
    proto = model(
        "y = MeanVarianceNormalization<axes=[0, 2, 3]>(x)",
        inputs="float[2,3,4,4] x",
        outputs="float[2,3,4,4] y",
    )
    assert_agrees(proto, rand(2, 3, 4, 4), rtol=1e-4, atol=1e-5)


def test_sequences_dissolve():
    proto = model(
        """
        s = SequenceConstruct(x, z)
        i = Constant<value_int=-1>()
        t = SequenceAt(s, i)
        u = SequenceInsert(s, t)
        y = ConcatFromSequence<axis=0>(u)
        """,
        inputs="float[2] x, float[2] z",
        outputs="float[6] y",
    )
    assert ops(graph_of(proto)) == ["concat"]
    assert_agrees(proto, rand(2), rand(2, seed=1))


# -- domains ------------------------------------------------------------------------------


def test_microsoft_operators():
    proto = model(
        "y = com.microsoft.FusedMatMul<transB=1, alpha=0.5>(x, w)",
        extra=', "com.microsoft": 1',
        inputs="float[2,3] x, float[4,3] w",
        outputs="float[2,4] y",
    )
    assert_agrees(proto, rand(2, 3), rand(4, 3))
    skip = model(
        "y, m, v, t = com.microsoft.SkipLayerNormalization<epsilon=0.00001>(x, x, g, b)",
        extra=', "com.microsoft": 1',
        inputs="float[1,2,3] x, float[3] g, float[3] b",
        outputs="float[1,2,3] y, float[1,2,3] t",
    )
    skip.graph.node[0].output[1] = skip.graph.node[0].output[2] = ""
    assert_agrees(skip, rand(1, 2, 3), rand(3), rand(3, seed=2), rtol=1e-4)


def test_a_classifier_gives_a_sequence_of_maps():
    proto = model(
        """
        label, p = ai.onnx.ml.LinearClassifier<classlabels_ints=[3, 5], post_transform="SOFTMAX",
            coefficients=[1.0, 0.0, 0.0, 1.0], intercepts=[0.0, 0.5]>(x)
        maps = ai.onnx.ml.ZipMap<classlabels_int64s=[3, 5]>(p)
        """,
        extra=', "ai.onnx.ml": 1',
        inputs="float[N,2] x",
        outputs="int64[N] label, seq(map(int64, float)) maps",
    )
    graph = graph_of(proto)
    assert str(graph.outputs[1].type) == "seq(map(i64,f32[]))"
    x = rand(4, 2)
    (label, maps), (want_label, want_maps) = run(proto, x), onnxruntime(proto, x)
    assert label.tolist() == want_label.tolist()
    for got, want in zip(maps, want_maps):
        assert got.keys() == want.keys()
        np.testing.assert_allclose([got[k] for k in got], [want[k] for k in got], rtol=1e-5)
