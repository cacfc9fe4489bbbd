"""The graph editor: what passes do to graphs, one thing at a time."""

import pytest
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.editor import GraphEditor, splice
from tessel.compiler.ir.graph import Graph
from tessel.compiler.ir.text import parse_graph, print_graph
from tessel.compiler.ir.verify import verify

TEXT = """graph main(%x: f32[3]) -> (%z) {
  %y = neg(%x) : f32[3]  # "first"
  %z = add(%y, %x) : f32[3]  # "second"
}
"""


def graph() -> Graph:
    return parse_graph(TEXT)


def shown(graph: Graph) -> list[str]:
    """The nodes, each as an expression with its origin."""
    verify(graph)
    return [f"{n!r}  {n.origin}" for n in graph.nodes]


def test_a_walk_without_edits_changes_nothing():
    g = graph()
    edit = GraphEditor(g)
    assert [n.op.name for n in edit] == ["neg", "add"]
    assert not edit.changed
    assert print_graph(g) == print_graph(graph())


def test_readers_of_a_replaced_node_read_what_stands_for_it():
    g = graph()
    edit = GraphEditor(g)
    for node in edit:
        if node.op.name == "neg":
            edit.replace(node, edit.b.abs(node.inputs[0]))
    assert edit.changed
    assert shown(g) == ["%0 = abs(%x)  first", "%z = add(%0, %x)  second"]


def test_outputs_are_replaced_too():
    g = graph()
    edit = GraphEditor(g)
    for node in edit:
        if node.op.name == "add":
            edit.replace(node, node.inputs[0])
    assert shown(g) == ["%y = neg(%x)  first"]
    assert g.outputs == [g.nodes[0].output]


def test_what_is_emitted_stands_before_the_node_or_at_the_end():
    g = graph()
    edit = GraphEditor(g)
    for node in edit:
        if node.op.name == "add":
            node.inputs[0] = edit.b.abs(node.inputs[0]).value
    g.outputs = [edit.b.exp(g.outputs[0]).value]
    assert edit.changed
    assert shown(g) == [
        "%y = neg(%x)  first",
        "%0 = abs(%y)  second",
        "%z = add(%0, %x)  second",
        "%1 = exp(%z)  second",
    ]


def test_a_graph_is_inlined():
    b = Builder()
    b.output("r", b.input("a", "f32[3]") * 2)
    g = graph()
    edit = GraphEditor(g)
    for node in edit:
        if node.op.name == "neg":
            edit.replace(node, *edit.b.inline(b.graph, node.inputs))
    assert [n.op.name for n in g.nodes] == ["constant", "mul", "add"]
    verify(g)


def test_a_removed_node_is_gone():
    g = graph()
    g.outputs = [g.nodes[0].output]
    edit = GraphEditor(g)
    for node in edit:
        if node.op.name == "add":
            edit.remove(node)
    assert edit.changed
    assert shown(g) == ["%y = neg(%x)  first"]


def test_only_the_node_at_hand_is_edited():
    g = graph()
    edit = GraphEditor(g)
    next(iter(edit))
    with pytest.raises(AssertionError, match="not at hand"):
        edit.remove(g.nodes[1])
    assert print_graph(g) == print_graph(graph())


def test_nodes_are_spliced_in_and_results_live_on():
    g = graph()
    y, b = g.nodes[0].output, Builder(g)
    with b.aside() as nodes:
        made = b.abs(b.exp(g.inputs[0])).value
    splice(g, g.nodes[0], nodes, [made])
    assert g.nodes[1].output is y
    assert [n.op.name for n in g.nodes] == ["exp", "abs", "add"]
    verify(g)


def test_what_is_built_aside_is_in_no_graph():
    b = Builder(graph())
    b.origin, before = "outside", b.constant(2.0)
    with b.aside() as nodes:
        b.origin = "inside"
        again = b.constant(2.0)
    assert nodes == [again.value.node]
    assert again.value.name != before.value.name
    assert b.origin == "outside"
    assert before.value.node in b.graph.nodes
    assert nodes[0] not in b.graph.nodes
