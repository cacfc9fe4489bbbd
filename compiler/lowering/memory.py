"""Memory: values live in `Storage`s; `plan_memory` packs those of the arena by their lifetimes.

A storage is alive from the first step that touches it to the last; one that is touched inside a
loop or a branch is alive for the whole of it. Offsets are chosen largest first, each at the lowest
place that is free for its whole life (a best-fit of interval graphs, as in TVM's and TFLite's
greedy-by-size planners). Where sizes are open, storages share slots instead, whose places are known
when the program runs.
"""

from collections.abc import Iterator
from dataclasses import replace

from ..classes import dataclass
from ..ir import dims
from ..ir.bounds import larger, largest, size_hint
from ..ir.types import TensorType
from ..kernels.kernel import (
    Call,
    Ref,
    Slot,
    Step,
    map_steps,
    reads_of,
    walk_steps,
    with_places,
    writes_of,
)

ALIGNMENT = 64


@dataclass(eq=False)
class Storage:
    """Memory of one or more values. `index` is given for inputs, outputs and weights; in the arena
    it is the slot, where there are several. `nbytes` is a dim."""

    kind: str
    index: int
    nbytes: int | dims.Sym
    offset: int = 0

    @staticmethod
    def of(type, kind: str, index: int = 0) -> "Storage":
        nbytes = type.nbytes if isinstance(type, TensorType) else 0
        return Storage(kind, index, larger(nbytes, 1))


@dataclass(frozen=True)
class Place:
    """A part of a storage: `offset` bytes in, moving by `steps` = ((loop, bytes), …)."""

    storage: Storage
    offset: int = 0
    steps: tuple[tuple[int, int], ...] = ()

    def moved(self, offset: int, loop: int, step: int) -> "Place":
        return replace(self, offset=self.offset + offset, steps=(*self.steps, (loop, step)))

    def ref(self) -> Ref:
        s = self.storage
        return Ref(Slot(s.kind, s.index), s.offset + self.offset, self.steps)


def plan_memory(steps: list) -> tuple[list, int, tuple]:
    """The steps with `Ref`s for `Place`s, the arena's size in bytes, and those of its slots, dims:
    there are some where sizes are open, and the arena is then nothing but the slots."""
    lives: dict[Storage, list[int]] = {}
    for time, step in enumerate(steps):
        for place in places_of(step):
            if place.storage.kind == "arena":
                life = lives.setdefault(place.storage, [time, time])
                life[1] = time
    if not dims.is_static(s.nbytes for s in lives):
        slots = _share_slots(lives)
        return _resolved(steps), 0, slots
    arena = 0
    placed: list[tuple[Storage, int, int]] = []
    for storage, (first, last) in sorted(lives.items(), key=lambda t: -t[0].nbytes):
        size = -(-storage.nbytes // ALIGNMENT) * ALIGNMENT
        busy = sorted(
            (o.offset, o.offset + -(-o.nbytes // ALIGNMENT) * ALIGNMENT)
            for o, begin, end in placed
            if begin <= last and first <= end
        )
        offset = 0
        for low, high in busy:
            if offset + size <= low:
                break
            offset = max(offset, high)
        storage.offset = offset
        placed.append((storage, first, last))
        arena = max(arena, offset + size)
    return _resolved(steps), arena, ()


def _share_slots(lives: dict[Storage, list[int]]) -> tuple:
    """Give each storage a slot that nobody else has while it lives, the most similar one in size;
    returns the slots' sizes."""
    slots: list[list[Storage]] = []
    for storage, (first, last) in sorted(lives.items(), key=lambda t: -size_hint(t[0].nbytes)):
        free = [
            (all(o.nbytes != storage.nbytes for o in others), size_hint(others[0].nbytes), i)
            for i, others in enumerate(slots)
            if all(lives[o][1] < first or last < lives[o][0] for o in others)
        ]
        storage.index = min(free)[-1] if free else len(slots)
        if not free:
            slots.append([])
        slots[storage.index].append(storage)
    return tuple(largest(o.nbytes for o in others) for others in slots)


def places_of(step: Step) -> Iterator[Place]:
    """Every place that a step touches, also inside loops and branches."""
    for inner in walk_steps([step]):
        yield from inner.refs if isinstance(inner, Call) else (*reads_of(inner), *writes_of(inner))


def _resolved(steps: list) -> list:
    return map_steps(steps, lambda call, _: with_places(call, Place.ref), Place.ref)
