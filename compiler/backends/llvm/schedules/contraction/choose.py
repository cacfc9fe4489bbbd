"""Which schedule a contraction gets."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import ceil, prod

from .....expr import expr as s
from .....expr.expr import Axis, Buffer, Expr
from .....ir.bounds import size_hint
from .....ir.dims import Sym, ceil_div
from .....ir.types import I16, I32, DType
from .....kernels.contraction import Contraction
from .....kernels.gates import Gates
from .....kernels.kernel import Kernel
from .....kernels.machine import LINE, PAGE, Machine
from .....kernels.tiling import choose_tile, fits_registers, int_bounds, linear_load, step_cycles
from ..base import Refusal
from .tiling import FEWEST, PARTIAL, SCRATCH, Tiling, merged, row_places

SHALLOW = 4  # products of a sum that are no loop
FEW_ROWS = 16  # rows up to which no copy of a panel pays
TURN = 16  # panels of B from which turning A pays
COPIED = 16  # tiles that a panel is read by from which copying it costs next to nothing
ONCE = 2  # tiles that do not mind where a panel is read from
UNEVEN = 1.06  # by how much more rows a line's tiles have, from where they might go on in the next
APART = 6  # rows whose distances may be known only at run time: each takes a register
STREAMED = 5 / 64  # cycles per byte of a vector of B from beyond the first-level cache


def plan_contraction(
    kernel: Kernel,
    c: Contraction,
    target: Machine,
    constants: frozenset[Buffer],
    gates: Gates | None = None,
) -> Tiling | Refusal:
    """The tiling of a contraction, or why another schedule serves better. `gates` are its sums,
    where tiles have several."""
    dtype = c.reduce.dtype
    if dtype.name not in ("f32", "f64", "i32", "i64"):
        return Refusal(f"there are no tiles of {dtype}")
    lanes = target.lanes(dtype.bits)
    m = c.m[-1].extent if c.m else 1
    n = c.n[-1].extent
    if n < max(4, lanes // 4):
        return Refusal(f"{n} columns fill too little of a vector")
    depth = prod(x.extent for x in c.k)
    if not isinstance(depth, Sym) and depth <= SHALLOW:
        return Refusal(f"sums of {depth} products are short, each tile of them begins and ends")
    sums, factors = (gates.sums, gates.columns) if gates else ((), (c.b,))
    in_lines = len(c.m) > 1 and linear_load(c.a) is not None and not sums
    several = c.m[-2].extent if in_lines else 1
    lines = several if m < 15 else 1
    packed = all(x.data in constants for x in s.walk(*factors) if x.op == "load")
    if sums and not (packed and dtype.is_float):
        return Refusal("tiles hold several sums of products with weights only, of floats")
    pairs = packed and _fits_pairs(c, target)
    fast = dtype.is_float or pairs
    registers = _registers(dtype, pairs, target)
    embedded = fast and target.vector_bytes == 64
    stored = _stored(c) if packed and not pairs and not sums else 0
    l1_budget = 0 if embedded else target.l1 * 10 // 16
    streamed = 0.0
    steps = ceil_div(depth, 2) if pairs else depth
    if steps * 2 * lanes * dtype.bytes > target.l1 * 3 // 4 and not (l1_budget and _enough(c)):
        streamed = STREAMED * target.vector_bytes
    if not packed:
        found = _over_windows(c, lanes, registers, embedded, target)
        if found is not None:
            return settled(found, target)
    tile = choose_tile(
        m,
        n * max(1, len(sums)),
        lanes,
        registers,
        lines=lines,
        streamed=streamed,
        embedded=embedded,
        apart=target.sums_apart(pairs),
        sums=max(1, len(sums)),
    )
    if sums and tile.vectors % len(sums):
        return Refusal(f"registers have no room for {len(sums)} sums")
    b = "constant" if packed else "pack"
    rows = prod(a.extent for a in c.m)
    if not packed and rows <= max(FEW_ROWS, tile.rows) and lies_in_lines(c):
        b = "direct"
    elif not packed and rows < 4:
        return Refusal("too few rows share a panel, which has to be packed each time")
    plan = Tiling(
        c,
        tile,
        lanes,
        "direct",
        b,
        pairs=pairs,
        l1_budget=l1_budget,
        stored=stored,
        gates=sums,
    )
    if several > 1 and not pairs and (lines > 1 or ceil(m / tile.rows) * tile.rows > UNEVEN * m):
        plan = _flattened(plan, several, streamed, registers, embedded)
    plan = settled(plan, target)
    if plan.scratch > SCRATCH:
        return Refusal(f"copies would take {plan.scratch} bytes of scratch memory, above {SCRATCH}")
    return plan


def _over_windows(
    c: Contraction, lanes: int, registers: int, embedded: bool, target: Machine
) -> Tiling | None:
    """The tiling of a product whose B is windows of a longer line (an image, channels first), which
    need no copies: neighbours share what they read. None where it has no such B, or copies pay."""
    n = c.n[-1].extent
    m = prod(a.extent for a in c.m)
    if not reads_in_place(c) or n < lanes:
        return None
    if m == 1 and len(c.k) <= len(c.n):
        return None  # a window of each image alone: its lines are shared, not its columns
    tile = choose_tile(m, n, lanes, registers, embedded=embedded, widest=n // lanes)
    plan = Tiling(c, tile, lanes, "direct", "slide")
    if plan.line_tiles >= COPIED:
        return None
    steps = _step_places(c)
    if steps is None or all(b - a >= plan.width for a, b in pairwise(steps)):
        return None
    if plan.line_tiles <= ONCE:
        return plan
    lines = {(k + v * lanes) * plan.dtype.bytes // LINE for k in steps for v in range(tile.vectors)}
    ways = Counter(line % (PAGE // LINE) for line in lines)
    near = len(lines) * LINE <= target.l1 and max(ways.values()) <= target.l1 // PAGE
    return plan if near else None


def _step_places(c: Contraction) -> list[int] | None:
    """Where each step of k lies in B, from the first one, in order; None where sizes are open."""
    strides, _ = linear_load(c.b)
    places = [0]
    for a in c.k:
        stride = strides.get(a, 0)
        if isinstance(stride, Sym) or isinstance(a.extent, Sym):
            return None
        places = [p + i * stride for p in places for i in range(a.extent)]
    return sorted(places)


def reads_in_place(c: Contraction) -> bool:
    """Whether vectors of B lie in memory as they are multiplied."""
    b = linear_load(c.b)
    return b is not None and b[0].get(c.n[-1]) == 1


def _stored(c: Contraction) -> int:
    """How many places of B along the batch are weights, if all others are sums of those of the
    first place and of the second, the third, …; 0 if they are not."""
    if len(c.batch) != 1 or len(c.n) != 1 or c.b.op != "select" or not c.reduce.dtype.is_float:
        return 0
    (axis,) = c.batch
    if isinstance(axis.extent, Sym):
        return 0
    places = [s.substitute(c.b, {axis: s.const(p)}) for p in range(axis.extent)]
    stored = sum(x.op == "load" for x in places)
    sums = [s.add(places[0], x) for x in places[1:stored]]
    return stored if places == [*places[:stored], *sums] else 0


def _enough(c: Contraction) -> bool:
    """Whether there are rows enough for a panel that is cut into blocks."""
    return prod(a.extent for a in c.m) >= 4 * FEWEST


def settled(plan: Tiling, target: Machine) -> Tiling:
    """The plan's tile with the way of reading A, and the groups, that are best for it as far as
    is known without measuring."""
    plan = replace(plan, a=_way_of_reading(plan, target))
    plan = replace(plan, group=_group(plan, target))
    return _within_scratch(plan) if plan.cut else plan


def _within_scratch(plan: Tiling) -> Tiling:
    """With groups small enough for what waits between blocks of k, and for copies of A. Every tile
    of a group takes as much."""
    while size_hint(plan.scratch) > SCRATCH and plan.group > FEWEST:
        each = ceil(plan.scratch / plan.group)
        fewer = min(plan.group - 1, max(FEWEST, SCRATCH // each))
        plan = replace(plan, group=ceil(plan.tiles / ceil(plan.tiles / fewer)))
    return plan


def is_possible(plan: Tiling, target: Machine) -> bool:
    """Whether code for the plan is right, whatever its speed: for plans that were not made by
    `plan_contraction` but are of a kernel that it has a schedule for."""
    tile, m = plan.tile, plan.contraction.m
    registers = _registers(plan.dtype, plan.pairs, target)
    if min(tile.rows, tile.vectors, tile.spread, plan.group) < 1 or (tile.flat and tile.spread > 1):
        return False
    several = tile.flat or tile.spread > 1
    if plan.gates and (several or tile.vectors % len(plan.gates)):
        return False
    if plan.b == "slide" and (plan.ragged or not reads_in_place(plan.contraction)):
        return False
    apart = target.sums_apart(plan.pairs)
    either = len(plan.gates) > 1
    if not fits_registers(tile.rows, tile.vectors, registers, apart, either) or (
        several and len(m) < 2
    ):
        return False
    if tile.spread > 1 and tile.rows != tile.spread * m[-1].extent:
        return False
    lines = m[-2].extent if several else 1
    if tile.rows > lines * (m[-1].extent if m else 1):
        return False
    c = plan.contraction
    linear = (paired_load(c) if plan.pairs else linear_load(c.a)) is not None
    reads = {
        "direct": linear and not (tile.flat and tile.rows > APART),
        "pack": not tile.flat,
        "turn": can_be_turned(plan),
    }
    if plan.b == "direct" and not lies_in_lines(plan.contraction):
        return False
    return reads.get(plan.a, False) and plan.group <= plan.tiles and plan.scratch <= SCRATCH


def paired_load(c: Contraction) -> tuple[dict[Axis, int], int] | None:
    """({axis: stride}, offset) of A, counted in pairs, if it is i16 that lie in memory as pairs of
    steps of k; that of the innermost axis of k is from one pair to the next."""
    e = c.a.args[0] if c.a.op == "cast" else c.a
    found = linear_load(e)
    if found is None or e.dtype != I16 or c.a.dtype != I32:
        return None
    (strides, offset), inner = found, next((a for a in reversed(c.k) if a.extent != 1), None)
    if inner is None or strides.get(inner) != 1:
        return None
    numbers = [inner.extent, offset, *(n for a, n in strides.items() if a is not inner)]
    if any(isinstance(n, Sym) or n % 2 for n in numbers):
        return None
    return {a: 1 if a is inner else n // 2 for a, n in strides.items()}, offset // 2


def paired(k: Sequence[Axis]) -> list[Axis]:
    """The axes of k, of which the innermost one counts pairs."""
    inner = next(a for a in reversed(k) if a.extent != 1)
    return [Axis(a.name, a.extent // 2) if a is inner else a for a in k]


def lies_in_lines(c: Contraction) -> bool:
    """Whether vectors of B can be read where they lie, with one distance from a step of k to the
    next."""
    found = linear_load(c.b)
    if found is None or found[0].get(c.n[-1]) != 1:
        return False
    return sum(a.extent != 1 for a in c.k) <= 1


def _registers(dtype: DType, pairs: bool, target: Machine) -> int:
    """Vectors that a tile may use: products of integers need some of their own."""
    return target.registers if dtype.is_float or pairs else min(16, target.registers)


def _fits_pairs(c: Contraction, target: Machine) -> bool:
    """Whether the factors fit i16, and the target has the instruction (vpmaddwd, vpdpwssd), whose
    sums wrap around like those of i32."""
    if c.reduce.dtype != I32 or not target.multiplies_pairs:
        return False
    ranges = [int_bounds(x) for x in (c.a, c.b)]
    return all(r is not None and r[0] >= -(1 << 15) and r[1] < 1 << 15 for r in ranges)


def _flattened(plan: Tiling, lines: int, streamed: float, registers: int, embedded: bool) -> Tiling:
    """With tiles that need not end where lines do, if they can be read and are less work."""
    tile = choose_tile(
        lines * plan.m.extent,
        plan.n.extent,
        plan.lanes,
        registers,
        streamed=streamed,
        embedded=embedded,
    )
    flat = replace(plan, tile=replace(tile, flat=True))

    def cycles(p: Tiling) -> float:
        step = step_cycles(p.tile.rows, p.tile.vectors, streamed=streamed, embedded=embedded)
        return p.tiles * p.panels * step

    possible = _can_turn(flat) if embedded else tile.rows <= APART
    return flat if possible and cycles(flat) < cycles(plan) else plan


def _way_of_reading(plan: Tiling, target: Machine) -> str:
    """How the tiles of A are read (`Tiling.a`)."""
    if plan.pairs:
        return "pack" if paired_load(plan.contraction) is None else "direct"
    if linear_load(plan.contraction.a) is None:
        return "pack"
    if _can_turn(plan) or (plan.tile.flat and plan.tile.rows > APART):
        return "turn"
    if plan.tile.flat:
        return "direct"
    collide = plan.panels > 1 and _rows_collide(plan, target)
    return "pack" if collide and _fits_scratch(plan, "pack") else "direct"


def _can_turn(plan: Tiling) -> bool:
    """Whether turning the rows of A is possible and pays."""
    return plan.panels >= TURN and _turns(plan)


def can_be_turned(plan: Tiling) -> bool:
    """Whether the rows of A can be turned."""
    linear = linear_load(plan.contraction.a) is not None
    return linear and not plan.pairs and _turns(plan)


def _turns(plan: Tiling) -> bool:
    """Whether the tile is one that `TransposePack` makes, of an A that is a plain load."""
    tall = plan.tile.vectors == 1 and plan.tile.rows >= plan.lanes
    return tall and _fits_scratch(plan, "turn") and _k_is_contiguous(plan, plan.contraction.a)


def _fits_scratch(plan: Tiling, a: str) -> bool:
    """Whether there is room to copy a tile of A; sums may be very deep."""
    return size_hint(replace(plan, a=a, group=1).scratch) <= SCRATCH


def turns_columns(plan: Tiling) -> bool:
    """Whether a panel of B is made of rows in memory, to be turned."""
    b = linear_load(plan.contraction.b)
    return (
        plan.b == "pack"
        and b is not None
        and b[0].get(plan.n) != 1
        and _k_is_contiguous(plan, plan.contraction.b)
    )


def _k_is_contiguous(plan: Tiling, factor: Expr) -> bool:
    """Whether vectors of a factor can be read along k."""
    loops = merged(plan.contraction.k, linear_load(factor)[0])
    long = bool(loops) and loops[-1][1] == 1 and size_hint(loops[-1][0]) >= plan.lanes
    return plan.dtype.is_float and long


def _group(plan: Tiling, target: Machine) -> int:
    """Tiles of A per group. Where panels stay in the first-level cache (`l1_budget`), as many as
    the second-level one holds of A, or of a block of it. Else, where all of B fits a third-level
    cache, whose size is guessed, it is read anew for each tile; else there are as few passes over
    it as the second-level one allows."""
    size = plan.dtype.bytes
    panel = plan.steps * plan.width * size
    if plan.a == "direct" and (plan.b == "direct" or (plan.gates and not plan.l1_budget)):
        return plan.tiles
    if plan.l1_budget:
        limit, block = target.l2 * 3 // 8, plan.tile.rows * min(plan.k_block, plan.steps) * size
        if plan.a != "direct":
            limit = SCRATCH - PARTIAL - (panel if plan.makes_panels else 0)
            block = plan.packed_tile * size
        return ceil(plan.tiles / ceil(plan.tiles / max(1, limit // block)))
    near = plan.panels * panel <= 8 * target.l2
    if near and plan.b != "slide" and not plan.makes_panels:
        return 1
    limit = target.l2 * 3 // 8
    if plan.a != "direct":
        tile = plan.packed_tile * size
        limit = min(limit, SCRATCH - (panel if plan.makes_panels else 0))
    elif plan.makes_panels:
        return plan.tiles
    else:
        terms, _ = linear_load(plan.contraction.a)
        used = {a for a in (*plan.contraction.m, *plan.contraction.k) if terms.get(a)}
        reach = sum(terms[a] * (a.extent - 1) for a in used if terms[a] > 0) + 1
        tile = max(1, reach * size // plan.tiles)
    passes = ceil(plan.tiles / max(1, limit // tile))
    return ceil(plan.tiles / passes)


def _rows_collide(plan: Tiling, target: Machine) -> bool:
    """Whether a tile's rows, read in place, fall into too few sets of the first-level cache."""
    size = plan.dtype.bytes
    places = row_places(plan, linear_load(plan.contraction.a)[0])
    lines = {p * size // LINE for p in places}
    sets = Counter(line % (PAGE // LINE) for line in lines)
    return max(sets.values()) > max(4, target.l1 // PAGE - 2)
