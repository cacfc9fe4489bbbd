"""Dynamic dims in generated code: dims as values, from the sizes that a function is given."""

from collections.abc import Mapping

import llvmlite.ir as ir

from ....ir.bounds import lower_bound
from ....ir.dims import Sym
from ..base.types import i64


class Sizes:
    """Values of dims. What is computed lies in the function's first block, once."""

    def __init__(self, b: ir.IRBuilder, symbols: Mapping[str, ir.Value]):
        self.b, self.symbols = b, symbols
        self.known: dict[Sym, ir.Value] = {}

    def value(self, d) -> ir.Value:
        """The dim as an i64."""
        if not isinstance(d, Sym):
            return i64(d)
        if d not in self.known:
            with self.b.goto_entry_block():
                self.known[d] = self._polynomial(d)
        return self.known[d]

    def _polynomial(self, d: Sym) -> ir.Value:
        b, total = self.b, None
        for monomial, c in d.terms.items():
            product = None
            for atom in monomial:
                factor = self.symbols[atom] if isinstance(atom, str) else self._function(*atom)
                product = factor if product is None else b.mul(product, factor)
            if product is None:
                product = i64(c)
            elif c != 1:
                product = b.mul(product, i64(c))
            total = product if total is None else b.add(total, product)
        return total

    def _function(self, name: str, x, y) -> ir.Value:
        b, low = self.b, lower_bound(x)
        x, y = self._inner(x), self._inner(y)
        if name == "broadcast":
            return b.select(b.icmp_signed("==", x, i64(1)), y, x)
        if name in ("max", "min"):
            return b.select(b.icmp_signed(">" if name == "max" else "<", x, y), x, y)
        if low is not None and low >= 0:
            return b.udiv(x, y) if name == "floordiv" else b.urem(x, y)
        quotient, rest = b.sdiv(x, y), b.srem(x, y)
        below = b.icmp_signed("<", rest, i64(0))
        if name == "floordiv":
            return b.sub(quotient, b.zext(below, quotient.type))
        return b.select(below, b.add(rest, y), rest)

    def _inner(self, d) -> ir.Value:
        return self._polynomial(d) if isinstance(d, Sym) else i64(d)
