"""Loop and Scan of ONNX: written out, as `scan`, or as `while` where only the run knows how often
they turn. Numbers are those of ONNX Runtime and of ONNX's own evaluator."""

import numpy as np
import onnx
import pytest
import tessel
from onnx import TensorProto, helper
from tessel.frontends.onnx.exporter import write

from ...support.onnx_models import graph_of, model, onnxruntime, ops, rand

# Newton's square root: h' = (h + x / h) / 2, until two steps differ by less than a limit.
NEWTON = """
    y, n = Loop(m, go, x, zero) <
        body = b (int64 i, bool c, float[3] h, int64 k) => (bool c2, float[3] h2, int64 k2) {
            q = Div(x, h)
            s = Add(h, q)
            half = Constant<value_float=0.5>()
            h2 = Mul(s, half)
            d = Sub(h, h2)
            a = Abs(d)
            e = ReduceMax<keepdims=0>(a)
            c2 = Greater(e, eps)
            k2 = Add(i, one)
        }
    >
"""
CONSTANTS = """
    zero = Constant<value_int=0>()
    one = Constant<value_int=1>()
    go = Constant<value = bool {1}>()
    eps = Constant<value_float=0.001>()
"""


def check(proto, *inputs, target="cpu", threads=2) -> "tessel.Executable":
    """Compiled code gives what ONNX Runtime gives."""
    exe = tessel.compile(proto, target=target, threads=threads)
    got = list(exe.run(dict(zip([p.name for p in exe.inputs], map(np.asarray, inputs)))).values())
    for g, w in zip(got, onnxruntime(proto, *inputs), strict=True):
        w = np.asarray(w)
        assert (g.dtype, g.shape) == (w.dtype, w.shape)
        np.testing.assert_allclose(g, w, 1e-5, 1e-6)
    return exe


@pytest.mark.parametrize("target", ["cpu", "numpy"])
def test_a_computed_condition_ends_a_loop(target):
    proto = model(CONSTANTS + NEWTON, inputs="float[3] x, int64 m", outputs="float[3] y, int64 n")
    assert ops(graph_of(proto)).count("while") == 1
    x = np.float32([2, 9, 100])
    for most in (0, 1, 3, 1000):
        exe = check(proto, x, np.array(most), target=target)
        assert exe.static == ()


@pytest.mark.parametrize("most", ["m = Constant<value_int=9223372036854775807>()", ""])
def test_a_loop_without_a_trip_count(most):
    body = NEWTON if most else NEWTON.replace("Loop(m,", "Loop(,")
    proto = model(CONSTANTS + most + body, inputs="float[3] x", outputs="float[3] y, int64 n")
    exe = check(proto, np.float32([2, 9, 100]))
    assert exe.run({"x": np.float32([1, 1, 1])})["n"] == 1


def test_the_first_condition_may_be_computed():
    first = """
        zero = Constant<value_int=0>() one = Constant<value_int=1>()
        eps = Constant<value_float=0.001>()
        m = Constant<value_int=50>()
        sum = ReduceSum<keepdims=0>(x)
        go = Greater(sum, eps)
    """
    proto = model(first + NEWTON, inputs="float[3] x", outputs="float[3] y, int64 n")
    check(proto, np.float32([2, 9, 100]))
    check(proto, np.float32([-2, -9, -100]))


def test_a_trip_count_at_run_time_needs_no_code_of_its_own():
    proto = model(
        """
        go = Constant<value = bool {1}>()
        y = Loop(m, go, x) <
            body = b (int64 i, bool c, float[4] h) => (bool c2, float[4] h2) {
                c2 = Identity(c) f = Cast<to=1>(i) t = Add(h, f) h2 = Tanh(t)
            }
        >
        """,
        inputs="int64 m, float[4] x",
        outputs="float[4] y",
    )
    for m in (0, 1, 7, 40):
        exe = check(proto, m, rand(4))
    for m in (1, 2, 3):
        exe(np.array(m), rand(4))
    assert len(exe.specializations) == 1


def test_loops_in_loops():
    proto = model(
        """
        go = Constant<value = bool {1}>()
        y = Loop(m, go, x) <
            body = outer (int64 i, bool c, float[2] h) => (bool c2, float[2] h2) {
                turns = Add(i, i)
                g = Loop(turns, c, h) <
                    body = inner (int64 j, bool e, float[2] v) => (bool e2, float[2] v2) {
                        w = Mul(v, half)
                        v2 = Add(w, x)
                        s = ReduceSum<keepdims=0>(v2)
                        e2 = Less(s, big)
                    }
                >
                h2 = Neg(g)
                c2 = Identity(c)
            }
        >
        """,
        inputs="int64 m, float[2] x, float half, float big",
        outputs="float[2] y",
    )
    for m in (1, 4, 9):
        exe = check(proto, m, rand(2), np.float32(0.5), np.float32(1e6))
        check(proto, m, rand(2), np.float32(3), np.float32(10))
    assert ops(exe.graph).count("while") == 1


def test_a_loop_in_a_branch():
    proto = model(
        """
        s = ReduceSum<keepdims=0>(x)
        zero = Constant<value_float=0.0>()
        c = Greater(s, zero)
        y = If(c) <
            then_branch = t () => (float[3] a) {
                n = Cast<to=7>(s)
                a = Loop(n, c, x) <
                    body = b (int64 i, bool g, float[3] h) => (bool g2, float[3] h2) {
                        h2 = Sqrt(h) g2 = Identity(g) }
                >
            },
            else_branch = e () => (float[3] a) { a = Neg(x) }
        >
        """,
        inputs="float[3] x",
        outputs="float[3] y",
    )
    check(proto, np.float32([1, 2, 3]))
    check(proto, np.float32([-1, -2, -3]))


def test_large_states_are_shared_by_threads():
    proto = model(
        """
        go = Constant<value = bool {1}>()
        y = Loop(m, go, x) <
            body = b (int64 i, bool c, float[128,128] h) => (bool c2, float[128,128] h2) {
                p = MatMul(h, w)
                h2 = Tanh(p)
                a = Abs(h2)
                e = ReduceMax<keepdims=0>(a)
                c2 = Less(eps, e)
            }
        >
        """,
        inputs="int64 m, float[128,128] x, float[128,128] w, float eps",
        outputs="float[128,128] y",
    )
    w = rand(128, 128, seed=1) * np.float32(0.05)
    for eps in (0.0, 0.3):
        check(proto, 12, rand(128, 128), w, np.float32(eps))


COUNT = """
    m = Constant<value_int={turns}>() go = Constant<value = bool {{1}}>()
    y, s = Loop(m, go, x) <
        body = b (int64 i, bool c, float[2] h) => (bool c2, float[2] n, float[2] o) {{
            last = Constant<value_int={last}>()
            c2 = Less(i, last)
            f = Cast<to=1>(i)
            n = Add(h, f)
            o = Neg(n)
        }}
    >
"""


def test_a_condition_that_follows_from_the_turn_is_written_out():
    proto = model(
        COUNT.format(turns=9, last=4), inputs="float[2] x", outputs="float[2] y, float[k,2] s"
    )
    assert "while" not in ops(graph_of(proto))
    exe = check(proto, rand(2))
    assert exe(rand(2))[1].shape == (6 - 1, 2)


def test_many_turns_are_not_written_out():
    proto = model(
        COUNT.format(turns=60, last=100).replace("Less(i, last)", "Identity(c)"),
        inputs="float[2] x",
        outputs="float[2] y, float[k,2] s",
    )
    assert ops(graph_of(proto)).count("scan") == 1
    check(proto, rand(2))


@pytest.mark.parametrize("go", [0, 1])
def test_a_loop_without_a_turn(go):
    body = COUNT.format(turns=9 * (1 - go), last=4).replace("bool {1}", f"bool {{{go}}}")
    proto = model(body, inputs="float[2] x", outputs="float[2] y, float[k,2] s")
    check(proto, rand(2))


def test_states_that_grow_are_written_out_or_run_by_the_host():
    proto = model(
        """
        go = Constant<value = bool {1}>()
        y = Loop(m, go, x) <
            body = b (int64 i, bool c, float[?] h) => (bool c2, float[?] h2) {
                c2 = Identity(c) h2 = Concat<axis=0>(h, x) }
        >
        """,
        inputs="int64 m, float[2] x",
        outputs="float[k] y",
    )
    for m in (0, 1, 5, 100):
        exe = check(proto, m, rand(2))
    assert any("run by the host" in note for note in exe.notes)


@pytest.mark.parametrize("target", ["cpu", "numpy"])
def test_stacks_without_a_bound_grow(target):
    body = NEWTON.replace("y, n =", "y, n, rows =").replace("int64 k2)", "int64 k2, float e)")
    proto = model(
        CONSTANTS + body.replace("Loop(m,", "Loop(,"),
        inputs="float[3] x",
        outputs="float[3] y, int64 n, float[k] rows",
    )
    check(proto, np.float32([2, 9, 100]), target=target)


@pytest.mark.parametrize("target", ["cpu", "numpy"])
def test_stacks_have_the_rows_of_the_turns(target):
    body = NEWTON.replace("y, n =", "y, n, rows =").replace("int64 k2)", "int64 k2, float e)")
    limit = "m = Constant<value_int=40>()"
    proto = model(
        CONSTANTS + limit + body, inputs="float[3] x", outputs="float[3] y, int64 n, float[k] rows"
    )
    exe = check(proto, np.float32([2, 9, 100]), target=target)
    assert exe(np.float32([1, 1, 1]))[2].shape == (1,)
    assert exe(np.float32([2, 9, 1e6]))[2].shape[0] > 10


def test_branches_of_other_sizes_that_data_chooses():
    proto = model(
        """
        s = ReduceSum<keepdims=0>(x)
        zero = Constant<value_float=0.0>()
        c = Greater(s, zero)
        y, k = If(c) <
            then_branch = t () => (float[?,3] v, int64[2] l) { v = Neg(x) l = Shape(v) },
            else_branch = e () => (float[?,3] v, int64[2] l) {
                v = Concat<axis=0>(x, x) l = Shape(v) }
        >
        z = Abs(y)
        """,
        inputs="float[2,3] x",
        outputs="float[?,3] z, int64[2] k",
    )
    x = np.abs(rand(2, 3))
    check(proto, x)
    check(proto, -x)


def test_a_while_has_no_gradient():
    loss = "loss = ReduceSum<keepdims=0>(y)"
    proto = model(CONSTANTS + NEWTON + loss, inputs="float[3] x, int64 m", outputs="float loss")
    with pytest.raises(tessel.TesselError, match="known only when it has run"):
        tessel.gradients(graph_of(proto), wrt=["x"])


def test_a_while_is_written_as_a_loop():
    proto = model(CONSTANTS + NEWTON, inputs="float[3] x, int64 m", outputs="float[3] y, int64 n")
    again = write(graph_of(proto))
    assert [n.op_type for n in again.graph.node].count("Loop") == 1
    inputs = np.float32([2, 9, 100]), np.array(5)
    for got, want in zip(onnxruntime(again, *inputs), onnxruntime(proto, *inputs), strict=True):
        np.testing.assert_allclose(got, want, 1e-6)


# -- scan -----------------------------------------------------------------------------------


def scan8(lengths: bool, directions=None) -> onnx.ModelProto:
    """state' = state · 0.5 + x; y = state' - x, for each item of a batch."""
    f = TensorProto.FLOAT
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["s", "half"], ["t"]),
            helper.make_node("Add", ["t", "x"], ["s2"]),
            helper.make_node("Sub", ["s2", "x"], ["y"]),
        ],
        "body",
        [info("s", f, [2]), info("x", f, [2])],
        [info("s2", f, [2]), info("y", f, [2])],
    )
    attrs = {} if directions is None else {"directions": directions}
    node = helper.make_node(
        "Scan",
        ["lengths" if lengths else "", "s0", "xs"],
        ["last", "ys"],
        body=body,
        num_scan_inputs=1,
        **attrs,
    )
    inputs = [info("s0", f, ["B", 2]), info("xs", f, ["B", "T", 2]), info("half", f, [])]
    inputs += [info("lengths", TensorProto.INT64, ["B"])] if lengths else []
    outputs = [info("last", f, ["B", 2]), info("ys", f, ["B", "T", 2])]
    graph = helper.make_graph([node], "scan8", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=7)


def expected_scan8(s0, xs, half, lengths, backwards):
    last, ys = s0.copy(), np.zeros_like(xs)
    for i, n in enumerate(lengths):
        for t in range(n):
            x = xs[i, n - 1 - t] if backwards else xs[i, t]
            last[i] = last[i] * half + x
            ys[i, t] = last[i] - x
    return last, ys


@pytest.mark.parametrize("backwards", [0, 1])
@pytest.mark.parametrize("lengths", [None, [3, 5, 0], [5, 5, 1]])
def test_the_batched_scan_of_opset_8(lengths, backwards):
    """Against the loop that the operator's text says."""
    s0, xs, half = rand(3, 2), rand(3, 5, 2, seed=1), np.float32(0.5)
    exe = tessel.compile(scan8(lengths is not None, [backwards]))
    feeds = {"s0": s0, "xs": xs, "half": half}
    if lengths is not None:
        feeds["lengths"] = np.array(lengths)
    got = exe.run(feeds)
    last, ys = expected_scan8(s0, xs, half, lengths or [5, 5, 5], backwards)
    np.testing.assert_allclose(got["last"], last, 1e-5, 1e-6)
    np.testing.assert_allclose(got["ys"], ys, 1e-5, 1e-6)


@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (-1, -1)])
@pytest.mark.parametrize("directions", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_scans_of_two_arrays(axes, directions):
    proto = model(
        f"""
        y, s, r = Scan<num_scan_inputs=2, scan_input_axes=[{axes[0]}, {axes[1]}],
                    scan_output_axes=[{axes[1]}, {axes[0]}],
                    scan_input_directions=[{directions[0]}, {directions[1]}],
                    scan_output_directions=[{directions[1]}, {directions[0]}],
                    body = b (float[4] h, float[4] e, float[4] f)
                        => (float[4] n, float[4] o, float[4] q) {{
            t = Mul(h, f)
            n = Add(t, e)
            o = Mul(n, w)
            q = Sub(e, f)
        }}>(h0, x, z)
        """,
        inputs="float[4] h0, float[4,4] x, float[4,4] z, float[4] w",
        outputs="float[4] y, float[4,4] s, float[4,4] r",
    )
    check(proto, rand(4), rand(4, 4, seed=1), rand(4, 4, seed=2), rand(4, seed=3))


def test_sizes_are_tried_in_a_body_that_few_of_them_fit():
    """The state is f32[2,3] for K = L = 3 only; the body has no meaning for K = 1."""
    scan = """
        y = Scan <num_scan_inputs=1,
            body = b (float[2,3] t, float[P,Q] a) => (float[2,3] n) { n = MatMul(t, a) }> (s, x)
    """
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 21]>'
        f"g (float[2,3] s, float[N,K,L] x) => (float[2,3] y) {{ {scan} }}"
    )
    exe = check(proto, rand(2, 3), rand(4, 3, 3))
    with pytest.raises(tessel.TesselError, match="state 0 changes its type"):
        exe.run({"s": rand(2, 3), "x": rand(2, 3, 4)})
