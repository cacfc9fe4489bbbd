"""Rules that compute a block of outputs at once: which place in its block an index is.

    y[i], i < 8, in blocks of 4   =>   for b < 2: y[4 b] = …; … y[4 b + 3] = …

A rule asks for `place_in_block(i, 4)`. Where the answer is not a constant, it raises `Unblocked`;
who writes the kernel (`blocked_stores`) then runs the axis block by block, a store for each place.
What the stores of a block share is computed once, since equal expressions are one.
"""

from collections.abc import Callable, Sequence

from . import expr as s
from .expr import Axis, Expr


class Unblocked(Exception):
    """The axis has to run in blocks of `size`, written out."""

    def __init__(self, axis: Axis, size: int):
        super().__init__(f"{axis} is not in blocks of {size}")
        self.axis, self.size = axis, size


def place_in_block(index: Expr, size: int) -> int:
    """index % size, known while compiling. Raises Unblocked with the axis that it depends on."""
    place = s.mod(index, s.const(size))
    if place.op == "const":
        return place.data
    terms, _ = s.linear(index)
    axes = [t.data for t, k in terms.items() if t.op == "axis" and k % size]
    assert len(axes) == 1 and len(terms) == 1, f"{s.show(index)} cannot be blocked"
    raise Unblocked(axes[0], size)


def blocked_stores(extents: Sequence[int], make: Callable) -> tuple[tuple[Axis, ...], list]:
    """Axes over `extents`, or over blocks of them, and `make(*index)` for each place in a block.

    `make` returns what a store needs; each comes with the condition under which the place lies
    inside (None: always).
    """
    sizes = [1] * len(extents)
    while True:
        axes = tuple(Axis("i", -(-d // b)) for d, b in zip(extents, sizes))
        try:
            return axes, list(_places(axes, extents, sizes, make))
        except Unblocked as found:
            sizes[axes.index(found.axis)] = found.size


def _places(axes, extents, sizes, make):
    def visit(index: tuple, inside):
        k = len(index)
        if k == len(axes):
            yield make(*index), inside
            return
        start = s.mul(s.axis(axes[k]), sizes[k])
        for j in range(1 if sizes[k] == 1 else min(sizes[k], extents[k])):
            i = s.add(start, s.const(j))
            here = inside
            if extents[k] % sizes[k] and j >= extents[k] % sizes[k]:
                within = s.compare("lt", i, s.const(extents[k]))
                here = within if inside is None else s.logical_and(inside, within)
            yield from visit((*index, i), here)

    yield from visit((), None)
