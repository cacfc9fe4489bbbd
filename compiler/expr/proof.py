"""Proofs that index expressions cannot leave a range, whatever axes, sizes and data are.

    Prover(conditions, ranges).holds(e, low, high)       low <= e <= high, always

An index is a linear form: terms times coefficients plus a constant, both being dims. Its smallest
value follows from those of its terms (interval arithmetic). Where that is too coarse, a term is
replaced by what it is and each case is looked at (a minimum is one of two, a remainder is the whole
less a multiple), or a condition that holds is taken away from the form: f >= 0 and form - k f >= 0
with k >= 0 give form >= 0.

What data decides (a load) has the range of its dtype, or that of a constant's elements.
"""

import math
from collections.abc import Iterable, Iterator, Mapping

from ..ir.bounds import larger, smaller
from ..ir.dims import Sym
from ..ir.types import BOOL, I64
from . import expr as s
from .dim_proof import Dims
from .expr import Buffer, Expr
from .index import NUMBERS, divides

DEPTH = 6  # replacements and conditions that one case may use
STEPS = 300  # forms that one proof may look at
Form = tuple[dict, object]  # {term: coefficient}, constant


class Prover:
    """`conditions` are pairs of dims a > b, or what is known by them; `ranges` the least and the
    largest element of buffers of integers whose contents are known."""

    def __init__(
        self, conditions: Iterable | Dims = (), ranges: Mapping[Buffer, tuple] | None = None
    ):
        self.dims = conditions if isinstance(conditions, Dims) else Dims(conditions)
        self.ranges = ranges or {}
        self._bounds: dict[Expr, tuple] = {}
        self._left = 0  # of STEPS

    def holds(self, e: Expr, low, high, where: Expr | None = None) -> bool:
        """Whether low <= e <= high wherever the condition `where` holds."""
        terms, c = s.linear(e)
        given = self._facts(where)
        negated = {t: k * -1 for t, k in terms.items()}
        return self._proves((terms, c - low), given) and self._proves((negated, high - c), given)

    def bounds(self, e: Expr) -> tuple:
        """Smallest and largest value of an integer expression: dims, infinite if unknown."""
        if e not in self._bounds:
            self._bounds[e] = self._range(e)
        return self._bounds[e]

    # -- forms that are at least 0 ---------------------------------------------------------

    def _proves(self, form: Form, given: tuple) -> bool:
        self._left = STEPS
        return self._follows(form, given, DEPTH)

    def _follows(self, form: Form, given: tuple, depth: int) -> bool:
        self._left -= 1
        if self._is_plain_to_see(form):
            return True
        if depth == 0 or self._left < 0:
            return False
        return any(
            all(self._follows(f, (*given, *more), depth - 1) for f, more in cases)
            for cases in self._cases(form, given)
        )

    def _is_plain_to_see(self, form: Form) -> bool:
        low = self._least(form)
        return low != -math.inf and self.dims.at_least_zero(low)

    def _least(self, form: Form):
        """The smallest value of a form as its terms' bounds give it."""
        terms, total = form
        for t, k in terms.items():
            sign = self._sign(k)
            bound = self.bounds(t)[0 if sign > 0 else 1] if sign else -math.inf
            if isinstance(bound, float):
                return -math.inf
            total = total + bound * k
        return total

    def _sign(self, k) -> int:
        if self.dims.at_least_zero(k):
            return 1
        return -1 if self.dims.at_least_zero(k * -1) else 0

    def _cases(self, form: Form, given: tuple) -> Iterator[list]:
        """Ways to show it: lists of (form, what holds besides), all of which must be shown."""
        terms, _ = form
        for f in given:
            yield from ([(rest, ())] for rest in self._less(form, f))
        for t, k in terms.items():
            if t.op in ("min", "max"):
                a, b = t.args
                first, second = (a, b) if t.op == "min" else (b, a)
                both = [
                    (_replaced(form, t, a), self._compared("ge", second, first)),
                    (_replaced(form, t, b), self._compared("ge", first, second)),
                ]
                if (self._sign(k) > 0) != (t.op == "min"):  # one of them is enough
                    yield from ([(f, ())] for f, _ in both if self._is_plain_to_see(f))
                yield both
            elif t.op == "select" and t.dtype == I64:
                condition, a, b = t.args
                yield [
                    (_replaced(form, t, a), self._facts(condition)),
                    (_replaced(form, t, b), self._facts(condition, negated=True)),
                ]
        for t in terms:
            if t.op in ("mod", "floordiv") and t.args[1].op in NUMBERS:
                yield from ([(f, ())] for f in _divided(form, t))

    def _less(self, form: Form, fact: Form) -> Iterator[Form]:
        """m form - k fact for the m > 0 and k > 0 that take a term out of it."""
        terms, c = form
        for t, k in fact[0].items():
            if t not in terms:
                continue
            if divides(k, terms[t]) and self._sign(terms[t] // k) > 0:
                yield _plus(terms, c, *fact, terms[t] // k * -1)
            elif divides(terms[t], k) and self._sign(k // terms[t]) > 0:
                m = k // terms[t]
                yield _plus({x: n * m for x, n in terms.items()}, c * m, *fact, -1)

    # -- conditions ------------------------------------------------------------------------

    def _facts(self, condition: Expr | None, negated: bool = False) -> tuple[Form, ...]:
        """Forms that are at least 0 where a condition holds (or does not)."""
        if condition is None:
            return ()
        match condition.op:
            case "and" if not negated:
                return tuple(f for a in condition.args for f in self._facts(a))
            case "or" if negated:
                return tuple(f for a in condition.args for f in self._facts(a, True))
            case "not":
                return self._facts(condition.args[0], not negated)
            case "lt" | "le" | "gt" | "ge" | "eq" | "ne":
                op = _NEGATED[condition.op] if negated else condition.op
                return self._compared(op, *condition.args)
        return ()

    def _compared(self, op: str, a: Expr, b: Expr) -> tuple[Form, ...]:
        if a.dtype != I64 or not (self._is_plain(a) and self._is_plain(b)):
            return ()
        match op:
            case "ge":
                return (_difference(a, b, 0),)
            case "gt":
                return (_difference(a, b, 1),)
            case "le":
                return (_difference(b, a, 0),)
            case "lt":
                return (_difference(b, a, 1),)
            case "eq":
                return (_difference(a, b, 0), _difference(b, a, 0))
        return ()

    def _is_plain(self, e: Expr) -> bool:
        """Whether arithmetic of `e` cannot wrap around: it is one term, or all are small."""
        terms, c = s.linear(e)
        if not isinstance(c, Sym) and c == 0 and list(terms.values()) == [1]:
            return True
        return all(not isinstance(x, float) for t in terms for x in self.bounds(t))

    # -- bounds of terms -------------------------------------------------------------------

    def _range(self, e: Expr) -> tuple:
        if not (e.dtype.is_int or e.dtype == BOOL):
            return -math.inf, math.inf
        known = self._range_of(e)
        return known if known is not None else _of_dtype(e.dtype)

    def _range_of(self, e: Expr) -> tuple | None:
        match e.op:
            case "const" | "size":
                return e.data, e.data
            case "axis":
                return 0, e.data.extent - 1
            case "load":
                return self.ranges.get(e.data)
            case "cast":
                return self._cast(e)
            case "min" | "max":
                f = smaller if e.op == "min" else larger
                return tuple(
                    _either(f, a, b, self.dims.at_least) for a, b in zip(*map(self.bounds, e.args))
                )
            case "select":
                (a, b), (c, d) = map(self.bounds, e.args[1:])
                surely = self.dims.at_least
                return _either(smaller, a, c, surely), _either(larger, b, d, surely)
            case "reduce" if e.data[0] in ("min", "max"):
                return self._extreme(e)
        return self._arithmetic(e) if e.dtype == I64 else None

    def _cast(self, e: Expr) -> tuple | None:
        low, high = self.bounds(e.args[0])
        least, most = _of_dtype(e.dtype)
        if self.dims.at_least(low, least) and self.dims.at_least(most, high):
            return low, high
        return None

    def _extreme(self, e: Expr) -> tuple | None:
        if all(self.dims.at_least(a.extent, 1) for a in e.data[1]):
            return self.bounds(e.args[0])
        return None

    def _arithmetic(self, e: Expr) -> tuple | None:
        match e.op:
            case "add" | "mul" if e not in s.linear(e)[0]:
                return self._between(s.linear(e))
            case "floordiv" if self._is_divisor(e.args[1]):
                return self._floordiv(*e.args)
            case "mod" if self._is_divisor(e.args[1]):
                return 0, e.args[1].data - 1
            case "bitand":
                high = [b for a, b in map(self.bounds, e.args) if self.dims.at_least(a, 0)]
                return (0, next((b for b in high if isinstance(b, int)), high[0])) if high else None
            case "shr" if self.dims.at_least(self.bounds(e.args[0])[0], 0):
                return 0, self.bounds(e.args[0])[1]
        return None

    def _is_divisor(self, b: Expr) -> bool:
        return b.op in NUMBERS and self.dims.at_least(b.data, 1)

    def _floordiv(self, a: Expr, b: Expr) -> tuple:
        """Bounds of a quotient: those of the multiples of b that a has, and of the rest's."""
        (terms, c), f = s.linear(a), b.data
        whole = {t: k // f for t, k in terms.items() if divides(f, k)}
        rest = {t: k for t, k in terms.items() if t not in whole}
        low, high = self._between((whole, 0))
        least, most = (self._quotient(x, f) for x in self._between((rest, c)))
        return _sum(low, least), _sum(high, most)

    def _between(self, form: Form) -> tuple:
        """The smallest and the largest value of a form as its terms' bounds give them."""
        terms, c = form
        high = self._least(({t: k * -1 for t, k in terms.items()}, c * -1))
        return self._least(form), math.inf if isinstance(high, float) else high * -1

    def _quotient(self, a, b):
        """a // b for dims: written out where the rest is known to be small."""
        if isinstance(a, float):
            return a
        if not isinstance(a, Sym) and not isinstance(b, Sym):
            return a // b
        parts = [Sym({m: c}) if m else c for m, c in a.terms.items()] if isinstance(a, Sym) else [a]
        whole = [p for p in parts if divides(b, p)]
        rest = a - sum(whole)
        for place in (0, -1):
            if self.dims.at_least(rest, b * place) and self.dims.at_least(
                b * (place + 1) - 1, rest
            ):
                return sum(p // b for p in whole) + place
        return a // b


def _sum(a, b):
    return next((x for x in (a, b) if isinstance(x, float)), None) or a + b


def _of_dtype(dtype) -> tuple:
    """What a value of a dtype can be; nothing is known of i64, which may hold anything."""
    if dtype == BOOL:
        return 0, 1
    if not dtype.is_int or dtype.bits > 32:
        return -math.inf, math.inf
    low = -(1 << dtype.bits - 1) if dtype.kind == "i" else 0
    return low, low + (1 << dtype.bits) - 1


def _either(f, a, b, surely):
    """smaller or larger of two bounds; of an infinite one, what is left of it."""
    for x, y in ((a, b), (b, a)):
        if isinstance(x, float):
            return x if (x < 0) == (f is smaller) else y
    return f(a, b, surely)


def _difference(a: Expr, b: Expr, more: int) -> Form:
    """a - b - more"""
    (ta, ca), (tb, cb) = s.linear(a), s.linear(b)
    terms = dict(ta)
    for t, k in tb.items():
        terms[t] = terms.get(t, 0) - k
    return {t: k for t, k in terms.items() if k != 0}, ca - cb - more


def _replaced(form: Form, term: Expr, by: Expr) -> Form:
    """The form with an expression in place of a term."""
    terms, c = form
    return _plus({t: k for t, k in terms.items() if t is not term}, c, *s.linear(by), terms[term])


def _plus(terms: dict, c, more: dict, constant, factor) -> Form:
    """terms + c + factor * (more + constant)"""
    terms = dict(terms)
    for t, k in more.items():
        terms[t] = terms.get(t, 0) + k * factor
    return {t: k for t, k in terms.items() if k != 0}, c + constant * factor


def _divided(form: Form, term: Expr) -> Iterator[Form]:
    """The form by whole = divisor * quotient + rest: without the term, or without a part of the
    whole."""
    terms, c = form
    whole, divisor = term.args
    quotient = s.make("floordiv", (whole, divisor), None, I64)
    rest = s.make("mod", (whole, divisor), None, I64)
    parts, constant = s.linear(whole)
    others = {t: k for t, k in terms.items() if t is not term}
    if term is rest:
        split = _plus(others, c, parts, constant, terms[term])
        yield _plus(*split, {quotient: divisor.data}, 0, terms[term] * -1)
    elif divides(divisor.data, terms[term]):
        factor = terms[term] // divisor.data
        yield _plus(*_plus(others, c, parts, constant, factor), {rest: 1}, 0, factor * -1)
    for t, k in parts.items():
        if t in terms and k in (1, -1):
            factor = terms[t] * k
            left = {x: n for x, n in terms.items() if x is not t}
            left, d = _plus(left, c, {quotient: divisor.data, rest: 1}, 0, factor)
            without = {x: n for x, n in parts.items() if x is not t}
            yield _plus(left, d, without, constant, factor * -1)


_NEGATED = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt", "eq": "ne", "ne": "eq"}
