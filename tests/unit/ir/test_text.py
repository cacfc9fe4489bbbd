"""Graphs as text: every graph prints as text that parses back, and what is wrong is located."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tessel.compiler.errors import GraphError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.text import parse_graph, parse_type, print_graph
from tessel.compiler.ir.verify import verify

from ...support.graphs import graphs


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_every_graph_parses_back(graph):
    verify(graph)
    table = {}
    text = print_graph(graph, table)
    again = parse_graph(text, table)
    verify(again)
    assert print_graph(again, dict(table)) == text


def constant_graph(array):
    b = Builder()
    b.output("y", b.constant(array, name="c"))
    return b.graph


def round_trip(array):
    table = {}
    text = print_graph(constant_graph(array), table)
    return parse_graph(text, table).nodes[0].attrs["value"], text


@pytest.mark.parametrize(
    ("array", "literal"),
    [
        (np.float32(0.1), "dense(f32[] 0.1)"),
        (np.array([1, 2.5, -0.0], np.float32), "dense(f32[3] [1.0, 2.5, -0.0])"),
        (np.array([np.nan, np.inf, -np.inf]), "dense(f64[3] [nan, inf, -inf])"),
        (np.array([0x7FA00001], np.uint32).view(np.float32), "dense(f32[1] [nan:0x7fa00001])"),
        (np.array([1e-45, 3e38], np.float32), "dense(f32[2] [1e-45, 3e+38])"),
        (np.array([0.5, 3e38], ml_dtypes.bfloat16), "dense(bf16[2] [0.5, 3.00406e+38])"),
        (np.array([1, 448], ml_dtypes.float8_e4m3fn), "dense(f8e4m3fn[2] [1.0, 448.0])"),
        (np.array([-8, 7], ml_dtypes.int4), "dense(i4[2] [-8, 7])"),
        (np.array([2**64 - 1], np.uint64), "dense(u64[1] [18446744073709551615])"),
        (np.array([True, False]), "dense(bool[2] [true, false])"),
        (np.array(['"a"\n', "ü"], object), 'dense(str[2] ["\\"a\\"\\n", "ü"])'),
        (np.zeros((0, 3), np.int8), "dense(i8[0,3] [])"),
        (np.arange(9), "@w0"),
    ],
)
def test_an_array_prints_as_it_is(array, literal):
    again, text = round_trip(array)
    assert f"{{value={literal}}}" in text
    assert again.dtype == np.asarray(array).dtype and again.shape == np.shape(array)
    assert again.tolist() == array.tolist() or again.tobytes() == np.asarray(array).tobytes()


@given(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64, ml_dtypes.bfloat16, np.int64]),
        hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=2),
        elements=st.integers(-99, 99),
    ),
    st.randoms(use_true_random=False),
)
def test_any_bits_survive(array, random):
    noise = np.frombuffer(random.randbytes(array.nbytes), array.dtype).reshape(array.shape)
    again, _ = round_trip(noise)
    assert again.dtype == noise.dtype and again.tobytes() == noise.tobytes()


EVERYTHING = """\
graph main(%x: f32[N,3], %"a/b": f32[3], %c: bool[]) -> (%y, %"a/b" as "q r") \
updates {1: 1} metadata {"k": "v\\n"} {
  %z = add(%x, %"a/b") : f32[N,3]  # "layer/Add \\"1\\""
  %y = reshape(%z) {shape=[3*N]} : f32[3*N]
  %i = if(%c, %z) {then_graph=graph t(%a: f32[N,3]) -> (%a) {
  }, else_graph=graph e(%a: f32[N,3]) -> (%b) {
    %b = clip(%a, none, %a) : f32[N,3]
  }} : f32[N,3]
}"""


def test_every_part_of_the_grammar():
    graph = parse_graph(EVERYTHING)
    assert print_graph(graph) == EVERYTHING
    assert graph.output_names == ["y", "q r"]
    assert graph.updates == {1: 1}
    assert graph.metadata == {"k": "v\n"}
    assert graph.nodes[0].origin == 'layer/Add "1"'
    assert graph.nodes[2].attrs["else_graph"].nodes[0].inputs[1] is None


def test_types_may_be_left_out_and_comments_are_ignored():
    graph = parse_graph(
        """graph g(%x: f32[N,3]) -> (%z) {  # a comment
             # another
             %y = transpose(%x) {perm=[1, 0]}
             %z = relu(%y)
           }"""
    )
    assert str(graph.outputs[0].type) == "f32[3,N]"


@pytest.mark.parametrize(
    "text",
    ["f32[]", "i4[2,3]", "f32[N,2*M+1]", "bool[max(N,3)]", "seq(f32[3])", "map(i64,seq(str[]))"],
)
def test_a_type_prints_as_it_parses(text):
    assert str(parse_type(text)) == text


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("graph g(%x: f33[N]) -> (%x) {}", "line 1, column 13", "unknown dtype"),
        ("graph g(%x: f32[3]) -> (%y) {}", "line 1, column 25", "not defined before"),
        ("graph g(%x: f32[3], %x: f32[3]) -> () {}", "line 1, column 21", "defined twice"),
        ("graph g() -> () {\n  %y = relu(%y)\n}", "line 2, column 13", "not defined before"),
        ("graph g(%x: f32[3]) -> () {%y = rlu(%x)}", "line 1, column 33", "did you mean"),
        ("graph g(%x: f32[3]) -> () {%y = add(%x)}", "line 1, column 33", "y is missing"),
        ("graph g(%x: f32[3]) -> () {%y = relu(%x) {a=1}}", "column 33", "no attribute a"),
        ("graph g(%x: f32[3]) -> () {%y, %z = relu(%x)}", "column 37", "wrong number of types"),
        ("graph g() -> () {%c = constant() {value=@w7}}", "column 41", "an array is missing"),
        ("graph g() -> () {%c = constant() {value=dense(i8[2] [1])}}", "53", "number of elements"),
        ("graph g() -> () {%c = constant() {value=dense(i8[1] [0.5])}}", "54", "wrong element"),
        ("graph g() -> () {%c = constant() {value=dense(f32[N] [])}}", "47", "not an array's type"),
        ("graph g() -> () {%c = constant() {value=?}}", "line 1, column 41", "unknown character"),
        ("graph g(%x: f32[3 -> () {}", "line 1, column 17", "is not a dim"),
        ("graph g() -> () {} graph", "line 1, column 20", "syntax error"),
        ("graph g() -> () {", "line 1, column 18", "syntax error"),
        ('graph g(%"\\q": f32[]) -> () {}', "line 1, column 10", "not a string"),
        ("graph g() -> () updates {a: 1} {}", "line 1, column 26", "expected: an int"),
    ],
)
def test_a_mistake_is_located(text, where, message):
    with pytest.raises(GraphError) as caught:
        parse_graph(text)
    assert where in caught.value.where
    assert message in str(caught.value)
