"""Where a run's time goes: `profile(exe, feeds)` -> Profile.

The model runs as always: machine code from one crossing, as many threads as the executable uses,
warm caches in the order of the program. Only its entry is another one, which reads the clock after
each step (`backends/llvm/program/timestamps.py`). Runs of it take turns with ordinary ones, so that
the profile can say how well its sum agrees with what a run takes.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...compiler.backends.llvm.program.clock import MONOTONIC, THREAD
from ...compiler.backends.llvm.program.plan import Scheduled
from ...compiler.backends.llvm.program.predict import predict
from ...compiler.backends.llvm.program.timestamps import timestamped_code, timestamped_steps
from ...compiler.classes import dataclass
from ...compiler.errors import UsageError
from ...compiler.kernels.work import Work
from ..base.build import Built
from ..execution.executable import Executable
from ..native.module import NativeModule

SECONDS = 1.0  # of runs, of both kinds
TURNS = 12  # of each kind at least, however long a run takes
TURN = 0.02  # seconds of runs of one kind, at most, before those of the other
QUARTILE = 25  # percentile of all that is reported


@dataclass(frozen=True)
class KernelTime:
    """A step of the program, over one run of the model: `calls` rounds of it in all.

    `ns` is the first thread's time, which is the run's, `fastest` that of the run in which it was
    shortest (an empty machine's, nearly); `work` what all threads do together;
    `predicted` what the cost model expects, in ns. What runs in Python has neither, and no `code`.
    """

    name: str
    origins: tuple[str, ...]
    calls: int
    ns: float
    work: Work | None
    predicted: float
    code: Any = None
    fastest: float = 0.0


@dataclass(frozen=True)
class Profile:
    """All times in ns, each the 25th percentile over all runs: another program must disturb most
    runs to change it.

    `wall` is an ordinary run, seen from Python. A run with timestamps has parts: the kernels, what
    the first thread waited for others (`waiting`), what passed before and after the machine code
    (`outside`: checks, new arrays, waking threads), and what these lack to the whole (`rest`: other
    programs on the same cores, which disturb one kernel or another in every run). `ordinary` and
    `timestamped` count the runs. `busy` is the share of all that time in which the first thread had
    a core: far below 1, other programs had it, and kernels that take long seem to take longer.
    """

    threads: int
    kernels: tuple[KernelTime, ...]
    wall: float
    waiting: float
    outside: float
    rest: float
    ordinary: int
    timestamped: int
    busy: float

    @property
    def total(self) -> float:
        """The sum of the parts: what a run with timestamps took."""
        parts = self.waiting + self.outside + self.rest
        return sum(k.ns for k in self.kernels) + parts

    @property
    def predicted(self) -> float:
        return sum(k.predicted for k in self.kernels)


def profile(
    exe: Executable, feeds: Mapping, seconds: float = SECONDS, own_time: bool = False
) -> Profile:
    """Time the kernels of the specialization that `feeds` leads to, for `seconds` at least.

    With `own_time` a kernel's time is that in which its thread had the core: no interruptions, but
    up to a microsecond for reading the clock.
    """
    exe.run(feeds)
    built = exe.specializations[-1]
    if built.stages:
        raise UsageError(
            "a model that runs in stages is not profiled as one",
            received=f"{len(built.stages)} stages, as shapes depend on data",
            fix="profile each of exe.specializations[-1].stages",
        )
    if built.is_dynamic:
        built = exe.fixed(built.binding)
    if getattr(built.code, "plan", None) is None:
        raise UsageError(
            "only code that this process compiled for a CPU can be profiled",
            received=f"code for {exe.target.name}",
            fix="a package, or a model that was compiled before, comes without its loops: compile "
            "the model with reuse=False",
        )
    threads = exe.threads if built.code.parallel else 1
    which = THREAD if own_time else MONOTONIC
    code, timestamps = timestamped_code(built.code, threads, built.module.updates, which)
    ordinary = built.module
    module = NativeModule(code, ordinary.output_types, ordinary.updates)
    walls, timestamped, rows = [], [], []

    def one() -> None:
        start = time.perf_counter_ns()
        exe.run(feeds)
        walls.append(time.perf_counter_ns() - start)

    def other() -> None:
        timestamps[:] = 0
        start = time.perf_counter_ns()
        exe.run(feeds)
        timestamped.append(time.perf_counter_ns() - start)
        rows.append(timestamps.copy())

    try:
        begun, worked = time.perf_counter(), time.thread_time()
        end, turns, turn = begun + seconds, 0, min(TURN, seconds / TURNS / 2)
        while turns < TURNS or time.perf_counter() < end:
            built.module = ordinary
            _turn(one, turn, walls)
            built.module = module
            _turn(other, turn, timestamped, rows)
            turns += 1
        busy = (time.thread_time() - worked) / (time.perf_counter() - begun)
    finally:
        built.module = ordinary
    return _summary(built, threads, busy, *map(np.array, (walls, timestamped, rows)))


def _turn(run: Callable[[], None], seconds: float, *lists: list) -> None:
    """Runs for `seconds`. The first one brings back its memory: unless it is the only one, its
    entries in `lists` are dropped."""
    end, count = time.perf_counter() + seconds, 0
    while count == 0 or time.perf_counter() < end:
        run()
        count += 1
    if count > 1:
        for found in lists:
            del found[-count]


def _summary(built: Built, threads: int, busy: float, walls, timestamped, rows) -> Profile:
    """`rows` is [run, thread, step, (ns, rounds)]."""
    first = rows[:, 0, :, 0]
    ns, fastest = np.percentile(first, QUARTILE, axis=0), first.min(axis=0)
    rounds = np.median(rows[:, 0, :, 1], axis=0)
    outside = np.percentile(timestamped - first.sum(axis=1), QUARTILE)
    wall, total = np.percentile(walls, QUARTILE), np.percentile(timestamped, QUARTILE)
    expected = {id(p.step): p.ns for p in predict(built.code.plan, built.code.target, threads)}
    kernels = [
        _kernel(
            step, float(ns[i]), float(fastest[i]), round(rounds[i]), expected.get(id(step), 0.0)
        )
        for i, step in enumerate(timestamped_steps(built.code.plan.steps))
    ]
    rest = total - ns.sum() - outside
    return Profile(
        threads,
        tuple(kernels),
        float(wall),
        float(ns[-1]),
        float(outside),
        float(rest),
        len(walls),
        len(timestamped),
        busy,
    )


def _kernel(step, ns: float, fastest: float, calls: int, expected: float) -> KernelTime:
    if not isinstance(step, Scheduled):
        origins = (step.origin or step.op,)
        return KernelTime(step.op, origins, calls, ns, None, 0.0, fastest=fastest)
    kernel, work = step.call.kernel, step.code.work.times(calls)
    expected *= calls
    return KernelTime(kernel.name, kernel.origins, calls, ns, work, expected, step.code, fastest)
