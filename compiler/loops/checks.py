"""What a run looks at: kernels that note values out of range, and what is said of them.

    record[2p]     = 1   where the least value of part p is below `low`, or the greatest not below
    record[2p + 1] = v   `high`: v is the least, or else the greatest

Nothing is stored where all is well, so that a loop's good turn leaves what a bad one has noted. The
record is zero when a run starts; who runs a program looks at it once, when the run is over
(`raise_noted`). Reads and stores at such places stay inside memory meanwhile: they are clamped.

A branch that must not be taken notes that without looking at anything. Long operands are looked at
in parts, by several threads; which value is named never depends on their number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import dims
from ..errors import InputError
from ..ir import Node
from ..limits import out_of_range
from ..types import I64, TensorType
from . import expr as s
from .expr import Buffer
from .nest import Kernel, Store

SHORT = 1 << 15  # elements that are looked at in one part
PARTS = 8
WORD = 8  # bytes
CHECKED = ("within", "impossible")  # ops that note what must not be


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
        """The error for a noted value, where open dims have these sizes."""
        if not self.what:
            return InputError(self.reason, where=self.where)
        low, high = (None if d is None else dims.substitute(d, sizes)
                     for d in (self.low, self.high))  # fmt: skip
        return out_of_range(self.what, value, low, high, self.where)


def words(checks: Sequence[Check]) -> int:
    """How many words a record has."""
    return sum(2 * c.parts for c in checks)


def raise_noted(checks: Sequence[Check], record: Sequence[int], sizes: Mapping[str, int]) -> None:
    """Raises InputError for the first of the checks that has something in a run's record.

    Of several parts, the least of the values that are too small is named, or the greatest.
    """
    for check in checks:
        part = record[check.first : check.first + 2 * check.parts]
        noted = [int(v) for flag, v in zip(part[::2], part[1::2]) if flag]
        if noted:
            low = check.low if check.low is None else dims.substitute(check.low, sizes)
            below = low is not None and min(noted) < low
            raise check.error(min(noted) if below else max(noted), sizes)


def new_record(checks: Sequence[Check]) -> np.ndarray:
    return np.zeros(words(checks), np.int64)


# -- what is made of a node ----------------------------------------------------------------


def check_of(node: Node, first: int) -> Check:
    """What a `within` or an `impossible` says, in the words of a record from `first` on."""
    if node.op.name == "impossible":
        return Check(node.where, first, reason=node.attrs["reason"])
    low, high, what = (node.attrs[k] for k in ("low", "high", "what"))
    return Check(node.where, first, _parts(node), what, low, high)


def check_kernel(node: Node, check: Check, operands: Sequence) -> tuple[Kernel, Buffer]:
    """The kernel that looks, and the buffer of its words."""
    record = Buffer("record", TensorType(I64, (check.parts, 2)))
    flag = s.const(1)
    if not operands:
        axes, notes, bad = (), [flag], None
        at = s.const(0)
    else:
        axes = (s.Axis("p", check.parts),) if check.parts > 1 else ()
        at = s.axis(axes[0]) if axes else s.const(0)
        value, bad = _offender(node, check, operands[0], at)
        notes = [flag, value]
    stores = tuple(Store(record, (at, s.const(k)), v, bad) for k, v in enumerate(notes))
    return Kernel(node.op.name, axes, stores, origins=(node.where,)), record


def _offender(node: Node, check: Check, x, part: s.Expr) -> tuple[s.Expr, s.Expr]:
    """Of a part of x: the value that would be named, and whether there is reason to."""
    column = node.attrs["column"]
    shape = _looked_at(node)
    each = dims.prod(shape) // check.parts

    def element(*i):
        if check.parts > 1:
            i = s.unflatten(part * each + i[0], shape)
        value = x[i if column is None else (*i, column)]
        return value if value.dtype.kind == "i" else s.cast(value, I64)

    extents = (each,) if check.parts > 1 else shape
    least, most = (s.cast(s.reduce(f, extents, element), I64) for f in ("min", "max"))
    below = s.const(False, "bool") if check.low is None else least < check.low
    bad = below if check.high is None else below | (most >= check.high)
    return s.select(below, least, most), bad


def _looked_at(node: Node) -> tuple:
    """The shape of the elements that a `within` looks at."""
    shape = node.inputs[0].shape
    return shape if node.attrs["column"] is None else shape[:-1]


def _parts(node: Node) -> int:
    count = dims.prod(_looked_at(node))
    if isinstance(count, dims.Sym) or count < SHORT:
        return 1
    return next(n for n in range(PARTS, 0, -1) if count % n == 0)
