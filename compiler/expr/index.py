"""Index arithmetic: `i64` expressions over axes, kept in linear normal form.

A sum is {term: coefficient} plus a constant; `//` and `%` are resolved from the axes' extents where
they can be, and stay as opaque terms where they cannot. Extents, coefficients and constants are
dims: numbers, or polynomials in the sizes that are open.
"""

import math
from collections.abc import Callable, Sequence

from ..ir.bounds import above, at_least, larger, smaller
from ..ir.dims import Sym
from ..ir.types import BOOL, I64
from .core import PRIMITIVES, Expr, const, lift, make

NUMBERS = ("const", "size")  # expressions that stand for a dim, their `data`


def apply(op: str, *args) -> Expr:
    """A primitive on expressions and Python numbers; folds what is known."""
    first = next(
        (a for a in args if isinstance(a, Expr) and (op != "select" or a is not args[0])), args[0]
    )
    args = tuple(a if isinstance(a, Expr) else const(a, first.dtype) for a in args)
    arity, rule = PRIMITIVES[op]
    assert len(args) == arity, (op, args)
    dtypes = {a.dtype for a in (args[1:] if op == "select" else args)}
    assert len(dtypes) == 1, f"{op} of mixed dtypes {[a.dtype for a in args]}: {args}"
    dtype = {"same": args[0].dtype, "bool": BOOL, "second": args[-1].dtype}[rule]
    if op in _IDENTITY and args[1].op == "const" and args[1].data == _IDENTITY[op]:
        return args[0]
    if op in ("min", "max") and dtype == I64:
        return _min_max(op, *args)
    return make(op, args, None, dtype)


# x - 0 and x * 1 are exact for floats too; x + 0 is not (-0.0 + 0.0 is 0.0).
_IDENTITY = {"sub": 0, "mul": 1, "div": 1, "truncdiv": 1, "floordiv": 1}


def linear(e: Expr) -> tuple[dict, int]:
    """`e` as {term: coefficient} and a constant, terms being axes or opaque expressions."""
    if e.op in NUMBERS:
        return {}, e.data
    if e.op == "add":
        (a, ca), (b, cb) = map(linear, e.args)
        total = dict(a)
        for term, c in b.items():
            total[term] = total.get(term, 0) + c
        return {t: c for t, c in total.items() if c}, ca + cb
    if e.op == "mul" and e.args[1].op in NUMBERS:
        terms, c = linear(e.args[0])
        factor = e.args[1].data
        return {t: k * factor for t, k in terms.items()}, c * factor
    return {e: 1}, 0


def from_linear(terms: dict[Expr, int], constant: int) -> Expr:
    """The canonical sum: terms by age, the constant last."""
    total = None
    for term, c in sorted(terms.items(), key=lambda t: t[0].serial):
        if c:
            product = term if c == 1 else make("mul", (term, const(c)), None, I64)
            total = product if total is None else make("add", (total, product), None, I64)
    if total is None:
        return const(constant)
    return total if constant == 0 else make("add", (total, const(constant)), None, I64)


def add(a: Expr, b) -> Expr:
    b = lift(b, a)
    if a.dtype != I64:
        return apply("add", a, b)
    (ta, ca), (tb, cb) = linear(a), linear(b)
    for term, c in tb.items():
        ta[term] = ta.get(term, 0) + c
    return from_linear({t: c for t, c in ta.items() if c}, ca + cb)


def sub(a: Expr, b) -> Expr:
    b = lift(b, a)
    return add(a, mul(b, -1)) if a.dtype == I64 else apply("sub", a, b)


def mul(a: Expr, b) -> Expr:
    b = lift(b, a)
    if a.dtype != I64:
        return apply("mul", a, b)
    if a.op in NUMBERS:
        a, b = b, a
    if b.op not in NUMBERS:
        return make("mul", (a, b), None, I64)
    terms, c = linear(a)
    return from_linear({t: k * b.data for t, k in terms.items() if b.data}, c * b.data)


def floordiv(a: Expr, b) -> Expr:
    b = lift(b, a)
    if a.dtype != I64 or not _is_divisor(b):
        return apply("floordiv", a, b)
    quotient, rest = _split(a, b.data)
    place = _multiple(rest, b.data)
    if place is not None:
        return add(quotient, place)
    if rest.op == "floordiv" and _is_divisor(rest.args[1]):
        rest, b = rest.args[0], const(rest.args[1].data * b.data)
    return add(quotient, make("floordiv", (rest, b), None, I64))


def mod(a: Expr, b) -> Expr:
    b = lift(b, a)
    if a.dtype != I64 or not _is_divisor(b):
        return apply("mod", a, b)
    _, rest = _split(a, b.data)
    place = _multiple(rest, b.data)
    if place is not None:
        return sub(rest, place * b.data)
    return make("mod", (rest, b), None, I64)


def _is_divisor(b: Expr) -> bool:
    return b.op in NUMBERS and above(b.data, 0)


def _split(a: Expr, divisor) -> tuple[Expr, Expr]:
    """a = divisor * quotient + rest, taking whole multiples out of the linear form."""
    terms, c = linear(a)
    whole = {t: k for t, k in terms.items() if divides(divisor, k)}
    rest = from_linear({t: k for t, k in terms.items() if t not in whole}, 0)
    quotient = from_linear({t: k // divisor for t, k in whole.items()}, 0)
    if isinstance(c, Sym) or isinstance(divisor, Sym):
        more = c // divisor if divides(divisor, c) else 0
    else:
        more = c // divisor
    return add(quotient, const(more)), add(rest, const(c - more * divisor))


def divides(divisor, k) -> bool:
    """Whether `k` is a multiple of `divisor` for all sizes."""
    remainder = k % divisor
    return not isinstance(remainder, Sym) and remainder == 0


def _multiple(rest: Expr, divisor) -> int | None:
    """rest // divisor, if it is the same number wherever the axes are."""
    low, high = bounds(rest)
    if any(isinstance(x, Sym) for x in (low, high, divisor)):
        return 0 if at_least(low, 0) and above(divisor, high) else None
    return int(low // divisor) if low // divisor == high // divisor else None


def _min_max(op: str, a: Expr, b: Expr) -> Expr:
    (alo, ahi), (blo, bhi) = bounds(a), bounds(b)
    if a is b or (at_least(blo, ahi) if op == "min" else at_least(alo, bhi)):
        return a
    if at_least(alo, bhi) if op == "min" else at_least(blo, ahi):
        return b
    return make(op, (a, b), None, I64)


def bounds(e: Expr) -> tuple:
    """Smallest and largest value that an index expression can take: dims, infinite if unknown."""
    return _bounds(e, {})


def _bounds(e: Expr, known: dict) -> tuple:
    """`bounds`; what is part of an expression many times is looked at once."""
    found = known.get(e)
    if found is None:
        found = known[e] = _bounds_of(e, lambda part: _bounds(part, known))
    return found


def _bounds_of(e: Expr, bounds: Callable) -> tuple:
    match e.op:
        case "const" | "size":
            return e.data, e.data
        case "axis":
            return 0, e.data.extent - 1
        case "add":
            (a, b), (c, d) = bounds(e.args[0]), bounds(e.args[1])
            return _plus(a, c), _plus(b, d)
        case "mul" if e.args[1].op in NUMBERS:
            a, b = bounds(e.args[0])
            f = e.args[1].data
            if at_least(f, 0):
                return _times(a, f), _times(b, f)
            if at_least(0, f):
                return _times(b, f), _times(a, f)
        case "floordiv" if _is_divisor(e.args[1]):
            f = e.args[1].data
            return tuple(v if _is_infinite(v) else v // f for v in bounds(e.args[0]))
        case "mod" if _is_divisor(e.args[1]):
            return 0, e.args[1].data - 1
        case "min" | "max":
            f = smaller if e.op == "min" else larger
            (a, b), (c, d) = bounds(e.args[0]), bounds(e.args[1])
            return _either(f, a, c), _either(f, b, d)
        case "select":
            (a, b), (c, d) = bounds(e.args[1]), bounds(e.args[2])
            return _either(smaller, a, c), _either(larger, b, d)
    return -math.inf, math.inf


def _is_infinite(x) -> bool:
    return isinstance(x, float) and math.isinf(x)


def _plus(a, b):
    return next((x for x in (a, b) if _is_infinite(x)), None) or a + b


def _times(a, f):
    """a * f; nothing is known of an infinite one that a dynamic dim scales."""
    if _is_infinite(a):
        return a * (f if not isinstance(f, Sym) else 1)
    return a * f


def _either(f, a, b):
    if _is_infinite(a) or _is_infinite(b):
        plain = {smaller: min, larger: max}[f]
        finite = [x for x in (a, b) if isinstance(x, Sym)]
        if not finite:
            return plain(a, b)
        infinite = next(x for x in (a, b) if _is_infinite(x))
        return infinite if (infinite < 0) == (f is smaller) else finite[0]
    return f(a, b)


def strides_of(shape: Sequence) -> tuple:
    """Row-major strides in elements."""
    result, step = [], 1
    for d in reversed(shape):
        result.append(step)
        step *= d
    return tuple(reversed(result))


def flatten(index: Sequence[Expr], shape: Sequence[int]) -> Expr:
    """The offset of a multi-index in a dense row-major array, in elements."""
    total = const(0)
    for i, stride in zip(index, strides_of(shape)):
        total = add(total, mul(i, stride))
    return total


def unflatten(offset: Expr, shape: Sequence[int]) -> tuple[Expr, ...]:
    """The multi-index of an offset."""
    result = []
    for position, stride in enumerate(strides_of(shape)):
        i = floordiv(offset, stride) if stride else const(0)
        result.append(i if position == 0 else mod(i, shape[position]))
    return tuple(result)
