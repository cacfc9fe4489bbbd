"""What can be said of sizes that are open, and arithmetic on them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.expr import Axis
from tessel.compiler.ir.bounds import (
    DynamicSize,
    above,
    assume_above,
    assuming,
    at_least,
    fits,
    largest,
    lower_bound,
    maybe_below,
    size_hint,
    size_hints,
    value,
)
from tessel.compiler.ir.dims import Sym, ceil_div, dim_max, dim_min, substitute

N, S = Sym.named("N"), Sym.named("S")
SIZES = [{"N": n, "S": m} for n, m in itertools.product((1, 2, 3, 7, 16), repeat=2)]


@st.composite
def dims(draw, depth: int = 3):
    """Dims of two symbols, made of sums, products and what does not expand."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from([N, S, 1, 2, 5]))
    a, b = draw(dims(depth - 1)), draw(dims(depth - 1))
    match draw(st.sampled_from(["+", "-", "*", "//", "%", "max", "min"])):
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "//":
            return a // draw(st.sampled_from([2, 3, 16]))
        case "%":
            return a % draw(st.sampled_from([2, 3, 16]))
        case "max":
            return dim_max(a, b)
    return dim_min(a, b)


@given(dims(), dims())
def test_what_surely_holds_holds_for_all_sizes(a, b):
    pairs = [(substitute(a, sizes), substitute(b, sizes)) for sizes in SIZES]
    if at_least(a, b):
        assert all(x >= y for x, y in pairs)
    if above(a, b):
        assert all(x > y for x, y in pairs)
    assert maybe_below(a, b) or all(x >= y for x, y in pairs)
    low = lower_bound(a)
    assert low is None or all(x >= low for x, _ in pairs)
    assert [substitute(largest([a, b]), sizes) for sizes in SIZES] == [max(p) for p in pairs]


@given(dims(2), dims(2))
def test_division_that_is_exact_is_found_and_right(a, b):
    product = a * b
    if isinstance(b, Sym) and product != 0:
        assert product // b == a and product % b == 0
    for sizes in SIZES:
        x, y = substitute(a, sizes), substitute(b, sizes)
        if y > 0:
            assert substitute(a // b, sizes) == x // y
            assert substitute(ceil_div(a, b), sizes) == -(-x // y)


def test_quotients_of_quotients_are_one():
    assert (N - 1) // 4 // 2 == (N - 1) // 8
    assert ((N - 1) // 4 + S + 3) // 2 == (N + 4 * S + 11) // 8
    assert (N // 2 + S // 3) // 2 != (N + 2 * (S // 3)) // 4  # neither is the inner one
    for a, b, k in itertools.product((1, 2, 5), (1, 3), (-7, 0, 4)):
        d = ((2 * N + k) // a - S + k) // b
        for n in SIZES:
            assert substitute(d, n) == ((2 * n["N"] + k) // a - n["S"] + k) // b


def test_terms_outweigh_each_other():
    assert at_least(N * S, S) and above(N * S + 1, S) and not above(N * S, S)
    assert not at_least(N, S) and not at_least(S - 1, 1)
    assert at_least((S + 15) // 16, 1)


def test_comparisons_that_sizes_decide_are_refused():
    assert N >= 1 and N > 0 and not N < 1 and S + 1 > 1
    for wrong in (lambda: N > 1, lambda: N < S, lambda: max(N, 2)):
        with pytest.raises(DynamicSize, match="depends on the sizes"):
            wrong()


def test_sizes_to_expect():
    assert size_hint(7) == 7 and size_hint(N * S) == 128 * 128
    with size_hints({"N": 1}):
        assert size_hint(N * S + 2) == 130
        with size_hints({"N": 3, "S": 5}):
            assert size_hint(N * S) == 15
    assert size_hint(N) == 128


def test_the_value_of_a_dim():
    d = dim_max(N // 3, S % 4) * N - dim_min(S, 5)
    assert all(value(d, sizes) == substitute(d, sizes) for sizes in SIZES)
    with pytest.raises(ZeroDivisionError):
        value(7 // N, {"N": 0})


def test_assumptions_are_noted():
    with assuming() as noted:
        assume_above(N + 1, N)
        assume_above(N, S)
        with pytest.raises(DynamicSize):
            assume_above(N, N + 1)
    assert list(noted.above) == [(N, S)] and not noted.equal
    assert fits(noted.above, {"N": 3, "S": 2}) and not fits(noted.above, {"N": 2, "S": 2})
    assert not fits([], {"N": 0, "S": 2})
    with pytest.raises(DynamicSize):
        assume_above(N, S)


# -- index arithmetic -----------------------------------------------------------------------


def test_reshapes_between_dynamic_shapes_dissolve():
    """[N, S, 12, 64] -> [N, S, 768] -> [N * S, 768], and back."""
    n, m, h, d = (s.axis(Axis("i", x)) for x in (N, S, 12, 64))
    offset = s.flatten((n, m, h, d), (N, S, 12, 64))
    assert s.unflatten(offset, (N, S, 768)) == (n, m, h * 64 + d)
    assert s.unflatten(offset, (N * S, 768)) == (n * S + m, h * 64 + d)
    rows = s.axis(Axis("i", N * S))
    assert s.unflatten(rows, (N, S)) == (rows // S, rows % S)


def test_comparisons_of_indices_are_decided():
    i = s.axis(Axis("i", S))
    assert s.compare("lt", i, s.const(S)).data is True
    assert s.compare("ge", i, 0).data is True
    assert s.compare("lt", i, s.const(N)).op == "lt"
    assert s.minimum(i, s.const(S)) is i
