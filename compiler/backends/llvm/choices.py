"""What may differ between the schedules of one contraction, and what measuring found best.

A `Choice` is plain data: the tile, the way of reading A, the group. It belongs to a kernel by
`key_of`: the kernel's text, which of its parameters are constants, the target. The generator's
source is no part of it, so a choice outlives changes there; it is checked before it is used.

k is summed in the same order by every choice, so results are the same, bit for bit.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from ...loops.expr import Buffer
from ...loops.nest import Kernel
from ...loops.schedule import Tile
from ..base import CpuTarget
from .contract_plan import ContractSchedule, is_possible, settled
from .cost import cost

TALLEST = 30  # rows of a tile
WIDEST = 4  # vectors of a tile
SHAPES = 6  # tiles of other shapes that are worth measuring
PER_WIDTH = 3  # of them, those of as many vectors: the estimates of close ones are close


@dataclass(frozen=True)
class Choice:
    """What is chosen, as in `Tile` and `ContractSchedule`."""

    rows: int
    vectors: int
    spread: int = 1
    flat: bool = False
    a: str = "direct"
    group: int = 1

    @classmethod
    def of(cls, plan: ContractSchedule) -> "Choice":
        t = plan.tile
        return cls(t.rows, t.vectors, t.spread, t.flat, plan.a, plan.group)

    def apply(self, plan: ContractSchedule, target: CpuTarget) -> ContractSchedule | None:
        """The plan with this choice instead of its own; None where that is not possible."""
        tile = Tile(self.rows, self.vectors, self.spread, self.flat)
        other = replace(plan, tile=tile, a=self.a, group=self.group)
        return other if is_possible(other, target) else None

    def __str__(self):
        lines = f" of {self.spread} lines" if self.spread > 1 else " across lines" * self.flat
        return f"{self.rows}×{self.vectors} vectors{lines}, A {self.a}, groups of {self.group}"


@dataclass(frozen=True)
class Winner:
    """What measuring a kernel found: the choice (None: the default one) and its `gain`, the
    default's time divided by its own."""

    choice: Choice | None
    gain: float = 1.0

    def data(self) -> dict:
        """As JSON has it; `read_winners` reads it."""
        return {"gain": self.gain, "choice": None if self.choice is None else asdict(self.choice)}


def read_winners(data) -> dict[str, Winner]:
    """Winners by key, from data as `Winner.data` makes it. Raises ValueError for anything else."""
    if not isinstance(data, dict):
        raise ValueError("these are no winners by key")
    return {str(key): _read_winner(entry) for key, entry in data.items()}


def _read_winner(entry) -> Winner:
    types = {f: type(x) for f, x in asdict(Choice(1, 1)).items()}
    if not isinstance(entry, dict) or set(entry) != {"gain", "choice"}:
        raise ValueError("this is no winner")
    gain, choice = entry["gain"], entry["choice"]
    if type(gain) not in (int, float) or not 0 < gain < 1e6:
        raise ValueError("this is no gain")
    if choice is None:
        return Winner(None, float(gain))
    if not isinstance(choice, dict) or {f: type(x) for f, x in choice.items()} != types:
        raise ValueError("this is no choice")
    return Winner(Choice(**choice), float(gain))


def key_of(kernel: Kernel, target: CpuTarget, constants: frozenset[Buffer]) -> str:
    """What a choice belongs to. Two machines whose targets print alike share choices."""
    known = [i for i, b in enumerate(kernel.params) if b in constants]
    text = f"{target!r}\n{known}\n{kernel.text()}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def won(
    kernel: Kernel, plan: ContractSchedule, target: CpuTarget, constants: frozenset[Buffer],
    winners: Mapping[str, Winner],
) -> tuple[ContractSchedule, Winner | None]:  # fmt: skip
    """The winner's schedule, if there is one for this kernel and it fits; else the plan itself."""
    winner = winners.get(key_of(kernel, target, constants))
    if winner is None or winner.choice is None:
        return plan, None
    found = winner.choice.apply(plan, target)
    return (plan, None) if found is None else (found, winner)


# -- candidates ----------------------------------------------------------------------------


def tiles(kernel: Kernel, plan: ContractSchedule, target: CpuTarget) -> list[ContractSchedule]:
    """Plans with tiles of other shapes, those first that should take the least time."""
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


def readings(plan: ContractSchedule, target: CpuTarget) -> list[ContractSchedule]:
    """Plans with the same tile that read A in another way, or have other groups: of one tile, of
    two, of all."""
    found = [replace(plan, a=a) for a in ("direct", "pack", "turn") if a != plan.a]
    groups = dict.fromkeys((1, 2, plan.tiles))
    found += [replace(plan, group=g) for g in groups if g != plan.group]
    return [p for p in found if is_possible(p, target)]


def _shapes(plan: ContractSchedule) -> Iterator[Tile]:
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
