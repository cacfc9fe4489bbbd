"""Measuring which schedules are fastest here: `Tuning`, for `compile(…, tune=SECONDS)`.

One rule says when measured schedules are used: **only a compilation with `tune` looks at the
user's file of tuning records**. It uses what is there, measures the other contractions of the model
until its seconds are over, those first that take the most time, and adds what it found (`tune=0`
measures nothing). A package carries the records that its code was made with, and compiling its
graph anew uses those. Everything else is compiled by the default schedules, whatever was ever
measured.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from ...compiler.backends.llvm.schedules.tuning_records import (
    Choice,
    TuningRecord,
    read_tuning_records,
)
from ...compiler.errors import UsageError
from ...compiler.kernels.machine import Machine
from ...compiler.system.files import read_file, replacing_file

FILE = "winners.json"  # in the user's cache folder
FORMAT = "tessel winners 1"


class Tuning:
    """Tuning records by the keys of kernels, and the time that is left to find more.

    seconds         wall time to spend on measuring, over everything that is compiled with this
    file            where records are kept for other compilations; None: nowhere
    tuning_records  what is known without a file: a package's
    progress        is told of each measured kernel, as a line of text
    stage           makes what times a task's codes:
                    `stage(target, task, cache).enter(code) -> Candidate`
    clock           seconds

    `known` are all records there are, `used` those that code was made with, `notes` what the user
    should know.
    """

    def __init__(
        self,
        seconds: float = 0.0,
        file: Path | None = None,
        *,
        tuning_records: Mapping[str, TuningRecord] | None = None,
        progress: Callable[[str], None] | None = None,
        stage=None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.left = check_seconds(seconds)
        self.file, self.progress, self.clock = file, progress, clock
        self.stage = stage
        self.notes: list[str] = []
        self.known: dict[str, TuningRecord] = {**self._read(), **(tuning_records or {})}
        self.used: dict[str, TuningRecord] = {}

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
                f"code for {target.name} cannot be measured on this machine",
                received=reason,
                fix="target='cpu' is this machine; tune=0 uses what is known and measures nothing",
            )
        start = self.clock()
        over = lambda: self.clock() >= start + self.left
        left = [t for t in tasks.tasks_of(program, target, updates) if t.key not in self.known]
        found: dict[str, TuningRecord] = {}
        try:
            for n, task in enumerate(left, 1):
                stage = partial(self.stage or tasks.open_stage, target, task, cache)
                tuning_record = tasks.measure(task, target, stage, over)
                if tuning_record is None:
                    break
                found[task.key] = tuning_record
                self._report(f"{n} of {len(left)}", task, tuning_record, start + self.left)
        finally:
            self.left = max(0.0, self.left - (self.clock() - start))
            self.known |= found
            self._write(found)
        faster = sum(w.choice is not None for w in found.values())
        self.notes.append(
            f"tuning measured {len(found)} of {len(left)} contractions: {faster} are faster now"
        )

    def _report(self, number: str, task, tuning_record: TuningRecord, end: float) -> None:
        if self.progress is None:
            return
        default = Choice.of(task.code.schedule)
        what = f"the default is best: {default}"
        if tuning_record.choice is not None:
            what = f"{tuning_record.choice} is {tuning_record.gain:.2f}× as fast as {default}"
        left = max(0.0, end - self.clock())
        name = task.code.kernel.name
        self.progress(f"tuning {number}, {left:.0f} s left: {name}: {what}")

    # -- the file -------------------------------------------------------------------------

    def _read(self) -> dict[str, TuningRecord]:
        """What the file holds; nothing, and a note, if it is damaged."""
        if self.file is None or not self.file.is_file():
            return {}
        try:
            data = json.loads(read_file(self.file))
            if not isinstance(data, dict) or data.get("format") != FORMAT:
                raise ValueError(f"it does not say {FORMAT!r}")
            return read_tuning_records(data["winners"])
        except (OSError, ValueError, KeyError, RecursionError) as error:
            self.notes.append(f"the tuning records of {self.file} were ignored: {error}")
            return {}

    def _write(self, found: Mapping[str, TuningRecord]) -> None:
        """Add `found` to the file, which may have changed meanwhile. One that cannot be written is
        no error: the records are used all the same."""
        if self.file is None or not found:
            return
        notes = list(self.notes)
        tuning_records = {**self._read(), **found}
        self.notes = notes  # what is wrong with the file was said before
        text = {
            "format": FORMAT,
            "winners": {k: w.data() for k, w in sorted(tuning_records.items())},
        }
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with replacing_file(self.file, durable=False) as file:
                file.write(json.dumps(text, indent=1).encode())
        except OSError as error:
            self.notes.append(f"tuning records could not be kept: {error}")

    # -- using ----------------------------------------------------------------------------

    def note_used(self, plan, target: Machine) -> None:
        """Remember which records the plan's code was made with."""
        from .tasks import contractions

        self.used |= {
            key: step.code.tuning_record
            for key, step, _ in contractions(plan, target)
            if step.code.tuning_record is not None
        }


def check_seconds(seconds) -> float:
    """The seconds that `tune` means. Raises UsageError for anything but a number from 0."""
    number = isinstance(seconds, (int, float, np.number)) and not isinstance(seconds, bool)
    if not number or not math.isfinite(seconds) or seconds < 0:
        raise UsageError(
            "tune is a time to measure for",
            expected="seconds ≥ 0 (0: use what is known)",
            received=repr(seconds),
        )
    return float(seconds)


def open_tuning(tune, cache) -> Tuning | None:
    """The `Tuning` of an argument `tune`: None, seconds, or one. `cache` as in `compile`: records
    are kept in the user's folder, in another one, or (False) nowhere."""
    if tune is None or isinstance(tune, Tuning):
        return tune
    return Tuning(tune, tuning_file(cache))


def tuning_file(cache=None) -> Path | None:
    """Where records are kept."""
    from ...compiler.backends.llvm.base.cache import cache_folder

    if cache is False:
        return None
    return (cache_folder() if cache is None else Path(cache)) / FILE
