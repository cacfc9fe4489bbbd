"""How codes of few bits lie in packed panels, and how they get there.

A panel is `width` columns; its blocks follow each other, each with all that a step needs of it:

    [panel][block]: codes [chunk][vector][plane][lane], scales [vector][lane], zeros [vector][lane]

Codes are cut into planes of 8, 4, 2 or 1 bits: 3 bits are a plane of 2 and one of 1. In a plane,
the 32 bits of a lane are 4 bytes of one column, and the fields of a byte are steps of k four apart:
bits p·h … of byte i are of step 4·h + i. So a mask and a shift give four steps of each column as
bytes, which integer instructions multiply by four bytes of a row at once, and a mask of one field
gives a step as an integer that converts to a float. A chunk is the steps of one vector of the
narrowest plane.
"""

from collections.abc import Mapping
from math import prod

import numpy as np

from .....classes import dataclass
from .....expr import expr as s
from .....expr.expr import Axis, Buffer, Expr
from .....ir.types import BF16, F16, F32, I32, U8, DType
from .....kernels.machine import aligned_empty
from .....kernels.tiling import int_bounds
from ....numpy import evaluate
from .form import BlockSum

PLANES = {
    8: (8,),
    7: (4, 2, 1),
    6: (4, 2),
    5: (4, 1),
    4: (4,),
    3: (2, 1),
    2: (2,),
    1: (1,),
}
PIECE = 1 << 22  # codes that are packed at a time
WORD = 4  # bytes of a lane, and steps of k that lie in them beside each other


@dataclass(frozen=True)
class Plane:
    """`bits` bits of codes from bit `shift` on; its vectors of a chunk begin at number `first`."""

    bits: int
    shift: int
    first: int
    vectors: int

    @property
    def fields(self) -> int:
        """Steps that share a byte."""
        return 8 // self.bits


@dataclass(frozen=True)
class Layout:
    """Panels of a form for vectors of `lanes` columns, `vectors` of them beside each other."""

    form: BlockSum
    lanes: int
    vectors: int

    @property
    def planes(self) -> tuple[Plane, ...]:
        widths, found = PLANES[self.form.bits], []
        for bits in widths:
            shift = sum(p.bits for p in found)
            first = sum(p.vectors for p in found)
            found.append(Plane(bits, shift, first, bits // widths[-1]))
        return tuple(found)

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return self.lanes * self.vectors

    @property
    def panels(self) -> int:
        return -(-self.form.count // self.width)

    @property
    def chunk(self) -> int:
        """Steps of k of a chunk."""
        return WORD * 8 // PLANES[self.form.bits][-1]

    @property
    def chunks(self) -> int:
        """Chunks of a block; what is missing are zeros on the other side."""
        return -(-self.form.block // self.chunk)

    @property
    def chunk_vectors(self) -> int:
        """Vectors of a chunk for each vector of columns."""
        return sum(p.vectors for p in self.planes)

    @property
    def chunk_bytes(self) -> int:
        return self.chunk_vectors * self.width * WORD

    @property
    def scale_dtype(self) -> DType | None:
        """As what a block's factors are stored: what they were, where that is a half."""
        if not self.form.columns:
            return None
        (factor, *others) = self.form.columns
        inner = factor.args[0] if factor.op == "cast" else factor
        return inner.dtype if not others and inner.dtype in (F16, BF16) else F32

    @property
    def zero_dtype(self) -> DType | None:
        """As what zero points are stored, where they differ: bytes, if they are such."""
        zero = self.form.zero
        if zero is None or zero.op == "const":
            return None
        inner = zero
        while inner.op == "cast":
            (inner,) = inner.args
        found = int_bounds(inner) if inner.dtype.is_int else None
        least = self.form.least
        if found is not None and found[0] >= least and found[1] - least < 256:
            return U8
        return I32 if self.form.is_integer else F32

    @property
    def scales_at(self) -> int:
        """Where in a block its scales begin, in bytes."""
        return self.chunks * self.chunk_bytes

    @property
    def zeros_at(self) -> int:
        size = 0 if self.scale_dtype is None else self.scale_dtype.bytes
        return self.scales_at + size * self.width

    @property
    def block_bytes(self) -> int:
        size = 0 if self.zero_dtype is None else self.zero_dtype.bytes
        return self.zeros_at + size * self.width

    @property
    def panel_bytes(self) -> int:
        return self.form.number * self.block_bytes

    @property
    def table_bytes(self) -> int:
        """The table stands before the panels, in f32, filled up to whole lines."""
        return 0 if self.form.table is None else -(-(1 << self.form.bits) * 4 // 64) * 64

    @property
    def bytes(self) -> int:
        return self.table_bytes + self.panels * self.panel_bytes

    def first_columns(self) -> list[int]:
        """Where each panel begins: the last one early enough to be whole."""
        last = max(0, self.form.count - self.width)
        return [min(p * self.width, last) for p in range(self.panels)]


@dataclass(frozen=True)
class Tiled(Layout):
    """With tiles of `rows` rows, of which `group` are prepared at a time; `unpacks`: whether panels
    are unpacked into scratch memory, for more than a few rows."""

    rows: int
    group: int
    unpacks: bool


def pack_blocks(layout: Layout, arrays: Mapping[Buffer, np.ndarray]) -> np.ndarray:
    """The packed constant of `layout`, as bytes."""
    packed = aligned_empty(layout.bytes)
    form = layout.form
    if form.table is not None:
        packed[: layout.table_bytes] = 0
        table = np.asarray(arrays[form.table.data]).astype(np.float32).view(np.uint8)
        packed[: table.size] = table
    shape = (layout.panels, form.number, layout.block_bytes)
    panels = packed[layout.table_bytes :].reshape(shape)
    firsts = layout.first_columns()
    some = max(1, PIECE // (layout.width * form.number * form.block))
    for start in range(0, layout.panels, some):
        here = firsts[start : start + some]
        columns = min(form.count, here[-1] + layout.width) - here[0]
        read = _Columns(form, here[0], columns, arrays)
        codes = (read(form.code, form.k) - form.least).astype(np.uint8)
        picked = [(p, first - here[0]) for p, first in enumerate(here, start)]
        of_panel = [_panel(codes, at, layout.width) for _, at in picked]
        inside = slice(start, start + len(here))
        panels[inside, :, : layout.scales_at] = _planes(layout, np.stack(of_panel))
        if layout.scale_dtype is not None:
            scale = np.float32(1)
            for factor in form.columns:
                scale = scale * read(factor, ())
            _store(layout, panels[inside], layout.scales_at, layout.scale_dtype, scale, picked)
        if layout.zero_dtype is not None:
            zero = read(form.zero, ()) - form.least
            _store(layout, panels[inside], layout.zeros_at, layout.zero_dtype, zero, picked)
    return packed


class _Columns:
    """Evaluates expressions of constants for some columns: [column, block, what is along it]."""

    def __init__(self, form: BlockSum, first: int, count: int, arrays):
        self.form, self.arrays = form, arrays
        self.column = Axis("n", count)
        self.first = s.add(s.axis(self.column), s.const(first))

    def __call__(self, e: Expr, along: tuple[Axis, ...]) -> np.ndarray:
        form = self.form
        axes = [self.column, *form.blocks, *along]
        shape = [a.extent for a in axes]
        where, rest = {}, self.first
        for axis in reversed((*form.outer, form.n)):
            where[axis] = rest if axis is (*form.outer, form.n)[0] else s.mod(rest, axis.extent)
            rest = s.floordiv(rest, axis.extent)
        value = evaluate(s.substitute(e, where), axes, dict(self.arrays))
        value = np.broadcast_to(value, shape)
        return value.reshape(self.column.extent, form.number, prod(a.extent for a in along))


def _panel(values: np.ndarray, at: int, width: int) -> np.ndarray:
    """`width` columns from `at` on, zero past the end."""
    part = values[at : at + width]
    missing = width - len(part)
    return np.pad(part, [(0, missing), (0, 0), (0, 0)]) if missing else part


def _planes(layout: Layout, codes: np.ndarray) -> np.ndarray:
    """Codes [panel, column, block, k] as [panel, block, bytes]."""
    panels, _, blocks, k = codes.shape
    missing = layout.chunks * layout.chunk - k
    if missing:
        codes = np.pad(codes, [(0, 0)] * 3 + [(0, missing)])
    parts = []
    lead = (panels, layout.vectors, layout.lanes, blocks, layout.chunks)
    for plane in layout.planes:
        piece = codes if plane.bits == 8 else (codes >> plane.shift) & ((1 << plane.bits) - 1)
        piece = piece.reshape(*lead, plane.vectors, plane.fields, WORD)
        total = piece[..., 0, :]
        for h in range(1, plane.fields):
            total = total | (piece[..., h, :] << (h * plane.bits))
        parts.append(total)
    joined = np.concatenate(parts, -2)  # panel, vector, lane, block, chunk, plane, byte
    joined = joined.transpose(0, 3, 4, 1, 5, 2, 6)
    return np.ascontiguousarray(joined, np.uint8).reshape(panels, blocks, layout.scales_at)


def _store(layout: Layout, panels: np.ndarray, at: int, dtype: DType, values, picked) -> None:
    """Numbers of blocks, [column, block, 1], to where they stand in each block."""
    size = dtype.bytes * layout.width
    for i, (_, first) in enumerate(picked):
        part = _panel(values, first, layout.width)[..., 0].T.astype(dtype.numpy)
        panels[i, :, at : at + size] = np.ascontiguousarray(part).view(np.uint8)
