"""Rules that compute a block of outputs at once: which place in its block an index is.

    y[i], i < 8, in blocks of 4   =>   for b < 2: y[4 b] = …; … y[4 b + 3] = …
    y[i], i < 8, in 2 parts       =>   for a < 4: y[a] = …; y[a + 4] = …

A rule asks for `place_in_block(i, 4)` or `part_of(i, 4)`. Where the answer is not a constant,
they raise `Unblocked`; who writes the kernel (`blocked_stores`) then runs the axis block by block,
a store for each place. What the stores of a block share is computed once, since equal expressions
are one.
"""

from collections.abc import Callable, Sequence

from . import expr as s
from .expr import Axis, Expr


class Unblocked(Exception):
    """The axis has to run in blocks of `size`, `apart` from place to place, written out."""

    def __init__(self, axis: Axis, size: int, apart: int = 1):
        super().__init__(f"{axis} is not in blocks of {size}")
        self.axis, self.size, self.apart = axis, size, apart


def place_in_block(index: Expr, size: int) -> int:
    """index % size, known while compiling. Raises Unblocked with the axis that it depends on."""
    place = s.mod(index, s.const(size))
    if place.op == "const":
        return place.data
    terms, _ = s.linear(index)
    axes = [t.data for t, k in terms.items() if t.op == "axis" and k % size]
    assert len(axes) == 1 and len(terms) == 1, f"{s.show(index)} cannot be blocked"
    raise Unblocked(axes[0], size)


def part_of(index: Expr, apart: int) -> int:
    """index // apart, known while compiling. Raises Unblocked with the axis that it depends on."""
    part = s.floordiv(index, s.const(apart))
    if part.op == "const":
        return part.data
    assert index.op == "axis", f"{s.show(index)} cannot be cut"
    raise Unblocked(index.data, -(-index.data.extent // apart), apart)


def blocked_stores(extents: Sequence[int], make: Callable) -> tuple[tuple[Axis, ...], list]:
    """Axes over `extents`, or over blocks of them, and `make(*index)` for each place in a block.

    `make` returns what a store needs; each comes with the condition under which the place lies
    inside (None: always).
    """
    blocks = [(1, 1)] * len(extents)
    while True:
        axes = tuple(Axis("i", _rounds(d, *b)) for d, b in zip(extents, blocks))
        try:
            return axes, list(_places(axes, extents, blocks, make))
        except Unblocked as found:
            blocks[axes.index(found.axis)] = found.size, found.apart


def _rounds(extent: int, size: int, apart: int) -> int:
    """How many blocks there are."""
    return -(-extent // size) if apart == 1 else apart


def _places(axes, extents, blocks, make):
    def visit(index: tuple, inside):
        k = len(index)
        if k == len(axes):
            yield make(*index), inside
            return
        size, apart = blocks[k]
        step = size if apart == 1 else 1
        for j in range(1 if size == 1 else min(size, extents[k])):
            i = s.add(s.mul(s.axis(axes[k]), step), s.const(j * apart))
            here = inside
            if size > 1 and (axes[k].extent - 1) * step + j * apart >= extents[k]:
                within = s.compare("lt", i, s.const(extents[k]))
                here = within if inside is None else s.logical_and(inside, within)
            yield from visit((*index, i), here)

    yield from visit((), None)
