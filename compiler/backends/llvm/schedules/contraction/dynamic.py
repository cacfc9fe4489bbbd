"""A contraction whose sizes are open: the schedule for the sizes to expect, made right for all.

What depends on the sizes is then known when the kernel runs: how many tiles and panels there are,
where the last ones begin, how deep the sums are.

    columns past the end    panels do not overlap; stores are masked
    rows past the end       A is copied, the last row as often as it takes; stores are left out
    k                       copies of A and B are made by whole vectors, the last one masked
"""

from dataclasses import replace

from .....expr.expr import Axis
from .....ir.bounds import at_least, size_hint
from .....ir.dims import Sym
from .....kernels.contraction import Contraction
from .....kernels.machine import Machine
from .....kernels.tiling import Tile, linear_load
from .choose import APART, can_be_turned, lies_in_lines, reads_in_place
from .quads import runs_of
from .tiling import SCRATCH, Tiling

HIGHEST = 30  # rows of a tile at most
LOW = 8  # rows of a tile for few rows: as many as cost no more than one while B is fetched
TILE_ROWS = (20, 16, 12, LOW)  # rows of tiles, besides the best, that any number of rows is made of


def multi_versioned(plan: Tiling) -> list[Tiling]:
    """The schedule, and the same with lower tiles, for the sizes to expect."""
    if plan.tile.flat or plan.tile.spread > 1:
        plan = replace(plan, tile=Tile(plan.tile.rows, 1))
    heights = [h // plan.tile.vectors for h in TILE_ROWS]
    lower = [h for h in heights if 0 < h < plan.tile.rows]
    if plan.tile.vectors > 1:  # not so high that it matters
        lower = lower[-1:]
    tiles = [Tile(h, plan.tile.vectors) for h in lower]
    return [plan, *(replace(plan, tile=t, a=_way(plan, t)) for t in tiles)]


def _way(plan: Tiling, tile: Tile) -> str:
    """How tiles of another height read A: only high ones can be turned."""
    return "pack" if plan.a == "turn" and tile.rows < plan.lanes else plan.a


def opened(plan: Tiling, c: Contraction, target: Machine) -> Tiling:
    """`plan`, of the size hints, for the contraction `c` of any size."""
    if plan.quads is not None:
        if runs_of(c) is not None:
            return replace(plan, contraction=c)
        plan = replace(plan, quads=None, pairs=True)
    several = plan.tile.flat or plan.tile.spread > 1
    expected = plan.tiles
    linear = linear_load(c.a) is not None  # sizes may differ that are equal in the hints
    if several and not (linear and _has_lines(plan.tile, *c.m[-2:])):
        plan = replace(plan, tile=Tile(min(plan.tile.rows, size_hint(c.m[-1].extent)), 1), a="pack")
    plan = replace(plan, contraction=c, a=plan.a if linear else "pack")
    if plan.b == "direct" and not lies_in_lines(c):
        plan = replace(plan, b="pack")
    if plan.b == "slide" and (plan.ragged or not reads_in_place(c)):
        plan = replace(plan, b="pack")
    unknown = plan.short or isinstance(plan.depth, Sym)
    if plan.a == "direct" and unknown and plan.tile.rows > APART:
        plan = replace(plan, a="turn" if can_be_turned(plan) else "pack")
    return replace(plan, group=_group(plan, expected, target))


def _has_lines(tile: Tile, line: Axis, m: Axis) -> bool:
    """Whether there are always as many lines as a tile has, of a known length."""
    if isinstance(m.extent, Sym):
        return False
    enough = at_least(line.extent * m.extent, tile.rows)
    return enough if tile.flat else at_least(line.extent, tile.spread)


def _group(plan: Tiling, expected: int, target: Machine):
    """Tiles of A per group: a number, even if there may be more or fewer of them."""
    if not isinstance(plan.tiles, Sym):
        return min(plan.group, plan.tiles)
    if plan.a == "direct":
        return plan.tiles if plan.b in ("pack", "slide") else plan.group
    if plan.group == 1 and plan.b == "constant":
        return 1
    if isinstance(plan.packed_tile, Sym):
        return max(plan.group, min(4 * expected, 32))
    limit = min(target.l2 * 3 // 8, SCRATCH // 2)
    return max(1, limit // (plan.packed_tile * plan.dtype.bytes))
