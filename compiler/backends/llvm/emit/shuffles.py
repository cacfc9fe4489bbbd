"""Lanes in another order: shuffles of vectors, and strided loads that are made of them.

x[0], x[s], x[2s], …   for a short stride s   whole vectors, of which shuffles pick the lanes
a, b, c, d             rows of a tile         its columns, in log2(lanes) rounds of shuffles
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import llvmlite.ir as ir

from ....kernels.tiling import is_short_stride
from ..base.types import I32, i64, vector

if TYPE_CHECKING:
    from .emitter import Emitter


class Anything(ir.Constant):
    """A place of a shuffle whose lane nobody looks at; llvmlite takes it for the first."""

    def get_reference(self) -> str:
        return "poison"


ANYTHING = Anything(I32, 0)


def pick(b: ir.IRBuilder, x: ir.Value, y: ir.Value | None, places: Sequence) -> ir.Value:
    """The lanes at these places of x and then y; None: whatever is easiest."""
    y = ir.Constant(x.type, ir.Undefined) if y is None else y
    lanes = [ANYTHING if p is None else ir.Constant(I32, p) for p in places]
    return b.shuffle_vector(x, y, ir.Constant(vector(I32, len(lanes)), lanes))


def joined(b: ir.IRBuilder, parts: Sequence[ir.Value]) -> ir.Value:
    """2^n vectors one after the other, as one."""
    while len(parts) > 1:
        both = range(2 * parts[0].type.count)
        parts = [pick(b, x, y, both) for x, y in zip(parts[::2], parts[1::2])]
    return parts[0]


def transposed(b: ir.IRBuilder, rows: Sequence[ir.Value]) -> list[ir.Value]:
    """The columns of a square tile of 2^n rows, or of several tiles that lie side by side in the
    vectors: in n rounds, pairs of vectors exchange halves of each tile, then quarters, …"""
    block, lanes = list(rows), rows[0].type.count
    half = len(rows) // 2
    while half:
        low = [i if not i & half else lanes + i - half for i in range(lanes)]
        high = [i + half if not i & half else lanes + i for i in range(lanes)]
        for i in range(len(rows)):
            if not i & half:
                x, y = block[i], block[i + half]
                block[i], block[i + half] = pick(b, x, y, low), pick(b, x, y, high)
        half //= 2
    return block


def interleaved(b: ir.IRBuilder, vectors: Sequence[ir.Value]) -> list[ir.Value]:
    """x0 y0 z0 x1 y1 z1 …: 2^n vectors as one, an odd number as so many, twice it as half as many.

    Of an odd number each vector is permuted once, and the rest is blends: lanes, of which there are
    a power of two, have no factor in common with it, so that no two elements of a vector end in the
    same lane.
    """
    count, lanes = len(vectors), vectors[0].type.count
    if count == 1:
        return list(vectors)
    if count % 2 == 0:
        low, high = interleaved(b, vectors[::2]), interleaved(b, vectors[1::2])
        size = low[0].type.count
        places = [i // 2 + size * (i % 2) for i in range(2 * size)]
        return [pick(b, x, y, places) for x, y in zip(low, high)]
    moved = []
    for n, x in enumerate(vectors):
        source = {(i * count + n) % lanes: i for i in range(lanes)}
        moved.append(pick(b, x, None, [source[p] for p in range(lanes)]))
    result = []
    for first in range(0, count * lanes, lanes):
        value = moved[0]
        for n in range(1, count):
            own = [(first + p) % count == n for p in range(lanes)]
            value = pick(b, value, moved[n], [p + lanes * mine for p, mine in enumerate(own)])
        result.append(value)
    return result


def load_strided(m: "Emitter", first: ir.Value, type: ir.Type, size: int, stride: int) -> ir.Value:
    """The vector whose lanes are `stride` elements apart, from the one at `first` on. Nothing
    before the foremost of them is read, nor behind the hindmost: the last load ends there."""
    assert is_short_stride(stride, m.lanes), (stride, m.lanes)
    b, lanes, step = m.b, m.lanes, abs(stride)
    span = step * (lanes - 1)
    if stride < 0:
        first = b.gep(first, [i64(-span)], source_etype=type)
    starts = [*range(0, (step - 1) * lanes, lanes), span + 1 - lanes]
    parts = []
    for start in starts:
        place = b.gep(first, [i64(start)], source_etype=type) if start else first
        has = {start + lane: lane for lane in range(lanes)}
        parts.append((b.load(place, typ=vector(type, lanes), align=size), has))
    elements = [i * step if stride > 0 else span - i * step for i in range(lanes)]
    return _gathered(b, parts, elements)


def store_strided(
    b: ir.IRBuilder, first: ir.Value, value: ir.Value, size: int, stride: int
) -> None:
    """Each lane to its place, `stride` elements from the one before it. A scatter would take a
    vector of addresses apart for the same."""
    type = value.type.element
    for lane in range(value.type.count):
        place = b.gep(first, [i64(lane * stride)], source_etype=type)
        b.store(b.extract_element(value, ir.Constant(I32, lane)), place, align=size)


def _gathered(b: ir.IRBuilder, parts: list[tuple[ir.Value, dict]], elements: list) -> ir.Value:
    """The lanes `elements` out of vectors that have some of them each, two by two."""
    if len(parts) == 1:
        ((x, has),) = parts
        return pick(b, x, None, [has[e] for e in elements])
    while len(parts) > 1:
        joined = []
        for (x, has), *rest in (parts[i : i + 2] for i in range(0, len(parts), 2)):
            if not rest:
                joined.append((x, has))
                continue
            ((y, more),) = rest
            places = [
                has[e] if e in has else len(elements) + more[e] if e in more else None
                for e in elements
            ]
            found = {e: i for i, (e, p) in enumerate(zip(elements, places)) if p is not None}
            joined.append((pick(b, x, y, places), found))
        parts = joined
    return parts[0][0]
