"""Kernels that note values out of range, and branches that must not be taken (`run_checks.py`).

Nothing is stored where all is well, so that a loop's good turn leaves what a bad one has noted.
Reads and stores at places out of range stay inside memory meanwhile: they are clamped. A branch
that must not be taken notes that without looking at anything. Long operands are looked at in parts,
by several threads; which value is named never depends on their number.
"""

from collections.abc import Sequence

from ..analysis.run_checks import Check
from ..expr import expr as s
from ..expr.expr import Buffer
from ..ir import dims
from ..ir.graph import Node
from ..ir.types import DTYPES, I64, TensorType
from ..kernels.kernel import Kernel, Store

CHECKED = ("within", "impossible")  # ops that note what must not be
SHORT = 1 << 15  # elements that are looked at in one part
PARTS = 8
U64 = DTYPES["u64"]


def is_checked(node: Node) -> bool:
    """Whether a node notes something. Of nothing, there is nothing to say."""
    return node.op.name in CHECKED and not any(0 in v.shape for v in node.inputs)


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
    return Kernel("check", axes, stores, origins=(node.where,)), record


def _offender(node: Node, check: Check, x, part: s.Expr) -> tuple[s.Expr, s.Expr]:
    """Of a part of x: the value that would be named, and whether there is reason to.

    Without a sign, value - low is large for what is below `low`, and largest just below it: one
    maximum sees both ends.
    """
    column = node.attrs["column"]
    shape = _looked_at(node)
    each = dims.prod(shape) // check.parts

    low = -(1 << 63) if check.low is None else check.low
    high = 1 << 63 if check.high is None else check.high

    def distance(*i):
        if check.parts > 1:
            i = s.unflatten(part * each + i[0], shape)
        value = s.cast(x[i if column is None else (*i, column)], I64)
        return s.bitcast(value - low, U64)

    extents = (each,) if check.parts > 1 else shape
    most = s.reduce("max", extents, distance, U64)
    bad = s.apply("ge", most, s.cast(s.lift(high - low, s.const(0)), U64))
    return s.bitcast(most, I64) + low, bad


def _looked_at(node: Node) -> tuple:
    """The shape of the elements that a `within` looks at."""
    shape = node.inputs[0].shape
    return shape if node.attrs["column"] is None else shape[:-1]


def _parts(node: Node) -> int:
    count = dims.prod(_looked_at(node))
    if isinstance(count, dims.Sym) or count < SHORT:
        return 1
    return next(n for n in range(PARTS, 0, -1) if count % n == 0)
