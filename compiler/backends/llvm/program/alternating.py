"""Weights that a loop reads in every round, and that are more than the second-level cache holds.

A cache forgets what was not read for longest. Read from front to back in every round, of weights
twice its size not one byte is still there when its turn comes. So they alternate: the next one goes
from back to front, and finds what the last one has read last. The body of a loop may have several
steps that read the same weights, one after the other (`lowering/turns.py`).
"""

from collections.abc import Callable, Iterable
from math import ceil

import llvmlite.ir as ir

from ....kernels.kernel import For, walk_calls
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


def turns_of(steps: Iterable) -> dict[int, tuple[int, int]]:
    """By the id of a step in a loop: its number among those of its round that read the same
    weights, and how many these are."""
    found: dict[tuple, list[Scheduled]] = {}
    for step, path in walk_calls(steps):
        loops = [x for x in path if isinstance(x, For)]
        if isinstance(step, Scheduled) and step.packed is not None and loops:
            found.setdefault((loops[-1].id, step.packed.slot), []).append(step)
    return {id(x): (i, len(same)) for same in found.values() for i, x in enumerate(same)}


def alternate(
    main, turn: tuple[int, int], pieces: int, begin: ir.Value, end: ir.Value, invoke: Callable
) -> None:
    """`invoke(first, last)` for each piece of the units, forwards where the loop that `main` (a
    `program.Main`) is writing comes to the weights for an even time."""
    b, (number, count) = main.b, turn
    times = b.add(b.mul([*main.loops.values()][-1], i64(count)), i64(number))
    size = b.sub(end, begin)
    backwards = b.icmp_unsigned("==", b.and_(times, i64(1)), i64(1))
    edge = lambda p: b.add(begin, b.sdiv(b.mul(p, size), i64(pieces)))
    with counted(b, i64(pieces), "sweep") as n:
        place = b.select(backwards, b.sub(i64(pieces - 1), n), n)
        invoke(edge(place), edge(b.add(place, i64(1))))
