"""What a run looks at, and what is said of it: the record that kernels of checks write into.

    record[2p]     = 1   where a value of part p is below `low`, or not below `high`
    record[2p + 1] = v   the greatest of those below `low`; else the greatest

The record is zero when a run starts; who runs a program looks at it once, when the run is over
(`raise_noted`). `lowering/checks.py` makes the kernels. Apart from them, so that loading a package
does not import what makes code.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ..classes import dataclass
from ..errors import InputError
from ..ir import dims

WORD = 8  # bytes


@dataclass(frozen=True)
class Check:
    """One thing that is looked at: the words from `first` on of a record, two for each part.

    Without `what`, it is a branch that must not be taken, for this `reason`.
    """

    where: str
    first: int
    parts: int = 1
    what: str = ""
    low: object = None
    high: object = None
    reason: str = ""

    def error(self, value: int, sizes: Mapping[str, int]) -> InputError:
        """The error for a noted value, where dynamic dims have these sizes."""
        from ..ir.limits import out_of_range

        if not self.what:
            return InputError(self.reason, where=self.where)
        low, high = (
            None if d is None else dims.substitute(d, sizes) for d in (self.low, self.high)
        )
        return out_of_range(self.what, value, low, high, self.where)


def words(checks: Sequence[Check]) -> int:
    """How many words a record has."""
    return sum(2 * c.parts for c in checks)


def raise_noted(checks: Sequence[Check], record: Sequence[int], sizes: Mapping[str, int]) -> None:
    """Raises InputError for the first of the checks that has something in a run's record.

    The greatest value that is too small is named; else the greatest.
    """
    for check in checks:
        part = record[check.first : check.first + 2 * check.parts]
        noted = [int(v) for flag, v in zip(part[::2], part[1::2]) if flag]
        if noted:
            low = check.low if check.low is None else dims.substitute(check.low, sizes)
            below = [v for v in noted if low is not None and v < low]
            raise check.error(max(below or noted), sizes)


def new_record(checks: Sequence[Check]) -> np.ndarray:
    return np.zeros(words(checks), np.int64)
