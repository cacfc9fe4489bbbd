"""Rewrite rules: text before, one call, text after; and what each rule refuses, with the reason.

Every rewritten graph is verified and gives the same results as before.
"""

import pytest
from tessel.compiler.ir.text import parse_graph
from tessel.compiler.ir.verify import verify
from tessel.compiler.rewrite.engine import Rewrite
from tessel.compiler.rewrite.rules.algebra import EXACT, FAST
from tessel.compiler.rewrite.rules.attention import ATTENTION
from tessel.compiler.rewrite.rules.conv import CONVS, GEMMS
from tessel.compiler.rewrite.rules.einsum import EINSUMS
from tessel.compiler.rewrite.rules.norm import NORMS
from tessel.compiler.rewrite.rules.products import FLATTENS
from tessel.compiler.rewrite.rules.reshapes import BINARY, RESHAPES

from ...support.graphs import assert_same_results, same_text
from .rewrite_cases import ALGEBRA, MOVES, graph
from .rewrite_layer_cases import ATTENTION_CASES, CONV_CASES, NORM_CASES

TABLES = (*EXACT, *FAST, *RESHAPES, *NORMS, *ATTENTION, *EINSUMS, *CONVS, *GEMMS, *FLATTENS)
RULES = {r.equation: r for r in TABLES}


def rewritten(source: str, *rules, report=None):
    before = parse_graph(source)
    verify(before)
    after, _ = Rewrite("test", rules)(before, report)
    verify(after)
    assert_same_results(before, after)
    return after


POSITIVE = [*ALGEBRA, *MOVES, *NORM_CASES, *ATTENTION_CASES, *CONV_CASES]


@pytest.mark.parametrize(("equation", "inputs", "before", "after"), POSITIVE)
def test_rule(equation, inputs, before, after):
    result = rewritten(graph(inputs, before), RULES[equation])
    expected = graph(inputs, after) if after else graph(inputs, "").replace("(%y)", '(%x as "y")')
    same_text(result, expected)


@pytest.mark.parametrize("name", BINARY)
def test_an_elementwise_op_broadcasts_by_itself(name):
    dtype = "bool" if name in ("and", "or", "xor") else "f32"
    for operands in ("%x, %{}", "%{}, %x"):
        source = graph(
            f"x: {dtype}[2,3]; z: {dtype}[3]",
            f"%e = expand(%z) {{shape=[2,3]}}\n%y = {name}({operands.format('e')})",
        )
        after = graph(f"x: {dtype}[2,3]; z: {dtype}[3]", f"%y = {name}({operands.format('z')})")
        same_text(rewritten(source, *RESHAPES), after)


def test_every_rule_is_tested():
    generated = {r.equation for r in RESHAPES if "expand(y)" in r.equation}
    assert set(RULES) == {equation for equation, *_ in POSITIVE} | generated
