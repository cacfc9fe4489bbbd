"""What a kernel has to do at least: arithmetic and bytes, counted from its expressions.

    work_of(kernel) -> Work(flops, read, written)

The counts are those of the mathematics, not of a schedule: each distinct expression is computed
once for every combination of the axes that it depends on, each element is read once and written
once, whatever caches there are. A product of matrices is 2*m*n*k operations.
"""

from collections.abc import Iterable
from math import prod

from ..classes import dataclass
from ..expr import expr as s
from ..expr.expr import Axis, Buffer, Expr
from ..ir.types import BOOL
from .kernel import Kernel, Store
from .online import values_once

# Primitives that move or choose values, or look at them, but calculate nothing.
FREE = frozenset(
    ["const", "axis", "load", "cast", "bitcast", "select", "copysign", "isnan", "isinf"]
)


@dataclass(frozen=True)
class Work:
    """`flops` operations on data (a multiply-add is two, an exp one); bytes read and written."""

    flops: int
    read: int
    written: int

    @property
    def bytes(self) -> int:
        return self.read + self.written

    @property
    def intensity(self) -> float:
        """Operations per byte: below the machine's balance, memory decides."""
        return self.flops / max(1, self.bytes)

    def times(self, rounds: int) -> "Work":
        return Work(self.flops * rounds, self.read * rounds, self.written * rounds)


def work_of(kernel: Kernel) -> Work:
    """The work of all of a kernel."""
    touched = touched_bytes(kernel).values()
    return Work(flops_of(kernel), sum(r for r, _ in touched), sum(w for _, w in touched))


def flops_of(kernel: Kernel) -> int:
    """Operations on data; those that find the places of loads and stores don't count."""
    roots = values_once(kernel)
    total = 0
    for e in data_of(roots) & _values(roots):
        if e.op not in FREE and e.dtype != BOOL:
            axes = e.free | frozenset(e.data[1]) if e.op == "reduce" else e.free
            total += extent_of(axes) * (2 if e.op == "fma" else 1)
    combines = (st for st in kernel.stores if st.mode not in ("set", "or", "and"))
    return total + sum(extent_of(store_axes(st)) for st in combines)


def data_of(roots: Iterable[Expr]) -> set[Expr]:
    """The expressions below `roots` that come from the model's data: loads, floating-point numbers,
    and what is calculated from those. The others are places, made of axes and constants."""
    data: set[Expr] = set()
    for e in s.walk(*roots):
        if e.op == "load" or e.dtype.is_float or any(a in data for a in e.args):
            data.add(e)
    return data


def _values(roots: Iterable[Expr]) -> set[Expr]:
    """What is reached without going through the place of a load."""
    values: set[Expr] = set()
    stack = list(roots)
    while stack:
        e = stack.pop()
        if e not in values:
            values.add(e)
            stack += e.args if e.op != "load" else ()
    return values


def touched_bytes(kernel: Kernel) -> dict[Buffer, tuple[int, int]]:
    """(bytes read, bytes written) of each buffer: its elements once, however often they are used.

    Places that overlap (windows of a convolution) count up to the whole buffer, not beyond.
    """
    loads = dict.fromkeys(e for e in s.walk(*kernel.roots()) if e.op == "load")
    reads = [(e.data, frozenset().union(*(i.free for i in e.args))) for e in loads]
    writes = [(st.buffer, store_axes(st)) for st in kernel.stores]
    reads += [(st.buffer, store_axes(st)) for st in kernel.stores if st.mode != "set"]

    def count(accesses) -> dict[Buffer, int]:
        found: dict[Buffer, int] = {}
        for buffer, axes in accesses:
            found[buffer] = found.get(buffer, 0) + extent_of(axes)
        return {b: min(n, prod(b.shape)) * b.dtype.bytes for b, n in found.items()}

    read, written = count(reads), count(writes)
    return {b: (read.get(b, 0), written.get(b, 0)) for b in kernel.params}


def store_axes(st: Store) -> frozenset[Axis]:
    """The axes that a store is repeated over."""
    return frozenset().union(st.value.free, *(i.free for i in st.index))


def extent_of(axes: Iterable[Axis]) -> int:
    return prod(a.extent for a in axes)
