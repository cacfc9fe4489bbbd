"""How long a kernel takes at least, whatever its schedule, and why its own schedule takes longer.

    roofline(kernel, plan, target) -> Roofline(least, predicted, reasons)

The least is the greater one of its arithmetic and its traffic: every distinct expression computed
once for each combination of its axes, in full vectors, with nothing waiting; every byte read and
written once, from the level of memory where it lies. A kernel whose predicted time is more than
`SLOW` times as much is slow, and the reasons say what its schedule spends the rest on. After
Williams, Waterman & Patterson, "Roofline: an insightful visual performance model for multicore
architectures" (2009).
"""

from collections import Counter
from collections.abc import Mapping
from math import prod

from ....classes import dataclass
from ....expr import expr as s
from ....expr.expr import Buffer
from ....ir.bounds import size_hint
from ....kernels.kernel import Kernel
from ....kernels.machine import Machine
from ....kernels.online import values_once
from ....kernels.work import data_of, extent_of, store_axes, touched_bytes
from .base import Schedule
from .cost_model import (
    ALONE,
    CALL,
    LOAD,
    WRITES,
    all_traffic,
    core_of,
    cost,
    primitive_cycles,
    traffic_ns,
    walk_cycles,
)

SLOW = 2.0  # times the least: what is above is said
AGAIN = "memory is read again, from farther than the first-level cache"
SCATTERED = "memory is touched in short pieces, or in more places than a core foresees"
PAGES = "pages of memory that lie apart are looked for"
TURNS = "it moves as much as it computes, and the two overlap in part"
SHARE = 0.1  # of the predicted time: reasons with less are not named


@dataclass(frozen=True)
class Roofline:
    """`least` and `predicted` are ns on one thread; `reasons` are what the schedule spends time on
    that the least has not, with their shares of the predicted time, the largest first."""

    least: float
    predicted: float
    reasons: tuple[tuple[str, float], ...]

    @property
    def factor(self) -> float:
        """The predicted time by the least."""
        return self.predicted / self.least

    @property
    def is_slow(self) -> bool:
        """Whether the compiler should say so."""
        return self.factor > SLOW


def roofline(
    kernel: Kernel,
    plan: Schedule,
    target: Machine,
    between: int | None = None,
    since: Mapping[Buffer, int] | None = None,
) -> Roofline:
    """What a scheduled kernel takes, beside what it takes at least. `between` and `since` are those
    of `cost`."""
    clock, since = core_of(target).rate, since or {}
    kept = set(plan.params(kernel)) if plan.packs else set(kernel.params)
    touched = []
    for b, (read, written) in touched_bytes(kernel).items():
        nbytes = size_hint(b.type.nbytes)
        passed = since.get(b, 0) if b in kept else between or 0
        touched.append((read + WRITES * written, max(nbytes, passed)))
    needed, fewest = least_cycles(kernel, target), traffic_ns(touched, target)
    parts: Counter[str] = Counter()
    for reason, cycles in plan.parts(kernel, target):
        parts[reason] += cycles
    parts[PAGES] += walk_cycles(kernel, plan, between)
    traffic = [
        traffic_ns(all_traffic(kernel, plan, target, between, since, foreseen), target)
        for foreseen in (True, False)
    ]
    wanted, moved = (max(fewest, ns) for ns in traffic)
    predicted = cost(kernel, plan, target, between, since)
    # The lesser one of arithmetic and traffic counts as far as the two do not overlap.
    computed = sum(parts.values()) / clock
    of_cycles, of_bytes = (1.0, ALONE) if computed >= moved else (ALONE, 1.0)
    parts[plan.spends] += max(0.0, parts.pop("", 0.0) - needed)
    spent = Counter({reason: n / clock * of_cycles for reason, n in parts.items()})
    spent[AGAIN] += (wanted - fewest) * of_bytes
    spent[SCATTERED] += max(0.0, moved - wanted) * of_bytes
    spent[TURNS] += ALONE * min(needed / clock, fewest)
    shares = tuple((r, ns / predicted) for r, ns in spent.most_common() if ns >= SHARE * predicted)
    return Roofline(CALL + max(needed / clock, fewest), predicted, shares)


def least_cycles(kernel: Kernel, target: Machine) -> float:
    """Cycles of a kernel's operations on data in full vectors, and of its loads and stores where
    each element is moved once. A multiply-add is one operation; finding places costs nothing."""
    values = values_once(kernel)
    data, units = data_of(values), core_of(target).units
    added = {
        e.args[0]
        for e in s.walk(*values)
        if e.op == "reduce" and e.data[0] == "sum" and e.args[0].op == "mul"
    }
    moved: Counter = Counter()
    total = 0.0
    for e in s.walk(*values):
        if e.op in ("const", "axis", "size") or e in added:
            continue
        if e.op == "load":
            moved[e.data] += extent_of(e.free)
        elif e in data:
            axes = e.free | frozenset(e.data[1]) if e.op == "reduce" else e.free
            bits = max(8, e.dtype.bits)
            lanes = target.lanes(bits)
            cycles = 1 / units if e.op == "reduce" else primitive_cycles(e.op, bits, lanes)
            total += extent_of(axes) / lanes * cycles
    for buffer, count in moved.items():
        elements = min(count, size_hint(prod(buffer.shape)))
        total += elements / target.lanes(max(8, buffer.dtype.bits)) * LOAD
    for st in kernel.stores:
        total += extent_of(store_axes(st)) / target.lanes(max(8, st.buffer.dtype.bits)) * LOAD
    return total
