"""Ops of users are fused like tessel's own that mean the same: kernels are compared, not times."""

import importlib.util

import numpy as np
import pytest
from tessel import ops
from tessel.compiler.backends.numpy import NumpyModule
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.op import OPS
from tessel.compiler.kernels.contraction import find_contraction
from tessel.compiler.lowering.fuse import plan_fusion
from tessel.compiler.lowering.kinds import Kinds
from tessel.compiler.lowering.lower import lower
from tessel.compiler.lowering.reading import Kind

from ...support.graphs import inputs_of

s = ops.expr


@pytest.fixture
def register():
    """`register(name, operands, shape, loops)`: an op of a user, forgotten after the test."""
    before = set(OPS)

    def add(name, operands, shape, loops, **attrs):
        ops.register(
            name,
            f"{operands} -> T",
            "An op of a test.",
            T="float",
            shape=shape,
            loops=loops,
            ref=lambda *xs, **a: np.zeros(0),
            grad=ops.NotDifferentiable("of a test"),
            **attrs,
            samples=lambda: [ops.Sample((np.ones((2, 2), np.float32),))],
        )

    yield add
    for name in set(OPS) - before:
        ops.unregister(name)


@pytest.fixture
def example(root):
    """examples/custom_ops.py with its ops registered."""
    spec = importlib.util.spec_from_file_location("custom_ops", root / "examples" / "custom_ops.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names = module.register_ops()
    yield module
    for name in names:
        ops.unregister(name)


def graph(build, *types):
    b = Builder()
    b.output("y", build(b, *[b.input(f"x{i}", t) for i, t in enumerate(types)]))
    return b.graph


def kernels(build, *types):
    """The kernels as text, whatever they are called."""
    return [call.kernel.text() for call in lower(graph(build, *types)).kernels()]


def kind(build, *types):
    return Kinds()[graph(build, *types).nodes[-1]]


def product(out, a, b):
    """out[i, j] = sum over k of a[i, k] b[k, j]"""
    return lambda i, j: s.reduce_sum([a.shape[1]], lambda k: a[i, k] * b[k, j])


def add_product(register):
    register("product", "a: T, b: T", lambda a, b: (a.shape[0], b.shape[1]), ops.Pull(product))


# -- reductions and products -----------------------------------------------------------------------


def test_a_users_distances_before_a_softmax_are_summed_once(example):
    def own(b, x, y):
        return b.softmax(b.distances(x, y), axis=1)

    def builtin(b, x, y):
        d = x.reshape(80, 1, 30) - y.reshape(1, 70, 30)
        return b.softmax(b.reduce_sum(d * d, axes=[2], keepdims=False), axis=1)

    types = ["f32[80,30]", "f32[70,30]"]
    assert kernels(own, *types) == kernels(builtin, *types)
    assert len(kernels(own, *types)) == 2
    g = graph(own, *types)
    assert "softmax would compute the distances again" in plan_fusion(g).reasons.values()
    arrays = inputs_of(g)
    np.testing.assert_allclose(
        NumpyModule(lower(g))(arrays)[0], interpret(g, arrays)[0], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "around",
    [
        lambda b, y: b.softmax(y, axis=1),
        lambda b, y: b.relu(y * 2.0),
        lambda b, y: b.neg(y)[:40],
        lambda b, y: b.transpose(y, perm=(1, 0)),
    ],
)
@pytest.mark.parametrize("before", [lambda b, x: b.exp(x), lambda b, x: x])
def test_a_users_product_is_fused_and_scheduled_like_matmul(register, around, before):
    add_product(register)
    types = ["f32[80,70]", "f32[70,60]"]
    own = lambda b, x, w: around(b, b.product(before(b, x), w))
    builtin = lambda b, x, w: around(b, b.matmul(before(b, x), w))
    assert kernels(own, *types) == kernels(builtin, *types)
    assert any(find_contraction(c.kernel) for c in lower(graph(own, *types)).kernels())


def test_a_users_reduction_joins_what_reads_its_rows(register):
    def spread(out, x):
        return lambda i, _: s.reduce("max", [x.shape[1]], lambda k: s.abs(x[i, k]))

    register("spread", "x: T", lambda x: (x.shape[0], 1), ops.Pull(spread))
    own = lambda b, x: b.exp(x - b.spread(x))
    builtin = lambda b, x: b.exp(x - b.reduce_max(b.abs(x), axes=[1]))
    assert kernels(own, "f32[80,70]") == kernels(builtin, "f32[80,70]")
    assert len(kernels(own, "f32[80,70]")) == 1


# -- kinds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (lambda out, x: lambda i, j: s.tanh(x[i, j]) * 2.0, Kind.MAP),
        (lambda out, x: lambda i, j: x[j, i], Kind.MOVE),
        (lambda out, x: lambda i, j: x[i, j] + x[j, i], Kind.MOVE),
        (lambda out, x: lambda i, j: s.cast(i * 9 + j, "f32"), Kind.MOVE),
        (lambda out, x: lambda i, j: s.reduce_sum([9], lambda k: x[i, k] * x[i, k]), Kind.WINDOW),
        (lambda out, x: lambda i, j: s.reduce_sum([9], lambda k: x[i, k] * x[k, j]), Kind.CONTRACT),
        (
            lambda out, x: lambda i, j: s.reduce("max", [3], lambda k: x[s.minimum(i + k, 8), j]),
            Kind.WINDOW,
        ),
    ],
)
def test_kinds_follow_from_expressions(register, rule, expected):
    register("made", "x: T", lambda x: x.shape, ops.Pull(rule))
    assert kind(lambda b, x: b.made(x), "f32[9,9]") == expected


def test_of_a_weighted_reduction_only_the_weights_are_read_again(register):
    def rule(out, x, w):
        return lambda i: s.reduce_sum([x.shape[1]], lambda k: s.abs(x[i, k] - w[k]))

    register("weighted", "x: T, w: T", lambda x, w: x.shape[:1], ops.Pull(rule))
    node = graph(lambda b, x, w: b.weighted(x, w), "f32[80,70]", "f32[70]").nodes[-1]
    kinds = Kinds()
    assert kinds[node] == Kind.REDUCE
    assert [kinds.again(node, i) for i in (0, 1)] == [False, True]


def test_places_that_are_data_follow_from_expressions(register):
    def rule(out, x, rows):
        return lambda n, j: x[s.inside(rows[n], x.shape[0]), j]

    register("pick", "x: T, rows: i64", lambda x, rows: (rows.shape[0], x.shape[1]), ops.Pull(rule))
    g = graph(lambda b, x, i: b.pick(b.exp(x), i), "f32[80,80]", "i64[5]")
    assert "pick reads it at computed places" in plan_fusion(g).reasons.values()
    assert Kinds().places(g.nodes[-1]) == {0}


def test_a_product_reads_a_users_index_map_in_place(register):
    register(
        "turned", "x: T", lambda x: x.shape[::-1], ops.Pull(lambda out, x: lambda i, j: x[j, i])
    )
    types = ["f32[70,80]", "f32[70,30]"]
    own = kernels(lambda b, x, w: b.matmul(b.turned(x), w), *types)
    assert own == kernels(lambda b, x, w: b.matmul(x.transpose(1, 0), w), *types)
    assert len(own) == 1


# -- stores ----------------------------------------------------------------------------------------


def beside(k, out, x, y):
    k.store(x.shape, lambda i, j: ((i, j), x[i, j]))
    k.store(y.shape, lambda i, j: ((i, j + x.shape[1]), y[i, j]))


def over(k, out, x, y):
    k.store(x.shape, lambda i, j: ((i, j), x[i, j]))
    k.store(y.shape, lambda i, j: ((i, j), y[i, j]))


@pytest.mark.parametrize(("emit", "whole"), [(beside, True), (over, False)])
def test_a_users_concatenation_is_stored_where_its_parts_are_computed(register, emit, whole):
    register(
        "joined",
        "x: T, y: T",
        lambda x, y: (x.shape[0], x.shape[1] + y.shape[1]),
        ops.Kernels(emit),
    )
    types = ["f32[80,70]", "f32[70,60]"]
    own = graph(lambda b, x, w: b.joined(b.matmul(x, w), b.exp(x)), *types)
    assert Kinds().stores_whole(own.nodes[-1]) == whole
    if whole:
        builtin = lambda b, x, w: b.concat(b.matmul(x, w), b.exp(x), axis=1)
        texts = [c.kernel.text() for c in lower(own).kernels()]
        assert texts == kernels(builtin, *types)
