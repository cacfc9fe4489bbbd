"""Kernels of several sums of products that share a factor: the gates of a recurrent cell.

    c'[b, j] = f(sum_k h[b, k] * W[k, j], sum_k h[b, k] * W[k, j + H], …, c[b, j])
    h'[b, j] = g(…)

One product of matrices has all these sums among its columns. Where a register tile holds the
columns j of each of them, what follows the sums needs no others, and none of them has to be in
memory. `find_gates` reads that from a kernel's expressions; `lowering/gates.py` makes such kernels.
"""

from collections.abc import Sequence

from ..classes import dataclass
from ..expr import expr as s
from ..expr.expr import Axis, Expr
from .contraction import Contraction, oriented, product_of
from .kernel import Kernel, Store

MOST = 4  # sums of one element that register tiles have room for


@dataclass(frozen=True)
class Gates:
    """`sums` are the reductions, `contraction` the product that the first one is, `columns` the
    factors that they do not share, in the same order."""

    contraction: Contraction
    sums: tuple[Expr, ...]
    columns: tuple[Expr, ...]


def find_gates(kernel: Kernel) -> Gates | None:
    """The sums of a (flattened) kernel, if it has several or stores what follows them to several
    places, and all are of one product."""
    if kernel.serial or not all(map(_is_plain, kernel.stores)):
        return None
    sums = sums_of([st.value for st in kernel.stores])
    if len(sums) > MOST or not sums or (len(sums) == 1 and len(kernel.stores) == 1):
        return None
    inner = {contiguous(st) for st in kernel.stores}
    first = product_of(sums[0], kernel.axes)
    if len(inner) != 1 or first is None:
        return None
    c = oriented(first, inner.pop())
    if c is None:
        return None
    columns = tuple(_other_factor(r, c) for r in sums)
    if None in columns:
        return None
    return Gates(c, sums, tuple(x for x in columns if x is not None))


def sums_of(values: Sequence[Expr]) -> tuple[Expr, ...]:
    """The reductions of some expressions, in order."""
    return tuple(dict.fromkeys(e for e in s.walk(*values) if e.op == "reduce"))


def _is_plain(st: Store) -> bool:
    return st.mode == "set" and st.where is None and len(st.index) == 1


def contiguous(st: Store) -> Axis | None:
    """The axis along which a store writes without gaps."""
    terms, _ = s.linear(st.index[0])
    return next((t.data for t, c in terms.items() if c == 1 and t.op == "axis"), None)


def _other_factor(r: Expr, c: Contraction) -> Expr | None:
    """What a sum multiplies with the factor A of `c`, if it is such a sum."""
    body = r.args[0]
    if r.data != c.reduce.data or r.dtype != c.reduce.dtype or body.op != "mul":
        return None
    if c.a not in body.args:
        return None
    x, y = body.args
    other = y if x is c.a else x
    allowed = {*c.n, *c.batch, *c.k}
    return other if other.free <= allowed and other.free >= {*c.k, c.n[-1]} else None
