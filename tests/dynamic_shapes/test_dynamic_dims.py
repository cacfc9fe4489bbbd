"""Sizes that are open while compiling: one piece of code for all of them, equal to the oracle."""

import itertools
import resource

import numpy as np
import pytest
import tessel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.backends.llvm.kernel.codegen import schedule_kernel
from tessel.compiler.errors import InputError
from tessel.compiler.ir.bounds import size_hints
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.specialize import specialize
from tessel.compiler.kernels.bind import bind
from tessel.compiler.lowering.lower import lower

from ..support.graphs import graphs

TARGETS = ["cpu", "cpu:x86-64-v3"]


def compiled(graph, target="cpu", threads=1, **options):
    """An executable whose code serves all sizes; fails where each needs its own."""
    exe = tessel.compile(graph, target=target, threads=threads, cache=False, **options)
    assert exe.for_all_sizes is not None, exe.notes
    return exe


def graph_of(make, **inputs):
    """`make(b, x, y, …)` over inputs of these types."""
    b = Builder()
    b.output("y", make(b, *[b.input(n, t) for n, t in inputs.items()]))
    return b.graph


def feeds_of(graph, sizes: dict, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    shapes = {v.name: v.type.substitute(sizes) for v in graph.inputs}
    return {
        n: (
            rng.standard_normal(t.shape) if t.dtype.is_float else rng.integers(0, 5, t.shape)
        ).astype(t.dtype.numpy)
        for n, t in shapes.items()
    }


def oracle(graph, sizes: dict, feeds: dict) -> list:
    return interpret(specialize(graph, sizes), list(feeds.values()))


def check(exe, graph, sizes: dict, rtol=1e-4):
    feeds = feeds_of(graph, sizes)
    for y, wanted in zip(exe.run(feeds).values(), oracle(graph, sizes, feeds)):
        assert y.shape == wanted.shape
        scale = max(1.0, np.abs(wanted).max(initial=0))
        np.testing.assert_allclose(y / scale, wanted / scale, rtol=0, atol=rtol, err_msg=str(sizes))


# -- whole graphs --------------------------------------------------------------------------


@given(graphs())
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_graphs_at_many_sizes(graph):
    exe = tessel.compile(graph, threads=1, cache=False)
    for n in (1, 2, 17, 40):
        feeds = feeds_of(graph, {"N": n})
        for y, wanted in zip(exe.run(feeds).values(), oracle(graph, {"N": n}, feeds)):
            np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-4)


@given(graphs(), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_a_bound_program_is_one_without_dynamic_dims(graph, n):
    program = bind(lower(graph, dynamic_shapes=True), {"N": n})
    assert all(t.is_static for t in (*program.inputs, *program.outputs))
    for call in program.kernels():
        assert "N" not in call.kernel.text()


# -- contractions: rows, columns, depth and batch open, alone and together ---------------------

EDGES = (1, 3, 8, 15, 16, 17, 28, 29, 31, 33, 64, 100)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rows", ["M", 40])
@pytest.mark.parametrize("depth", ["K", 24])
@pytest.mark.parametrize("columns", ["N", 48])
def test_products_of_any_size(rows, depth, columns, target):
    graph = graph_of(
        lambda b, x, w: b.relu(b.matmul(x, w)),
        x=f"f32[{rows},{depth}]",
        w=f"f32[{depth},{columns}]",
    )
    names = [d for d in (rows, depth, columns) if isinstance(d, str)]
    if not names:
        pytest.skip("nothing is open")
    exe = compiled(graph, target)
    for sizes in itertools.islice(itertools.product(EDGES, repeat=len(names)), 0, None, 7):
        check(exe, graph, dict(zip(names, sizes)))


@pytest.mark.parametrize("target", TARGETS)
def test_weights_are_packed_once_for_any_number_of_rows(target):
    w = np.random.default_rng(1).standard_normal((48, 100), np.float32)
    graph = graph_of(lambda b, x: b.matmul(x, b.constant(w)), x="f32[N,S,48]")
    exe = compiled(graph, target)
    for n, s in itertools.product((1, 2, 5), EDGES):
        check(exe, graph, {"N": n, "S": s})


@pytest.mark.parametrize("target", TARGETS)
def test_attention_over_open_sequences(target):
    def attend(b, q, k, v):
        scores = b.matmul(q, k.transpose(0, 1, 3, 2)) * 0.25
        return b.matmul(b.softmax(scores, axis=-1), v)

    graph = graph_of(attend, q="f32[N,3,S,16]", k="f32[N,3,T,16]", v="f32[N,3,T,16]")
    exe = compiled(graph, target)
    for s, t in itertools.product((1, 5, 16, 40), (1, 2, 15, 33, 70)):
        check(exe, graph, {"N": 2, "S": s, "T": t})


@pytest.mark.parametrize("target", TARGETS)
def test_deep_sums_over_distances_that_are_open(target):
    """As in what follows attention: k is heads, far apart, and the elements of each."""
    w = np.random.default_rng(1).standard_normal((12 * 64, 70), np.float32)

    def project(b, x):
        return b.matmul(x.transpose(0, 2, 1, 3).reshape(1, Sym.named("S"), 12 * 64), b.constant(w))

    graph = graph_of(project, x="f32[1,12,S,64]")
    exe = compiled(graph, target)
    for s in EDGES:
        check(exe, graph, {"S": s})


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("group", [1, 8])
def test_convolutions_of_any_batch(stride, group):
    w = np.random.default_rng(1).standard_normal((32, 32 // group, 3, 3)).astype(np.float32)

    def conv(b, x):
        y = b.conv(x, b.constant(w), strides=(stride,) * 2, pads=(1, 1, 1, 1), group=group)
        return b.relu(y)

    graph = graph_of(conv, x="f32[N,32,14,14]")
    exe = compiled(graph)
    for n in (1, 2, 3, 7):
        check(exe, graph, {"N": n})


def test_a_depthwise_convolution_of_any_batch():
    w = np.random.default_rng(1).standard_normal((32, 1, 3, 3)).astype(np.float32)
    graph = graph_of(
        lambda b, x: b.conv(x, b.constant(w), pads=(1, 1, 1, 1), group=32), x="f32[N,32,9,9]"
    )
    exe = compiled(graph)
    for n in (1, 4):
        check(exe, graph, {"N": n})


# -- rows, loops, shapes as values --------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_rows_of_any_length(op, axis):
    graph = graph_of(lambda b, x: b.emit(op, x, axis=axis), x="f32[N,S]")
    exe = compiled(graph)
    for n, s in itertools.product((1, 4, 19), (1, 2, 7, 16, 17, 100, 3000)):
        check(exe, graph, {"N": n, "S": s})


def test_a_mean_divides_by_the_size():
    graph = graph_of(lambda b, x: b.reduce_mean(x, axes=(1,)), x="f32[4,S]")
    exe = compiled(graph)
    for s in (1, 3, 64, 1001):
        check(exe, graph, {"S": s})


def test_sizes_are_values_too():
    graph = graph_of(
        lambda b, x: b.dims(values=(*x.shape, x.shape[0] * 2 + 1)).cast("f32"), x="f32[N,S]"
    )
    exe = compiled(graph)
    assert exe(np.zeros((3, 7), np.float32)).tolist() == [3, 7, 7]


def test_a_recurrence_of_any_batch():
    rng = np.random.default_rng(0)
    w, r = (rng.standard_normal((1, 4 * 8, k)).astype(np.float32) for k in (5, 8))
    graph = graph_of(
        lambda b, x: b.emit("lstm", x, b.constant(w), b.constant(r), hidden_size=8)[0],
        x="f32[6,N,5]",
    )
    exe = compiled(graph)
    for n in (1, 2, 9):
        check(exe, graph, {"N": n})


# -- threads, packages, memory ------------------------------------------------------------------


def bert_like():
    """Two projections and an attention over an open batch and sequence."""
    rng = np.random.default_rng(0)
    w = [rng.standard_normal((64, 64)).astype(np.float32) / 8 for _ in range(3)]

    def block(b, x):
        q, k, v = (
            b.matmul(x, b.constant(a)).reshape((*x.shape[:2], 4, 16)).transpose(0, 2, 1, 3)
            for a in w
        )
        scores = b.softmax(b.matmul(q, k.transpose(0, 1, 3, 2)), axis=-1)
        mixed = b.matmul(scores, v).transpose(0, 2, 1, 3).reshape(x.shape)
        return x + mixed

    return graph_of(block, x="f32[batch,sequence,64]")


def test_threads_do_not_change_results():
    graph = bert_like()
    exe = compiled(graph)
    for sizes in ({"batch": 1, "sequence": 33}, {"batch": 5, "sequence": 130}):
        feeds = feeds_of(graph, sizes)
        exe.threads = 1
        alone = exe.run(feeds)["y"]
        for threads in (2, 3):
            exe.threads = threads
            assert exe.run(feeds)["y"].tobytes() == alone.tobytes()


def test_one_package_serves_all_sizes(tmp_path):
    graph = bert_like()
    compiled(graph).save(tmp_path / "m.tsl")
    exe = tessel.load(tmp_path / "m.tsl", threads=2)
    assert exe.for_all_sizes is not None and not exe.notes
    for sizes in ({"batch": 1, "sequence": 1}, {"batch": 3, "sequence": 20}):
        check(exe, graph, sizes)
    assert all(b.is_dynamic for b in exe.specializations)
    anew = tessel.load(tmp_path / "m.tsl", native=False, cache=False)
    check(anew, graph, {"batch": 2, "sequence": 9})


def test_memory_stays_bounded_over_random_sizes():
    graph = bert_like()
    exe = compiled(graph, threads=2)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4 * 64 * 64,), np.float32)

    def runs(count):
        for _ in range(count):
            n, s = rng.integers(1, 5), rng.integers(1, 65)
            exe(x[: n * s * 64].reshape(n, s, 64))

    exe(x.reshape(4, 64, 64))
    runs(500)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    runs(10_000)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 4096  # KiB
    assert len(exe.specializations) <= 16


# -- where sizes matter -------------------------------------------------------------------------


def test_sizes_that_must_be_equal_are_checked():
    graph = graph_of(lambda b, x, y: x + y, x="f32[N,4]", y="f32[M,4]")
    exe = compiled(graph)
    check(exe, graph, {"N": 3, "M": 3})
    assert exe.specializations[-1].is_dynamic
    wide = exe.run({"x": np.ones((3, 4), np.float32), "y": np.ones((1, 4), np.float32)})["y"]
    assert wide.tolist() == [[2] * 4] * 3 and not exe.specializations[-1].is_dynamic
    with pytest.raises(InputError, match=r"do not fit|broadcast"):
        exe.run({"x": np.ones((3, 4), np.float32), "y": np.ones((2, 4), np.float32)})


def test_a_size_that_weights_decide_is_checked():
    w = np.ones((4, 3), np.float32)
    graph = graph_of(lambda b, x: b.matmul(x, b.constant(w)), x="f32[N,F]")
    exe = compiled(graph)
    check(exe, graph, {"N": 2, "F": 4})
    for wrong in (2, 3, 5, 400):
        with pytest.raises(InputError, match="do not fit"):
            exe(np.ones((3, wrong), np.float32))


def test_a_reshape_that_decides_a_size_is_checked():
    graph = graph_of(lambda b, x: b.neg(b.reshape(x, shape=(x.shape[0], 4))), x="f32[N,F]")
    exe = compiled(graph)
    check(exe, graph, {"N": 2, "F": 4})
    for wrong in (2, 5):
        with pytest.raises(InputError, match="do not fit"):
            exe(np.ones((4, wrong), np.float32))


def test_empty_arrays_are_compiled_by_themselves():
    graph = graph_of(lambda b, x: x * 2, x="f32[N,4]")
    exe = compiled(graph)
    assert exe(np.zeros((0, 4), np.float32)).shape == (0, 4)
    assert not exe.specializations[-1].is_dynamic


def test_a_note_says_where_each_size_is_compiled_by_itself():
    """Strings live in Python, which is handed arrays of known sizes."""
    graph = graph_of(lambda b, x: b.emit("transpose", x, perm=(1, 0)), x="str[N,S]")
    exe = tessel.compile(graph, threads=1, cache=False)
    assert exe.for_all_sizes is None
    (note,) = exe.notes
    assert "each combination of sizes is compiled by itself" in note
    words = np.array([["a", "b", "c"]], object)
    assert exe(words).tolist() == [["a"], ["b"], ["c"]]


def test_expected_sizes_are_part_of_a_kernel_s_name():
    """They decide how its reductions are written and whether rows are kept, in scratch memory that
    the entry sets aside: code of one expectation is none for another."""
    (call,) = lower(
        graph_of(lambda b, x: b.softmax(x, axis=1), x="f32[N,S]"), dynamic_shapes=True
    ).steps
    names = set()
    for sizes in ({}, {"S": 1}, {"S": 100_000}):
        with size_hints(sizes):
            names.add(schedule_kernel(call.kernel, host(), frozenset(), False).name)
    assert len(names) == 3
