"""Sizes that data decides inside of branches and loops, which the host then runs."""

import numpy as np
import pytest
import tessel
from tessel.compiler.errors import InputError, OutOfMemoryError, UnsupportedError
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.text import parse_graph, print_graph
from tessel.compiler.ir.verify import verify
from tessel.frontends.onnx.importer import read
from tessel.runtime.execution.host import _expect_room, available_memory

from ..support.onnx_models import assert_equal, model, onnxruntime

X = np.array([0, 3, 0, -1, 2, 3], np.float32)
MATRIX = np.array([[0, 1, 0], [2, 0, 3]], np.float32)

# What makes y: a vector of floats of a size that follows from the vector x.
ZERO = "zero = Constant<value = float {0}>() one = Constant<value_ints=[1]>() "
ALL = "all = Constant<value_ints=[-1]>() "
BODIES = {
    "NonZero": "p = NonZero(x) q = Squeeze(p, zeroaxis) y = Cast<to=1>(q)",
    "Compress": "k = Greater(x, zero) y = Compress<axis=0>(x, k)",
    "Unique": "y = Unique(x)",
    "TopK": "k = Greater(x, zero) i = Cast<to=7>(k) n = ReduceSum(i, zeroaxis) y, at = TopK(x, n)",
    "Where, NonZero, Gather": "k = Greater(x, zero) h = Where(k, x, zero) p = NonZero(h) "
    "q = Squeeze(p, zeroaxis) y = Gather<axis=0>(x, q)",
    "GatherND of places": "p = NonZero(x) t = Transpose<perm=[1,0]>(p) y = GatherND(x, t)",
    "Reshape(-1)": "p = NonZero(x) t = Transpose(p) r = Reshape(t, all) y = Cast<to=1>(r)",
    "Range of a count": "p = NonZero(x) s = Shape<start=1>(p) n = Squeeze(s) nil = Sub(n, n) "
    "o = Squeeze(one) i = Range(nil, n, o) y = Cast<to=1>(i)",
    "Slice to a count": "p = NonZero(x) s = Shape<start=1>(p) y = Slice(x, zeroaxis, s)",
    "only a count": "p = NonZero(x) s = Size(p) c = Cast<to=1>(s) y = Unsqueeze(c, zeroaxis)",
    "a sum of some": "p = NonZero(x) t = Transpose<perm=[1,0]>(p) g = GatherND(x, t) "
    "y = ReduceSum(g, zeroaxis)",
}
CONSTANTS = ZERO + ALL + "zeroaxis = Constant<value_ints=[0]>() "


def branch(body: str, name: str) -> str:
    """A body as the graph of an If."""
    return f"{name} = {name} () => (float[?] y) {{ {body} }}"


def check(proto, *arrays, targets=("cpu", "numpy"), **options):
    """Our numbers are ONNX Runtime's: the graph's, its text's and what is compiled for each target.
    The last executable."""
    arrays = [np.asarray(a) for a in arrays]
    want = onnxruntime(proto, *arrays)
    graph = read(proto)
    verify(graph)
    assert_equal(interpret(graph, arrays), want)
    table: dict = {}
    again = parse_graph(print_graph(graph, table), table)
    assert_equal(interpret(again, arrays), want)
    for target in targets:
        exe = tessel.compile(proto, target=target, cache=False, **options)
        got = exe.run(dict(zip([p.name for p in exe.inputs], arrays)))
        assert_equal(list(got.values()), want)
    return exe


def if_of(body: str):
    text = (
        f"{CONSTANTS} w = If(yes) <{branch(body, 'then_branch')}, "
        f"{branch('y = Identity(pair)', 'else_branch')}> z = Add(w, w)"
    )
    return model(
        text, inputs="bool yes, float[n] x, float[2] pair", outputs="float[m] w, float[m] z"
    )


def targets_of(name: str) -> list[str]:
    """Loops of numpy for what takes LLVM long."""
    return ["numpy"] if name == "Unique" else ["cpu"]


# -- branches -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BODIES)
def test_in_a_branch(name):
    proto = if_of(BODIES[name])
    exe = check(proto, True, X, np.float32([5, 7]), targets=targets_of(name))
    for taken, x in ((False, X), (True, X[:1]), (True, np.append(X, X))):
        feeds = np.array(taken), x, np.float32([5, 7])
        assert_equal(list(exe(*feeds)), onnxruntime(proto, *feeds))


NESTED = (
    "m = ReduceMax<keepdims=0>(x) d = Greater(m, one_) "
    "y = If(d) <then_branch = a () => (float[?] y) { u = Unique(x) g = Greater(u, zero) "
    "  y = Compress<axis=0>(u, g) }, else_branch = b () => (float[?] y) { y = Add(x, one_) }>"
)


def test_branches_in_branches():
    text = CONSTANTS + "one_ = Constant<value = float {1}>() "
    text += (
        f"w = If(c) <{branch(NESTED, 'then_branch')}, {branch('y = Identity(x)', 'else_branch')}>"
    )
    proto = model(text, inputs="bool c, float[n] x", outputs="float[m] w")
    for c, x in ((True, X), (True, X / 9), (False, X)):
        check(proto, c, x, targets=["numpy"])


def test_results_that_stay_as_they_are_keep_their_sizes():
    text = CONSTANTS + (
        "w, v = If(c) <then_branch = a () => (float[?] y, float[?] z) {"
        " y = Unique(x) z = Neg(x) }, else_branch = b () => (float[?] s, float[?] t) {"
        " s = Neg(x) t = Add(x, x) }> q = Add(v, x)"
    )
    proto = model(text, inputs="bool c, float[n] x", outputs="float[m] w, float[n] q")
    check(proto, True, X)
    graph = read(proto)
    assert [str(v.type) for v in graph.outputs] == ["f32[_if0]", "f32[n]"]


def test_non_max_suppression_in_a_branch():
    text = (
        "y = If(c) <then_branch = a () => (int64[?,3] y) { y = NonMaxSuppression(b, s, most, "
        "over) }, else_branch = e () => (int64[?,3] z) { z = Reshape(k, form) }>"
    )
    constants = (
        "most = Constant<value_ints=[3]>() over = Constant<value_floats=[0.5]>() "
        "form = Constant<value_ints=[-1,3]>() "
    )
    proto = model(
        constants + text,
        inputs="bool c, float[1,5,4] b, float[1,1,5] s, int64[3] k",
        outputs="int64[m,3] y",
    )
    corners = np.random.default_rng(0).random((1, 5, 4)).astype("f4")
    corners[..., 2:] = corners[..., :2] + 0.5
    scores = np.float32([[[0.9, 0.8, 0.3, 0.7, 0.1]]])
    for c in (True, False):
        check(proto, c, corners, scores, np.array([1, 2, 3]), targets=["numpy"])


# -- loops ----------------------------------------------------------------------------------

TURN = (
    "y_sum = ReduceSum<keepdims=0>(y) y_size = Size(y) count = Cast<to=1>(y_size) "
    "a = Add(acc, y_sum) acc2 = Add(a, count) x2 = Sub(x, third) go2 = Less(turn, last) "
)


def loop_of(body: str, trip: str = ""):
    """Turns over x, x - 1/3, …: a sum of what the bodies give, and how much that is."""
    text = CONSTANTS + (
        "third = Constant<value = float {0.34}>() go = Constant<value = bool {1}>() "
        f"start = Cast<to=1>(zero) final, last_x, counts = Loop({trip}, go, start, x0) <body = b "
        "(int64 turn, bool going, float acc, float[?] x) => "
        "(bool go2, float acc2, float[?] x2, float count) {" + body + TURN + "}>"
    )
    return model(
        text,
        inputs="float[d] x0, int64 last",
        outputs="float final, float[d] last_x, float[t] counts",
    )


@pytest.mark.parametrize("name", BODIES)
def test_in_a_loop(name):
    check(loop_of(BODIES[name]), X + 2, 3, targets=targets_of(name))


FILTER = (
    "mean = ReduceMean<keepdims=0>(x) k = Less(x, mean) x2 = Compress<axis=0>(x, k) n = Size(x2) "
    "go2 = Greater(n, two) least = ReduceMin<keepdims=1>(x2) "
)


def test_a_state_of_a_size_that_data_decides():
    text = (
        "two = Constant<value = int64 {2}>() go = Constant<value = bool {1}>() "
        "y, rows = Loop(, go, x0) <body = b (int64 i, bool c, float[?] x) => "
        "(bool go2, float[?] x2, float[1] least) {" + FILTER + "}> z = Neg(y)"
    )
    proto = model(text, inputs="float[n] x0", outputs="float[m] y, float[t,1] rows, float[m] z")
    exe = check(proto, np.random.default_rng(1).random(50).astype("f4"))
    x = np.random.default_rng(2).random(9).astype("f4")
    assert_equal(list(exe(x)), onnxruntime(proto, x))


def test_states_that_grow_alike_may_be_added():
    text = (
        "go = Constant<value = bool {1}>() m = ReduceMax<keepdims=0>(ms) "
        "y, z = Loop(m, go, x, x) <body = b (int64 i, bool c,"
        " float[?] p, float[?] q) => (bool c2, float[?] p2, float[?] q2) { c2 = Identity(c) "
        "r = Add(p, q) p2 = Concat<axis=0>(r, x) q2 = Concat<axis=0>(q, x) }>"
    )
    proto = model(text, inputs="int64[99] ms, float[2] x", outputs="float[k] y, float[k] z")
    check(proto, np.arange(99) % 20, np.float32([1, 2]), targets=["cpu"])


def test_branches_in_loops_in_branches():
    inner = (
        "d = Greater(turn, one_) y = If(d) <then_branch = a () => (float[?] v) { "
        "g = Greater(x, zero) v = Compress<axis=0>(x, g) }, else_branch = e () => "
        "(float[?] u) { u = Unique(x) }> "
    )
    body = (
        "go = Constant<value = bool {1}>() start = Cast<to=1>(zero) final, s, counts = "
        "Loop(, go, start, x0) <body = b (int64 turn, bool going, float acc, float[?] x) => "
        "(bool go2, float acc2, float[?] x2, float count) {" + inner + TURN + "}> "
        "all_of = Concat<axis=0>(s, counts)"
    )
    text = CONSTANTS + (
        "one_ = Constant<value = int64 {1}>() third = Constant<value = float {0.34}>() "
        f"w = If(yes) <then_branch = t () => (float[?] all_of) {{ {body} }}, "
        "else_branch = f () => (float[?] same) { same = Identity(x0) }>"
    )
    proto = model(text, inputs="bool yes, float[n] x0, int64 last", outputs="float[m] w")
    for yes in (True, False):
        check(proto, yes, X + 2, 4, targets=["numpy"])


def test_a_scan_whose_body_counts():
    text = (
        "s, counts = Scan<num_scan_inputs=1, body = b (float acc, float[3] row) => "
        "(float acc2, float[1] count) { p = NonZero(row) n = Shape<start=1>(p) "
        "count = Cast<to=1>(n) t = Transpose<perm=[1,0]>(p) g = GatherND(row, t) "
        "q = ReduceSum<keepdims=0>(g) acc2 = Add(acc, q) }>(zero, x)"
    )
    proto = model(ZERO + text, inputs="float[n,3] x", outputs="float s, float[n,1] counts")
    check(proto, MATRIX)
    check(proto, np.zeros((1, 3), np.float32))


# -- branches that differ in rank -----------------------------------------------------------

RANKS = (
    "m = ReduceMax<keepdims=0>(x) d = Greater(m, zero) v = If(d) <then_branch = a () => "
    "(float[?,?] t) { t = Unsqueeze(x, zeroaxis) }, else_branch = b () => (float[?] u) { "
    "u = Neg(x) }> "
)
AFTER = {
    "of one rank": ("w = ReduceSum<keepdims=0>(v) y = Mul(w, w)", "float y"),
    "of sizes that data decides": (
        "f = Flatten<axis=0>(v) g = Reshape(f, all) h = Greater(g, zero) "
        "y = Compress<axis=0>(g, h) z = Neg(y)",
        "float[k] y, float[k] z",
    ),
}


@pytest.mark.parametrize("name", AFTER)
def test_what_follows_branches_of_different_ranks_is_read_in_each(name):
    after, outputs = AFTER[name]
    proto = model(CONSTANTS + RANKS + after, inputs="float[n] x", outputs=outputs)
    for x in (X, -X[2:4], np.float32([-1, -2])):
        check(proto, x, targets=["numpy"])


def test_a_branch_in_which_what_follows_makes_no_sense_fails_when_it_is_taken():
    after = "y = MatMul(v, square)"
    proto = model(
        CONSTANTS + RANKS + after, inputs="float[n] x, float[2,2] square", outputs="float[k] y"
    )
    proto.graph.node[-1].op_type = "Concat"
    proto.graph.node[-1].attribute.add(name="axis", type=2, i=0)
    exe = tessel.compile(proto, target="numpy")
    square = np.ones((2, 2), np.float32)
    np.testing.assert_array_equal(exe(np.float32([3, 4]), square), [[3, 4], [1, 1], [1, 1]])
    with pytest.raises(InputError, match="branch that their shapes make impossible"):
        exe(np.float32([-3, -4]), square)


# -- loops without a bound that stack -------------------------------------------------------

HALVES = (
    "go = Constant<value = bool {{1}}>() y, rows = Loop({trip}, go, x) <body = b (int64 i, bool c,"
    " float[?] h) => (bool c2, float[?] h2, float[?] row) {{ h2 = Mul(h, half) "
    "s = ReduceSum<keepdims=0>(h2) c2 = Greater(s, limit) row = Neg(h) }}>"
)
HALF = "half = Constant<value = float {0.5}>() "


@pytest.mark.parametrize("trip", ["", "endless", "wide", "m"])
@pytest.mark.parametrize("limit", [100.0, 1.0, 1e-30])  # 1, some and more turns than a chunk
def test_rows_without_a_bound(trip, limit):
    constants = (
        HALF + "endless = Constant<value = int64 {9223372036854775807}>() "
        "wide = Constant<value = int64 {2147483647}>() "
    )
    constants += "m = ReduceMax<keepdims=0>(ms) " if trip == "m" else ""
    inputs = "float[n] x, float limit" + (", int64[99] ms" if trip == "m" else "")
    proto = model(
        constants + HALVES.format(trip=trip), inputs=inputs, outputs="float[n] y, float[t,n] rows"
    )
    more = [np.full(99, 2**62)] if trip == "m" else []
    check(proto, np.float32([3, 5]), np.float32(limit), *more, targets=["cpu"])


def test_rows_without_a_bound_take_memory_for_the_turns_that_came():
    proto = model(
        HALF + HALVES.format(trip=""),
        inputs="float[n] x, float limit",
        outputs="float[n] y, float[t,n] rows",
    )
    exe = tessel.compile(proto, cache=False)
    x = np.ones(1000, np.float32)
    for limit in (600, 1e-3):
        assert exe(x, np.float32(limit))[1].shape == (1 if limit == 600 else 20, 1000)
    (loop,) = [n for n in exe.graph.nodes if n.op.name == "host_loop"]
    (inner,) = [n for n in loop.attrs["body"].nodes if n.op.name == "while"]
    assert inner.attrs["trips"] == (64,)  # what a call of compiled code sets apart


def test_endless_rows_end_with_an_error():
    assert available_memory() is None or available_memory() > 0
    _expect_room(1)
    with pytest.raises(OutOfMemoryError, match="a loop gives more rows than memory holds") as end:
        _expect_room(1 << 62)
    assert OutOfMemoryError.of(end.value) is end.value  # said once, however often it is passed on


# -- what is said, and what is refused --------------------------------------------------------


def test_notes_and_strict():
    proto = if_of(BODIES["NonZero"])
    exe = tessel.compile(proto, cache=False)
    assert any(note.startswith("run by the host") and "If#" in note for note in exe.notes)
    for shapes in ({"x": (6,)}, None):  # also where sizes are open: before any run
        with pytest.raises(UnsupportedError, match="host_if is run by the host, since its shapes"):
            tessel.compile(proto, strict=True, cache=False, shapes=shapes)


def test_strict_refuses_what_runs_in_python_before_any_run():
    proto = model("y = StringConcat(x, x)", inputs="string[N] x", outputs="string[N] y")
    with pytest.raises(UnsupportedError, match="string_concat is a host callback"):
        tessel.compile(proto, strict=True, cache=False)


def test_rows_must_have_one_shape():
    text = (
        "go = Constant<value = bool {1}>() y, rows = Loop(, go, x0) <body = b (int64 i, bool c,"
        " float[?] x) => (bool go2, float[?] x2, float[?] row) { x2 = Concat<axis=0>(x, x0) "
        "row = Identity(x) n = Size(x) go2 = Less(n, last) }>"
    )
    proto = model(text, inputs="float[2] x0, int64 last", outputs="float[k] y, float[t,k] rows")
    exe = tessel.compile(proto, cache=False)
    with pytest.raises(InputError, match="rows of different shapes"):
        exe(np.ones(2, np.float32), np.array(9))


@pytest.mark.parametrize("native", [True, False])
def test_packages_hold_the_code_of_both_branches(tmp_path, native):
    proto = if_of(BODIES["Compress"])
    exe = tessel.compile(proto, cache=False)
    exe.save(tmp_path / "m.tsl")
    loaded = tessel.load(tmp_path / "m.tsl", native=native, cache=False)
    for c in (True, False):
        feeds = np.array(c), X, np.float32([5, 7])
        assert_equal(list(loaded(*feeds)), list(exe(*feeds)))


FEEDS = np.array(True), X, np.float32([5, 7])
ROWS = model(
    HALF + HALVES.format(trip=""),
    inputs="float[n] x, float limit",
    outputs="float[n] y, float[t,n] rows",
)
WRITTEN = {
    "if": (if_of(BODIES["Compress"]), FEEDS),
    "sizes of results": (if_of(BODIES["GatherND of places"]), FEEDS),
    "loop": (loop_of(BODIES["Compress"]), (X + 2, np.array(3))),
    "rows": (ROWS, (np.float32([3, 5]), np.float32(1e-30))),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_written_as_onnx(name):
    proto, feeds = WRITTEN[name]
    assert_equal(onnxruntime(tessel.to_onnx(proto), *feeds), onnxruntime(proto, *feeds))
