"""Loops that carry states: where each state lies, turn by turn.

A step makes the next states elsewhere, as it reads the old ones until its end. Two steps in a row
need no copies: the second one makes its states where the first one had read them.

    s0 -> a                                            s0 -> a
    for t < T:  b = step(a, x[t]);  b -> a      =>     for r < T / 2:  b = step(a, x[2 * r])
                                                                       a = step(b, x[2 * r + 1])

Where T is odd, the states begin in b, and the first step stands before the loop.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..classes import dataclass
from ..ir.dims import Sym
from ..ir.types import TensorType
from ..kernels.kernel import For, Step, map_steps, walk_steps, with_places, writes_of
from .copies import copy_steps
from .memory import Place

LONGEST = 64  # steps of a body that is written out twice


@dataclass(frozen=True, eq=False)
class Carried:
    """A state: where its first value is, where each step reads it and the last one leaves it, and
    where a step makes the next one."""

    start: Place
    place: Place
    next: Place
    type: TensorType


def scanned(loop: int, trips: int | Sym, body: list, carried: Sequence[Carried]) -> list:
    """The steps of a scan, whose body is written for the turns of `loop`."""
    if trips == 0:
        return [x for c in carried for x in copy_steps(c.start, c.place, c.type)]
    if not _takes_turns(trips, body, carried):
        begin = [x for c in carried for x in copy_steps(c.start, c.place, c.type)]
        again = [x for c in carried for x in copy_steps(c.next, c.place, c.type)]
        return [*begin, For(loop, trips, body + again)]
    assert not isinstance(trips, Sym)
    odd = trips % 2
    begin = [x for c in carried for x in copy_steps(c.start, c.next if odd else c.place, c.type)]
    there, back = (lambda p: p), _exchanged(carried)
    if odd:
        apart = _temporaries(body, loop, carried)
        begin += _turn(body, loop, 0, 0, lambda p: apart(back(p)))
    if trips > 1:
        twice = _turn(body, loop, odd, 2, there) + _turn(body, loop, odd + 1, 2, back)
        begin.append(For(loop, trips // 2, twice))
    return begin


def _takes_turns(trips: int | Sym, body: list, carried: Sequence[Carried]) -> bool:
    """Whether the body may be written out twice: it is short, and states have memory of their
    own."""
    if isinstance(trips, Sym) or not carried or sum(1 for _ in walk_steps(body)) > LONGEST:
        return False
    places = [p for c in carried for p in (c.place, c.next)]
    own = len({p.storage for p in places}) == len(places)
    return own and not any(p.offset or p.steps for p in places)


def _exchanged(carried: Sequence[Carried]) -> Callable[[Place], Place]:
    """Places with those of the states and of the next ones exchanged."""
    other = {c.place.storage: c.next.storage for c in carried}
    other |= {new: old for old, new in other.items()}
    return lambda p: replace(p, storage=other.get(p.storage, p.storage))


def _temporaries(
    body: list[Step], loop: int, carried: Sequence[Carried]
) -> Callable[[Place], Place]:
    """Places with memory of their own in place of what the body makes for itself, which the loop
    holds for as long as it runs."""
    made = {
        p.storage
        for step in walk_steps(body)
        for p in writes_of(step)
        if p.storage.kind == "arena" and loop not in dict(p.steps)
    }
    made -= {c.place.storage for c in carried} | {c.next.storage for c in carried}
    other = {x: replace(x) for x in made}
    return lambda p: replace(p, storage=other.get(p.storage, p.storage))


def _turn(
    body: list[Step], loop: int, first: int, each: int, place: Callable[[Place], Place]
) -> list:
    """The body in turn `first + each * r` of the loop, whose rounds r are."""

    def moved(p: Place) -> Place:
        more = sum(step * first for x, step in p.steps if x == loop)
        steps = tuple((x, step * each if x == loop else step) for x, step in p.steps)
        steps = tuple((x, step) for x, step in steps if x != loop or each)
        return replace(place(p), offset=p.offset + more, steps=steps)

    return map_steps(body, lambda call, _: with_places(call, moved), moved)
