"""Passes: text before, one call, text after. And every level of optimisation keeps the results."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from tessel.compiler.errors import GraphError, InputError
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.specialize import specialize
from tessel.compiler.ir.text import parse_graph, print_graph
from tessel.compiler.ir.verify import verify
from tessel.compiler.passes.base import Pass, Pipeline, Repeat, Report, Step, run_pipeline
from tessel.compiler.passes.cleanup import (
    CommonSubexpressionElimination,
    DeadCodeElimination,
    FoldConstantBranches,
    FoldConstants,
    RemoveIdentities,
)
from tessel.compiler.pipelines import default_pipeline
from tessel.compiler.rewrite.rules.products import CombineProducts

from ...support.graphs import SIZE, assert_same_results, graphs, inputs_of, same_text


def passed(action: Pass, source: str, changed: bool = True):
    before = parse_graph(source)
    after, did = action(before)
    verify(after)
    assert_same_results(before, after)
    assert did == changed
    return after


# -- specialize --------------------------------------------------------------------------


def test_symbols_get_their_sizes():
    graph = parse_graph("""graph g(%x: f32[N,3], %c: bool[]) -> (%y, %d, %i) {
        %y = reshape(%x) {shape=[3*N]}
        %d = dims() {values=[N, (N+1)//2]}
        %i = if(%c, %x) {then_graph=graph t(%a: f32[N,3]) -> (%b) {
          %b = expand(%a) {shape=[2,N,3]}
        }, else_graph=graph e(%a: f32[N,3]) -> (%b) {
          %b = expand(%a) {shape=[2,N,3]}
        }}
    }""")
    after = specialize(graph, {"N": 4})
    verify(after)
    same_text(
        after,
        """graph g(%x: f32[4,3], %c: bool[]) -> (%y, %d, %i) {
        %y = reshape(%x) {shape=[12]}
        %d = constant() {value=dense(i64[2] [4, 2])}
        %i = if(%c, %x) {then_graph=graph t(%a: f32[4,3]) -> (%b) {
          %b = expand(%a) {shape=[2,4,3]}
        }, else_graph=graph e(%a: f32[4,3]) -> (%b) {
          %b = expand(%a) {shape=[2,4,3]}
        }}
    }""",
    )
    assert "N" in print_graph(graph)  # the graph that was given is left as it is


def test_some_symbols_may_stay():
    graph = parse_graph("graph g(%x: f32[N,M]) -> (%y) {%y = reshape(%x) {shape=[N*M]}}")
    after = specialize(graph, {"N": 2, "M": Sym.named("K")})
    assert str(after.outputs[0].type) == "f32[2*K]"


def test_sizes_that_contradict_the_model_are_refused():
    graph = parse_graph(
        'graph g(%x: f32[N,3], %z: f32[M,3]) -> (%y) {%y = add(%x, %z)  # "a/Add"\n}'
    )
    specialize(graph, {"N": 2, "M": 2})
    with pytest.raises(InputError, match="the sizes N=2, M=5 do not fit the model") as caught:
        specialize(graph, {"N": 2, "M": 5})
    assert caught.value.where == "a/Add"


def test_a_negative_size_is_refused():
    with pytest.raises(InputError, match="negative"):
        specialize(parse_graph("graph g(%x: f32[N]) -> (%x) {}"), {"N": -1})


def test_a_size_that_divides_by_zero_is_refused():
    graph = parse_graph("graph g(%x: f32[N]) -> (%y) {%y = dims() {values=[6//N]}}")
    with pytest.raises(InputError, match="divide by zero"):
        specialize(graph, {"N": 0})


# -- interpret ---------------------------------------------------------------------------

DOUBLED = "graph g(%x: f32[N,2*N]) -> (%y) {%y = reshape(%x) {shape=[2*N*N]}}"


def test_shapes_bind_symbols():
    [y] = interpret(parse_graph(DOUBLED), [np.ones((2, 4), np.float32)])
    assert y.shape == (8,)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([np.ones((2, 5), np.float32)], r"(?s)%x, axis 1.*2\*N = 4.*5"),
        ([np.ones((2, 4))], r"(?s)f32\[N,2\*N\].*f64\[2,4\]"),
        ([np.ones(2, np.float32)], r"does not fit"),
        ([], "wrong number of inputs"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(arrays, message):
    with pytest.raises(InputError, match=message):
        interpret(parse_graph(DOUBLED), arrays)


def test_an_observer_sees_every_node():
    seen = []
    graph = parse_graph("graph g(%x: f32[2]) -> (%y) {%a = neg(%x) %y = abs(%a)}")
    interpret(graph, inputs_of(graph), observer=lambda node, results: seen.append(node.op.name))
    assert seen == ["neg", "abs"]


# -- cleanup -----------------------------------------------------------------------------


def test_constants_are_folded():
    source = """graph g(%x: f32[2]) -> (%y) {
      %a = constant() {value=dense(f32[2] [1.0, 2.0])}
      %b = add(%a, %a)
      %p, %q = split(%b) {axis=0, sizes=[1, 1]}
      %r = mul(%p, %q)
      %y = mul(%x, %r)
    }"""
    same_text(
        passed(FoldConstants(), source),
        """graph g(%x: f32[2]) -> (%y) {
      %r = constant() {value=dense(f32[1] [8.0])}
      %y = mul(%x, %r)
    }""",
    )


@pytest.mark.parametrize(
    "body",
    [
        "%c = constant() {value=dense(f32[] 1.0)} %y = expand(%c) {shape=[512,512]}",
        "%y = iota() {shape=[512,512], dtype=f32}",
        """%c = constant() {value=dense(i8[2] [1, 2])} %s = constant() {value=dense(f32[] 1.0)}
           %y = dequantize_linear(%c, %s)""",
        "%y = neg(%x)",
    ],
)
def test_what_is_not_worth_folding_stays(body):
    source = f"graph g(%x: f32[2]) -> (%y) {{{body}}}"
    passed(FoldConstants(), source, changed=False)


def test_folding_reaches_into_regions():
    source = """graph g(%c: bool[]) -> (%y) {
      %y = if(%c) {then_graph=graph t() -> (%b) {
        %a = constant() {value=dense(f32[] 1.0)}
        %b = neg(%a)
      }, else_graph=graph e() -> (%b) {
        %b = constant() {value=dense(f32[] 1.0)}
      }}
    }"""
    after = passed(FoldConstants(), source)
    assert "dense(f32[] -1.0)" in print_graph(after)


def test_dead_nodes_are_dropped():
    source = "graph g(%x: f32[2]) -> (%y) {%a = neg(%x) %b = exp(%a) %y = abs(%a)}"
    same_text(
        passed(DeadCodeElimination(), source),
        "graph g(%x: f32[2]) -> (%y) {%a = neg(%x) %y = abs(%a)}",
    )
    assert len(passed(DeadCodeElimination(), source).nodes) == 2


def test_equal_nodes_are_shared():
    source = """graph g(%x: f32[2]) -> (%y) {
      %c = constant() {value=dense(f32[] 2.0)}
      %d = constant() {value=dense(f32[] 2.0)}
      %a = mul(%x, %c)
      %b = mul(%x, %d)
      %y = add(%a, %b)
    }"""
    after = passed(CommonSubexpressionElimination(), source)
    assert [n.op.name for n in after.nodes] == ["constant", "mul", "add"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("dense(f32[] 0.0)", "dense(f32[] -0.0)"),
        ("dense(f32[] 1.0)", "dense(i32[] 1)"),
        ("dense(f32[1] [1.0])", "dense(f32[] 1.0)"),
    ],
)
def test_what_differs_is_not_shared(one, other):
    source = f"""graph g() -> (%a, %b) {{
      %a = constant() {{value={one}}}
      %b = constant() {{value={other}}}
    }}"""
    passed(CommonSubexpressionElimination(), source, changed=False)


def test_regions_are_compared():
    branch = "then_graph=graph t(%a: f32[2]) -> (%b) {{%b = {}(%a)}}"
    other = "else_graph=graph e(%a: f32[2]) -> (%b) {%b = abs(%a)}"
    lines = "\n".join(
        f"%{v} = if(%c, %x) {{{branch.format(f)}, {other}}}"
        for v, f in [("p", "neg"), ("q", "neg"), ("r", "exp")]
    )
    after = passed(
        CommonSubexpressionElimination(),
        f"graph g(%x: f32[2], %c: bool[]) -> (%p, %q, %r) {{{lines}}}",
    )
    assert len(after.nodes) == 2


def test_identities_are_removed():
    source = """graph g(%x: f32[2,3]) -> (%y) {
      %a = identity(%x)
      %b = cast(%a) {dtype=f32}
      %c = transpose(%b) {perm=[0, 1]}
      %d = reshape(%c) {shape=[2,3]}
      %e = slice(%d) {axes=[0], starts=[0], steps=[1], sizes=[2]}
      %f = concat(%e) {axis=0}
      %y = stop_gradient(%f)
    }"""
    same_text(passed(RemoveIdentities(), source), 'graph g(%x: f32[2,3]) -> (%x as "y") {}')


def test_a_reversing_slice_is_no_identity():
    body = "%y = slice(%x) {axes=[0], starts=[1], steps=[-1], sizes=[2]}"
    passed(RemoveIdentities(), f"graph g(%x: f32[2]) -> (%y) {{{body}}}", changed=False)


@pytest.mark.parametrize(("condition", "op"), [("true", "neg"), ("false", "abs")])
def test_a_decided_if_is_its_branch(condition, op):
    source = f"""graph g(%x: f32[2]) -> (%y) {{
      %c = constant() {{value=dense(bool[] {condition})}}
      %y = if(%c, %x) {{then_graph=graph t(%a: f32[2]) -> (%b) {{%b = neg(%a)}},
        else_graph=graph e(%a: f32[2]) -> (%b) {{%b = abs(%a)}}}}
    }}"""
    same_text(
        passed(FoldConstantBranches(), source), f"graph g(%x: f32[2]) -> (%y) {{%y = {op}(%x)}}"
    )


def test_an_open_if_stays():
    source = """graph g(%x: f32[2], %c: bool[]) -> (%y) {
      %y = if(%c, %x) {then_graph=graph t(%a: f32[2]) -> (%b) {%b = neg(%a)},
        else_graph=graph e(%a: f32[2]) -> (%b) {%b = abs(%a)}}
    }"""
    passed(FoldConstantBranches(), source, changed=False)


# -- products ----------------------------------------------------------------------------


def test_products_of_one_operand_are_combined():
    source = """graph g(%x: f32[N,2]) -> (%p, %q) {
      %a = constant() {value=dense(f32[2,1] [1.0, 2.0])}
      %b = constant() {value=dense(f32[2,2] [3.0, 4.0, 5.0, 6.0])}
      %p = matmul(%x, %a)
      %q = matmul(%x, %b)
    }"""
    after = passed(CombineProducts(), source)
    same_text(
        after,
        """graph g(%x: f32[N,2]) -> (%p, %q) {
      %w = constant() {value=dense(f32[2,3] [1.0, 3.0, 4.0, 2.0, 5.0, 6.0])}
      %y = matmul(%x, %w)
      %p, %q = split(%y) {axis=1, sizes=[1, 2]}
    }""",
    )


@pytest.mark.parametrize("body", ["%p = matmul(%x, %a)", "%p = matmul(%x, %z) %q = matmul(%x, %a)"])
def test_one_product_with_constant_weights_stays(body):
    source = f"""graph g(%x: f32[3,2], %z: f32[2,2]) -> (%p) {{
      %a = constant() {{value=dense(f32[2,1] [1.0, 2.0])}}
      {body}
    }}"""
    passed(CombineProducts(), source, changed=False)


# -- pipelines ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Break(Pass):
    """leaves a graph that is not well formed"""

    name: ClassVar[str] = "break"

    def run(self, graph, report):
        graph.output_names.clear()
        return True


NEG = "graph g(%x: f32[2]) -> (%y) {%y = neg(%x)}"


def test_the_pass_that_breaks_a_graph_is_named():
    with pytest.raises(GraphError, match="the pass break left a malformed graph"):
        run_pipeline(parse_graph(NEG), [DeadCodeElimination(), Break()], verify_between=True)


def test_an_observer_sees_the_graph_after_each_pass():
    seen = []
    pipeline = Pipeline(
        (Step(DeadCodeElimination(), "first"), Step(CommonSubexpressionElimination(), "second"))
    )
    run_pipeline(
        parse_graph(NEG), pipeline, observer=lambda p, g, changed: seen.append((p.name, changed))
    )
    assert seen == [("dce", False), ("cse", False)]


def test_a_repeated_list_ends_when_nothing_changes():
    source = "graph g(%x: f32[2]) -> (%x) {%a = neg(%x) %b = neg(%a)}"
    steps = (Step(CommonSubexpressionElimination(), "a"), Step(DeadCodeElimination(), "b"))
    after, changed = Repeat(steps)(parse_graph(source))
    assert changed and after.nodes == []


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_pipeline_is_a_list_with_reasons(level):
    pipeline = default_pipeline(level)
    assert all(step.reason for step in pipeline)
    assert str(pipeline).startswith("dce")


def test_the_report_says_what_took_long():
    report = Report()
    run_pipeline(parse_graph(NEG), default_pipeline(1), report=report)
    assert set(report.seconds) >= {"dce", "simplify"}


def scale_of(graph, arrays) -> float:
    """The largest number that occurs."""
    largest = [1.0]

    def look(node, results):
        for r in results:
            if r.size and r.dtype.kind == "f":
                largest.append(float(np.abs(r).max()))

    interpret(graph, arrays, observer=look)
    return max(largest)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_level_1_keeps_every_bit(graph):
    after = run_pipeline(graph, default_pipeline(1), verify_between=True)
    arrays = inputs_of(graph)
    for e, r in zip(interpret(graph, arrays), interpret(after, arrays), strict=True):
        np.testing.assert_array_equal(r, e)  # 0.0 equals -0.0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_level_2_keeps_the_results(graph):
    after = run_pipeline(graph, default_pipeline(2), verify_between=True)
    arrays = inputs_of(graph)
    largest = scale_of(graph, arrays)
    assume(np.isfinite(largest))
    for e, r in zip(interpret(graph, arrays), interpret(after, arrays), strict=True):
        np.testing.assert_allclose(r, e, rtol=1e-4, atol=1e-5 * largest)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_specializing_changes_nothing_but_types(graph):
    verify(specialize(graph, dict.fromkeys(graph.symbols(), SIZE)))
