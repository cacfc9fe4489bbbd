"""Contractions: which sums of products are matrix products, and whose axes are whose.

A contraction is `out[…] = f(sum over k of A * B, …)`. The axes of the output fall into three groups
by who depends on them: batch (both factors), m (A only), n (B only); k are those that are summed.
Fusion asks it of a node's rule (`kinds.py`), the CPU's and the GPU's schedules of a kernel.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

from ..classes import dataclass
from ..expr import expr as s
from ..expr.expr import Axis, Expr
from .kernel import Kernel


@dataclass(frozen=True)
class Contraction:
    """`reduce` is the sum; `a` and `b` its factors, in the accumulator's dtype."""

    reduce: Expr
    a: Expr
    b: Expr
    batch: tuple[Axis, ...]
    m: tuple[Axis, ...]
    n: tuple[Axis, ...]
    k: tuple[Axis, ...]

    @property
    def flops(self) -> int:
        axes = (*self.batch, *self.m, *self.n, *self.k)
        return 2 * prod(a.extent for a in axes)


def sum_of_products(value: Expr, axes: Sequence[Axis]) -> Contraction | None:
    """The contraction over `axes` that a value has as its only reduction, or None. Both factors
    depend on every summed axis, and each of `axes` has a factor that depends on it."""
    reduces = [e for e in s.walk(value) if e.op == "reduce"]
    return product_of(reduces[0], axes) if len(reduces) == 1 else None


def sum_of_blocks(value: Expr, axes: Sequence[Axis]) -> Contraction | None:
    """The contraction of a block whose sums, times factors, are summed by another reduction: that
    of products with a scale for each block of k."""
    reduces = [e for e in s.walk(value) if e.op == "reduce"]
    if len(reduces) != 2:
        return None
    inner, outer = reduces
    if outer.data[0] != "sum" or inner not in s.walk(outer):
        return None
    return product_of(inner, axes)


def product_of(r: Expr, axes: Sequence[Axis]) -> Contraction | None:
    """The contraction over `axes` that a reduction is, or None."""
    body = r.args[0]
    if r.data[0] != "sum" or body.op != "mul":
        return None
    a, b = body.args
    k = r.data[1]
    if not all(x in a.free and x in b.free for x in k):
        return None
    groups: dict[str, list[Axis]] = {"batch": [], "m": [], "n": []}
    for x in axes:
        in_a, in_b = x in a.free, x in b.free
        if not in_a and not in_b:
            return None
        groups["batch" if in_a and in_b else "m" if in_a else "n"].append(x)
    return Contraction(r, a, b, *(tuple(groups[g]) for g in ("batch", "m", "n")), k)


def find_contraction(kernel: Kernel) -> Contraction | None:
    """The contraction that a (flattened) kernel is, or None. B is the factor that owns the axis
    along which the output is contiguous: the last of n, the vector axis of the register tile."""
    return _of_kernel(kernel, sum_of_products)


def find_block_contraction(kernel: Kernel) -> Contraction | None:
    """The same of a block, where a kernel's sum is one of blocks' sums times factors."""
    return _of_kernel(kernel, sum_of_blocks)


def _of_kernel(
    kernel: Kernel, find: Callable[[Expr, Sequence[Axis]], Contraction | None]
) -> Contraction | None:
    if kernel.serial or len(kernel.stores) != 1:
        return None
    store = kernel.stores[0]
    if store.mode != "set" or store.where is not None or len(store.index) != 1:
        return None
    c = find(store.value, kernel.axes)
    return None if c is None else oriented(c, contiguous_axis(kernel))


def oriented(c: Contraction, inner: Axis | None) -> Contraction | None:
    """The contraction with B as the factor that owns the axis `inner`, which is the last of n;
    None where neither factor owns it alone."""
    if inner not in (*c.m, *c.n):
        return None
    if inner in c.m:
        c = replace(c, a=c.b, b=c.a, m=c.n, n=c.m)
    return replace(c, n=(*(x for x in c.n if x is not inner), inner))


def contiguous_axis(kernel: Kernel) -> Axis | None:
    """The axis along which the kernel's output is written without gaps."""
    terms, _ = s.linear(kernel.stores[0].index[0])
    for term, c in terms.items():
        if c == 1 and term.op == "axis":
            return term.data
    return None
