"""The inner loops of a contraction: a register tile summed over all of k.

    for k: acc[r][v] += A[r, k] * B[k, v]

A's rows are constant distances apart, so they are displacements of one pointer, and B's of another.
These pointers are hidden from LLVM's strength reduction, which would address the rows as base +
index * 4: on x86 such an operand cannot stay fused with its multiply-add, and the loop would need
twice the slots.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import ceil

import llvmlite.ir as ir

from .....classes import dataclass
from .....ir.dims import Sym
from .....ir.types import DType
from .....kernels.machine import LINE
from .....kernels.tiling import Tile
from ...base.types import I8, I64, PTR, i64, vector
from ...emit.emitter import Emitter
from ...emit.opaque import hidden, opaque
from ...emit.scalar import intrinsic, multiply_add, prefetch, splat

PAIRS = {  # by lanes: the products of pairs of i16, added
    4: "llvm.x86.sse2.pmadd.wd",
    8: "llvm.x86.avx2.pmadd.wd",
    16: "llvm.x86.avx512.pmaddw.d.512",
}
PREFETCH = 4096  # bytes that packed weights are fetched ahead


@dataclass(frozen=True)
class PanelPrefetch:
    """What a tile fetches into the caches meanwhile: `lines` lines from `place` on, which moves by
    `pace` bytes with each round of its loops. Many fetches at once would hold up what it loads."""

    place: ir.Value
    pace: ir.Value
    lines: int = 1


@dataclass(frozen=True)
class NextColumns:
    """Where B is read in place, a tile fetches what the next panel will read: `lines` lines of each
    row, `distance` bytes from where its own begin."""

    distance: ir.Value
    lines: int


@dataclass(frozen=True)
class Sum:
    """Rows of B that are taken as sums of what they are read from and of what lies `added` bytes
    from there, and are written `kept` bytes from there."""

    added: ir.Value
    kept: ir.Value


@dataclass
class TileLoop:
    """Multiplies into `sums`, stack slots [row][vector]; `places` are the rows' distances in A."""

    e: Emitter
    dtype: DType
    lanes: int
    tile: Tile
    places: Sequence[int | Sym | ir.Value]
    sums: list[list[ir.Value]]
    prefetch: bool
    pairs: bool = False
    unroll: int = 64
    next_columns: NextColumns | None = None

    def __post_init__(self):
        self.type = self.sums[0][0].allocated_type.element
        self.vector = vector(self.type, self.lanes)
        self.line: int | Sym = self.lanes * self.tile.vectors
        self.masks: Sequence[ir.Value | None] = [None] * self.tile.vectors
        self.vector_bytes = self.lanes * self.dtype.bytes

    def read_in_place(self, line: int | Sym, masks: Sequence[ir.Value | None]) -> None:
        """B's rows are `line` elements apart, and `masks` the columns of each vector that there
        are."""
        self.line, self.masks = line, masks

    def run(
        self,
        loops: list[tuple],
        a: ir.Value,
        b: ir.Value,
        prefetched: PanelPrefetch | None = None,
        sum: Sum | None = None,
    ) -> None:
        """All of k: `loops` are (extent, stride in A), outermost first, if B's rows follow each
        other; (extent, stride in A, stride in B) if they lie where B itself does."""
        self.prefetched, self.sum = prefetched, sum
        self._loops(loops, a, b)

    def _loops(self, loops: list[tuple], a: ir.Value, b: ir.Value) -> None:
        if not loops:
            self._steps([(a, b)])
            return
        (extent, stride, *in_b), *inner = loops
        rows = 1
        for count, *_ in inner:
            rows *= count
        line = in_b[0] if in_b else rows * self.line
        unroll = 1 if inner else _unroll(extent, self.tile, self.unroll)
        if inner and not isinstance(extent * rows, Sym) and extent * rows <= 4:
            unroll = extent

        def body(a: ir.Value, b: ir.Value, count: int = unroll) -> None:
            at = [(self._moved(a, u * stride), self._moved(b, u * line)) for u in range(count)]
            if not inner:
                self._steps(at)
                if self.next_columns is not None:
                    rows = at[:1] if abs(line) * self.dtype.bytes < LINE else at
                    self._fetch_columns([y for _, y in rows])
                return
            for x, y in at:
                self._loops(inner, x, y)

        if isinstance(extent, Sym | ir.Value):
            self._open(extent, stride, line, unroll, a, b, body)
            return
        rounds, rest = divmod(extent, unroll)
        if rounds == 1:
            body(a, b)
        else:
            self._walk(i64(rounds), (a, unroll * stride), (b, unroll * line), body)
        if rest:
            done = rounds * unroll
            body(self._moved(a, done * stride), self._moved(b, done * line), rest)

    def _open(self, extent: Sym | ir.Value, stride, line, unroll: int, a, b, body) -> None:
        """An extent that is known when the kernel runs: whole rounds, then single steps."""
        e = self.e
        count = extent if isinstance(extent, ir.Value) else e.size(extent)
        left = e.b.urem(count, i64(unroll))
        done = e.b.sub(count, left)
        with e.b.if_then(e.b.icmp_signed(">", done, i64(0))), e.scope():
            rounds = e.b.udiv(done, i64(unroll))
            self._walk(rounds, (a, unroll * stride), (b, unroll * line), body)
        if unroll == 1:
            return
        with e.b.if_then(e.b.icmp_signed(">", left, i64(0))), e.scope():
            a = e.b.gep(a, [e.b.mul(done, e.size(stride))], source_etype=self.type)
            b = e.b.gep(b, [e.b.mul(done, e.size(line))], source_etype=self.type)
            self._walk(left, (a, stride), (b, line), lambda x, y: body(x, y, 1))

    def _walk(self, rounds: ir.Value, a: tuple, b: tuple, body) -> None:
        """`rounds` times the body, at least once, with two pointers that move by constants."""
        e = self.e
        (a, a_step), (b, b_step) = a, b
        before = e.b.block
        head, done = e.function.append_basic_block("k"), e.function.append_basic_block("k.done")
        e.b.branch(head)
        e.b.position_at_end(head)
        count, pa, pb = e.b.phi(i64(0).type, "left"), e.b.phi(PTR, "a"), e.b.phi(PTR, "b")
        for phi, start in ((count, rounds), (pa, a), (pb, b)):
            phi.add_incoming(start, before)
        with self._fetching(before), e.scope():
            body(pa, pb)
        left = e.b.sub(count, i64(1))
        following = hidden(e.b, self._moved(pa, a_step))
        count.add_incoming(left, e.b.block)
        pa.add_incoming(following, e.b.block)
        pb.add_incoming(hidden(e.b, self._moved(pb, b_step)), e.b.block)
        e.b.cbranch(e.b.icmp_signed(">", left, i64(0)), head, done)
        e.b.position_at_end(done)

    @contextmanager
    def _fetching(self, before: ir.Block) -> Iterator[None]:
        """A loop's body, from whose rounds to the next the place to fetch moves on."""
        if self.prefetched is None:
            yield
            return
        place = self.e.b.phi(PTR, "ahead")
        place.add_incoming(self.prefetched.place, before)
        self.prefetched = replace(self.prefetched, place=place)
        yield
        place.add_incoming(self.prefetched.place, self.e.b.block)

    def _moved(self, pointer: ir.Value, elements) -> ir.Value:
        if isinstance(elements, ir.Value):
            return self.e.b.gep(pointer, [elements], source_etype=self.type)
        if not elements:
            return pointer
        return self.e.b.gep(pointer, [self.e.size(elements)], source_etype=self.type)

    def _steps(self, pointers) -> None:
        """Several k: each a row of B against a column of A."""
        e = self.e
        values = [[e.b.load(acc) for acc in line] for line in self.sums]
        for a, b in pointers:
            self._step(values, a, b)
            if self.prefetch:
                for v in range(0, self.tile.vectors, max(1, LINE // self.vector_bytes)):
                    self._fetch(self._moved(b, v * self.lanes))
        for line, new in zip(self.sums, values):
            for acc, value in zip(line, new):
                e.b.store(value, acc)
        if self.prefetched is not None:
            self._fetch_ahead()

    def _step(self, values: list[list[ir.Value]], a: ir.Value, b: ir.Value) -> None:
        """One k. What a tile has fewer of, rows or vectors, is all in registers, beside one other
        value."""
        column = lambda v: self._column(self._moved(b, v * self.lanes), v)
        if self.tile.rows < self.tile.vectors and self.tile.rows > 1:
            rows = [self._value(a, r) for r in range(self.tile.rows)]
            for v in range(self.tile.vectors):
                y = column(v)
                for x, line in zip(rows, values):
                    line[v] = self._multiply_add(x, y, line[v])
            return
        columns = [column(v) for v in range(self.tile.vectors)]
        for r, line in enumerate(values):
            x = self._value(a, r)
            values[r] = [self._multiply_add(x, y, acc) for y, acc in zip(columns, line)]

    def _value(self, column: ir.Value, row: int) -> ir.Value:
        """An element of A in every lane."""
        place, b = self._moved(column, self.places[row]), self.e.b
        return splat(b, b.load(place, typ=self.type, align=self.dtype.bytes), self.lanes)

    def _column(self, place: ir.Value, number: int) -> ir.Value:
        """A vector of a row of B, one of several."""
        b, align = self.e.b, self.dtype.bytes
        mask = self.masks[number]
        if mask is not None:
            return self.e.load_masked(place, self.vector, align, mask)
        column = b.load(place, typ=self.vector, align=align)
        if self.sum is not None:
            other = b.load(self._away(place, self.sum.added), typ=self.vector, align=align)
            column = b.fadd(other, column)
            b.store(column, self._away(place, self.sum.kept), align=align)
        return column

    def _away(self, place: ir.Value, distance: ir.Value) -> ir.Value:
        """A pointer into other memory than `place`, as LLVM has to know."""
        b = self.e.b
        return b.inttoptr(b.add(b.ptrtoint(place, I64), distance), PTR)

    def _fetch_ahead(self) -> None:
        b, prefetched = self.e.b, self.prefetched
        for i in range(prefetched.lines):
            prefetch(b, b.gep(prefetched.place, [i64(i * LINE)], source_etype=I8), 1)
        place = b.gep(prefetched.place, [prefetched.pace], source_etype=I8)
        self.prefetched = replace(prefetched, place=place)

    def _fetch_columns(self, rows: Sequence[ir.Value]) -> None:
        """Of rows of B that lie where B does."""
        b, ahead = self.e.b, self.next_columns
        for place in rows:
            start = b.gep(place, [ahead.distance], source_etype=I8)
            for i in range(ahead.lines):
                prefetch(b, b.gep(start, [i64(i * LINE)], source_etype=I8), 1)

    def _fetch(self, place: ir.Value) -> None:
        b = self.e.b
        prefetch(b, b.gep(place, [i64(PREFETCH)], source_etype=I8), 1)

    def _multiply_add(self, x, y, acc):
        b = self.e.b
        if self.dtype.is_float:
            return multiply_add(b, x, y, acc)
        if not self.pairs:
            return b.add(acc, b.mul(x, y))
        halves = vector(ir.IntType(16), 2 * self.lanes)
        product = intrinsic(b.module, PAIRS[self.lanes], self.vector, [halves, halves])
        total = b.add(acc, b.call(product, [b.bitcast(x, halves), b.bitcast(y, halves)]))
        # Else LLVM adds the products of several steps first, for which there are no registers.
        return opaque(b, total)


def rounds_of(loops: Sequence[tuple], tile: Tile, unroll: int = 64) -> int:
    """How often a tile's loops, of known extents, run their innermost body."""
    if not loops:
        return 1
    (extent, *_), *inner = loops
    if inner:
        return extent * rounds_of(inner, tile, unroll)
    return ceil(extent / _unroll(extent, tile, unroll))


def _unroll(extent, tile: Tile, most: int) -> int:
    """Steps of k per round: as many as keep the loop's body at `most` multiply-adds, and none left
    if possible."""
    if isinstance(extent, Sym | ir.Value):
        return max(1, min(8, most // (tile.rows * tile.vectors)))
    limit = max(1, min(8, extent, most // (tile.rows * tile.vectors)))
    whole = max(u for u in range(1, limit + 1) if extent % u == 0)
    return whole if 2 * whole >= limit else limit
