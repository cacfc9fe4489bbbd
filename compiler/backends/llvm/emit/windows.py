"""Loads at places that are known while compiling: in windows of neighbours, whose elements a
shuffle puts into their lanes, or element by element.

    x[place[i]], place = 3 3 4 5 5 6 7 7    =>    the elements 3 … 10 at once, of which the lanes
                                                  take those at 0 0 1 2 2 3 4 4

Where neighbouring lanes read near each other (resampling, reflected borders, rows in reverse), that
is a load and a shuffle for what would be a load for each lane.
"""

from typing import TYPE_CHECKING

import llvmlite.ir as ir

from ....classes import dataclass
from ....expr import expr as s
from ....expr.expr import Buffer, Expr
from ....kernels.machine import Machine
from ..base.types import I32, intrinsic, no_mask, vector
from ..base.types import I64 as WORD
from .lanes import known_lanes, minimum
from .scalar import splat

if TYPE_CHECKING:
    from .emitter import Emitter


@dataclass(frozen=True)
class Shuffle:
    """An instruction that picks any elements of a register: units of `unit` bytes out of one of
    `width` bytes."""

    unit: int
    width: int


@dataclass(frozen=True)
class Window:
    """How the lanes of a vector are picked, `piece` of them at a time.

    `starts` are rows (i32) of where the windows of a piece begin, by its first element: one, or a
    second one for what lies behind the first. `picks` has for each element its place in units of
    the shuffle, modulo what a unit holds.
    """

    shuffle: Shuffle
    piece: int
    starts: tuple[Buffer, ...]
    picks: Buffer


@dataclass(frozen=True)
class FoundWindow:
    """The same for places that only a run knows. `starts` are a row of indices, by the first
    element of a vector; windows may begin at `last` at the latest."""

    shuffle: Shuffle
    piece: int
    starts: Buffer
    last: ir.Value


def shuffle_for(target: Machine, bits: int, lanes: int) -> Shuffle | None:
    """The shuffle for vectors of a type, or for pieces of them; None where there is none."""
    if target.triple.startswith(("aarch64", "arm64")):
        return Shuffle(1, 16)
    if not target.triple.startswith("x86_64") or target.vector_bytes < 32:
        return None
    if bits < 32 or lanes * bits <= 128:
        return Shuffle(1, 16)
    return Shuffle(4, min(target.vector_bytes, lanes * bits // 8))


def row_of(e: "Emitter", index: Expr) -> tuple[Expr, Expr] | None:
    """(the rest of the index, the load of its row) where a known row says how an index moves along
    the lanes."""
    terms, base = s.linear(index)
    moving = [t for t in terms if e.vector_axis in t.free]
    if len(moving) != 1 or terms[moving[0]] != 1:
        return None
    row = moving[0].args[0] if moving[0].op == "cast" else moving[0]
    if row.op != "load" or row.data not in e.windows or e.lane_stride(row.args[0]) != 1:
        return None
    window = e.windows[row.data]
    if window is not None and e.lanes % window.piece != 0:
        return None
    return s.from_linear({t: c for t, c in terms.items() if t is not moving[0]}, base), row


def emit_places(e: "Emitter", buffer: Buffer, rest: Expr, row: Expr, type: ir.Type) -> ir.Value:
    """The elements of `buffer` at `rest` and what a row says for each lane. Rows go on for a vector
    behind their end, so that there is a place for lanes that are masked, too."""
    base = e.address(buffer, rest)
    window = e.windows[row.data]
    if isinstance(window, FoundWindow) and e.mask is None:
        return _found(e, base, window, row, type)
    if not isinstance(window, Window):
        return _one_by_one(e, base, row, type, buffer.dtype.bytes)
    (place,) = row.args
    pieces = [
        _piece(e, base, window, place, first, type, buffer.dtype.bytes)
        for first in range(0, e.lanes, window.piece)
    ]
    while len(pieces) > 1:
        pieces = [_joined(e, x, y) for x, y in zip(pieces[::2], pieces[1::2])]
    return pieces[0]


def _joined(e: "Emitter", x: ir.Value, y: ir.Value) -> ir.Value:
    lanes = ir.Constant(vector(I32, 2 * x.type.count), list(range(2 * x.type.count)))
    return e.b.shuffle_vector(x, y, lanes)


def _one_by_one(e: "Emitter", base, row: Expr, type: ir.Type, size: int) -> ir.Value:
    places = e.address(row.data, row.args[0])
    kind, vec = ir.IntType(row.dtype.bits), vector(type, e.lanes)
    counted = [True] * e.lanes if e.mask is None else known_lanes(e.mask)
    if counted is None or (e.target.vector_bytes == 64 and size >= 4):
        steps = e.b.load(places, typ=vector(kind, e.lanes), align=row.dtype.bytes)
        if kind != WORD:
            steps = e.b.sext(steps, vector(WORD, e.lanes))
        return e.gather(base, steps, type, size, no_mask(e.lanes) if e.mask is None else e.mask)
    value = ir.Constant(vec, None)
    for lane in range(e.lanes):
        if not counted[lane]:
            continue
        place = e.b.gep(places, [ir.Constant(I32, lane)], source_etype=kind)
        step = e.b.load(place, typ=kind, align=row.dtype.bytes)
        step = step if kind == WORD else e.b.sext(step, WORD)
        element = e.b.load(e.b.gep(base, [step], source_etype=type), typ=type, align=size)
        value = e.b.insert_element(value, element, ir.Constant(I32, lane))
    return value


def _piece(
    e: "Emitter", base, window: Window, place: Expr, first: int, type: ir.Type, size: int
) -> ir.Value:
    """The lanes from `first` on, as many as a piece has."""
    b, shuffle = e.b, window.shuffle
    per = max(1, size // shuffle.unit)
    unit, count = ir.IntType(8 * shuffle.unit), shuffle.width // shuffle.unit
    units = vector(unit, count)
    index = s.add(place, s.const(first))
    picks = b.load(
        e.address(window.picks, s.mul(index, s.const(per))),
        typ=vector(unit, window.piece * per),
        align=shuffle.unit,
    )
    if window.piece * per < count:
        nothing = ir.Constant(picks.type, None)
        lanes = [min(i, window.piece * per) for i in range(count)]
        picks = b.shuffle_vector(picks, nothing, ir.Constant(vector(I32, count), lanes))
    found, before = None, picks
    for starts in window.starts:
        start = b.load(e.address(starts, index), typ=I32, align=4)
        here = b.gep(base, [b.sext(start, WORD)], source_etype=type)
        loaded = b.load(here, typ=units, align=size)
        moved = b.mul(start, ir.Constant(I32, per))
        moved = moved if unit == I32 else b.trunc(moved, unit)
        own = b.sub(picks, splat(b, moved, count))
        value = emit_shuffle(e, loaded, own, shuffle)
        if found is not None:
            inside = b.icmp_unsigned("<", before, splat(b, ir.Constant(unit, count), count))
            value = b.select(inside, found, value)
        found, before = value, own
    kept = vector(type, window.piece)
    if window.piece * per < count:
        lanes = ir.Constant(vector(I32, window.piece * per), list(range(window.piece * per)))
        found = b.shuffle_vector(found, ir.Constant(found.type, None), lanes)
    return b.bitcast(found, kept)


def _found(e: "Emitter", base, window: FoundWindow, row: Expr, type: ir.Type) -> ir.Value:
    """A vector whose places are in a window that a run has found."""
    (place,) = row.args
    kind, b = vector(ir.IntType(row.dtype.bits), e.lanes), e.b
    start = b.load(e.address(window.starts, place), typ=WORD, align=8)
    start = minimum(e, start, window.last)
    here = b.gep(base, [start], source_etype=type)
    loaded = b.load(here, typ=vector(I32, e.lanes), align=4)
    picks = b.load(e.address(row.data, place), typ=kind, align=row.dtype.bytes)
    picks = picks if kind.element == I32 else b.trunc(picks, vector(I32, e.lanes))
    picks = b.sub(picks, splat(b, b.trunc(start, I32), e.lanes))
    return b.bitcast(emit_shuffle(e, loaded, picks, window.shuffle), vector(type, e.lanes))


def emit_shuffle(e: "Emitter", x: ir.Value, picks: ir.Value, shuffle: Shuffle) -> ir.Value:
    """The units of `x` that `picks` names. Only picks below their number count."""
    type = x.type
    if e.target.triple.startswith(("aarch64", "arm64")):
        name = "llvm.aarch64.neon.tbl1.v16i8"
    elif shuffle.unit == 1:
        name = "llvm.x86.ssse3.pshuf.b.128"
    elif shuffle.width == 32:
        name = "llvm.x86.avx2.permd"
    else:
        name = "llvm.x86.avx512.permvar.si.512"
    return e.b.call(intrinsic(e.b.module, name, type, [type, type]), [x, picks])
