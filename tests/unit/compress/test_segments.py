"""Segments of graphs: where a graph is cut, and that its parts compute what it does."""

import numpy as np
import tessel
from tessel.compiler.compress.quantize import Plan
from tessel.compiler.compress.recipe import Recipe
from tessel.compiler.compress.segments import cut, segments
from tessel.compiler.ir.builder import Builder

from .test_quantize import DATA, small_net

INT8 = Recipe.of("int8", small=0)


def names(graph, recipe=INT8):
    parts = segments(Plan.of(graph, recipe).candidates)
    return [[p.where for p in s.products] for s in parts]


def chain(layers: int, skip: bool = False):
    """`layers` products one after another; with `skip` the first value is added at the end."""
    b = Builder()
    x = first = b.input("x", "f32[N,4]")
    for i in range(layers):
        b.origin = f"layer{i}"
        x = b.relu(x @ (np.eye(4, dtype=np.float32) * (i + 1)))
        first = x if i == 0 else first
    b.output("y", x + first if skip else x)
    return b.graph


def test_each_product_of_a_chain_is_a_segment():
    assert names(chain(3)) == [["layer0"], ["layer1"], ["layer2"]]


def test_a_residual_block_is_one_segment():
    assert names(small_net()) == [["first"], ["second", "third"], ["head"]]
    assert names(chain(4, skip=True)) == [["layer0"], ["layer1", "layer2", "layer3"]]


def test_products_that_stay_are_part_of_a_segment():
    recipe = Recipe.of("int8", small=0, keep=("second",))
    assert names(small_net(), recipe) == [["first"], ["third"], ["head"]]


def test_nothing_to_quantize_has_no_segments():
    assert names(chain(2), Recipe.of("int8", keep=("*",))) == []


def test_one_after_another_the_parts_compute_what_the_graph_does():
    graph = small_net()
    x, expected = DATA, tessel.compile(graph)(DATA)
    for s in segments(Plan.of(graph, INT8).candidates):
        part = cut(graph, s.begin, s.ends)
        assert len(part.inputs) == 1
        x = tessel.compile(part)(x)
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-5)


def test_what_depends_on_no_product_is_computed_in_each_part():
    """A mask of the input, which two products read between them."""
    b = Builder()
    x = b.input("x", "f32[N,4]")
    mask = b.greater(x, b.scalar(0.0, x.dtype)).cast(x.dtype)
    y = (x @ np.eye(4, dtype=np.float32)) * mask
    b.output("y", (y @ np.eye(4, dtype=np.float32)) + mask)
    parts = segments(Plan.of(b.graph, INT8).candidates)
    assert len(parts) == 2 and parts[1].begin == parts[0].ends[0]
    assert [v.name for v in cut(b.graph, parts[1].begin, parts[1].ends).inputs] == [
        "x",
        parts[1].begin,
    ]
