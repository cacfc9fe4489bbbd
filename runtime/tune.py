"""Measuring which schedules are fastest here: `Tuning`, for `compile(…, tune=SECONDS)`.

One rule says when measured schedules are used: **only a compilation with `tune` looks at the
user's file of winners**. It uses what is there, measures the other contractions of the model until
its seconds are over, those first that take the most time, and adds what it found (`tune=0` measures
nothing). A package carries the winners that its code was made with, and compiling its graph anew
uses those. Everything else is compiled by the default schedules, whatever was ever measured.
"""

import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..compiler.backends.base import CpuTarget
from ..compiler.backends.llvm.choices import (
    Choice,
    Winner,
    key_of,
    read_winners,
    readings,
    tiles,
)
from ..compiler.backends.llvm.codegen import KernelCode, schedule_kernel
from ..compiler.backends.llvm.contract_plan import ContractSchedule
from ..compiler.backends.llvm.predict import predict
from ..compiler.backends.llvm.program import Plan, build_plan, constant_arrays
from ..compiler.backends.llvm.target import runs_here
from ..compiler.errors import UsageError
from ..compiler.loops import expr as s
from ..compiler.loops.expr import Buffer
from ..compiler.loops.nest import Kernel, Program
from .contest import Entrant, Stage, best_of

FILE = "winners.json"  # in the user's cache folder
FORMAT = "tessel winners 1"


@dataclass(eq=False)
class Task:
    """A contraction to measure: `code` is its default one, `ns` what the model spends in it by
    prediction, `arrays` its constants, `between` bytes that pass by from one run to the next."""

    key: str
    code: KernelCode
    ns: float
    arrays: dict[Buffer, np.ndarray]
    between: int


class Tuning:
    """Winners by the keys of kernels, and the time that is left to find more.

    seconds     wall time to spend on measuring, over everything that is compiled with this
    file        where winners are kept for other compilations; None: nowhere
    winners     what is known without a file: a package's
    progress    is told of each measured kernel, as a line of text
    stage       makes what times a task's codes: `stage(target, task).enter(code) -> Entrant`
    clock       seconds

    `known` are all winners there are, `used` those that code was made with, `notes` what the user
    should know.
    """

    def __init__(
        self, seconds: float = 0.0, file: Path | None = None, *,
        winners: Mapping[str, Winner] | None = None, progress: Callable[[str], None] | None = None,
        stage=None, clock: Callable[[], float] = time.perf_counter,
    ):  # fmt: skip
        self.left = check_seconds(seconds)
        self.file, self.progress, self.clock = file, progress, clock
        self.stage = stage
        self.notes: list[str] = []
        self.known: dict[str, Winner] = {**self._read(), **(winners or {})}
        self.used: dict[str, Winner] = {}

    # -- measuring ------------------------------------------------------------------------

    def search(self, program: Program, target: CpuTarget, updates, cache) -> None:
        """Measure what is not known of the program's kernels, while there is time.

        Raises UsageError where the target's code does not run here.
        """
        if self.left <= 0:
            return
        reason = runs_here(target)
        if reason is not None:
            raise UsageError(
                f"code for {target.name} cannot be measured on this machine", received=reason,
                fix="target='cpu' is this machine; tune=0 uses what is known and measures nothing",
            )  # fmt: skip
        start = self.clock()
        plan = build_plan(program, target, updates, self.known)
        tasks = [t for t in tasks_of(plan, target) if t.key not in self.known]
        found: dict[str, Winner] = {}
        try:
            for n, task in enumerate(tasks, 1):
                winner = self._measure(task, target, cache, start + self.left)
                if winner is None:
                    break
                found[task.key] = winner
                self._report(n, len(tasks), task, winner, start + self.left)
        finally:
            self.left = max(0.0, self.left - (self.clock() - start))
            self.known |= found
            self._write(found)
        faster = sum(w.choice is not None for w in found.values())
        self.notes.append(
            f"tuning measured {len(found)} of {len(tasks)} contractions: {faster} are faster now"
        )

    def _measure(self, task: Task, target: CpuTarget, cache, end: float) -> Winner | None:
        """The fastest choice; None if time was over before it was known.

        Other tiles, and other ways to read with the default's tile; then, if another tile was
        faster, other ways to read with that one.
        """
        over = lambda: self.clock() >= end
        if over():
            return None
        kernel, plan = task.code.kernel, task.code.schedule
        if self.stage is None:
            stage = Stage(target, task.arrays, task.between, cache)
        else:
            stage = self.stage(target, task)
        default = stage.enter(task.code)

        def race(plans: Sequence[ContractSchedule]) -> tuple[Entrant, float] | None:
            others = []
            for p in plans:
                if over():
                    return None
                this = {task.key: Winner(Choice.of(p))}
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
        return Winner(None if best is default else Choice.of(best.code.schedule), gain)

    def _report(self, n: int, of: int, task: Task, winner: Winner, end: float) -> None:
        if self.progress is None:
            return
        default = Choice.of(task.code.schedule)
        what = f"the default is best: {default}"
        if winner.choice is not None:
            what = f"{winner.choice} is {winner.gain:.2f}× as fast as {default}"
        left = max(0.0, end - self.clock())
        name = task.code.kernel.name
        self.progress(f"tuning {n} of {of}, {left:.0f} s left: {name}: {what}")

    # -- the file -------------------------------------------------------------------------

    def _read(self) -> dict[str, Winner]:
        """What the file holds; nothing, and a note, if it is damaged."""
        if self.file is None or not self.file.is_file():
            return {}
        try:
            data = json.loads(self.file.read_text(encoding="utf-8"))
            if not isinstance(data, dict) or data.get("format") != FORMAT:
                raise ValueError(f"it does not say {FORMAT!r}")
            return read_winners(data["winners"])
        except (OSError, ValueError, KeyError, RecursionError) as error:
            self.notes.append(f"the winners of {self.file} were ignored: {error}")
            return {}

    def _write(self, found: Mapping[str, Winner]) -> None:
        """Add `found` to the file, which may have changed meanwhile. One that cannot be written is
        no error: the winners are used all the same."""
        if self.file is None or not found:
            return
        notes = list(self.notes)
        winners = {**self._read(), **found}
        self.notes = notes  # what is wrong with the file was said before
        text = {"format": FORMAT, "winners": {k: w.data() for k, w in sorted(winners.items())}}
        temporary = None
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.file.parent, delete=False) as f:
                temporary = Path(f.name)
                json.dump(text, f, indent=1)
            os.replace(temporary, self.file)
        except OSError as error:
            self.notes.append(f"winners could not be kept: {error}")
            if temporary is not None:
                with suppress(OSError):
                    temporary.unlink()

    # -- using ----------------------------------------------------------------------------

    def note_used(self, plan: Plan, target: CpuTarget) -> None:
        """Remember which winners the plan's code was made with."""
        for step, _ in _contractions(plan, target):
            if step.code.winner is not None:
                key = _key(plan, step, target)
                self.used[key] = step.code.winner


def check_seconds(seconds) -> float:
    """The seconds that `tune` means. Raises UsageError for anything but a number from 0."""
    number = isinstance(seconds, (int, float, np.number)) and not isinstance(seconds, bool)
    if not number or not math.isfinite(seconds) or seconds < 0:
        raise UsageError(
            "tune is a time to measure for", expected="seconds ≥ 0 (0: use what is known)",
            received=repr(seconds),
        )  # fmt: skip
    return float(seconds)


def open_tuning(tune, cache) -> Tuning | None:
    """The `Tuning` of an argument `tune`: None, seconds, or one. `cache` as in `compile`: winners
    are kept in the user's folder, in another one, or (False) nowhere."""
    if tune is None or isinstance(tune, Tuning):
        return tune
    return Tuning(tune, winners_file(cache))


def winners_file(cache=None) -> Path | None:
    """Where winners are kept."""
    from ..compiler.backends.llvm.cache import cache_folder

    if cache is False:
        return None
    return (cache_folder() if cache is None else Path(cache)) / FILE


def tasks_of(plan: Plan, target: CpuTarget) -> list[Task]:
    """The distinct contractions that can be measured, those first that take the most time."""
    total = sum(p.step.code.work.bytes for p in predict(plan, target))
    tasks: dict[str, Task] = {}
    for step, ns in _contractions(plan, target):
        if _places_depend_on_data(step.call.kernel):
            continue
        key = _key(plan, step, target)
        if key not in tasks:
            arrays = constant_arrays(plan.program, step.call)
            # Another call of the same code may be of another kernel object, with its own buffers.
            code = schedule_kernel(step.call.kernel, target, frozenset(arrays), False)
            tasks[key] = Task(key, code, 0.0, arrays, total)
        tasks[key].ns += ns
    return sorted(tasks.values(), key=lambda t: -t.ns)


def _contractions(plan: Plan, target: CpuTarget) -> Iterator[tuple]:
    """(step, predicted ns of a run of the model) for each contraction."""
    for p in predict(plan, target):
        if isinstance(p.step.code.schedule, ContractSchedule):
            yield p.step, p.ns * p.rounds


def _key(plan: Plan, step, target: CpuTarget) -> str:
    return key_of(step.call.kernel, target, frozenset(constant_arrays(plan.program, step.call)))


def _places_depend_on_data(kernel: Kernel) -> bool:
    """Whether random data would be read as places in memory."""
    loads = [e for e in s.walk(*kernel.roots()) if e.op == "load"]
    places = [e.args[0] for e in loads] + [i for st in kernel.stores for i in st.index]
    return any(e.op == "load" for e in s.walk(*places))
