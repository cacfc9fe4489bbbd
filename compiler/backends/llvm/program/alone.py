"""Loops and branches that hold nothing which threads share: the first thread walks them by itself.

    if tid == 0:  for t: …            no barriers inside; other threads go on to what follows

A loop of small kernels, the turns of a selection or the steps of a small recurrent cell, would
otherwise make all threads meet in every round, where there is nothing for them to do.
"""

from ....kernels.kernel import For, If, walk_steps
from .plan import Scheduled, is_shared
from .polling import is_long


def is_alone(step: For | If) -> bool:
    """Whether the first thread can walk a loop or a branch by itself. One that signals may end
    cannot be: all threads leave it together."""
    return not any(
        is_long(x)
        if isinstance(x, For)
        else is_shared(x.code)
        if isinstance(x, Scheduled)
        else not isinstance(x, If)
        for x in walk_steps([step])
    )


def walk_alone(main, step: For | If) -> None:
    """Write such a step into the entry that `main` (a `program.Main`) writes. For other threads it
    is like a kernel that is not shared, which touches all that its steps do."""
    reads: list[tuple] = []
    writes: list[tuple] = []
    for x in walk_steps([step]):
        if isinstance(x, Scheduled):
            more_reads, more_writes = main.touched(x)
            reads += more_reads
            writes += more_writes
        elif isinstance(x, If):
            reads.append(main.region(x.condition, 1))
    main.order(False, reads, writes)
    pending = main.pending
    with main.b.if_then(main.is_first):
        main.alone, main.pending = True, []
        main.step(step)
        main.alone = False
    main.pending = pending
