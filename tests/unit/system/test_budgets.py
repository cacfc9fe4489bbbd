"""Small models that mean much: what they may cost, and who may raise it."""

from itertools import pairwise

import numpy as np
import pytest
import tessel
from onnx import helper as H
from onnx import numpy_helper, parser
from tessel.compiler.errors import UsageError
from tessel.compiler.passes.cleanup import FoldConstants
from tessel.compiler.system.budgets import SPENT, LimitError, Limits

OPSETS = [H.make_opsetid("", 21), H.make_opsetid("own", 1)]
X = np.array([-1, 2], np.float32)


def text(body, ins="float[2] x", outs="float[A] y"):
    return parser.parse_model(
        f'<ir_version: 9, opset_import: ["": 21]> g ({ins}) => ({outs}) {{ {body} }}'
    )


def functions(count, calls, last=(("Relu", ""),)):
    """A model that calls f0, which calls f1 so many times in a row, which calls f2, …"""

    def body(ops):
        names = [f"v{i}" for i in range(len(ops))] + ["b"]
        names[0] = "a"
        return [
            H.make_node(op, [names[i]], [names[i + 1]], domain=domain)
            for i, (op, domain) in enumerate(ops)
        ]

    made = [
        H.make_function(
            "own",
            f"f{i}",
            ["a"],
            ["b" if i < count - 1 or last else "a"],
            body([(f"f{i + 1}", "own")] * calls if i < count - 1 else list(last)),
            OPSETS,
        )
        for i in range(count)
    ]
    info = H.make_tensor_value_info
    graph = H.make_graph(
        [H.make_node("f0", ["x"], ["y"], domain="own")],
        "g",
        [info("x", 1, [2])],
        [info("y", 1, None)],
    )
    return H.make_model(graph, functions=made, opset_imports=OPSETS, ir_version=10)


def sparse(size):
    m = text("y = Add(x, w)", "float[1] x")
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    places = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    m.graph.sparse_initializer.append(H.make_sparse_tensor(values, places, [size]))
    return m


def doubling(count):
    """A constant of four zeros, put together with itself again and again."""
    names = ["w", *(f"v{i}" for i in range(count))]
    nodes = [H.make_node("Concat", [a, a], [b], b, axis=0) for a, b in pairwise(names)]
    nodes.append(H.make_node("ReduceSum", [names[-1]], ["y"]))
    graph = H.make_graph(
        nodes,
        "g",
        [],
        [H.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(np.ones(4, np.float32), "w")],
    )
    return H.make_model(graph, opset_imports=OPSETS[:1], ir_version=10)


def nested(count):
    """If in If in If."""
    node = H.make_node("Relu", ["x"], ["y"])
    for _ in range(count):
        branches = [
            H.make_graph([n], "b", [], [H.make_tensor_value_info("y", 1, [2])])
            for n in (node, H.make_node("Neg", ["x"], ["y"]))
        ]
        node = H.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    model = text("y = Relu(x)", "float[2] x, bool c")
    model.graph.node[0].CopyFrom(node)
    return model


REFUSED = {
    "functions that double": (lambda: functions(30, 2), "nodes"),
    "functions that double and do nothing": (lambda: functions(60, 2, last=()), "nesting"),
    "doubling without a node": (lambda: functions(30, 2, last=()), "nodes"),
    "functions inside of each other": (lambda: functions(2000, 1), "nesting"),
    "a sparse tensor of 4 TiB": (lambda: sparse(1 << 40), "dense"),
    "a sequence of a million": (
        lambda: text(
            "s = SplitToSequence<axis=0,keepdims=1>(x) y = ConcatFromSequence<axis=0>(s)",
            "float[1000000] x",
        ),
        "nodes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_costs_too_much_is_refused_by_name(name):
    model, limit = REFUSED[name]
    with pytest.raises(LimitError) as caught:
        tessel.from_onnx(model(), limits={"nodes": 5000})  # the default takes seconds to reach
    assert f"limits: {limit}" in caught.value.expected
    assert f"--limit {limit}=" in caught.value.fix


def test_who_raises_a_limit_gets_further():
    limits = {"nesting": 60}
    assert len(tessel.from_onnx(functions(50, 1), limits=limits).nodes) == 1
    with pytest.raises(LimitError, match="too many nodes"):
        tessel.from_onnx(functions(8, 3), limits={"nodes": 100})
    assert len(tessel.from_onnx(functions(8, 3)).nodes) == 3**7
    exe = tessel.compile(sparse(1 << 10), limits=Limits(dense=1 << 12), threads=1)
    assert exe(np.ones(1, np.float32))[0] == 2
    with pytest.raises(LimitError):
        tessel.compile(sparse(1 << 10), limits=Limits(dense=1 << 11))


def test_several_sparse_tensors_have_one_budget():
    m = sparse(1 << 10)
    other = m.graph.sparse_initializer.add()
    other.CopyFrom(m.graph.sparse_initializer[0])
    other.values.name = "v"
    with pytest.raises(LimitError, match="8,192 bytes"):
        tessel.from_onnx(m, limits={"dense": 5000})


@pytest.mark.parametrize("count", [4, 38])
def test_what_models_do_is_within_the_defaults(count):
    exe = tessel.compile(functions(count, 1), threads=1)
    np.testing.assert_array_equal(exe(X), [0, 2])


def test_branches_as_deep_as_protobuf_takes():
    exe = tessel.compile(nested(24), threads=1)
    np.testing.assert_array_equal(exe.run({"x": X, "c": np.array(True)})["y"], [0, 2])
    with pytest.raises(LimitError, match="nested too deep"):
        tessel.from_onnx(nested(24), limits={"nesting": 20})


def test_constants_past_their_budget_are_left_to_the_run():
    exe = tessel.compile(doubling(20), threads=1, limits={"folded": 1 << 20})
    assert exe.run({})["y"].item() == 4 << 20
    assert [n for n in exe.notes if SPENT in n and "(limits: folded): concat at v" in n]
    names = [n.op.name for n in exe.graph.nodes]
    assert "concat" in names


def test_constants_within_their_budget_are_folded():
    exe = tessel.compile(doubling(20), threads=1)
    assert exe.run({})["y"].item() == 4 << 20 and exe.notes == []
    assert [n.op.name for n in exe.graph.nodes] == ["constant"]


def test_what_one_pass_leaves_the_next_one_leaves_too():
    """Else each pass would double what is there."""
    graph = tessel.from_onnx(doubling(20), limits={"folded": 1 << 20})
    sizes = []
    for _ in range(4):
        graph, _ = FoldConstants()(graph)
        sizes.append(sum(n.attrs["value"].nbytes for n in graph.nodes if n.op.name == "constant"))
    assert len(set(sizes)) == 1 and sizes[0] < 3 << 20


def test_a_model_s_own_weights_come_on_top():
    """Weights of any size may be transposed, widened and scaled while compiling."""
    m = text("t = Transpose(w) f = Cast<to=1>(t) s = Mul(f, f) y = MatMul(x, s)", "float[4,512] x")
    weights = np.ones((256, 512), np.float16)
    m.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    graph, _ = FoldConstants()(tessel.from_onnx(m, limits={"folded": 300_000}))
    assert [n.op.name for n in graph.nodes if n.op.name != "constant"] == ["matmul"]


def test_a_graph_has_limits_too():
    graph = tessel.from_onnx(doubling(20))
    assert tessel.compile(graph, threads=1, limits={"folded": 1 << 20}).notes
    assert graph.metadata == {}


@pytest.mark.parametrize(
    "limits", [{"memory": 1}, {"nodes": -1}, {"nodes": "1"}, 7, {"nodes": 1.5}]
)
def test_limits_that_are_none(limits):
    with pytest.raises(UsageError, match="limit"):
        tessel.compile(functions(2, 1), limits=limits)


def test_an_operand_of_many_numbers_decides_no_shape():
    ports = "(float[1,3] x, int64[65536] p) => (float[A,B] y)"
    proto = parser.parse_model(
        f'<ir_version: 9, opset_import: ["": 21]> g {ports} {{ y = Pad(x, p) }}'
    )
    feeds = {"x": np.ones((1, 3), np.float32), "p": np.zeros(65536, np.int64)}
    with pytest.raises(tessel.TesselError):
        tessel.compile(proto).run(feeds)
