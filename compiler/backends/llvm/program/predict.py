"""What a whole program should take, step by step: the cost model where the program is known.

predict(plan, target, threads) -> [Prediction(step, ns, rounds), …]
"""

from math import prod

from ....classes import dataclass
from ....kernels.kernel import For, walk_calls, walk_steps
from ....kernels.machine import Machine
from ..schedules.cost_model import cost
from ..schedules.roofline import Roofline, roofline
from .plan import Plan, Scheduled, is_shared


@dataclass(frozen=True, eq=False)
class Prediction:
    """`ns` of one round of a step, which a run makes `rounds` of (of a branch: if it is taken).
    `between` are the bytes that a run touches before it comes to the step again."""

    step: Scheduled
    ns: float
    rounds: int
    target: Machine
    between: int

    @property
    def roofline(self) -> Roofline:
        """What its kernel takes on one thread beside what it takes at least."""
        code = self.step.code
        return roofline(code.kernel, code.schedule, self.target, self.between)


def predict(plan: Plan, target: Machine, threads: int = 1) -> list[Prediction]:
    """Every kernel of the plan, in order. Threads divide a kernel's units, if it has so many."""
    touched: dict[int, int] = {}  # by the list of steps that are repeated, its bytes
    predictions = []
    for step, path in walk_calls(plan.steps):
        if not isinstance(step, Scheduled):
            continue
        code, loops = step.code, [x for x in path if isinstance(x, For)]
        around = loops[-1].body if loops else plan.steps
        if id(around) not in touched:
            touched[id(around)] = _bytes(around)
        ns = cost(code.kernel, code.schedule, target, touched[id(around)])
        if is_shared(code):
            ns /= min(threads, code.units)
        rounds = prod(loop.rounds for loop in loops)
        predictions.append(Prediction(step, ns, rounds, target, touched[id(around)]))
    return predictions


def _bytes(steps: list) -> int:
    """What one walk over the steps touches."""
    return sum(step.code.work.bytes for step in walk_steps(steps) if isinstance(step, Scheduled))
