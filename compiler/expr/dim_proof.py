"""What is known of dims where conditions hold: `Dims([(a, b), …]).at_least(x, y)`, given a > b.

A dim is at least 0 if its terms say so (symbols are at least 1), or if it is so without what can be
taken away from it: f >= 0 and d - k f >= 0 with k >= 0 give d >= 0. Such f are conditions, and what
holds for the parts of a dim: q b <= a < (q + 1) b for q = a // b, max(a, b) >= a, ….

Looking in vain takes long. What is below 0 for one of some `EXAMPLES` of sizes is not looked for.
"""

import math
from collections.abc import Iterable, Iterator

from ..errors import TypeMismatch
from ..ir import dims
from ..ir.bounds import at_least, lower_bound, value
from ..ir.dims import Sym
from .index import divides

STEPS = 200  # dims that one proof may take apart
LOOKS = 3000  # dims that it may look at
EXAMPLES = (  # sizes of the symbols in order
    lambda i: 1,
    lambda i: 64,
    lambda i: 2 + i,
    lambda i: 97 + 10 * i,
    lambda i: (1, 64)[i % 2],
    lambda i: (64, 1)[i % 2],
    lambda i: (1000, 3)[i % 2],
    lambda i: (3, 1000)[i % 2],
)


class Dims:
    """What is known of dims: `a > b` for each of the conditions, symbols being at least 1."""

    def __init__(self, conditions: Iterable = ()):
        self.facts = list(dict.fromkeys(a - b - 1 for a, b in conditions))
        self.equal = _equalities(self.facts)
        self._factors = [*map(_factor, self.facts)]
        self._numbers = _numbers(self.facts)
        self._strongest = [f + number for f, number in self._numbers.items()]
        self._symbols = sorted(set().union(*map(dims.symbols, self.facts)))
        self._examples: list | None = None
        self._sizes: dict = {}  # of the symbols, by example
        self._known: dict = {}
        self._left, self._looks = 0, 0  # of STEPS, of LOOKS
        self._tried: dict = {}  # the depth that was left where a dim was looked at in vain

    def at_least_zero(self, d) -> bool:
        """Whether d >= 0 surely holds."""
        if not isinstance(d, Sym):
            return d >= 0
        if d not in self._known:
            low = lower_bound(d)
            self._known[d] = (low is not None and low >= 0) or self._is_shown(d)
        return self._known[d]

    def _is_shown(self, d: Sym) -> bool:
        self._left, self._looks, self._tried = STEPS, LOOKS, {}
        return not self._is_refuted(d) and self._follows(dims.substitute(d, self.equal), 4)

    def _is_refuted(self, d) -> bool:
        """Whether d < 0 for some sizes that the conditions allow."""
        if self._examples is None:
            self._examples = [e for e in EXAMPLES if all(self._at(f, e) >= 0 for f in self.facts)]
        return any(self._at(d, e) < 0 for e in self._examples)

    def _at(self, d, example) -> float:
        """The dim for an example of sizes; NaN where it has none. Symbols that conditions make
        equal to dims are what those are."""
        if example not in self._sizes:
            sizes = {n: example(i) for i, n in enumerate(self._symbols)}
            self._sizes[example] = sizes | {n: _value(d, sizes) for n, d in self.equal.items()}
        sizes = self._sizes[example]
        if more := sorted(dims.symbols(d).difference(sizes)):
            sizes = sizes | {n: example(i) for i, n in enumerate(more, len(sizes))}
        return _value(d, sizes)

    def at_least(self, a, b) -> bool:
        """Whether a >= b surely holds, for dims and infinities."""
        if isinstance(a, float) or isinstance(b, float):
            return at_least(a, b)
        for x, y, outer, inner in ((a, b, "max", "min"), (b, a, "min", "max")):
            if (parts := _parts(x, outer)) is not None:  # max(p, q) >= b: one of them is
                return any(self.at_least(*((p, y) if x is a else (y, p))) for p in parts)
            if (parts := _parts(x, inner)) is not None:  # min(p, q) >= b: both are
                return all(self.at_least(*((p, y) if x is a else (y, p))) for p in parts)
        return self.at_least_zero(a - b)

    def _new(self, facts: Iterable) -> Iterator:
        """Facts that say more than the conditions do."""
        for f in facts:
            rest, number = _apart(f)
            if number < self._numbers.get(rest, math.inf):
                yield f

    def _follows(self, d, depth: int) -> bool:
        low, self._looks = lower_bound(d), self._looks - 1
        if low is not None and low >= 0:
            return True
        if depth <= self._tried.get(d, 0) or self._left < 0 or not isinstance(d, Sym):
            return False
        self._left -= 1
        self._tried[d] = depth
        own, atoms = [*_facts_of(d)], _atoms(d)
        for f, needed in (*self._factors, *map(_factor, own)):
            if isinstance(f, Sym) and needed <= atoms and f != d and divides(f, d):
                return self._follows(d // f, depth)
        for rest in _without(d, [*self._strongest, *self._new(own)]):
            if self._follows(rest, depth - 1):
                return True
            if self._looks < 0:
                break
        return False


def _value(d, sizes: dict) -> float:
    try:
        return value(d, sizes)
    except (ZeroDivisionError, TypeMismatch):
        return math.nan


def _numbers(facts: Iterable) -> dict:
    """The least number of facts that are alike but for it: f >= 0 says more than f + 3 >= 0."""
    least: dict = {}
    for f in facts:
        rest, number = _apart(f)
        least[rest] = min(number, least.get(rest, number))
    return least


def _apart(f) -> tuple:
    number = f.terms.get((), 0) if isinstance(f, Sym) else f
    return f - number, number


def _factor(f) -> tuple:
    """f + 1, a factor that is at least 1 where f >= 0, and the atoms of its products."""
    return f + 1, _atoms(f)


def _atoms(d) -> frozenset:
    return frozenset(a for m in d.terms for a in m) if isinstance(d, Sym) else frozenset()


def _parts(d, function: str) -> tuple | None:
    """The dims that d is the maximum or minimum of, if it is."""
    if isinstance(d, Sym) and len(d.terms) == 1:
        ((monomial, c),) = d.terms.items()
        if c == 1 and len(monomial) == 1 and monomial[0][0] == function:
            return monomial[0][1:]
    return None


def _without(d: Sym, facts: Iterable) -> Iterator:
    """d - k f for facts f >= 0 and factors k >= 0 that take a term out, negative ones first."""
    for monomial, c in sorted(d.terms.items(), key=lambda term: term[1]):
        for f in facts if monomial else ():
            for other, k in f.terms.items() if isinstance(f, Sym) else ():
                left = _quotient(monomial, other)
                if other and (k < 0) == (c < 0) and left is not None and _is_positive(left):
                    times = -(c // -k) if c < 0 else c // k
                    if times:
                        yield d - (Sym({left: times}) if left else times) * f


def _quotient(monomial: tuple, divisor: tuple) -> tuple | None:
    rest = list(monomial)
    for atom in divisor:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)


def _is_positive(monomial: tuple) -> bool:
    return at_least(Sym({monomial: 1}), 0) if monomial else True


def _equalities(facts: list) -> dict:
    """{symbol: dim} for symbols that two facts, f >= 0 and -f >= 0, make equal to a dim."""
    known: dict = {}
    given = set(facts)
    for f in facts:
        if not isinstance(f, Sym) or -f not in given:
            continue
        f = dims.substitute(f, known)
        for monomial, c in f.terms.items() if isinstance(f, Sym) else ():
            alone = len(monomial) == 1 and isinstance(monomial[0], str) and c in (1, -1)
            rest = Sym({monomial: 1}) - f * c if alone else None
            if alone and monomial[0] not in dims.symbols(rest):
                known = {n: dims.substitute(d, {monomial[0]: rest}) for n, d in known.items()}
                known[monomial[0]] = rest
                break
    return known


def _facts_of(d: Sym) -> Iterator:
    """f >= 0 for what stands in a dim: quotients, remainders, maxima, minima."""
    for atom in dict.fromkeys(a for m in d.terms for a in m if not isinstance(a, str)):
        function, a, b = atom
        value = Sym({(atom,): 1})
        match function:
            case "max":
                yield from (value - a, value - b)
            case "min":
                yield from (a - value, b - value)
            case "floordiv" if at_least(b, 1):
                yield from (a - value * b, value * b - a + b - 1)
            case "mod" if at_least(b, 1):
                yield from (value, b - 1 - value, *([a - value] if at_least(a, 0) else []))
