"""Measuring which schedules are fastest here: `Tuning`, for `compile(…, tune=SECONDS)`.

One rule says when measured schedules are used: **only a compilation with `tune` looks at the
user's file of winners**. It uses what is there, measures the other contractions of the model until
its seconds are over, those first that take the most time, and adds what it found (`tune=0` measures
nothing). A package carries the winners that its code was made with, and compiling its graph anew
uses those. Everything else is compiled by the default schedules, whatever was ever measured.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from ...compiler.backends.llvm.schedules.tuning_records import Choice, Winner, read_winners
from ...compiler.errors import UsageError
from ...compiler.kernels.machine import Machine
from ...compiler.system.files import read_file, replacing_file

FILE = "winners.json"  # in the user's cache folder
FORMAT = "tessel winners 1"


class Tuning:
    """Winners by the keys of kernels, and the time that is left to find more.

    seconds     wall time to spend on measuring, over everything that is compiled with this
    file        where winners are kept for other compilations; None: nowhere
    winners     what is known without a file: a package's
    progress    is told of each measured kernel, as a line of text
    stage       makes what times a task's codes: `stage(target, task, cache).enter(code) -> Entrant`
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

    def search(self, program, target: Machine, updates, cache) -> None:
        """Measure what is not known of the program's kernels, while there is time.

        Raises UsageError where the target's code does not run here.
        """
        if self.left <= 0:
            return
        from ...compiler.backends.llvm.base.target import runs_here
        from . import tasks

        reason = runs_here(target)
        if reason is not None:
            raise UsageError(
                f"code for {target.name} cannot be measured on this machine", received=reason,
                fix="target='cpu' is this machine; tune=0 uses what is known and measures nothing",
            )  # fmt: skip
        start = self.clock()
        over = lambda: self.clock() >= start + self.left
        left = [t for t in tasks.tasks_of(program, target, updates) if t.key not in self.known]
        found: dict[str, Winner] = {}
        try:
            for n, task in enumerate(left, 1):
                stage = partial(self.stage or tasks.open_stage, target, task, cache)
                winner = tasks.measure(task, target, stage, over)
                if winner is None:
                    break
                found[task.key] = winner
                self._report(f"{n} of {len(left)}", task, winner, start + self.left)
        finally:
            self.left = max(0.0, self.left - (self.clock() - start))
            self.known |= found
            self._write(found)
        faster = sum(w.choice is not None for w in found.values())
        self.notes.append(
            f"tuning measured {len(found)} of {len(left)} contractions: {faster} are faster now"
        )

    def _report(self, number: str, task, winner: Winner, end: float) -> None:
        if self.progress is None:
            return
        default = Choice.of(task.code.schedule)
        what = f"the default is best: {default}"
        if winner.choice is not None:
            what = f"{winner.choice} is {winner.gain:.2f}× as fast as {default}"
        left = max(0.0, end - self.clock())
        name = task.code.kernel.name
        self.progress(f"tuning {number}, {left:.0f} s left: {name}: {what}")

    # -- the file -------------------------------------------------------------------------

    def _read(self) -> dict[str, Winner]:
        """What the file holds; nothing, and a note, if it is damaged."""
        if self.file is None or not self.file.is_file():
            return {}
        try:
            data = json.loads(read_file(self.file))
            if not isinstance(data, dict) or data.get("format") != FORMAT:
                raise ValueError(f"it does not say {FORMAT!r}")
            return read_winners(data["winners"])
        except (OSError, ValueError, KeyError, RecursionError) as error:
            self.notes.append(f"the tuning records of {self.file} were ignored: {error}")
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
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with replacing_file(self.file, durable=False) as file:
                file.write(json.dumps(text, indent=1).encode())
        except OSError as error:
            self.notes.append(f"tuning records could not be kept: {error}")

    # -- using ----------------------------------------------------------------------------

    def note_used(self, plan, target: Machine) -> None:
        """Remember which winners the plan's code was made with."""
        from .tasks import contractions

        self.used |= {
            key: step.code.winner
            for key, step, _ in contractions(plan, target)
            if step.code.winner is not None
        }


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
    from ...compiler.backends.llvm.base.cache import cache_folder

    if cache is False:
        return None
    return (cache_folder() if cache is None else Path(cache)) / FILE
