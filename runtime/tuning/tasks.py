"""What there is to tune in a program, and how one contraction is: `tasks_of`, `measure`."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ...compiler.backends.llvm.kernel.codegen import KernelCode, schedule_kernel
from ...compiler.backends.llvm.program.entry import build_plan
from ...compiler.backends.llvm.program.plan import Plan, constant_arrays
from ...compiler.backends.llvm.program.predict import predict
from ...compiler.backends.llvm.schedules.base import Schedule
from ...compiler.backends.llvm.schedules.contraction.candidates import key_of, readings, tiles
from ...compiler.backends.llvm.schedules.tuning_records import Choice, TuningRecord
from ...compiler.classes import dataclass
from ...compiler.expr import expr as s
from ...compiler.expr.expr import Buffer
from ...compiler.kernels.kernel import Kernel, Program
from ...compiler.kernels.machine import Machine
from .benchmark import Candidate, Stage, best_of


@dataclass(eq=False)
class Task:
    """A contraction to measure: `code` is its default one, `ns` what the model spends in it by
    prediction, `arrays` its constants, `between` bytes that pass by from one run to the next."""

    key: str
    code: KernelCode
    ns: float
    arrays: dict[Buffer, np.ndarray]
    between: int


def tasks_of(program: Program, target: Machine, updates=None) -> list[Task]:
    """The distinct contractions that can be measured, those first that take the most time."""
    plan = build_plan(program, target, updates)
    total = sum(p.step.code.work.bytes for p in predict(plan, target))
    tasks: dict[str, Task] = {}
    for key, step, ns in contractions(plan, target):
        if _places_depend_on_data(step.call.kernel):
            continue
        if key not in tasks:
            arrays = constant_arrays(program, step.call)
            # `step.code` may be of another kernel object with the same text, and its buffers.
            code = schedule_kernel(step.call.kernel, target, frozenset(arrays), False)
            tasks[key] = Task(key, code, 0.0, arrays, total)
        tasks[key].ns += ns
    return sorted(tasks.values(), key=lambda t: -t.ns)


def contractions(plan: Plan, target: Machine) -> Iterator[tuple]:
    """(key, step, predicted ns in a run of the model) for each contraction."""
    for p in predict(plan, target):
        if p.step.code.schedule.tunable:
            known = frozenset(constant_arrays(plan.program, p.step.call))
            yield key_of(p.step.call.kernel, target, known), p.step, p.ns * p.rounds


def _places_depend_on_data(kernel: Kernel) -> bool:
    """Whether random data would be read as places in memory."""
    loads = [e for e in s.walk(*kernel.roots()) if e.op == "load"]
    places = [e.args[0] for e in loads] + [i for st in kernel.stores for i in st.index]
    return any(e.op == "load" for e in s.walk(*places))


# -- measuring -----------------------------------------------------------------------------


def open_stage(target: Machine, task: Task, cache) -> Stage:
    """What times the task's codes."""
    return Stage(target, task.arrays, task.between, cache)


def measure(
    task: Task, target: Machine, open_stage, over: Callable[[], bool]
) -> TuningRecord | None:
    """The fastest choice; None if it was `over` before that was known.

    Other tiles, and other ways to read with the default's tile; then, if another tile was faster,
    other ways to read with that one. Whoever wins must win once more on a second stage: in other
    memory, since where arrays lie can decide as well.
    """
    if over():
        return None
    kernel, plan, stage = task.code.kernel, task.code.schedule, open_stage()
    default = stage.enter(task.code)

    def race(plans: Sequence[Schedule]) -> tuple[Candidate, float] | None:
        others = []
        for p in plans:
            if over():
                return None
            this = {task.key: TuningRecord(Choice.of(p))}
            code = schedule_kernel(kernel, target, frozenset(task.arrays), False, this)
            others.append(stage.enter(code))
        return best_of(default, others, over)

    found = race([*tiles(kernel, plan, target), *readings(plan, target)])
    if found is None:
        return None
    if found[0].code.schedule.tile != plan.tile:
        again = race(readings(found[0].code.schedule, target))
        found = found if again is None else max(found, again, key=lambda f: f[1])
    best, gain = found
    if best is default:
        return TuningRecord(None)
    other = open_stage()
    again = best_of(other.enter(task.code), [other.enter(best.code)], over)
    if again is None:
        return None
    gain = min(gain, again[1])
    return TuningRecord(Choice.of(best.code.schedule), gain) if gain > 1 else TuningRecord(None)
