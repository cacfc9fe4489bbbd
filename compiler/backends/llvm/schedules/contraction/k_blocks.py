"""Sums in blocks of k: what a panel of B has in a block stays in the first-level cache while all
tiles of a group pass by.

    for block of panels:
      for block of k:
        for panel of the block:           B[block, panel]: most of the first-level cache
          for tile of the group:          A[tile, block]: 3/8 of the second-level one for all
            sums = first block ? 0 : partial[panel, tile]
            for k of the block: …
            last block ? epilogue : partial[panel, tile] = sums

This is the order of Goto & van de Geijn, "Anatomy of High-Performance Matrix Multiplication"
(2008), but that sums wait in scratch memory of their own, and for a few panels only. Each element's
products are added in the same order as without blocks, so the results are the same, bit for bit.
"""

from collections.abc import Callable, Sequence
from math import ceil, prod

import llvmlite.ir as ir

from .....classes import dataclass
from .....ir.dims import Sym
from ...base.types import I1, i64
from ...emit.emitter import Emitter

Loop = tuple[int, int | Sym]  # extent, stride in A


@dataclass(frozen=True)
class Cut:
    """Loops over k, cut into blocks: `outer` loops and `whole` pieces of `piece` rounds of the next
    one are blocks each, `rest` rounds are the last block of each outer round. `inner` loops lie
    within."""

    outer: tuple[Loop, ...]
    stride: int | Sym
    piece: int
    whole: int
    rest: int
    inner: tuple[Loop, ...]

    @property
    def inside(self) -> int:
        """Steps of k in a round of the loop that is cut."""
        return prod(n for n, _ in self.inner)

    def loops(self, rounds: int) -> list[Loop]:
        """The loops within a block."""
        return [(rounds, self.stride), *self.inner]


def cut(loops: Sequence[Loop], limit: int) -> Cut:
    """Blocks of at most `limit` steps, of nearly the same size."""
    level, inside = len(loops) - 1, 1
    while level > 0 and inside * loops[level][0] <= limit:
        inside *= loops[level][0]
        level -= 1
    extent, stride = loops[level]
    most = max(1, limit // inside)
    even = [p for p in range(most, most * 3 // 4, -1) if extent % p == 0]
    piece = even[0] if even else ceil(extent / ceil(extent / most))
    whole, rest = divmod(extent, piece)
    return Cut(tuple(loops[:level]), stride, piece, whole, rest, tuple(loops[level + 1 :]))


@dataclass
class Block:
    """One block, where the code is: `a` and `b` are its distances in A and a panel, in elements and
    steps; `first` and `last` whether sums begin and end."""

    loops: list[Loop]
    steps: int
    a: ir.Value
    b: ir.Value
    first: ir.Value
    last: ir.Value


def each_block(e: Emitter, c: Cut, run: Callable[[Block], None]) -> None:
    """`run` for each block in order; its code is written twice if the last one is shorter."""
    size = c.inside

    def pieces(a: ir.Value, b: ir.Value, first: ir.Value, last: ir.Value) -> None:
        with e.loop(i64(0), i64(c.whole), name="block") as i:
            begin = e.b.and_(first, e.b.icmp_signed("==", i, i64(0)))
            end = ir.Constant(I1, 0)
            if not c.rest:
                end = e.b.and_(last, e.b.icmp_signed("==", i, i64(c.whole - 1)))
            here = e.b.add(a, e.b.mul(i, e.size(c.piece * c.stride)))
            there = e.b.add(b, e.b.mul(i, i64(c.piece * size)))
            run(Block(c.loops(c.piece), c.piece * size, here, there, begin, end))
        if c.rest:
            done = c.whole * c.piece
            here, there = e.b.add(a, e.size(done * c.stride)), e.b.add(b, i64(done * size))
            with e.scope():
                begin = first if not c.whole else ir.Constant(I1, 0)
                run(Block(c.loops(c.rest), c.rest * size, here, there, begin, last))

    def outer(loops: Sequence[Loop], a, b, first, last) -> None:
        if not loops:
            pieces(a, b, first, last)
            return
        (extent, stride), *inner = loops
        rows = prod(n for n, _ in inner) * (c.whole * c.piece + c.rest) * size
        with e.loop(i64(0), i64(extent), name="blocks") as i:
            outer(
                inner,
                e.b.add(a, e.b.mul(i, e.size(stride))),
                e.b.add(b, e.b.mul(i, i64(rows))),
                e.b.and_(first, e.b.icmp_signed("==", i, i64(0))),
                e.b.and_(last, e.b.icmp_signed("==", i, i64(extent - 1))),
            )

    outer(c.outer, i64(0), i64(0), ir.Constant(I1, 1), ir.Constant(I1, 1))
