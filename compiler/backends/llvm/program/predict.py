"""What a whole program should take, step by step: the cost model where the program is known.

predict(plan, target, threads) -> [Prediction(step, ns, rounds), …]
"""

from collections.abc import Mapping
from math import prod

from ....classes import dataclass
from ....expr.expr import Buffer
from ....ir.bounds import size_hint
from ....kernels.kernel import For, Ref, walk_calls, walk_steps
from ....kernels.machine import Machine
from ....kernels.work import touched_bytes
from ..schedules.cost_model import cost, whole_lines
from ..schedules.roofline import Roofline, roofline
from .plan import Plan, Scheduled, is_shared

SHARED = 2.0  # times a piece is a cache line, from which it lies among others
OTHERS = 20.0  # bytes per ns that other cores bring into the cache that they share


@dataclass(frozen=True, eq=False)
class Prediction:
    """`ns` of one round of a step, which a run makes `rounds` of (of a branch: if it is taken).
    `between` are the bytes that a run touches before it comes to the step again, `since` those
    since it touched each buffer of the step's kernel."""

    step: Scheduled
    ns: float
    rounds: int
    target: Machine
    between: int
    since: Mapping[Buffer, int]

    @property
    def roofline(self) -> Roofline:
        """What its kernel takes on one thread beside what it takes at least."""
        code = self.step.code
        return roofline(code.kernel, code.schedule, self.target, self.between, self.since)


def predict(plan: Plan, target: Machine, threads: int = 1) -> list[Prediction]:
    """Every kernel of the plan, in order. Threads divide a kernel's units, if it has so many."""
    passes: dict[int, Pass] = {}  # by the list of steps that are repeated
    predictions = []
    for step, path in walk_calls(plan.steps):
        if not isinstance(step, Scheduled):
            continue
        code, loops = step.code, [x for x in path if isinstance(x, For)]
        around = loops[-1].body if loops else plan.steps
        if id(around) not in passes:
            passes[id(around)] = Pass.over(around, target)
        between, since = passes[id(around)].bytes, passes[id(around)].since[id(step)]
        ns = cost(code.kernel, code.schedule, target, between, since)
        if is_shared(code):
            ns /= min(threads, code.units)
        rounds = prod(loop.rounds for loop in loops)
        predictions.append(Prediction(step, ns, rounds, target, between, since))
    return predictions


@dataclass(frozen=True, eq=False)
class Pass:
    """One walk over steps that are repeated: the `bytes` that it touches; for each step, by its id,
    those that have passed by `since` each buffer of its kernel was touched, in this walk or the one
    before, with those of other cores."""

    bytes: int
    since: Mapping[int, Mapping[Buffer, int]]

    @classmethod
    def over(cls, steps: list, target: Machine) -> "Pass":
        found = [step for step in walk_steps(steps) if isinstance(step, Scheduled)]
        passing = {id(step): _passing(step, target) for step in found}
        total = sum(passing[id(step)] for step in found)
        moment, touches = 0, _Touches()
        since: dict[int, dict[Buffer, int]] = {}
        for step in (*found, *found):
            kernel, nbytes = step.code.kernel, passing[id(step)]
            touched, pieces = touched_bytes(kernel), whole_lines(kernel)
            # On the average half of what passes by while it runs.
            own = (size_hint(step.code.work.bytes) + nbytes) // 2
            since[id(step)] = {}
            for b, ref in zip(kernel.params, step.call.refs):
                size = size_hint(b.type.nbytes)
                passed = moment - touches.last(ref, size, moment) + own
                # What it writes of a buffer that others write, too, has not been touched since;
                # but lines of which it writes a piece are those of its neighbours.
                is_part = 0 < size_hint(touched[b][1]) < size and pieces.get(b, 1.0) < SHARED
                since[id(step)][b] = max(passed, total) if is_part else passed
            moment += nbytes
            for b, ref in zip(kernel.params, step.call.refs):
                touches.note(ref, size_hint(b.type.nbytes), moment)
        return cls(sum(size_hint(step.code.work.bytes) for step in found), since)


def _passing(step: Scheduled, target: Machine) -> int:
    """Bytes that a shared cache sees while a kernel runs: its own, and those of other cores."""
    ns = cost(step.code.kernel, step.code.schedule, target)
    return size_hint(step.code.work.bytes) + int(OTHERS * ns)


class _Touches:
    """When the places of memory were touched: (first byte, last byte, moment) by slot."""

    def __init__(self) -> None:
        self.slots: dict[tuple, list[tuple[int, int, int]]] = {}

    def note(self, ref: Ref, nbytes: int, moment: int) -> None:
        slot = self.slots.setdefault((ref.slot.kind, ref.slot.index), [])
        slot.append((ref.offset, ref.offset + nbytes, moment))

    def last(self, ref: Ref, nbytes: int, never: int) -> int:
        """The last moment at which something of a place was touched; `never`: not yet."""
        begin, end = ref.offset, ref.offset + nbytes
        slot = self.slots.get((ref.slot.kind, ref.slot.index), ())
        return next((m for low, high, m in reversed(slot) if low < end and begin < high), never)
