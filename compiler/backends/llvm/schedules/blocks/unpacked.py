"""Tiles of many rows: a part of a panel is unpacked once for all rows of a group.

    for part of k:
      b[step][column] = (code - zero) · scale · 2^e      into scratch memory, in the nearest cache
      for tile of rows:  total[r] += a[r, part] @ b      a has 2^-e (`rows.py`)

Registers hold a tile's sums and nothing of what unpacking needs, and it is done once for all tiles.
"""

from collections.abc import Callable, Sequence

import llvmlite.ir as ir

from .....classes import dataclass
from .....ir.types import F32
from .....kernels.tiling import Tile
from ...base.types import I8, i64, register_type, vector
from ...emit.emitter import Emitter
from ...emit.scalar import multiply_add
from ..contraction.tile import TileLoop
from .fields import Fields, exponent
from .planes import Layout

FLOAT = register_type(F32)
STEPS = 256  # of k that are unpacked at a time: 16 KiB for 16 columns


@dataclass(frozen=True)
class Parts:
    """How k is cut: a part is `pieces` pieces, each `chunks` chunks of a block."""

    layout: Layout

    @property
    def chunks(self) -> int:
        return _divisor(self.layout.chunks, STEPS // self.layout.chunk)

    @property
    def of_block(self) -> int:
        """Pieces of a block."""
        return self.layout.chunks // self.chunks

    @property
    def piece_steps(self) -> int:
        return self.chunks * self.layout.chunk

    @property
    def pieces(self) -> int:
        return _divisor(self.layout.form.number * self.of_block, STEPS // self.piece_steps)

    @property
    def steps(self) -> int:
        return self.pieces * self.piece_steps

    @property
    def number(self) -> int:
        return self.layout.form.number * self.of_block // self.pieces

    @property
    def bytes(self) -> int:
        """Of an unpacked part."""
        return self.steps * self.layout.width * 4


def _divisor(of: int, most: int) -> int:
    return max(d for d in range(1, max(1, min(of, most)) + 1) if of % d == 0)


@dataclass(eq=False)
class Unpacker:
    """Writes parts of panels as floats. `fields` gives the words of a chunk for some columns,
    `scales` and `zeros` the numbers of a block, `decoded` the value of a step's code."""

    e: Emitter
    parts: Parts
    fields: Callable[[ir.Value, int, int], Fields]
    scales: Callable[[ir.Value], Sequence[ir.Value | None]]
    zeros: Callable[[ir.Value], Sequence[ir.Value | None]]
    decoded: Callable[[Fields, int], ir.Value]
    constant_zero: int | None

    def part(self, panel: ir.Value, part: ir.Value, place: ir.Value) -> None:
        e, parts = self.e, self.parts
        layout = parts.layout
        with e.loop(i64(0), i64(parts.pieces), name="piece") as piece:
            number = e.b.add(e.b.mul(part, i64(parts.pieces)), piece)
            block, within = number, i64(0)
            if parts.of_block > 1:
                block = e.b.udiv(number, i64(parts.of_block))
                within = e.b.urem(number, i64(parts.of_block))
            here = self._moved(panel, e.b.mul(block, i64(layout.block_bytes)))
            chunk = self._moved(here, e.b.mul(within, i64(parts.chunks * layout.chunk_bytes)))
            out = self._moved(place, e.b.mul(piece, i64(parts.piece_steps * layout.width * 4)))
            self._piece(here, chunk, out)

    def _piece(self, block: ir.Value, codes: ir.Value, out: ir.Value) -> None:
        e, parts = self.e, self.parts
        layout = parts.layout
        scales, zeros = self.scales(block), self.zeros(block)
        floats = vector(FLOAT, layout.lanes)
        row = layout.width * 4
        for v in range(layout.vectors):
            terms = {
                step: self._term(scales[v], zeros[v], exponent(layout, step), floats)
                for step in range(layout.chunk)
            }
            with e.loop(i64(0), i64(parts.chunks), name="chunk") as c:
                from_ = self._moved(codes, e.b.mul(c, i64(layout.chunk_bytes)))
                to = self._moved(out, e.b.mul(c, i64(layout.chunk * row)))
                fields = self.fields(from_, 0, v)
                for step in range(layout.chunk):
                    value = self.decoded(fields, step)
                    value = self._scaled(value, scales[v], terms[step])
                    to_ = self._moved(to, i64(step * row + v * layout.lanes * 4))
                    e.b.store(value, to_, align=4)

    def _term(self, scale, zero, power: int, floats) -> ir.Value | None:
        """- zero · scale · 2^e: what is added to each code, scaled."""
        b = self.e.b
        if zero is None and not self.constant_zero:
            return None
        factor = ir.Constant(floats, [-(2.0**power)] * floats.count)
        if zero is None:
            known = -float(self.constant_zero) * 2.0**power
            factor = ir.Constant(floats, [known] * floats.count)
        else:
            factor = b.fmul(zero, factor)
        return factor if scale is None else b.fmul(factor, scale)

    def _scaled(self, value, scale, term) -> ir.Value:
        b = self.e.b
        if scale is None:
            return value if term is None else b.fadd(value, term)
        return b.fmul(value, scale) if term is None else multiply_add(b, value, scale, term)

    def _moved(self, pointer: ir.Value, bytes_: ir.Value) -> ir.Value:
        return self.e.b.gep(pointer, [bytes_], source_etype=I8)


def multiply(e: Emitter, parts: Parts, tile: Tile, pitch: int, a, b, totals) -> None:
    """totals[row][column] += a @ b for a tile of rows, which lie `pitch` floats apart."""
    layout = parts.layout
    floats = vector(FLOAT, layout.lanes)
    places = [
        [
            e.b.gep(totals, [i64((r * tile.vectors + v) * layout.lanes)], source_etype=FLOAT)
            for v in range(tile.vectors)
        ]
        for r in range(tile.rows)
    ]
    sums = [[e.variable(floats, "acc") for _ in line] for line in places]
    for line, own in zip(places, sums):
        for place, acc in zip(line, own):
            e.b.store(e.b.load(place, typ=floats, align=4), acc)
    rows = [r * pitch for r in range(tile.rows)]
    loop = TileLoop(e, F32, layout.lanes, tile, rows, sums, False)
    loop.run([(parts.steps, 1)], a, b)
    for line, own in zip(places, sums):
        for place, acc in zip(line, own):
            e.b.store(e.b.load(acc), place, align=4)
