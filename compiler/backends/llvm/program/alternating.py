"""Weights that a loop reads in every round, and that are more than the second-level cache holds.

A cache forgets what was not read for longest. Read from front to back in every round, of weights
twice its size not one byte is still there when its turn comes. So rounds alternate: the next one
goes from back to front, and finds what the last one has read last.
"""

from collections.abc import Callable
from math import ceil

import llvmlite.ir as ir

from ..base.types import i64
from .plan import Plan, Scheduled
from .work_stealing import counted

PIECES = 16  # that a traversal has at most


def pieces_of(plan: Plan, step: Scheduled) -> int:
    """Pieces that turn around with every round, whose weights fill a quarter of the cache each; 1
    where sweeping does not help."""
    if step.packed is None or not step.code.schedule.streams:
        return 1
    weights = plan.weights[step.packed.slot.index].nbytes
    return min(PIECES, ceil(4 * weights / plan.l2)) if 4 * weights > 3 * plan.l2 else 1


def alternate(
    b: ir.IRBuilder, round: ir.Value, pieces: int, begin: ir.Value, end: ir.Value, invoke: Callable
) -> None:
    """`invoke(first, last)` for each piece of the units, forwards in even rounds."""
    size = b.sub(end, begin)
    backwards = b.icmp_unsigned("==", b.and_(round, i64(1)), i64(1))
    edge = lambda p: b.add(begin, b.sdiv(b.mul(p, size), i64(pieces)))
    with counted(b, i64(pieces), "sweep") as n:
        place = b.select(backwards, b.sub(i64(pieces - 1), n), n)
        invoke(edge(place), edge(b.add(place, i64(1))))
