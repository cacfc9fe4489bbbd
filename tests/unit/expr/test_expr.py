"""Index arithmetic: whatever the smart constructors simplify evaluates like Python's integers."""

import gc
import operator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.core import PRIMITIVES, Buffer, make
from tessel.compiler.expr.index import bounds, linear
from tessel.compiler.ir.types import BF16, BOOL, F16, F32, F64, I8, I32, I64, U8, TensorType

I, J, K = s.Axis("i", 6), s.Axis("j", 4), s.Axis("k", 10)
i, j, k = map(s.axis, (I, J, K))
ARITHMETIC = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "min": s.minimum,
    "max": s.maximum,
}
COMPARISONS = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
}


def value_of(e: s.Expr, where: dict) -> int | bool:
    """What an expression is at a point, by Python's own arithmetic."""
    args = [value_of(a, where) for a in e.args]
    match e.op:
        case "axis":
            return where[e.data]
        case "const":
            return e.data
        case "select":
            return args[1] if args[0] else args[2]
        case "add" | "sub" | "mul" | "floordiv" | "mod":
            return getattr(operator, e.op)(*args)
        case "min" | "max":
            return (min if e.op == "min" else max)(args)
        case op if op in COMPARISONS:
            return COMPARISONS[op](*args)
        case "and" | "or":
            return args[0] and args[1] if e.op == "and" else args[0] or args[1]
        case "not":
            return not args[0]
    raise AssertionError(e)


@st.composite
def indices(draw, depth: int = 4):
    """An index expression, and the same as a function of a point."""
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        if draw(st.booleans()):
            axis = draw(st.sampled_from([I, J, K]))
            return s.axis(axis), lambda p: p[axis]
        c = draw(st.integers(-12, 12))
        return s.const(c), lambda p: c
    e, f = draw(indices(depth - 1))
    op = draw(st.sampled_from([*ARITHMETIC, "*c", "//", "%", "select"]))
    if op == "select":
        (a, fa), (b, fb) = draw(indices(depth - 1)), draw(indices(depth - 1))
        c, fc = draw(conditions(depth - 1))
        return s.select(c, a, b), lambda p: fa(p) if fc(p) else fb(p)
    if op in ("//", "%", "*c"):
        c = draw(st.integers(1, 12) if op != "*c" else st.integers(-12, 12))
        g = ARITHMETIC[op.rstrip("c")]
        return g(e, c), lambda p: g(f(p), c)
    e2, f2 = draw(indices(depth - 1))
    if op in ("min", "max"):
        h = min if op == "min" else max
        return ARITHMETIC[op](e, e2), lambda p: h(f(p), f2(p))
    g = ARITHMETIC[op]
    return g(e, e2), lambda p: g(f(p), f2(p))


@st.composite
def conditions(draw, depth: int = 2):
    op = draw(st.sampled_from([*COMPARISONS, "and", "or", "not"]))
    if op in COMPARISONS or depth == 0:
        op = op if op in COMPARISONS else "lt"
        (a, fa), (b, fb) = draw(indices(max(0, depth - 1))), draw(indices(max(0, depth - 1)))
        return s.compare(op, a, b), lambda p: COMPARISONS[op](fa(p), fb(p))
    a, fa = draw(conditions(depth - 1))
    if op == "not":
        return s.logical_not(a), lambda p: not fa(p)
    b, fb = draw(conditions(depth - 1))
    if op == "and":
        return s.logical_and(a, b), lambda p: fa(p) and fb(p)
    return s.logical_or(a, b), lambda p: fa(p) or fb(p)


POINTS = st.fixed_dictionaries({a: st.integers(0, a.extent - 1) for a in (I, J, K)})


@given(pair=indices(), points=st.lists(POINTS, min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_indices_evaluate_like_pythons_integers(pair, points):
    e, f = pair
    low, high = bounds(e)
    for p in points:
        assert value_of(e, p) == f(p)
        assert low <= f(p) <= high


@given(pair=conditions(3), points=st.lists(POINTS, min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_conditions_evaluate_like_pythons(pair, points):
    e, f = pair
    for p in points:
        assert value_of(e, p) == f(p)


@given(pair=indices(), other=indices(2), p=POINTS)
@settings(max_examples=80, deadline=None)
def test_substituting_an_axis_is_evaluating_it_first(pair, other, p):
    (e, f), (x, fx) = pair, other  # what is put in must lie in the axis's range
    assert value_of(s.substitute(e, {I: x % I.extent}), p) == f(p | {I: fx(p) % I.extent})


@given(pair=indices(), p=POINTS)
@settings(max_examples=100, deadline=None)
def test_the_linear_form_is_the_expression(pair, p):
    e, _ = pair
    terms, c = linear(e)
    assert sum(value_of(t, p) * n for t, n in terms.items()) + c == value_of(e, p)
    assert s.from_linear(terms, c) is e
    assert 0 not in terms.values()


# -- normal forms ----------------------------------------------------------------------------------

FORMS = [
    ("sums are ordered", j + i, i + j),
    ("sums are flat", (i + 1) + (j + 2), i + j + 3),
    ("terms cancel", i + j - i, j),
    ("products distribute over constants", (i + j * 2) * 3, i * 3 + j * 6),
    ("a sum minus itself is 0", i - i, s.const(0)),
    ("a product with 0 is 0", i * 0, s.const(0)),
    ("constants are to the right", s.const(4) * i, i * 4),
    ("whole multiples leave //", (i * 4 + j) // 4, i),
    ("whole multiples leave %", (i * 4 + j) % 4, j),
    ("// of less than the divisor is 0", j // 4, s.const(0)),
    ("% of less than the divisor is itself", j % 4, j),
    ("// of a sum of strides", (i * 40 + j * 10 + k) // 10, i * 4 + j),
    ("% of a sum of strides", (i * 40 + j * 10 + k) % 40, j * 10 + k),
    ("// keeps offsets", (i * 4 + 9) // 4, i + 2),
    ("negative offsets round down", (i * 4 - 1) // 4, i - 1),
    ("// of // is one //", k // 2 // 3, k // 6),
    ("min within bounds", s.minimum(j, 3), j),
    ("max within bounds", s.maximum(i, 0), i),
    ("max beyond bounds", s.maximum(j, 9), s.const(9)),
    ("min with itself", s.minimum(i + j, j + i), i + j),
]


@pytest.mark.parametrize(("e", "expected"), [f[1:] for f in FORMS], ids=[f[0] for f in FORMS])
def test_normal_forms(e, expected):
    assert e is expected


@pytest.mark.parametrize(
    ("e", "text"),
    [(k // 3, "(k // 3)"), (k % 3, "(k % 3)"), (k // 3 * 3 + k % 3, None), (i * j, "(i * j)")],
)
def test_what_extents_do_not_decide_stays(e, text):
    if text is None:
        assert len(linear(e)[0]) == 2
    else:
        assert s.show(e) == text


@pytest.mark.parametrize("shape", [(6,), (6, 4), (6, 4, 10), (1, 6, 1)])
def test_unflatten_undoes_flatten(shape):
    axes = [s.Axis("a", d) for d in shape]
    index = [s.axis(a) for a in axes]
    assert list(s.unflatten(s.flatten(index, shape), shape)) == index


def test_strides_are_row_major():
    assert s.strides_of((2, 3, 4)) == (12, 4, 1)
    assert s.strides_of(()) == ()


def test_an_axis_of_one_is_0():
    assert s.axis(s.Axis("i", 1)) is s.const(0)


# -- comparisons -----------------------------------------------------------------------------------

KNOWN = [
    (i < 6, True),
    (i < 0, False),
    (i >= 0, True),
    (i > 5, False),
    (i <= 5, True),
    (s.eq(i, 6), False),
    (s.ne(i, -1), True),
    (i * 2 + 1 < 12, True),
    (k // 5 < 2, True),
    (s.eq(s.const(3), 3), True),
    (s.compare("lt", s.const(1.5, F32), 2.0), True),
]


@pytest.mark.parametrize(("e", "value"), KNOWN, ids=[str(n) for n in range(len(KNOWN))])
def test_comparisons_that_ranges_decide(e, value):
    assert e is s.const(value, BOOL)


@pytest.mark.parametrize("e", [i < 5, s.eq(i, 5), i < j, (i < 3) & (j < 2), ~(i < 3)])
def test_comparisons_that_they_do_not(e):
    assert e.op != "const"
    assert e.dtype == BOOL


def test_selects_that_are_decided():
    assert s.select(i < 6, i, j) is i
    assert s.select(i < 0, i, j) is j
    assert s.select(i < 3, j, j) is j
    assert s.select(i < 0, i, 7) is s.const(7)
    assert s.select(i < 3, i, j).op == "select"


def test_and_or_not_of_constants():
    some, true, false = i < 3, s.const(True, BOOL), s.const(False, BOOL)
    assert (some & true) is some
    assert (some & false) is false
    assert (some | true) is true
    assert (some | false) is some
    assert ~true is false
    assert (some & some) is some


# -- floats ----------------------------------------------------------------------------------------

X = Buffer("x", TensorType(F32, (6,)))
x = X[i]


def test_floats_keep_what_is_not_exact():
    assert (x * 1.0) is x
    assert (x - 0.0) is x
    assert (x / 1.0) is x
    assert (x + 0.0) is not x  # -0.0 + 0.0 is 0.0
    assert (x * 0.0).op == "mul"  # nan, inf
    assert (x - x).op == "sub"
    assert (x + 1.0 + 1.0).args[0] is x + 1.0
    assert s.const(0.0, F32) is not s.const(-0.0, F32)


def test_mixed_dtypes_are_a_bug():
    with pytest.raises(AssertionError, match="mixed dtypes"):
        s.apply("add", x, s.cast(x, F64))


def test_an_expression_has_no_truth():
    with pytest.raises(TypeError, match="no truth value"):
        bool(i < 3)


# -- casts -----------------------------------------------------------------------------------------


def test_casts_that_change_nothing():
    assert s.cast(x, F32) is x
    assert s.cast(s.cast(x, F16), F32) is x
    assert s.cast(s.cast(x, BF16), F32) is x


def test_casts_that_do():
    half = Buffer("h", TensorType(F16, (6,)))[i]
    assert s.cast(s.cast(half, F32), F16).op == "cast"
    assert s.cast(s.cast(x, I8), F32).args[0].dtype == I8
    assert s.cast(s.cast(x, F64), F32).op == "cast"


def test_casts_of_constants():
    assert s.cast(s.const(3), F32) is s.const(3.0, F32)
    assert s.cast(s.const(2.7, F32), I64) is s.const(2)
    assert s.cast(s.const(300), U8).op == "cast"  # it wraps: the code generator's business
    assert s.cast(s.const(float("nan"), F32), I32).op == "cast"
    assert s.cast(s.const(0.1, F32), F16).op == "cast"


@pytest.mark.parametrize("dtype", [F32, F16, BF16, I8])
def test_to_bool_is_a_comparison_in_the_compute_type(dtype):
    e = s.cast(Buffer("h", TensorType(dtype, (6,)))[i], BOOL)
    assert e.op == "ne"
    assert e.args[0].dtype == dtype.compute
    assert s.cast(s.const(2.0, F32), BOOL) is s.const(True, BOOL)


# -- identity --------------------------------------------------------------------------------------


def test_equal_expressions_are_one_object():
    assert (i * 4 + j) is (j + i * 4)
    assert s.exp(x + 1.0) is s.exp(X[i] + 1.0)
    assert s.const(1) is not s.const(1, F32)
    assert s.const(1) is not s.const(True, BOOL)


def test_equal_extents_are_not_equal_axes():
    assert s.axis(s.Axis("i", 6)) is not s.axis(s.Axis("i", 6))


def test_expressions_that_nobody_holds_are_forgotten():
    from tessel.compiler.expr.core import _interned

    s.exp(x + 123.0)
    gc.collect()
    assert not any(e.op == "const" and e.data == 123.0 for e in list(_interned.values()))


def test_free_axes():
    m = Buffer("m", TensorType(F32, (6, 4)))
    total = s.reduce("sum", [J], m[i, j])
    assert m[i, j].free == {I, J}
    assert total.free == {I}
    assert (total + m[i, j]).free == {I, J}
    assert s.const(1).free == frozenset()


def test_reductions():
    m = Buffer("m", TensorType(F16, (6, 4)))
    total = s.reduce("sum", [4], lambda n: m[i, n])
    assert total.dtype == F32
    assert total.op == "reduce"
    assert s.reduce("sum", [1], lambda n: x) is x
    assert s.reduce("sum", [4, 0], lambda n, o: m[i, n]) is s.const(0.0, F32)
    assert s.reduce("sum", [1, 1], lambda n, o: m[i, n]) is s.cast(m[i, 0], F32)


def test_walk_gives_arguments_first_and_each_once():
    e = s.exp(x + 1.0) * (x + 1.0)
    order = list(s.walk(e))
    assert len(order) == len(set(order))
    for n, y in enumerate(order):
        assert all(a in order[:n] for a in y.args)
    assert order[-1] is e


def test_rebuild_simplifies_again():
    assert s.rebuild(k // 5, [j, s.const(5)]) is s.const(0)
    assert s.substitute(s.select(k < 5, i, j), {K: s.const(2)}) is i
    assert s.substitute(X[i], {I: s.const(3)}) is X[3]


def test_every_primitive_has_a_meaning_in_both_backends():
    from tessel.compiler.backends.llvm.emit.scalar import PRIMITIVE
    from tessel.compiler.backends.numpy import NUMPY

    names = set(PRIMITIVES) - {"cast", "bitcast"}
    assert names <= set(NUMPY)
    assert names <= set(PRIMITIVE)


def test_show():
    m = Buffer("m", TensorType(F32, (6, 4)))
    total = s.reduce("sum", [J], m[i, j] * 2.0)
    assert s.show(total + 1.0) == "(sum:f32(j<4; (m[i, j] * 2.0:f32)) + 1.0:f32)"
    assert repr(make("cast", (x,), None, I64)) == "i64(x[i])"
