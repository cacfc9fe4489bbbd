"""What measuring found, as data: which choice is fastest for which kernel.

A `Choice` is what may differ between the schedules of one contraction: the tile, the way of reading
A, the group. Apart from the schedules themselves (`candidates.py`), so that loading a package that
carries tuning records does not import the code generator.
"""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from ....classes import dataclass

if TYPE_CHECKING:
    from .contraction.schedule import ContractSchedule


@dataclass(frozen=True)
class Choice:
    """What is chosen, as in `Tile` and `Tiling`."""

    rows: int
    vectors: int
    spread: int = 1
    flat: bool = False
    a: str = "direct"
    group: int = 1

    @classmethod
    def of(cls, plan: "ContractSchedule") -> "Choice":
        t = plan.tile
        return cls(t.rows, t.vectors, t.spread, t.flat, plan.a, plan.group)

    def apply(self, plan: "ContractSchedule") -> "ContractSchedule":
        """The plan with this choice instead of its own, whether that is possible or not."""
        t = {"rows": self.rows, "vectors": self.vectors, "spread": self.spread, "flat": self.flat}
        return replace(plan, tile=replace(plan.tile, **t), a=self.a, group=self.group)

    def __str__(self):
        lines = f" of {self.spread} lines" if self.spread > 1 else " across lines" * self.flat
        return f"{self.rows}×{self.vectors} vectors{lines}, A {self.a}, groups of {self.group}"


@dataclass(frozen=True)
class TuningRecord:
    """What measuring a kernel found: the choice (None: the default one) and its `gain`, the
    default's time divided by its own."""

    choice: Choice | None
    gain: float = 1.0

    def data(self) -> dict:
        """As JSON has it; `read_tuning_records` reads it."""
        return {"gain": self.gain, "choice": None if self.choice is None else asdict(self.choice)}


def read_tuning_records(data) -> dict[str, TuningRecord]:
    """Tuning records by key, from data as `TuningRecord.data` makes it. Raises ValueError for
    anything else."""
    if not isinstance(data, dict):
        raise ValueError("these are no tuning records by key")
    return {str(key): _read_tuning_record(entry) for key, entry in data.items()}


def _read_tuning_record(entry) -> TuningRecord:
    types = {f: type(x) for f, x in asdict(Choice(1, 1)).items()}
    if not isinstance(entry, dict) or set(entry) != {"gain", "choice"}:
        raise ValueError("this is no tuning record")
    gain, choice = entry["gain"], entry["choice"]
    if type(gain) not in (int, float) or not 0 < gain < 1e6:
        raise ValueError("this is no gain")
    if choice is None:
        return TuningRecord(None, float(gain))
    if not isinstance(choice, dict) or {f: type(x) for f, x in choice.items()} != types:
        raise ValueError("this is no choice")
    return TuningRecord(Choice(**choice), float(gain))
