"""Where a run's time goes: `profile(exe, feeds)` -> Profile.

The model runs as always: machine code from one crossing, as many threads as the executable uses,
warm caches in the order of the program. Only its entry is another one, which reads the clock after
each step (`compiler/backends/llvm/stamps.py`). Runs of it take turns with ordinary ones, so that
the profile can say how well its sum agrees with what a run takes.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np

from ..compiler.backends.llvm.predict import predict
from ..compiler.backends.llvm.program import Scheduled
from ..compiler.backends.llvm.stamps import stamped_code, stamped_steps
from ..compiler.errors import UsageError
from ..compiler.loops.work import Work
from .build import Built
from .executable import Executable
from .native import NativeModule

TURNS = 6  # of each kind of run; each begins with an uncounted one, which brings back its memory
SECONDS = 1.0  # of runs, of both kinds
QUICK = 0.25  # of the runs of a kind are looked at


@dataclass(frozen=True)
class KernelTime:
    """A step of the program, over one run of the model: `calls` rounds of it in all.

    `ns` is the first thread's time, which is the run's; `work` what all threads do together;
    `predicted` what the cost model expects, in ns. What runs in Python has neither, and no `code`.
    """

    name: str
    origins: tuple[str, ...]
    calls: int
    ns: float
    work: Work | None
    predicted: float
    code: object = None


@dataclass(frozen=True)
class Profile:
    """All times in ns, over the quickest quarter of the runs of each kind: those that other
    programs disturbed least.

    `wall` is an ordinary run, seen from Python. The parts of a run with stamps: the kernels, what
    the first thread waited for others (`waiting`), what passed before and after the machine code
    (`outside`: checks, new arrays, waking threads), each a median; and what all of these lack to a
    whole run (`interrupted`: other programs on the same cores). `ordinary` and `stamped` are how
    many runs there were.
    """

    threads: int
    kernels: tuple[KernelTime, ...]
    wall: float
    waiting: float
    outside: float
    interrupted: float
    ordinary: int
    stamped: int

    @property
    def total(self) -> float:
        """The sum of the parts: what a run with stamps took."""
        parts = self.waiting + self.outside + self.interrupted
        return sum(k.ns for k in self.kernels) + parts

    @property
    def predicted(self) -> float:
        return sum(k.predicted for k in self.kernels)


def profile(exe: Executable, feeds: Mapping, seconds: float = SECONDS) -> Profile:
    """Time the kernels of the specialisation that `feeds` leads to, for `seconds` at least."""
    exe.run(feeds)
    built = exe.specializations[-1]
    if getattr(built.code, "plan", None) is None:
        raise UsageError("only code that was compiled here for a CPU can be profiled",
                         received=exe.target.name)  # fmt: skip
    threads = exe.threads if built.code.parallel else 1
    code, stamps = stamped_code(built.code, threads, built.module.updates)
    ordinary = built.module
    module = NativeModule(code, ordinary.output_types, ordinary.updates)
    walls, stamped, rows = [], [], []

    def one() -> None:
        start = time.perf_counter_ns()
        exe.run(feeds)
        walls.append(time.perf_counter_ns() - start)

    def other() -> None:
        stamps[:] = 0
        start = time.perf_counter_ns()
        exe.run(feeds)
        stamped.append(time.perf_counter_ns() - start)
        rows.append(stamps.copy())

    try:
        for _ in range(TURNS):
            built.module = ordinary
            _turn(one, seconds / TURNS / 2, walls)
            built.module = module
            _turn(other, seconds / TURNS / 2, stamped, rows)
    finally:
        built.module = ordinary
    return _summary(built, threads, np.array(walls), np.array(stamped), np.array(rows))


def _turn(run: Callable[[], None], seconds: float, *lists: list) -> None:
    """Runs for `seconds`, and one before that, whose entries in `lists` are dropped."""
    run()
    for found in lists:
        found.pop()
    end = time.perf_counter() + seconds
    while True:
        run()
        if time.perf_counter() >= end:
            return


def _summary(built: Built, threads: int, walls, stamped, rows) -> Profile:
    """`rows` is [run, thread, step, (ns, rounds)]."""
    quick = np.argsort(stamped)[: ceil(len(stamped) * QUICK)]
    wall = np.sort(walls)[: ceil(len(walls) * QUICK)].mean()
    ns, rounds = np.moveaxis(np.median(rows[quick, 0], axis=0), -1, 0)
    outside = np.median(stamped[quick] - rows[quick, 0, :, 0].sum(axis=1))
    expected = {id(p.step): p.ns for p in predict(built.code.plan, built.code.target, threads)}
    kernels = [
        _kernel(step, float(ns[i]), round(rounds[i]), expected.get(id(step), 0.0))
        for i, step in enumerate(stamped_steps(built.code.plan.steps))
    ]
    interrupted = stamped[quick].mean() - ns.sum() - outside
    return Profile(
        threads, tuple(kernels), float(wall), float(ns[-1]), float(outside), float(interrupted),
        len(walls), len(stamped),
    )  # fmt: skip


def _kernel(step, ns: float, calls: int, expected: float) -> KernelTime:
    if not isinstance(step, Scheduled):
        return KernelTime(step.op, (step.origin or step.op,), calls, ns, None, 0.0)
    kernel, work = step.call.kernel, step.code.work.times(calls)
    return KernelTime(kernel.name, kernel.origins, calls, ns, work, calls * expected, step.code)
