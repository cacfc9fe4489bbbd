"""The schedules that a contraction may have, by choice: candidates to measure, records to use.

A choice belongs to a kernel by `key_of`: the kernel's text, which of its parameters are constants,
the target. The generator's source is no part of it, so a choice outlives changes there; it is
checked before it is used.

k is summed in the same order by every choice, so results are the same, bit for bit.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from .....expr.expr import Buffer
from .....kernels.kernel import Kernel
from .....kernels.machine import Machine
from .....kernels.tiling import Tile
from ..cost_model import cost
from ..tuning_records import Choice, TuningRecord
from .choose import is_possible, settled

if TYPE_CHECKING:
    from .schedule import ContractSchedule

TALLEST = 30  # rows of a tile
WIDEST = 4  # vectors of a tile
SHAPES = 6  # tiles of other shapes that are worth measuring
PER_WIDTH = 3  # of them, those of as many vectors: the estimates of close ones are close


def key_of(kernel: Kernel, target: Machine, constants: frozenset[Buffer]) -> str:
    """What a choice belongs to. Machines that print alike share choices."""
    known = [i for i, b in enumerate(kernel.params) if b in constants]
    # The class had another name when choices were first kept, in files and in packages.
    said = repr(target).replace(Machine.__name__, "CpuTarget", 1)
    text = f"{said}\n{known}\n{kernel.text()}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def tuned(
    kernel: Kernel,
    plan: "ContractSchedule",
    target: Machine,
    constants: frozenset[Buffer],
    tuning_records: Mapping[str, TuningRecord],
) -> tuple["ContractSchedule", TuningRecord | None]:
    """The tuned schedule, if there is one for this kernel and it fits; else the plan itself."""
    tuning_record = tuning_records.get(key_of(kernel, target, constants))
    if tuning_record is None or tuning_record.choice is None or plan.quads is not None:
        return plan, None
    found = tuning_record.choice.apply(plan)
    return (found, tuning_record) if is_possible(found, target) else (plan, None)


# -- candidates ----------------------------------------------------------------------------


def tiles(kernel: Kernel, plan: "ContractSchedule", target: Machine) -> list["ContractSchedule"]:
    """Plans with tiles of other shapes, those first that should take the least time."""
    if plan.quads is not None:
        return []
    others = {settled(replace(plan, tile=t), target) for t in _shapes(plan) if t != plan.tile}
    possible = [p for p in others if is_possible(p, target)]
    taken: dict[int, int] = {}
    best = []
    # The order among equals must not be that of a set.
    for p in sorted(possible, key=lambda p: (cost(kernel, p, target), str(Choice.of(p)))):
        taken[p.tile.vectors] = taken.get(p.tile.vectors, 0) + 1
        if taken[p.tile.vectors] <= PER_WIDTH:
            best.append(p)
    return best[:SHAPES]


def readings(plan: "ContractSchedule", target: Machine) -> list["ContractSchedule"]:
    """Plans with the same tile that read A in another way, or have other groups: of one tile, of
    two, of all."""
    if plan.quads is not None:
        return []
    found = [replace(plan, a=a) for a in ("direct", "pack", "turn") if a != plan.a]
    groups = dict.fromkeys((1, 2, plan.tiles))
    found += [replace(plan, group=g) for g in groups if g != plan.group]
    return [p for p in found if is_possible(p, target)]


def _shapes(plan: "ContractSchedule") -> Iterator[Tile]:
    """Every shape that could fit, also across lines of the inner m axis."""
    m = plan.contraction.m
    width = m[-1].extent if m else 1
    lines = m[-2].extent if len(m) > 1 else 1
    shapes = [(rows, 1, False) for rows in range(1, min(width, TALLEST) + 1)]
    shapes += [(width * s, s, False) for s in range(2, min(lines, TALLEST // width) + 1)]
    if lines > 1:
        shapes += [(r, 1, True) for r in range(1, min(width * lines, TALLEST) + 1)]
    for rows, spread, flat in shapes:
        for vectors in range(1, WIDEST + 1):
            yield Tile(rows, vectors, spread, flat)
