"""How a contraction is tiled, packed and shared: `ContractSchedule`, and the packing of weights."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, prod

from ...dims import Sym, ceil_div
from ...loops import expr as s
from ...loops.expr import Axis, Buffer, Expr
from ...loops.nest import Kernel
from ...loops.schedule import (
    Contraction,
    Tile,
    choose_tile,
    fits_registers,
    int_bounds,
    linear_load,
    step_cycles,
)
from ...sizes import maybe_below, typical
from ...types import I32, DType
from ..base import CpuTarget

SCRATCH = 1 << 20  # bytes that packing may take per thread
LINE = 64  # bytes of a cache line
TURN = 16  # panels of B from which turning A pays
PAGE = 4096  # addresses that differ by a multiple of it share a set of the first-level cache


@dataclass(frozen=True)
class ContractSchedule:
    """`b`: "constant" (packed while compiling) or "pack". `a`: "direct" (read in place), "pack"
    (evaluated into scratch, [row][k]) or "turn" (copied to [k][row]).

    `pairs`: sums in i32 of factors that fit i16, packed as pairs of k, of which one instruction
    multiplies and adds both. What follows counts such a pair as one step of k and one element.

    `group` is how many tiles of A stay in cache while every panel of B passes by: 1 where all of B
    fits the second-level cache beside one of them, more where it comes from further away.

    Extents may be open sizes, and what is counted from them dims.
    """

    contraction: Contraction
    tile: Tile
    lanes: int
    a: str
    b: str
    group: int = 1
    pairs: bool = False

    @property
    def dtype(self) -> DType:
        return self.contraction.reduce.dtype

    @property
    def n(self) -> Axis:
        return self.contraction.n[-1]

    @property
    def m(self) -> Axis | None:
        return self.contraction.m[-1] if self.contraction.m else None

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return self.tile.vectors * self.lanes

    @property
    def panels(self):
        return ceil_div(self.n.extent, self.width)

    @property
    def ragged(self) -> bool:
        """Whether a panel may have columns past the end; else a last one begins early enough."""
        return maybe_below(self.n.extent, self.width)

    @property
    def short(self) -> bool:
        """Whether a tile may have rows past the end, whose sums are not stored."""
        return self.line is None and self.m is not None and maybe_below(
            self.m.extent, self.tile.rows)  # fmt: skip

    def first_columns(self) -> list[int]:
        """Where each panel begins."""
        last = max(0, self.n.extent - self.width)
        return [min(p * self.width, last) for p in range(self.panels)]

    @property
    def depth(self):
        return prod(a.extent for a in self.contraction.k)

    @property
    def steps(self):
        """Steps of k."""
        return ceil_div(self.depth, 2) if self.pairs else self.depth

    @property
    def room(self):
        """Steps of k that there is scratch memory for: an open k is copied by whole vectors."""
        steps = self.steps
        return ceil_div(steps, self.lanes) * self.lanes if isinstance(steps, Sym) else steps

    @property
    def line(self) -> Axis | None:
        """The outer m axis that a tile covers several lines of."""
        several = self.tile.spread > 1 or self.tile.flat
        return self.contraction.m[-2] if several else None

    @property
    def outer_m(self) -> tuple[Axis, ...]:
        """Axes of A outside of its tiles."""
        return self.contraction.m[: -1 if self.line is None else -2]

    @property
    def line_tiles(self):
        """Tiles along m (along the lines, for tiles of several)."""
        if self.m is None:
            return 1
        if self.tile.flat:
            return ceil_div(self.line.extent * self.m.extent, self.tile.rows)
        if self.line is not None:
            return ceil_div(self.line.extent, self.tile.spread)
        return ceil_div(self.m.extent, self.tile.rows)

    @property
    def tiles(self):
        """Tiles of A in all, for each of `outer`."""
        return self.line_tiles * prod(a.extent for a in self.outer_m)

    @property
    def groups(self):
        return 1 if self.group == self.tiles else ceil_div(self.tiles, self.group)

    @property
    def outer(self) -> tuple[Axis, ...]:
        """Axes of the parallel units outside of the groups."""
        return (*self.contraction.n[:-1], *self.contraction.batch)

    @property
    def units(self):
        """Panels, one after the other for each group of tiles."""
        return prod(a.extent for a in self.outer) * self.groups * self.panels

    @property
    def pitch(self):
        """Elements from one row of packed A to the next: an odd number of cache lines, so that the
        rows of a tile lie in different sets of the cache."""
        line = LINE // self.dtype.bytes
        lines = ceil_div(self.room, line)
        return (lines + 1 if isinstance(lines, Sym) else lines | 1) * line

    @property
    def packed_tile(self):
        """Elements of a packed tile of A."""
        return self.tile.rows * self.pitch

    @property
    def scratch(self):
        """Bytes of scratch memory per thread."""
        size = self.dtype.bytes
        total = self.room * self.width if self.b == "pack" else 0
        if self.a != "direct":
            total += self.group * self.packed_tile
        return ceil_div(total * size, LINE) * LINE


def schedule_contraction(
    kernel: Kernel, c: Contraction, target: CpuTarget, constants: frozenset[Buffer]
) -> ContractSchedule | None:
    """The schedule of a contraction, or None where a nest serves better."""
    dtype = c.reduce.dtype
    if dtype.name not in ("f32", "f64", "i32", "i64"):
        return None
    lanes = target.lanes(dtype.bits)
    m = c.m[-1].extent if c.m else 1
    n = c.n[-1].extent
    if n < max(4, lanes // 4):
        return None
    depth = prod(x.extent for x in c.k)
    lines = c.m[-2].extent if len(c.m) > 1 and m < 15 and linear_load(c.a) is not None else 1
    streamed = depth * 2 * lanes * dtype.bytes > target.l1 * 3 // 4
    packed = all(x.data in constants for x in s.walk(c.b) if x.op == "load")
    pairs = packed and _fits_pairs(c, target)
    fast = dtype.is_float or pairs
    registers = _registers(dtype, pairs, target)
    embedded = fast and target.vector_bytes == 64
    tile = choose_tile(m, n, lanes, registers, lines=lines, streamed=streamed, embedded=embedded)
    if not packed and prod(a.extent for a in c.m) < 4:
        return None
    plan = ContractSchedule(c, tile, lanes, "direct", "constant" if packed else "pack", pairs=pairs)
    if lines > 1 and embedded and not pairs:
        plan = _flattened(plan, lines, streamed, registers)
    plan = settled(plan, target)
    return plan if plan.scratch <= SCRATCH else None


def settled(plan: ContractSchedule, target: CpuTarget) -> ContractSchedule:
    """The plan's tile with the way of reading A, and the groups, that are best for it as far as
    is known without measuring."""
    plan = replace(plan, a="turn" if plan.tile.flat else _way_of_reading(plan, target))
    return replace(plan, group=_group(plan, target))


def is_possible(plan: ContractSchedule, target: CpuTarget) -> bool:
    """Whether code for the plan is right, whatever its speed: for plans that were not made by
    `schedule_contraction` but are of a kernel that it has a schedule for."""
    tile, m = plan.tile, plan.contraction.m
    registers = _registers(plan.dtype, plan.pairs, target)
    if min(tile.rows, tile.vectors, tile.spread, plan.group) < 1 or (tile.flat and tile.spread > 1):
        return False
    several = tile.flat or tile.spread > 1
    if not fits_registers(tile.rows, tile.vectors, registers) or (several and len(m) < 2):
        return False
    if tile.spread > 1 and tile.rows != tile.spread * m[-1].extent:
        return False
    lines = m[-2].extent if several else 1
    if tile.rows > lines * (m[-1].extent if m else 1):
        return False
    linear = linear_load(plan.contraction.a) is not None
    reads = {
        "direct": linear and not plan.pairs and not tile.flat,
        "pack": not tile.flat,
        "turn": can_be_turned(plan),
    }
    return reads.get(plan.a, False) and plan.group <= plan.tiles and plan.scratch <= SCRATCH


def _registers(dtype: DType, pairs: bool, target: CpuTarget) -> int:
    """Vectors that a tile may use: products of integers need some of their own."""
    return target.registers if dtype.is_float or pairs else min(16, target.registers)


def _fits_pairs(c: Contraction, target: CpuTarget) -> bool:
    """Whether the factors fit i16, and the target has the instruction (vpmaddwd, vpdpwssd)."""
    if c.reduce.dtype != I32 or not target.triple.startswith("x86_64"):
        return False
    ranges = [int_bounds(x) for x in (c.a, c.b)]
    return all(r is not None and max(-r[0], r[1]) < 1 << 15 for r in ranges)


def _flattened(
    plan: ContractSchedule, lines: int, streamed: bool, registers: int
) -> ContractSchedule:
    """With tiles that need not end where lines do, if they can be turned and are less work."""
    tile = choose_tile(
        lines * plan.m.extent, plan.n.extent, plan.lanes, registers,
        streamed=streamed, embedded=True,
    )  # fmt: skip
    flat = replace(plan, tile=replace(tile, flat=True))

    def cycles(p: ContractSchedule) -> float:
        step = step_cycles(p.tile.rows, p.tile.vectors, streamed=streamed, embedded=True)
        return p.tiles * p.panels * step

    return flat if _can_turn(flat) and cycles(flat) < cycles(plan) else plan


def _way_of_reading(plan: ContractSchedule, target: CpuTarget) -> str:
    """How the tiles of A are read (`ContractSchedule.a`)."""
    if plan.pairs or linear_load(plan.contraction.a) is None:
        return "pack"
    if _can_turn(plan):
        return "turn"
    collide = plan.panels > 1 and _rows_collide(plan, target)
    return "pack" if collide and _fits_scratch(plan, "pack") else "direct"


def _can_turn(plan: ContractSchedule) -> bool:
    """Whether turning the rows of A is possible and pays."""
    return plan.panels >= TURN and _turns(plan)


def can_be_turned(plan: ContractSchedule) -> bool:
    """Whether the rows of A can be turned."""
    linear = linear_load(plan.contraction.a) is not None
    return linear and not plan.pairs and _turns(plan)


def _turns(plan: ContractSchedule) -> bool:
    """Whether the tile is one that `Turn` makes, of an A that is a plain load."""
    tall = plan.tile.vectors == 1 and plan.tile.rows >= plan.lanes
    return tall and _fits_scratch(plan, "turn") and _k_is_contiguous(plan, plan.contraction.a)


def _fits_scratch(plan: ContractSchedule, a: str) -> bool:
    """Whether there is room to copy a tile of A; sums may be very deep."""
    return typical(replace(plan, a=a, group=1).scratch) <= SCRATCH


def turns_columns(plan: ContractSchedule) -> bool:
    """Whether a panel of B is made of rows in memory, to be turned."""
    b = linear_load(plan.contraction.b)
    return (
        plan.b == "pack"
        and plan.tile.vectors == 1
        and b is not None
        and b[0].get(plan.n) != 1
        and _k_is_contiguous(plan, plan.contraction.b)
    )


def _k_is_contiguous(plan: ContractSchedule, factor: Expr) -> bool:
    """Whether vectors of a factor can be read along k."""
    loops = merged(plan.contraction.k, linear_load(factor)[0])
    long = bool(loops) and loops[-1][1] == 1 and typical(loops[-1][0]) >= plan.lanes
    return plan.dtype.is_float and long


def _group(plan: ContractSchedule, target: CpuTarget) -> int:
    """Tiles of A per group. Where all of B fits a third-level cache, whose size is guessed, it is
    read anew for each tile; else there are as few passes over it as the second-level one allows."""
    size = plan.dtype.bytes
    panel = plan.steps * plan.width * size
    if plan.b == "constant" and plan.panels * panel <= 8 * target.l2:
        return 1
    limit = target.l2 * 3 // 8
    if plan.a != "direct":
        tile = plan.packed_tile * size
        limit = min(limit, SCRATCH - (panel if plan.b == "pack" else 0))
    elif plan.b == "pack":
        return plan.tiles
    else:
        terms, _ = linear_load(plan.contraction.a)
        used = {a for a in (*plan.contraction.m, *plan.contraction.k) if terms.get(a)}
        reach = sum(terms[a] * (a.extent - 1) for a in used if terms[a] > 0) + 1
        tile = max(1, reach * size // plan.tiles)
    passes = ceil(plan.tiles / max(1, limit // tile))
    return ceil(plan.tiles / passes)


def _rows_collide(plan: ContractSchedule, target: CpuTarget) -> bool:
    """Whether a tile's rows, read in place, fall into too few sets of the first-level cache."""
    size = plan.dtype.bytes
    places = row_places(plan, linear_load(plan.contraction.a)[0])
    lines = {p * size // LINE for p in places}
    sets = Counter(line % (PAGE // LINE) for line in lines)
    return max(sets.values()) > max(4, target.l1 // PAGE - 2)


def merged(axes: Sequence[Axis], strides: dict) -> list[tuple]:
    """(extent, stride in A) of the loops over k: axes that follow each other in A are one."""
    loops: list[tuple[int, int]] = []
    for a in axes:
        stride = strides.get(a, 0)
        if a.extent == 1:
            continue
        if loops and loops[-1][1] == stride * a.extent:
            loops[-1] = (loops[-1][0] * a.extent, stride)
        else:
            loops.append((a.extent, stride))
    return loops


def row_places(plan: ContractSchedule, strides: dict) -> list:
    """Where the rows of a tile begin in A, in elements from the first one."""
    step = 0 if plan.m is None else strides.get(plan.m, 0)
    if plan.line is None:
        return [r * step for r in range(plan.tile.rows)]
    width, jump = plan.m.extent, strides.get(plan.line, 0)
    return [r // width * jump + r % width * step for r in range(plan.tile.rows)]
