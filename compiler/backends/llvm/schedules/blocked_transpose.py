"""The blocked transpose: what a kernel reads across the lines that it writes, in square blocks.

    y[a, b] = f(x[b, a], …)            x is contiguous along a, y along b

    for block of a × b, for tile of rows b in it:
      for tile of columns a:           rows as vectors along a, turned in registers: vectors along b
    for row a of the block:            of which the store's expression is made, vector by vector

The turned block lies in the first-level cache. Between them, its reading and its writing use each
cache line whole while it is there, also where a power of two is between the lines, so that few of
them fit; a nest reads a line anew for each element. Where all lines of a block fit that are
written, and little is computed, tiles are stored where they belong at once.

A register holds several tiles side by side (`emit/shuffles.py`), of which each is 16 bytes wide, so
that all shuffles stay inside of lanes of 16 bytes. The last tile of a block, and the last block,
overlap those before them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import ClassVar

import llvmlite.ir as ir

from ....classes import dataclass
from ....expr import expr as s
from ....expr.expr import Axis, Expr
from ....ir.bounds import DynamicSize, maybe_below, size_hint
from ....ir.dims import Sym, ceil_div
from ....kernels.contraction import contiguous_axis
from ....kernels.kernel import Kernel
from ....kernels.machine import PAGE, Machine
from ....kernels.tiling import FURTHEST, is_short_stride, lane_stride
from ....kernels.work import data_of, extent_of
from ..base.types import PTR, i64, memory_type, vector
from ..emit.emitter import Emitter
from ..emit.lanes import minimum
from ..emit.shuffles import joined, transposed
from ..emit.store import emit_store
from ..vmath.formulas import FORMULAS
from .base import Arguments, Dim, Given, HintSpecialized, Refusal, Schedule
from .cost_model import LOAD, SHUFFLE, UNIT, cycles_of
from .nest import lanes_of_stores
from .nest_axes import interleaved_axis
from .serial import outer_axes

PIECE = 16  # bytes inside of which every CPU shuffles in one step
SIDE = 64  # elements of a block's side, of up to 4 bytes
LIGHT = 12  # expressions that are written out for each column of a tile
SHORTEST = 4  # elements of either axis, below which the nest interleaves


@dataclass(frozen=True)
class Crossing:
    """A load that is contiguous along the other axis, turned in tiles of `columns` by `rows`."""

    load: Expr
    columns: int
    rows: int


@dataclass(frozen=True)
class BlockedTransposeSchedule(Schedule):
    """`along` is the axis of the stores' lines, `across` that of the lines which `crossing` loads
    read; blocks have `side` elements of each. What is stored is computed with `lanes`; `direct`:
    tile by tile, without a copy of the block."""

    name: ClassVar[str] = "blocked"
    spends: ClassVar[str] = "elements change places in registers"
    meaning: ClassVar[str] = "a transpose, in square blocks that are turned in registers"
    words: ClassVar[tuple[tuple[str, str], ...]] = (("side", "elements of a block's side"),)
    opens: ClassVar[bool] = True
    seconds: ClassVar[tuple[float, float]] = (0.012, 0.025)

    outer: tuple[Axis, ...]
    across: Axis
    along: Axis
    crossing: tuple[Crossing, ...]
    lanes: int
    side: int
    direct: bool

    @classmethod
    def propose(cls, given: Given) -> "BlockedTransposeSchedule | Refusal":
        """Of a kernel whose sizes may be open."""
        kernel = given.kernel
        if given.in_place:
            return Refusal("it reads the memory that it writes")
        if kernel.serial or not all(st.mode == "set" and st.where is None for st in kernel.stores):
            return Refusal("its stores run in order, add to what is there, or have conditions")
        if any(e.op == "reduce" for e in s.walk(*kernel.roots())):
            return Refusal("it reduces")
        along = contiguous_axis(kernel)
        if along is None or any(lane_stride(st.index[0], along) != 1 for st in kernel.stores):
            return Refusal("its stores have no axis in common that they are contiguous along")
        lanes = lanes_of_stores(kernel, given.target)
        loads = [e for e in s.walk(*kernel.roots()) if e.op == "load"]
        others = [e for e in loads if lane_stride(e.args[0], along) not in (0, 1)]
        if not others:
            return Refusal("nothing is read across the lines that are written")
        for across in kernel.axes:
            turned = [e for e in others if _is_across(e, across, along)]
            if across is not along and turned and _are_short(set(others) - set(turned), along):
                break
        else:
            return Refusal("it reads neither along the lines that are written nor across them")
        if min(size_hint(along.extent), size_hint(across.extent)) < SHORTEST:
            return Refusal(f"it has fewer than {SHORTEST} lines, or elements of one")
        if interleaved_axis(kernel, across, lanes) is along:
            return Refusal("its lines are short and follow each other: a nest interleaves them")
        while lanes > size_hint(along.extent):
            lanes //= 2
        sizes = [size_hint(a.extent) for a in (across, along)]
        crossing = tuple(_crossing(e, given.target, *sizes) for e in turned)
        side = max(PIECE, SIDE * 4 // max(4, *(e.dtype.bytes for e in turned)))
        outer = tuple(a for a in kernel.axes if a is not along and a is not across)
        direct = len(crossing) == 1 and _is_light(kernel) and not _conflicts(kernel, across)
        return cls(outer, across, along, crossing, lanes, side, direct)

    @property
    def units(self) -> Dim:
        return extent_of_all(self.outer) * self.blocks(self.across) * self.blocks(self.along)

    def blocks(self, axis: Axis) -> Dim:
        """Pieces of an axis."""
        return ceil_div(axis.extent, self.side)

    def least(self, axis: Axis) -> int:
        """Elements that a piece of an axis has at least."""
        if axis is self.across:
            return max(c.columns for c in self.crossing)
        return max(self.lanes, *(c.rows for c in self.crossing))

    def opened(self, specialized: HintSpecialized) -> list[tuple[Schedule, float]]:
        found = self.propose(specialized.given)
        if isinstance(found, Refusal):
            raise DynamicSize("a transpose that is one for some sizes only")
        return [(found, specialized.ns)]

    def cycles(self, kernel: Kernel, target: Machine) -> float:
        roots = kernel.roots()
        data, turned = data_of(roots), {c.load for c in self.crossing}
        vectors = extent_of(kernel.axes) / self.lanes
        each = LOAD * len(kernel.stores)
        for e in s.walk(*roots):
            if e not in turned:
                vector_axis = self.along if self.along in e.free else None
                share = extent_of(e.free) / extent_of(kernel.axes)
                share = share if vector_axis is not None else share * self.lanes
                each += share * cycles_of(e, vector_axis, self.lanes, data)
        for c in self.crossing:
            pieces, rounds = c.rows / c.columns, c.columns.bit_length() - 1
            loaded = pieces * LOAD + (pieces - 1) * SHUFFLE / 2
            copied = 0.0 if self.direct else 2 * LOAD
            each += (loaded + rounds * SHUFFLE / 2 + copied) * self.lanes / c.rows
        return vectors * each + 4 * UNIT * size_hint(self.units)

    def pages(self, kernel: Kernel) -> int:
        """Those of each block's lines, which lie apart."""
        lines = [(c.load.args[0], self.along, c.load.dtype) for c in self.crossing]
        lines += [(st.index[0], self.across, st.buffer.dtype) for st in kernel.stores]
        pages = 0
        for place, axis, dtype in lines:
            stride = size_hint(lane_stride(place, axis) or 0) * dtype.bytes
            count = min(self.side, size_hint(axis.extent))
            pages += min(count, ceil(count * stride / PAGE) + 1)
        return pages * size_hint(self.units)

    def emit(self, e: Emitter, kernel: Kernel, given: Arguments, in_place: bool) -> None:
        BlockEmitter(e, kernel, self).emit(given.begin, given.end)

    def __str__(self) -> str:
        return f"side {self.side}, lanes {self.lanes}"


def extent_of_all(axes: tuple[Axis, ...]) -> Dim:
    total: Dim = 1
    for a in axes:
        total = total * a.extent
    return total


def _are_short(loads: Iterable[Expr], along: Axis) -> bool:
    strides = [lane_stride(e.args[0], along) for e in loads]
    return all(k is not None and is_short_stride(k, FURTHEST + 1) for k in strides)


def _is_across(load: Expr, across: Axis, along: Axis) -> bool:
    index = load.args[0]
    return lane_stride(index, across) == 1 and lane_stride(index, along) is not None


def _crossing(load: Expr, target: Machine, columns: int, rows: int) -> Crossing:
    """Tiles that registers hold, for blocks of at least `columns` by `rows`."""
    size = load.dtype.bytes
    width, height = PIECE // size, max(PIECE, target.vector_bytes if size > 1 else 0) // size
    while height > rows:
        height //= 2
    while width > min(columns, height):
        width //= 2
    return Crossing(load, width, height)


def _is_light(kernel: Kernel) -> bool:
    """Whether what is computed can be written out for each column of a tile."""
    computed = [e for e in s.walk(*(st.value for st in kernel.stores)) if e.dtype != s.I64]
    return len(computed) <= LIGHT and not any(e.op in FORMULAS for e in computed)


def _conflicts(kernel: Kernel, across: Axis) -> bool:
    """Whether lines that are written below each other share few sets of the first-level cache, as
    far as it is known."""
    strides = [(lane_stride(st.index[0], across), st.buffer.dtype.bytes) for st in kernel.stores]
    return any(not isinstance(k, int) or k * size % (PAGE // 4) == 0 for k, size in strides)


class BlockEmitter:
    """Writes one such kernel."""

    def __init__(self, e: Emitter, kernel: Kernel, plan: BlockedTransposeSchedule):
        self.e, self.kernel, self.plan = e, kernel, plan
        self.blocks = []
        for c in () if plan.direct else plan.crossing:
            type = _bits(e, c.load)
            block = e.variable(ir.ArrayType(type, plan.side * plan.side), "block")
            block.align, block.type = 64, PTR
            self.blocks.append(block)

    def emit(self, begin: ir.Value, end: ir.Value) -> None:
        """Units `begin` to `end`."""
        e, plan = self.e, self.plan
        with e.loop(begin, end, name="unit") as unit:
            rest, firsts = unit, []
            for axis in (plan.along, plan.across):
                count = e.size(plan.blocks(axis))
                firsts.append(e.b.mul(e.b.urem(rest, count), i64(plan.side)))
                rest = e.b.udiv(rest, count)
            v, u = firsts
            with outer_axes(e, plan.outer, rest):
                short = [a for a in (plan.across, plan.along) if self._may_be_short(a)]
                if not short:
                    self._block(u, v)
                    return
                enough = None
                for a in short:
                    long = e.b.icmp_signed(">=", e.size(a.extent), i64(plan.least(a)))
                    enough = long if enough is None else e.b.and_(enough, long)
                with e.b.if_else(enough) as (yes, no):
                    with yes, e.scope():
                        self._block(u, v)
                    with no, e.scope():
                        self._elements(u, v)

    def _may_be_short(self, axis: Axis) -> bool:
        return isinstance(axis.extent, Sym) and maybe_below(axis.extent, self.plan.least(axis))

    def _span(self, axis: Axis, first: ir.Value) -> tuple[ir.Value, ir.Value]:
        """(first, end) of a block's piece of an axis; it is long enough for a tile."""
        e, plan = self.e, self.plan
        extent = e.size(axis.extent)
        end = minimum(e, e.b.add(first, i64(plan.side)), extent)
        return minimum(e, first, e.b.sub(extent, i64(plan.least(axis)))), end

    def _block(self, u: ir.Value, v: ir.Value) -> None:
        e, plan = self.e, self.plan
        (u, u_end), (v, v_end) = self._span(plan.across, u), self._span(plan.along, v)
        if plan.direct:
            (c,) = plan.crossing
            with self._tiles(v, v_end, c.rows) as j, self._tiles(u, u_end, c.columns) as i:
                self._move(c, i, j)
            return
        for c, block in zip(plan.crossing, self.blocks):
            with self._tiles(v, v_end, c.rows) as j, self._tiles(u, u_end, c.columns) as i:
                place = e.b.add(e.b.mul(e.b.sub(i, u), i64(plan.side)), e.b.sub(j, v))
                self._turn(c, i, j, e.b.gep(block, [place], source_etype=_bits(e, c.load)))
        with e.loop(u, u_end, name="row") as i, self._tiles(v, v_end, plan.lanes) as j:
            place = e.b.add(e.b.mul(e.b.sub(i, u), i64(plan.side)), e.b.sub(j, v))
            with e.at(plan.across, i), e.at(plan.along, j), e.vectorised(plan.along, plan.lanes):
                for c, block in zip(plan.crossing, self.blocks):
                    self._recall(c.load, block, place)
                for st in self.kernel.stores:
                    emit_store(e, st)

    @contextmanager
    def _tiles(self, first: ir.Value, end: ir.Value, size: int) -> Iterator[ir.Value]:
        """Tiles of a piece of an axis; the last one overlaps the one before it."""
        e = self.e
        with e.loop(first, end, size, name="tile") as t:
            yield minimum(e, t, e.b.sub(end, i64(size)))

    def _columns(self, c: Crossing, i: ir.Value, j: ir.Value) -> list[ir.Value]:
        """The tile at (i, j) of what is read, as vectors of what is written."""
        e, plan, size = self.e, self.plan, c.load.dtype.bytes
        type = vector(_bits(e, c.load), c.columns)
        rows = []
        for r in range(c.rows):
            with e.scope(), e.at(plan.across, i), e.at(plan.along, e.plus(j, r)):
                place = e.address(c.load.data, c.load.args[0])
                rows.append(e.b.load(place, typ=type, align=size))
        return transposed(e.b, [joined(e.b, rows[k :: c.columns]) for k in range(c.columns)])

    def _turn(self, c: Crossing, i: ir.Value, j: ir.Value, block: ir.Value) -> None:
        """The tile at (i, j) of what is read, to its place in the block."""
        type = _bits(self.e, c.load)
        for k, column in enumerate(self._columns(c, i, j)):
            place = self.e.b.gep(block, [i64(k * self.plan.side)], source_etype=type)
            self.e.b.store(column, place, align=c.load.dtype.bytes)

    def _move(self, c: Crossing, i: ir.Value, j: ir.Value) -> None:
        """The tile at (i, j) of what is read, and what is computed of it, to where it belongs."""
        e, plan = self.e, self.plan
        type = vector(memory_type(c.load.dtype, e.soft_half), c.rows)
        for k, column in enumerate(self._columns(c, i, j)):
            with (
                e.scope(),
                e.at(plan.across, e.plus(i, k)),
                e.at(plan.along, j),
                e.vectorised(plan.along, c.rows),
            ):
                bits = e.b.bitcast(column, type)
                e.remember(c.load, e.from_memory(bits, c.load.dtype))
                for st in self.kernel.stores:
                    emit_store(e, st)

    def _recall(self, load: Expr, block: ir.Value, place: ir.Value) -> None:
        """A vector of the block as the value of the load that it was read by."""
        e, type = self.e, memory_type(load.dtype, self.e.soft_half)
        pointer = e.b.gep(block, [place], source_etype=type)
        value = e.b.load(pointer, typ=vector(type, self.plan.lanes), align=load.dtype.bytes)
        e.remember(load, e.from_memory(value, load.dtype))

    def _elements(self, u: ir.Value, v: ir.Value) -> None:
        """A block of an array that is smaller than a tile, one by one."""
        e, plan = self.e, self.plan
        ends = [
            minimum(e, e.b.add(first, i64(plan.side)), e.size(axis.extent))
            for axis, first in ((plan.across, u), (plan.along, v))
        ]
        rows, columns = e.loop(u, ends[0], name="row"), e.loop(v, ends[1], name="column")
        with rows as i, e.at(plan.across, i), columns as j, e.at(plan.along, j):
            for st in self.kernel.stores:
                emit_store(e, st)


def _bits(e: Emitter, load: Expr) -> ir.Type:
    """Elements as they are moved: what is narrower than a word as plain bits."""
    if load.dtype.bytes < 4:
        return ir.IntType(8 * load.dtype.bytes)
    return memory_type(load.dtype, e.soft_half)
