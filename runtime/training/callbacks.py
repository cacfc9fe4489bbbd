"""What `Trainer.fit` calls after each epoch.

    trainer.fit(data, validation=held_out, epochs=100, callbacks=[
        EarlyStopping(patience=5), Checkpoint("best.safetensors"), CSVLog("log.csv")])

A callback of your own has `after_epoch(trainer, epoch, record)`; where it returns True, training
ends. `monitor` names an entry of the record: "validation_loss", or "loss" where nothing is said and
there is no validation data. Names that begin with `loss` or end with `_loss` get better downwards.
"""

import csv
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from ...compiler.errors import UsageError
from .checkpoint import save_checkpoint

Record = Mapping[str, float]


class Callback:
    """Does nothing."""

    def before_fit(self, trainer: Any) -> None:
        """Before the first epoch of a call of `fit`."""

    def after_epoch(self, trainer: Any, epoch: int, record: Record) -> bool | None:
        """After epoch 0, 1, … of a call of `fit`; True ends training."""

    def after_fit(self, trainer: Any) -> None:
        """When training has ended, also by an error."""


class _Best(Callback):
    """Looks after the best value of an entry of the record."""

    def __init__(self, monitor: str | None = None, *, min_delta: float = 0.0):
        self.monitor, self.min_delta = monitor, min_delta
        self.best: float | None = None

    def before_fit(self, trainer: Any) -> None:
        self.best = None

    def is_better(self, record: Record) -> bool:
        """Whether this epoch is the best so far."""
        name = self.monitor or next(n for n in ("validation_loss", "loss") if n in record)
        if name not in record:
            raise UsageError(
                f"{type(self).__name__}: the record has no {name!r}", expected=", ".join(record)
            )
        value, down = record[name], name.endswith("loss")
        ahead = None if self.best is None else (self.best - value if down else value - self.best)
        better = not np.isnan(value) and (ahead is None or ahead > self.min_delta)
        if better:
            self.best = value
        return better


class EarlyStopping(_Best):
    """Ends training after `patience` epochs that were not better than the best one, and gives back
    its parameters and state (`restore_best`)."""

    def __init__(
        self,
        monitor: str | None = None,
        *,
        patience: int = 5,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ):
        super().__init__(monitor, min_delta=min_delta)
        self.patience, self.restore_best = patience, restore_best
        self.waited, self.kept = 0, {}  # type: ignore[var-annotated]

    def before_fit(self, trainer: Any) -> None:
        super().before_fit(trainer)
        self.waited, self.kept = 0, {}

    def after_epoch(self, trainer: Any, epoch: int, record: Record) -> bool | None:
        if self.is_better(record):
            self.waited = 0
            if self.restore_best:
                self.kept = {n: np.array(v) for n, v in trainer.values.items()}
            return False
        self.waited += 1
        return self.waited >= self.patience

    def after_fit(self, trainer: Any) -> None:
        for name, value in self.kept.items():
            np.copyto(trainer.values[name], value)


class Checkpoint(_Best):
    """Writes a checkpoint after each epoch, or only after the best ones (`best_only`). `{epoch}` in
    the path is the epoch."""

    def __init__(
        self,
        path: str | PathLike[str],
        monitor: str | None = None,
        *,
        best_only: bool = True,
    ):
        super().__init__(monitor)
        self.path, self.best_only = path, best_only

    def after_epoch(self, trainer: Any, epoch: int, record: Record) -> bool | None:
        if not self.best_only or self.is_better(record):
            save_checkpoint(str(self.path).replace("{epoch}", str(epoch)), trainer.values)
        return None


class CSVLog(Callback):
    """Writes the record of each epoch as a row of a file, which begins anew unless `append`."""

    def __init__(self, path: str | PathLike[str], *, append: bool = False):
        self.path, self.append = path, append

    def before_fit(self, trainer: Any) -> None:
        if not self.append:
            with open(self.path, "w"):
                pass

    def after_epoch(self, trainer: Any, epoch: int, record: Record) -> bool | None:
        row = {"step": trainer.steps, **record}
        with open(self.path, "a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
        return None


__all__ = ["CSVLog", "Callback", "Checkpoint", "EarlyStopping"]
