"""A contraction whose sizes are open: the schedule for the sizes to expect, made right for all.

What depends on the sizes is then known when the kernel runs: how many tiles and panels there are,
where the last ones begin, how deep the sums are.

    columns past the end    panels do not overlap; stores are masked
    rows past the end       A is copied, the last row as often as it takes; stores are left out
    k                       copies of A and B are made by whole vectors, the last one masked
"""

from dataclasses import replace

from ...dims import Sym
from ...loops.expr import Axis
from ...loops.schedule import Contraction, Tile
from ...sizes import at_least, typical
from ..base import CpuTarget
from .contract_plan import SCRATCH, ContractSchedule, can_be_turned

ROWS = 8  # of a tile, where there may be many or few: what one row costs while B is fetched


def opened(plan: ContractSchedule, c: Contraction, target: CpuTarget) -> ContractSchedule:
    """`plan`, of the typical sizes, for the contraction `c` of any size."""
    several = plan.tile.flat or plan.tile.spread > 1
    expected = plan.tiles
    if several and not _has_lines(plan.tile, *c.m[-2:]):
        several = False
        plan = replace(plan, tile=Tile(min(plan.tile.rows, typical(c.m[-1].extent)), 1), a="pack")
    plan = replace(plan, contraction=c)
    if not several and c.m and isinstance(c.m[-1].extent, Sym) and plan.tile.rows < ROWS:
        plan = replace(plan, tile=Tile(ROWS, 1), a="pack")
    if plan.a == "direct" and (plan.short or isinstance(plan.depth, Sym)) and plan.tile.rows > 1:
        plan = replace(plan, a="turn" if can_be_turned(plan) else "pack")
    return replace(plan, group=_group(plan, expected, target))


def _has_lines(tile: Tile, line: Axis, m: Axis) -> bool:
    """Whether there are always as many lines as a tile has, of a known length."""
    if isinstance(m.extent, Sym):
        return False
    enough = at_least(line.extent * m.extent, tile.rows)
    return enough if tile.flat else at_least(line.extent, tile.spread)


def _group(plan: ContractSchedule, expected: int, target: CpuTarget):
    """Tiles of A per group: a number, even if there may be more or fewer of them."""
    if not isinstance(plan.tiles, Sym):
        return min(plan.group, plan.tiles)
    if plan.a == "direct":
        return plan.tiles if plan.b == "pack" else plan.group
    if plan.group == 1 and plan.b == "constant":
        return 1
    if isinstance(plan.packed_tile, Sym):
        return max(plan.group, min(4 * expected, 32))
    limit = min(target.l2 * 3 // 8, SCRATCH // 2)
    return max(1, limit // (plan.packed_tile * plan.dtype.bytes))
