"""Products of bytes, four of a lane at a time, summed in 32 bits: exact, so alike on every CPU.

sum[lane] += u[lane, 0] · s[0] + … + u[lane, 3] · s[3]      u: codes, s: signed bytes

x86 with VNNI    vpdpbusd does it
AVX2, AVX-512    vpmaddubsw sums pairs in 16 bits; as many of those are added as cannot
                 overflow, then vpmaddwd widens them. Codes of 8 bits are halves of 4.
AArch64          sdot, where the target has it, for codes below 128
elsewhere        byte by byte in 32 bits
"""

from collections.abc import Sequence
from dataclasses import field

import llvmlite.ir as ir

from .....classes import dataclass
from .....kernels.machine import Machine
from ...base.types import I16, I32, vector
from ...emit.byte_products import BYTES, byte_pairs, dots, short_pairs, way_of_dots
from ...emit.opaque import together
from ...emit.scalar import splat

LARGEST = (1 << 15) - 1
SIGNED = 128  # the largest size of a signed byte


@dataclass
class Dots:
    """Sums for one vector of columns and one row. `add` any number of times, then take `total`."""

    b: ir.IRBuilder
    target: Machine
    lanes: int
    bits: int
    total_: ir.Value | None = None
    pairs: list[ir.Value | None] = field(default_factory=lambda: [None, None])
    added: int = 0

    def __post_init__(self):
        self.way = way_of_dots(self.target, self.lanes, self.bits)
        self.words = vector(I32, self.lanes)
        self.halves = self.bits == 8
        top = (1 << (4 if self.halves else self.bits)) - 1
        self.most = max(1, LARGEST // (2 * top * SIGNED))  # additions that 16 bits hold

    def add(self, codes: ir.Value, row: ir.Value) -> None:
        """`codes`: 4 bytes a lane, as words; `row`: a word, the same in all lanes."""
        if self.way == "dots":
            self._add_dots(codes, row)
        elif self.way == "pairs":
            self._add_pairs(codes, row)
        else:
            self._add_bytes(codes, row)

    def total(self) -> ir.Value:
        if self.way == "pairs":
            self._widen()
        return self.total_

    def _add_dots(self, codes: ir.Value, row: ir.Value) -> None:
        b, count = self.b, self.lanes
        so_far = ir.Constant(self.words, None) if self.total_ is None else self.total_
        row = splat(b, row, count)
        self.total_ = dots(b, self.target, so_far, codes, row)

    def _add_pairs(self, codes: ir.Value, row: ir.Value) -> None:
        b = self.b
        if self.added == self.most:
            self._widen()
        row = splat(b, row, self.lanes)
        parts = [codes]
        if self.halves:
            mask = ir.Constant(self.words, [0x0F0F0F0F] * self.lanes)
            four = ir.Constant(self.words, [4] * self.lanes)
            parts = [b.and_(codes, mask), b.and_(b.lshr(codes, four), mask)]
        for i, part in enumerate(parts):
            found = byte_pairs(b, part, row)
            so_far = self.pairs[i]
            self.pairs[i] = found if so_far is None else b.add(so_far, found)
        self.added += 1

    def _widen(self) -> None:
        """Pairs of 16 bits as words."""
        b, shorts = self.b, vector(I16, 2 * self.lanes)
        for i, pairs in enumerate(self.pairs):
            if pairs is None:
                continue
            factor = ir.Constant(shorts, [16 if i else 1] * (2 * self.lanes))
            found = short_pairs(b, pairs, factor)
            self.total_ = found if self.total_ is None else b.add(self.total_, found)
        self.pairs, self.added = [None, None], 0

    def _add_bytes(self, codes: ir.Value, row: ir.Value) -> None:
        b = self.b
        mask = ir.Constant(self.words, [255] * self.lanes)
        for i in range(BYTES):
            by = ir.Constant(self.words, [8 * i] * self.lanes)
            part = b.and_(b.lshr(codes, by), mask) if i < BYTES - 1 else b.lshr(codes, by)
            one = b.ashr(b.shl(row, ir.Constant(I32, 24 - 8 * i)), ir.Constant(I32, 24))
            product = b.mul(part, splat(b, one, self.lanes))
            self.total_ = product if self.total_ is None else b.add(self.total_, product)


def in_order(sums: Sequence[Dots], *places: ir.Value) -> list[ir.Value]:
    """The pointers `places`, as they are once all sums are: else LLVM would take one row after the
    other, with the codes of all steps in memory meanwhile."""
    b, first = sums[0].b, sums[0]
    if first.way == "bytes":
        return list(places)
    parts = [p for d in sums for p in (d.pairs if first.way == "pairs" else [d.total_])]
    known = [p for p in parts if p is not None]
    after = together(b, [*known, *places], first.target.triple.partition("-")[0])
    values = iter(after)
    parts = [p if p is None else next(values) for p in parts]
    for i, d in enumerate(sums):
        if first.way == "pairs":
            d.pairs = parts[2 * i : 2 * i + 2]
        else:
            d.total_ = parts[i]
    return after[len(known) :]
