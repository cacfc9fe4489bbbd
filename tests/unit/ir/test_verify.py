"""The verifier accepts what the builder builds and names what is wrong with the rest."""

import numpy as np
import pytest
from hypothesis import given, settings
from tessel.compiler.errors import GraphError
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.graph import Graph
from tessel.compiler.ir.text import parse_graph, parse_type
from tessel.compiler.ir.verify import verify

from ...support.graphs import graphs

SOURCE = """
graph main(%x: f32[N,3], %c: bool[]) -> (%y) updates {0: 0} {
  %two = constant() {value=dense(f32[] 2.0)}
  %m = mul(%x, %two)
  %i = if(%c, %m) {then_graph=graph t(%a: f32[N,3]) -> (%a) {
  }, else_graph=graph e(%a: f32[N,3]) -> (%b) {
    %b = neg(%a)
  }}
  %y = softmax(%i) {axis=1}
}
"""


def good() -> Graph:
    return parse_graph(SOURCE)


@settings(max_examples=50, deadline=None)
@given(graphs())
def test_what_the_builder_builds_is_well_formed(graph):
    verify(graph)


def test_the_graph_below_is_well_formed():
    verify(good())


def use_before_definition(g):
    g.nodes[0], g.nodes[1] = g.nodes[1], g.nodes[0]


def undefined(g):
    del g.nodes[0]


def defined_twice(g):
    g.nodes.append(g.nodes[1])


def same_name(g):
    g.nodes[1].outputs[0].name = "x"


def missing_operand(g):
    g.nodes[1].inputs.pop()


def too_many_operands(g):
    g.nodes[3].inputs *= 3


def wrong_dtype(g):
    g.nodes[1].outputs[0].type = parse_type("f64[N,3]")


def wrong_shape(g):
    g.nodes[1].outputs[0].type = parse_type("f32[N,4]")


def unknown_attribute(g):
    g.nodes[3].attrs["axes"] = 1


def missing_attribute(g):
    del g.nodes[3].attrs["axis"]


def constant_of_another_type(g):
    g.nodes[0].attrs["value"] = np.zeros(3, np.float32)


def wrong_pointer(g):
    g.nodes[1].outputs[0].node = g.nodes[0]


def region_with_a_mistake(g):
    g.nodes[2].attrs["else_graph"].nodes.clear()


def region_of_other_operands(g):
    g.nodes[2].attrs["then_graph"].inputs[0].type = parse_type("f32[N,5]")


def region_of_other_results(g):
    g.nodes[2].attrs["else_graph"].outputs *= 2


def unnamed_output(g):
    g.output_names.clear()


def outputs_of_one_name(g):
    g.outputs *= 2
    g.output_names *= 2


def update_of_nothing(g):
    g.updates = {0: 7}


def update_of_another_type(g):
    g.updates = {0: 1}


def updated_twice(g):
    g.outputs *= 2
    g.output_names = ["a", "b"]
    g.updates = {0: 0, 1: 0}


@pytest.mark.parametrize(
    ("breaks", "messages"),
    [
        (use_before_definition, ["not defined before its use", "%m = mul(%x, %two)", "%two"]),
        (undefined, ["not defined before its use", "%two"]),
        (defined_twice, ["a value is defined twice", "%m"]),
        (same_name, ["a value is defined twice", "%x"]),
        (missing_operand, ["mul: operand y is missing", "%m = mul(%x) : f32[N,3]"]),
        (too_many_operands, ["softmax: too many operands"]),
        (wrong_dtype, ["%m has a type that its op does not give", "f32[N,3]", "f64[N,3]"]),
        (wrong_shape, ["%m has a type that its op does not give", "f32[N,4]"]),
        (unknown_attribute, ["softmax has no attribute axes", "%y = softmax(%i)"]),
        (missing_attribute, ["attributes are missing", "axis"]),
        (constant_of_another_type, ["%two has a type that its op does not give", "f32[3]"]),
        (wrong_pointer, ["does not point to its node"]),
        (region_with_a_mistake, ["an output is not defined", "else_graph", "%b"]),
        (region_of_other_operands, ["the then branch: %a has another type", "f32[N,5]"]),
        (region_of_other_results, ["the branches of if takes another number of values"]),
        (unnamed_output, ["wrong number of output names"]),
        (outputs_of_one_name, ["two outputs have one name", "y"]),
        (update_of_nothing, ["an update points nowhere", "updates {0: 7}"]),
        (update_of_another_type, ["an update changes the type", "bool[]"]),
        (updated_twice, ["an input is updated twice"]),
    ],
    ids=lambda p: getattr(p, "__name__", ""),
)
def test_what_is_broken_is_named(breaks, messages):
    graph = good()
    breaks(graph)
    with pytest.raises(GraphError) as caught:
        verify(graph)
    assert all(m in str(caught.value) for m in messages), caught.value


def test_every_finding_is_listed():
    graph = good()
    missing_operand(graph)
    unknown_attribute(graph)
    unnamed_output(graph)
    with pytest.raises(GraphError) as caught:
        verify(graph)
    assert len(caught.value.findings) == 3


def test_a_symbolic_dim_may_be_refined():
    graph = good()
    graph.nodes[1].outputs[0].type = parse_type("f32[8,3]")
    verify(graph)
    graph.nodes[1].outputs[0].type = parse_type("f32[8,3]").with_shape((Sym.named("M"), 3))
    verify(graph)


SCAN = """
graph main(%s: f32[3], %xs: f32[5,3]) -> (%t, %ys) {
  %t, %ys = scan(%s, %xs) {body=graph b(%a: f32[3], %x: f32[3]) -> (%n, %n as "out") {
    %n = add(%a, %x)
  }, states=1, scans=1}
}
"""


def test_a_scan_gets_slices_of_what_it_scans():
    graph = parse_graph(SCAN)
    verify(graph)
    graph.nodes[0].attrs["body"].inputs[1].type = parse_type("f32[5,3]")
    with pytest.raises(GraphError, match="%x has another type"):
        verify(graph)
