"""Bodies of loops and branches that are easily got wrong, on compiled code and on numpy loops,
against ONNX Runtime: states that change places, conditions from outside, regions in regions."""

import numpy as np
import pytest
import tessel

from ...support.onnx_models import model, onnxruntime, rand

GO = "go = Constant<value = bool {1}>()"


def turn(body: str, states="float[3] p", nexts="float[3] p2", stacked="") -> str:
    """A body that goes on as long as it may."""
    return (
        f"<body = f (int64 i, bool c, {states}) => (bool c2, {nexts}{stacked}) "
        f"{{ c2 = Identity(c) {body} }}>"
    )


def while_less(limit: str, body: str, states="float[3] p", nexts="float[3] p2") -> str:
    return f"<body = f (int64 i, bool c, {states}) => (bool c2, {nexts}) {{ {body} {limit} }}>"


TWO = {"states": "float[3] p, float[3] q", "nexts": "float[3] p2, float[3] q2"}
AB = "int64 m, float[3] a, float[3] b"
A = "int64 m, float[3] a"
Y, YZ = "float[3] y", "float[3] y, float[3] z"
A3, B3, ROWS = rand(3), rand(3, seed=1), rand(9, 3, seed=2)
COUNT = "l = Constant<value_int=2>() c2 = Less(i, l)"

CASES = {
    "states change places": (
        f"{GO} y, z = Loop(m, go, a, b) {turn('p2 = Identity(q) q2 = Identity(p)', **TWO)}",
        AB,
        YZ,
        [3, A3, B3],
        "while",
    ),
    "states begin with one value, which is read later": (
        f"{GO} y, z = Loop(m, go, a, a) {turn('p2 = Add(p, q) q2 = Mul(p, a)', **TWO)}"
        " w = Add(a, y)",
        A,
        f"{YZ}, float[3] w",
        [3, A3],
        "while",
    ),
    "a state becomes a value from outside": (
        f"{GO} y, z = Loop(m, go, a, b) {turn('p2 = Identity(b) q2 = Add(p, q)', **TWO)}",
        AB,
        YZ,
        [3, A3, B3],
        "while",
    ),
    "the condition is a value from outside": (
        f"y = Loop(m, g, a) {while_less('c2 = Identity(h)', 'p2 = Add(p, p)')}",
        "int64 m, bool g, bool h, float[3] a",
        Y,
        [5, True, False, A3],
        "while",
    ),
    "a state without elements": (
        f"{GO} y = Loop(m, go, a) {turn('p2 = Add(p, p)', 'float[0,3] p', 'float[0,3] p2')}",
        "int64 m, float[0,3] a",
        "float[0,3] y",
        [5, rand(0, 3)],
        "while",
    ),
    "conditions and counts of shape [1]": (
        "y = Loop(m, g, a) <body = f (int64 i, bool[1] c, float[3] p) => (bool[1] c2, float[3] p2)"
        " { c2 = Identity(c) p2 = Add(p, p) }>",
        "int64[1] m, bool[1] g, float[3] a",
        Y,
        [np.array([5]), np.array([True]), A3],
        "while",
    ),
    "no condition": (f"y = Loop(m, , a) {turn('p2 = Add(p, p)')}", A, Y, [4, A3], "while"),
    "a scan in a while": (
        f"{GO} y = Loop(m, go, a) "
        + turn(
            "p2, s = Scan<num_scan_inputs=1, body = g (float[3] h, float[3] x) => "
            "(float[3] h2, float[3] o) { t = Add(h, x) h2 = Mul(t, a) o = Neg(h2) }>(p, xs)"
        ),
        "int64 m, float[3] a, float[9,3] xs",
        Y,
        [3, A3, ROWS],
        "while",
    ),
    "a while in a scan": (
        f"{GO} y, s = Scan<num_scan_inputs=2, body = g (float[3] h, float[3] x, int64 n) => "
        f"(float[3] h2, float[3] o) {{ h2 = Loop(n, go, h) {turn('p2 = Mul(p, x)')} o = Neg(h2) }}>"
        "(a, xs, ns)",
        "int64[9] ns, float[3] a, float[9,3] xs",
        f"{Y}, float[9,3] s",
        [np.arange(9), A3, ROWS],
        "scan",
    ),
    "an if in a while": (
        f"{GO} y = Loop(m, go, a) "
        + turn(
            "two = Constant<value_int=2>() r = Mod(i, two) e = Cast<to=9>(r) p2 = If(e) "
            "<then_branch = t () => (float[3] v) { v = Sin(p) }, "
            "else_branch = u () => (float[3] v) { v = Add(p, a) }>"
        ),
        A,
        Y,
        [5, A3],
        "while",
    ),
    "a while in an if in a while": (
        f"{GO} k = Abs(a) y = Loop(m, go, a) "
        + turn(
            "p2 = If(q) <then_branch = t () => (float[3] v) { w = Add(k, p) v = Loop(m, go, w) "
            "<body = g (int64 j, bool d, float[3] u) => (bool d2, float[3] u2) "
            "{ d2 = Identity(d) s = Add(u, k) u2 = Mul(s, p) }> }, "
            "else_branch = u () => (float[3] v) { v = Add(p, a) }>"
        ),
        "int64 m, bool q, float[3] a",
        Y,
        [3, True, A3],
        "while",
    ),
    "the turn is an index": (
        f"{GO} y = Loop(m, go, a) {turn('x = Gather<axis=0>(xs, i) p2 = Add(p, x)')}",
        "int64 m, float[3] a, float[9,3] xs",
        Y,
        [7, A3, ROWS],
        "while",
    ),
    "a state is written in places": (
        f"{GO} y = Loop(m, go, a) "
        + turn(
            "one = Constant<value_ints=[1]>() j = Reshape(i, one) f = Cast<to=1>(j) "
            "p2 = ScatterElements<axis=0>(p, j, f)",
            "float[9] p",
            "float[9] p2",
        ),
        "int64 m, float[9] a",
        "float[9] y",
        [7, rand(9)],
        "while",
    ),
    "many known turns": (
        f"{GO} m = Constant<value_int=100>() y, s = Loop(m, go, a) "
        + turn("p2 = Mul(p, a) o = Add(p, p2)", stacked=", float[3] o"),
        "float[3] a",
        f"{Y}, float[100,3] s",
        [A3],
        "scan",
    ),
    "as many turns as rows": (
        f"{GO} sh = Shape(x) z = Constant<value_int=0>() n = Gather<axis=0>(sh, z) "
        "y, s = Loop(n, go, a) "
        + turn("r = Gather<axis=0>(x, i) p2 = Mul(p, r) o = Add(p, p2)", stacked=", float[3] o"),
        "float[N,3] x, float[3] a",
        f"{Y}, float[N,3] s",
        [ROWS, A3],
        "scan",
    ),
    "at most as many turns as rows": (
        f"{GO} sh = Shape(x) z = Constant<value_int=0>() n = Gather<axis=0>(sh, z) "
        "y = Loop(n, go, a) "
        + while_less(
            "s = ReduceSum<keepdims=0>(p2) b = Constant<value_float=1.5>() c2 = Less(s, b)",
            "r = Gather<axis=0>(x, i) p2 = Add(p, r)",
        ),
        "float[N,3] x, float[3] a",
        Y,
        [ROWS, A3],
        "while",
    ),
    "branches of other ranks, chosen by an input": (
        "y = If(c) <then_branch = t () => (float v) { v = ReduceSum<keepdims=0>(x) }, "
        "else_branch = e () => (float[?,3] v) { v = Neg(x) }>",
        "bool c, float[2,3] x",
        "float[?,3] y",
        [False, rand(2, 3)],
        None,
    ),
    "branches of other sizes, chosen by a size": (
        "s = Shape(x) z = Constant<value_int=0>() n = Gather<axis=0>(s, z) "
        "two = Constant<value_int=2>() c = Greater(n, two) "
        "y = If(c) <then_branch = t () => (float[?,3] v) { v = Concat<axis=0>(x, x) }, "
        "else_branch = e () => (float[?,3] v) { v = Neg(x) }>",
        "float[N,3] x",
        "float[?,3] y",
        [rand(3, 3)],
        None,
    ),
    "branches of other symbols": (
        "y = If(c) <then_branch = t () => (float[?,3] v) { v = Abs(x) }, "
        "else_branch = e () => (float[?,3] v) { v = Neg(w) }>",
        "bool c, float[N,3] x, float[M,3] w",
        "float[?,3] y",
        [False, rand(2, 3), rand(4, 3)],
        None,
    ),
    "a constant branch": (
        "y = If(c) <then_branch = t () => (float[2] v) { v = Constant<value_floats=[1.0,2.0]>() }, "
        "else_branch = e () => (float[2] v) { v = Identity(x) }>",
        "bool c, float[2] x",
        "float[2] y",
        [True, rand(2)],
        "if",
    ),
    "stacks in stacks": (
        f"{GO} m = Constant<value_int=3>() y, s = Loop(m, go, x) <body = f (int64 i, bool c, "
        "float[2] h) => (bool c2, float[2] h2, float[k,2] r) { c2 = Identity(c) h2, r = "
        "Loop(m, c, h) <body = g (int64 j, bool d, float[2] u) => (bool d2, float[2] u2, "
        "float[2] o) { d2 = Identity(d) u2 = Add(u, x) o = Mul(u, u2) }> }>",
        "float[2] x",
        "float[2] y, float[3,3,2] s",
        [rand(2)],
        None,
    ),
    "a scan without states, rows along another axis": (
        "s, r = Scan<num_scan_inputs=1, scan_output_axes=[1,-1], body = g (float[3] x) => "
        "(float[3] o, float[3] q) { o = Neg(x) q = Abs(x) }>(xs)",
        "float[9,3] xs",
        "float[3,9] s, float[3,9] r",
        [ROWS],
        "scan",
    ),
    "stacks that the turn ends": (
        f"{GO} y, s = Loop(, go, a) <body = f (int64 i, bool c, float[3] p) => (bool c2, "
        f"float[3] p2, float[3] o) {{ {COUNT} p2 = Add(p, a) o = Neg(p2) }}>",
        "float[3] a",
        f"{Y}, float[k,3] s",
        [A3],
        None,
    ),
    "states that grow until the turn ends it": (
        f"{GO} y = Loop(, go, a) <body = f (int64 i, bool c, float[?] p) => (bool c2, "
        f"float[?] p2) {{ {COUNT} p2 = Concat<axis=0>(p, a) }}>",
        "float[3] a",
        "float[k] y",
        [A3],
        None,
    ),
    "no first turn, where the turn ends it": (
        f"y, s = Loop(m, g, a) <body = f (int64 i, bool c, float[?] p) => (bool c2, "
        f"float[?] p2, float[3] o) {{ {COUNT} p2 = Concat<axis=0>(p, a) o = Neg(a) }}>",
        "int64 m, bool g, float[3] a",
        "float[k] y, float[l,3] s",
        [9, False, A3],
        None,
    ),
    "a first turn, and the turn ends it": (
        f"y, s = Loop(m, g, a) <body = f (int64 i, bool c, float[?] p) => (bool c2, "
        f"float[?] p2, float[3] o) {{ {COUNT} p2 = Concat<axis=0>(p, a) o = Neg(a) }}>",
        "int64 m, bool g, float[3] a",
        "float[k] y, float[l,3] s",
        [9, True, A3],
        None,
    ),
    "shapes that follow from the turn": (
        f"{GO} y = Loop(m, go, a) "
        + turn(
            "z = Constant<value_int=0>() one = Constant<value_int=1>() r = Range(z, i, one) "
            "s = ReduceSum<keepdims=0>(r) f = Cast<to=1>(s) p2 = Add(p, f)"
        ),
        A,
        Y,
        [4, A3],
        None,
    ),
} | {
    f"a state of {dtype}": (
        f"{GO} y = Loop(m, go, a) "
        + while_less(
            COUNT,
            f"p2 = {'Not(p)' if dtype == 'bool' else 'Add(p, p)'}",
            f"{dtype}[3] p",
            f"{dtype}[3] p2",
        ),
        f"int64 m, {dtype}[3] a",
        f"{dtype}[3] y",
        [5, np.array([1, 2, 0]).astype(numpy)],
        "while",
    )
    for dtype, numpy in [
        ("float16", np.float16),
        ("int8", np.int8),
        ("uint8", np.uint8),
        ("bool", np.bool_),
        ("double", np.float64),
    ]
}


@pytest.mark.parametrize("target", ["cpu", "numpy"])
@pytest.mark.parametrize("name", CASES)
def test_bodies(name, target):
    body, inputs, outputs, values, op = CASES[name]
    proto = model(body, inputs=inputs, outputs=outputs)
    exe = tessel.compile(proto, target=target, threads=2)
    got = exe.run(dict(zip([p.name for p in exe.inputs], map(np.asarray, values))))
    for g, w in zip(got.values(), onnxruntime(proto, *values), strict=True):
        w = np.asarray(w)
        assert (g.dtype, g.shape) == (w.dtype, w.shape)
        np.testing.assert_allclose(g.astype(np.float64), w.astype(np.float64), 1e-5, 1e-6)
    if op is not None:
        assert op in [n.op.name for n in exe.graph.nodes]
