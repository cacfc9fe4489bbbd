"""Symbolic dims: a dim is an `int` or a polynomial over named symbols, e.g. `2*N+1`.

`Sym` is immutable and canonical, so `==` decides equality of what it can see. What is not a
polynomial (`//`, `%`, `max`, `min`, `broadcast`) becomes an opaque atom that prints and parses
back: `(N+3)//2`, `broadcast(N,M)`. Arithmetic mixes with ints and returns an int as soon as no
symbol is left, so shape rules are written once for both. Symbols stand for positive ints; those of
sizes that are known only while a model runs (`nonzero` finds so many) begin with `_`, may be 0.
"""

from __future__ import annotations

import functools
import math
import numbers
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from ..errors import TypeMismatch


def _broadcast(a: int, b: int) -> int:
    """The size of two axes that broadcast: that of the other one where one is 1."""
    if a == 1 or b in (1, a):
        return b if a == 1 else a
    raise TypeMismatch("sizes do not broadcast", expected="equal, or 1", received=f"{a} and {b}")


Atom: TypeAlias = Any  # a symbol's name, or (function, argument, argument)
Monomial: TypeAlias = tuple[Atom, ...]
Terms: TypeAlias = Mapping[Monomial, int]

FUNCTIONS: dict[str, Callable[[int, int], int]] = {
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "max": max,
    "min": min,
    "broadcast": _broadcast,
}
_CALLS = ("max", "min", "broadcast")  # printed as calls


MOST = 4096  # symbols of an expression, those of its parts counted each time; others would double


class TooLarge(TypeMismatch):
    """An expression that nobody could compute with, such as N+1 squared thirty times."""


class Sym:
    """A polynomial with integer coefficients: {monomial: coefficient}.

    A monomial is a sorted tuple of atoms; an atom is a symbol's name or a tuple
    (function, argument, argument) of something that does not expand.
    """

    __slots__ = ("_extent", "_hash", "_symbols", "_text", "terms")

    def __init__(self, terms: Terms):
        self.terms = dict(terms)
        self._text: str | None = None
        self._symbols: frozenset[str] | None = None
        self._extent = sum(1 + len(m) + sum(map(_extent, m)) for m in self.terms)
        if self._extent > MOST or any(abs(c) >> 63 for c in self.terms.values()):
            raise TooLarge("a size is too large an expression", expected=f"at most {MOST} symbols")
        self._hash = hash(frozenset(self.terms.items()))

    @staticmethod
    def named(name: str) -> Sym:
        return Sym({(name,): 1})

    # With other kinds (tensors, scalar expressions, arrays) the other side knows what to do.

    def __add__(self, other: Dim) -> Dim:
        if not _is_dim(other):
            return NotImplemented
        return _combine(_terms(other), self.terms, 1)

    __radd__ = __add__

    def __sub__(self, other: Dim) -> Dim:
        if not _is_dim(other):
            return NotImplemented
        return _combine(self.terms, _terms(other), -1)

    def __rsub__(self, other: Dim) -> Dim:
        if not _is_dim(other):
            return NotImplemented
        return _combine(_terms(other), self.terms, -1)

    def __neg__(self) -> Dim:
        return 0 - self

    def __mul__(self, other: Dim) -> Dim:
        if not _is_dim(other):
            return NotImplemented
        product: dict[Monomial, int] = {}
        if len(self.terms) * len(_terms(other)) > MOST:
            raise TooLarge("a size is too large an expression", expected=f"at most {MOST} terms")
        for m1, c1 in self.terms.items():
            for m2, c2 in _terms(other).items():
                monomial = tuple(sorted(m1 + m2, key=str))
                product[monomial] = product.get(monomial, 0) + c1 * c2
        return _make(product)

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        if not _is_dim(other):
            return NotImplemented
        exact = _divide(self, other)
        if exact is not None:
            return exact
        inner = _quotient_in(self) if not isinstance(other, Sym) and other > 0 else None
        if inner is None:
            return _opaque("floordiv", self, other)
        _, x, n = inner  # (x//n + rest)//m = (x + n*rest)//(n*m)
        return (x + (self - Sym({(inner,): 1})) * n) // (n * other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return 0 if other == 0 else _opaque("floordiv", other, self)

    def __mod__(self, other: Dim) -> Dim:
        if not _is_dim(other):
            return NotImplemented
        return 0 if _divide(self, other) is not None else _opaque("mod", self, other)

    def __rmod__(self, other: Dim) -> Dim:
        return 0 if other == 0 else _opaque("mod", other, self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sym) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    # Order, where every size agrees. Raises sizes.DynamicSize where it depends on the sizes.

    def __lt__(self, other: Dim) -> bool:
        return _decided(other, self)

    def __le__(self, other: Dim) -> bool:
        return not _decided(self, other)

    def __gt__(self, other: Dim) -> bool:
        return _decided(self, other)

    def __ge__(self, other: Dim) -> bool:
        return not _decided(other, self)

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        if self._text is None:  # it is asked for whenever dims are multiplied
            terms = sorted(self.terms.items(), key=lambda t: (-len(t[0]), str(t[0])))
            self._text = "".join(_print_term(*t) for t in terms).removeprefix("+")
        return self._text

    __repr__ = __str__

    def symbols(self) -> frozenset[str]:
        """The names that the dim depends on."""
        if self._symbols is None:  # of all conditions it is asked for again and again
            atoms = {a for m in self.terms for a in m}
            inner = (symbols(d) for a in atoms if not isinstance(a, str) for d in a[1:])
            own = (a for a in atoms if isinstance(a, str))
            self._symbols = frozenset(own).union(*inner)
        return self._symbols


Dim: TypeAlias = int | Sym
Binding: TypeAlias = Mapping[Any, Dim]  # what symbols, or atoms that do not expand, stand for


def _is_dim(x: object) -> bool:
    return type(x) in (int, Sym) or isinstance(x, numbers.Integral)


def _extent(atom: Atom) -> int:
    """Symbols in the arguments of an atom."""
    if type(atom) is str:
        return 0
    return sum(part._extent for part in atom[1:] if isinstance(part, Sym))


def _decided(a: Dim, b: Dim) -> bool:
    """a > b"""
    from .bounds import DynamicSize, above, at_least

    if above(a, b):
        return True
    if at_least(b, a):
        return False
    raise DynamicSize(f"{a} > {b} depends on the sizes")


def _terms(d: Dim) -> Terms:
    return d.terms if isinstance(d, Sym) else ({(): int(d)} if d else {})


def _make(terms: Terms) -> Dim:
    terms = {m: c for m, c in terms.items() if c}
    if not terms:
        return 0
    return terms[()] if set(terms) == {()} else Sym(terms)


def _combine(a: Terms, b: Terms, sign: int) -> Dim:
    total = dict(a)
    for monomial, c in b.items():
        total[monomial] = total.get(monomial, 0) + sign * c
    return _make(total)


def _divide(a: Sym, b: Dim) -> Dim | None:
    """a / b where that is exact, else None."""
    if isinstance(b, Sym):
        if len(b.terms) != 1:
            return _divide_long(a, b)
        ((divisor, c),) = b.terms.items()
    else:
        divisor, c = (), int(b)
    quotient: dict[Monomial, int] = {}
    for monomial, coefficient in a.terms.items():
        rest = list(monomial)
        for atom in divisor:
            if atom not in rest:
                return None
            rest.remove(atom)
        if c == 0 or coefficient % c:
            return None
        quotient[tuple(rest)] = coefficient // c
    return _make(quotient)


def _divide_long(a: Sym, b: Sym) -> Dim | None:
    """The same for a divisor of several terms: long division, leading term by leading term."""
    names = sorted({atom for m in (*a.terms, *b.terms) for atom in m}, key=str)

    def degree(monomial: Monomial) -> tuple[int, list[int]]:
        return len(monomial), [monomial.count(n) for n in names]

    lead = max(b.terms, key=degree)
    quotient: Dim = 0
    rest = a
    for _ in range(16):
        top = max(rest.terms, key=degree)
        factor = _divide(Sym({top: rest.terms[top]}), Sym({lead: b.terms[lead]}))
        if factor is None:
            return None
        quotient, left = quotient + factor, rest - factor * b
        if not isinstance(left, Sym):
            return quotient if left == 0 else None
        rest = left
    return None


def _quotient_in(d: Sym) -> Atom | None:
    """The quotient by a positive number that is a term of `d`, if there is one and only one."""
    alone = [m[0] for m, c in d.terms.items() if c == 1 and len(m) == 1]
    found = [a for a in alone if a[0] == "floordiv" and not isinstance(a[2], Sym) and a[2] > 0]
    return found[0] if len(found) == 1 else None


def _opaque(function: str, a: Dim, b: Dim) -> Sym:
    return Sym({((function, a, b),): 1})


def _print_term(monomial: Monomial, c: int) -> str:
    number = [str(abs(c))] if abs(c) != 1 or not monomial else []
    return "-+"[c > 0] + "*".join(number + [_print_atom(a) for a in monomial])


def _print_atom(atom: Atom) -> str:
    if isinstance(atom, str):
        return atom
    function, a, b = atom
    if function in _CALLS:
        return f"{function}({a},{b})"
    sign = "//" if function == "floordiv" else "%"
    return f"(({a}){sign}({b}))"


def symbols(d: Dim) -> frozenset[str]:
    """The names a dim (int or Sym) depends on."""
    return d.symbols() if isinstance(d, Sym) else frozenset()


def may_be_zero(name: str) -> bool:
    """Whether a symbol stands for a size that data decides (`ops/control/bind_dims.py`)."""
    return name.startswith("_")


def shown(binding: Mapping[str, int]) -> str:
    """Sizes by symbol, as errors say them."""
    return ", ".join(f"{k}={v}" for k, v in binding.items())


def is_static(shape: Iterable[Dim]) -> bool:
    return all(not isinstance(d, Sym) for d in shape)


def dim_max(a: Dim, b: Dim) -> Dim:
    """max of two dims; opaque where symbols leave it open."""
    if not isinstance(a, Sym) and not isinstance(b, Sym):
        return max(a, b)
    return a if a == b else _opaque("max", a, b)


def dim_min(a: Dim, b: Dim) -> Dim:
    if not isinstance(a, Sym) and not isinstance(b, Sym):
        return min(a, b)
    return a if a == b else _opaque("min", a, b)


def dim_broadcast(a: Dim, b: Dim) -> Dim:
    """The dim of two axes that broadcast: numbers where they decide it, a symbol against 1, else an
    opaque `broadcast(a,b)`, whose parts are in order, each once. Raises TypeMismatch for two
    numbers that differ, neither being 1."""
    if a == 1 or a == b:
        return b
    if b == 1:
        return a
    if not isinstance(a, Sym) and not isinstance(b, Sym):
        return _broadcast(a, b)
    parts = dict.fromkeys(sorted((*broadcast_parts(a), *broadcast_parts(b)), key=str))
    numbers = {d for d in parts if not isinstance(d, Sym)}
    if numbers:
        return functools.reduce(_broadcast, numbers)
    *rest, last = parts
    return functools.reduce(lambda done, d: _opaque("broadcast", d, done), reversed(rest), last)


def broadcast_parts(d: Dim) -> tuple[Dim, ...]:
    """The dims that `broadcast(…)` is of; `d` alone where it is none."""
    if isinstance(d, Sym) and len(d.terms) == 1:
        ((monomial, c),) = d.terms.items()
        if c == 1 and len(monomial) == 1 and monomial[0][0] == "broadcast":
            return (monomial[0][1], *broadcast_parts(monomial[0][2]))
    return (d,)


def ceil_div(a: Dim, b: Dim) -> Dim:
    return -((-a) // b) if not isinstance(a, Sym) else (a + (b - 1)) // b


def prod(dims: Iterable[Dim]) -> Any:
    return math.prod(dims, start=1)


def total(found: Iterable[Any]) -> Any:
    """The sum, made at once: one after the other, sums of sums would be made."""
    found = list(found)
    if not any(isinstance(d, Sym) for d in found) or not all(map(_is_dim, found)):
        return sum(found)
    terms: Counter[Monomial] = Counter()
    for d in found:
        terms.update(_terms(d))  # adds
    return _make(terms)


def substitute(d: Any, binding: Binding) -> Any:
    """`d` with symbols (and atoms that do not expand) replaced; others are left as they are."""
    if not isinstance(d, Sym):
        return d
    parts = []
    for monomial, c in d.terms.items():
        term: Any = c
        for atom in monomial:
            if isinstance(atom, str) or atom in binding:
                term = term * (binding[atom] if atom in binding else Sym.named(atom))
            else:
                function, a, b = atom
                a, b = substitute(a, binding), substitute(b, binding)
                if isinstance(a, Sym) or isinstance(b, Sym):
                    f = ON_DIMS.get(function, FUNCTIONS[function])
                    term = term * f(a, b)
                else:
                    term = term * FUNCTIONS[function](a, b)
        parts.append(term)
    return total(parts)


ON_DIMS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "max": dim_max,
    "min": dim_min,
    "broadcast": dim_broadcast,
}


def symbol_name(text: str) -> str:
    """A symbol's name from any text: letters, digits, `_`, starting with a letter. What starts with
    `_` is the name of a size that data decides (`may_be_zero`)."""
    name = re.sub(r"\W", "_", text)
    return name if name and name[0].isalpha() else "d" + name
