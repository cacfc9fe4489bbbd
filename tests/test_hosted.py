"""Sizes that data decides inside of branches and loops: the host runs those, as ONNX Runtime does."""

import numpy as np
import pytest
import tessel
from tessel.compiler.errors import InputError, UnsupportedError
from tessel.compiler.interpret import interpret
from tessel.compiler.text import parse_graph, print_graph
from tessel.compiler.verify import verify
from tessel.frontends.onnx.reader import read
from tessel.runtime.host import _expect_room, available_memory

from .onnx_models import assert_equal, model, onnxruntime

X = np.array([0, 3, 0, -1, 2, 3], np.float32)
MATRIX = np.array([[0, 1, 0], [2, 0, 3]], np.float32)

# What makes y: a vector of floats of a size that follows from the vector x.
ZERO = "zero = Constant<value = float {0}>() one = Constant<value_ints=[1]>() "
ALL = "all = Constant<value_ints=[-1]>() "
BODIES = {
    "NonZero": "p = NonZero(x) y = Cast<to=1>(p)",
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
}  # fmt: skip
CONSTANTS = ZERO + ALL + "zeroaxis = Constant<value_ints=[0]>() "


def branch(body: str, name: str, output: str = "y") -> str:
    """A body as a graph of its own, whose values have names of their own."""
    words = body.replace("(", " ( ").replace(")", " ) ").replace(",", " , ").split(" ")
    made = {w.rstrip(",") for line in body.split("=")[:-1] for w in [line.split(")")[-1]]}
    names = {n.strip() for part in made for n in part.split(",")}
    text = " ".join(f"{w}_{name}" if w in names else w for w in words)
    return f"{name} = {name} () => (float[?] {output}_{name}) {{ {text} }}"


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
    other = "y = Identity(k)"
    text = (f"{CONSTANTS} y = If(c) <{branch(body, 'then_branch')}, "
            f"{branch(other, 'else_branch')}> z = Add(y, y)")
    return model(text, inputs="bool c, float[n] x, float[2] k", outputs="float[m] y, float[m] z")


@pytest.mark.parametrize("name", BODIES)
def test_in_a_branch(name):
    proto = if_of(BODIES[name])
    for c in (True, False):
        exe = check(proto, c, X, np.float32([5, 7]))
    exe = tessel.compile(proto, cache=False)
    for x in (X, X[:1], np.append(X, X)):
        want = onnxruntime(proto, np.array(True), x, np.float32([5, 7]))
        assert_equal(list(exe(np.array(True), x, np.float32([5, 7]))), want)
