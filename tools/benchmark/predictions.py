"""`tessel bench --predictions`: what kernels take beside what the cost model expects of them.

    measure_kernels(model, exe, feeds, …)  -> [Compared], each distinct kernel once
    print_predictions(title, kernels)         how many agree, by kind of schedule; the furthest off

A kernel's time is that of its fastest run: other programs only ever make one slower, and the cost
model speaks of a core that is left alone.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from math import log

from ...compiler.classes import dataclass
from ...runtime.execution.executable import Executable
from ...runtime.profiling.profile import profile
from ..common.tables import Column, console, duration, print_table

NEAR = 1.5  # times as long, or as short, as predicted: within that, a prediction agrees
LEAST = 5e3  # ns of a kernel that is compared: what is shorter is a call and little else
SHOWN = 20  # kernels that are listed
COLUMNS = (
    Column("schedule", "how kernels are compiled", right=False),
    Column("kernels", f"distinct ones that take {LEAST / 1e3:g} µs or more"),
    Column("agree", f"share of those within {NEAR:g} times of what is predicted"),
    Column("tenth", "of the kernels have a lower ratio of predicted to measured time", rank=2),
    Column("median", "of these ratios"),
    Column("nine tenths", "have a lower one", rank=1),
)
FURTHEST = (
    Column("ratio", "predicted by measured time"),
    Column("measured", "one call, the fastest"),
    Column("predicted", "by the compiler's cost model, on one thread"),
    Column("model", "where it was met first", right=False, rank=1),
    Column("schedule", "how it is compiled", right=False, rank=2),
    Column("kernel", "the ops that it fuses, in order", right=False),
)


@dataclass(frozen=True)
class Compared:
    """A kernel that was timed: ns of one call, in the fastest run and by the cost model."""

    model: str
    kernel: str
    schedule: str
    described: str
    measured: float
    predicted: float

    @property
    def ratio(self) -> float:
        """Predicted by measured time."""
        return self.predicted / self.measured

    @property
    def off(self) -> float:
        """How many times too long or too short the prediction is."""
        return max(self.ratio, 1 / self.ratio)

    @property
    def agrees(self) -> bool:
        """Whether the prediction is near enough."""
        return self.off <= NEAR


def measure_kernels(model: str, exe: Executable, feeds: Mapping, seconds: float) -> list[Compared]:
    """The distinct kernels of a model that are long enough, on one thread.

    Half of the time goes to either clock: of short kernels some run is not interrupted, of long
    ones the thread's own time leaves others out. Raises UsageError for models in stages.
    """
    profiles = [profile(exe, feeds, seconds / 2, own_time) for own_time in (False, True)]
    alike: dict[str, list[Compared]] = {}
    for both in zip(*(p.kernels for p in profiles)):
        k, ns = both[0], min(x.fastest for x in both)
        if k.code is not None and ns >= LEAST * k.calls > 0:
            plan = k.code.schedule
            words = (model, k.name, plan.name, str(plan), ns / k.calls, k.predicted / k.calls)
            alike.setdefault(k.code.name, []).append(Compared(*words))
    # Of alike kernels memory is nearer to some: the one in the middle.
    return [sorted(g, key=lambda c: c.measured)[(len(g) - 1) // 2] for g in alike.values()]


def share(kernels: Sequence[Compared]) -> float:
    """How many of the kernels' predictions agree, of 1."""
    return sum(k.agrees for k in kernels) / len(kernels)


def print_predictions(title: str, kernels: Sequence[Compared], shown: int = SHOWN) -> None:
    """The table by kind, and the kernels that are furthest from what was predicted."""
    out = console()
    out.print(title, style="bold")
    if not kernels:
        out.print(f"no kernel takes {LEAST / 1e3:g} µs\n")
        return
    kinds: dict[str, list[Compared]] = {}
    for k in kernels:
        kinds.setdefault(k.schedule, []).append(k)
    rows = sorted(kinds.items(), key=lambda item: -len(item[1]))
    cells = [_cells(kind, group) for kind, group in rows]
    if len(rows) > 1:
        cells.append(_cells("all", kernels))
    print_table(out, COLUMNS, cells)
    off = sorted((k for k in kernels if not k.agrees), key=lambda k: -k.off)
    if off:
        out.print()
        print_table(out, FURTHEST, [_listed(k) for k in off[:shown]])
    if len(off) > shown:
        out.print(f"and {len(off) - shown} more", style="dim")
    out.print(f"{share(kernels):.0%} of {len(kernels)} kernels within {NEAR:g}×\n")


def _cells(kind: str, group: Sequence[Compared]) -> list[str]:
    ratios = [k.ratio for k in group]
    low, middle, high = _tenths(ratios)
    return [
        kind,
        str(len(group)),
        f"{share(group):.0%}",
        f"{low:.2f}",
        f"{middle:.2f}",
        f"{high:.2f}",
    ]


def _tenths(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The first and the last tenth of ratios, and the middle."""
    if len(ratios) == 1:
        return (ratios[0],) * 3
    cuts = statistics.quantiles(ratios, n=10, method="inclusive")
    return cuts[0], statistics.median(ratios), cuts[-1]


def _listed(k: Compared) -> list[str]:
    return [
        f"{k.ratio:.2f}",
        duration(k.measured / 1e6),
        duration(k.predicted / 1e6),
        k.model,
        f"{k.schedule}: {k.described}",
        k.kernel,
    ]


def report(kernels: Iterable[Compared]) -> list[dict]:
    """As plain data, for JSON: those furthest off first."""
    return [
        {
            "model": k.model,
            "kernel": k.kernel,
            "schedule": k.schedule,
            "plan": k.described,
            "measured_ns": k.measured,
            "predicted_ns": k.predicted,
        }
        for k in sorted(kernels, key=lambda k: -abs(log(k.ratio)))
    ]
