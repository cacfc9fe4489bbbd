"""What a whole program should take, step by step: the cost model where the program is known.

predict(plan, target, threads) -> [Prediction(step, ns, rounds), …]
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ...loops.nest import For, If
from ..base import CpuTarget
from .cost import cost
from .plan import Plan, Scheduled, is_shared


@dataclass(frozen=True, eq=False)
class Prediction:
    """`ns` of one round of a step, which a run makes `rounds` of (of a branch: if it is taken)."""

    step: Scheduled
    ns: float
    rounds: int


def predict(plan: Plan, target: CpuTarget, threads: int = 1) -> list[Prediction]:
    """Every kernel of the plan, in order. Threads divide a kernel's units, if it has so many."""
    return list(_steps(plan.steps, target, threads, 1))


def _steps(steps: list, target: CpuTarget, threads: int, rounds: int) -> Iterator[Prediction]:
    between = _bytes(steps)
    yield from _body(steps, target, threads, rounds, between)


def _body(steps, target, threads, rounds, between) -> Iterator[Prediction]:
    for step in steps:
        match step:
            case Scheduled(code=code):
                ns = cost(code.kernel, code.schedule, target, between)
                if is_shared(code):
                    ns /= min(threads, code.units)
                yield Prediction(step, ns, rounds)
            case For(body=body):
                yield from _steps(body, target, threads, rounds * step.rounds)
            case If(then=then, orelse=orelse):
                yield from _body(then, target, threads, rounds, between)
                yield from _body(orelse, target, threads, rounds, between)


def _bytes(steps: list) -> int:
    """What one walk over the steps touches."""
    total = 0
    for step in steps:
        match step:
            case Scheduled(code=code):
                total += code.work.bytes
            case For(body=body):
                total += _bytes(body)
            case If(then=then, orelse=orelse):
                total += _bytes(then) + _bytes(orelse)
    return total
