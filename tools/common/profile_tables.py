"""A profile and a peak, as tables and as data: for `run --profile`, `bench --profile`, `--peak`."""

from collections.abc import Sequence
from dataclasses import replace

from ...runtime.profiling.peak import Peak, Rate
from ...runtime.profiling.profile import KernelTime, Profile
from .tables import Cell, Column, duration, operations, print_table, size
from .terminal import Console

ROWS = 40  # kernels that are printed; data has all of them
LOST = 0.05  # share of the time without a core, beyond waiting, from which it is worth a note
WAITS = 0.5  # share of the time that the first thread waits, from which threads do not pay
BEYOND = 1.05  # share of peak from which the peak was measured on a busy machine
PARTS = {
    "waiting_ms": ("(waiting)", "the first thread waits for the others"),
    "outside_ms": ("(outside)", "before and after the kernels: Python, new arrays, waking threads"),
    "rest_ms": ("(rest)", "interruptions by other programs"),
}
CALLBACK = "host callback"  # the schedule of what has none
KERNEL = "the ops that it fuses, in order; × n: n kernels that share this code"
WORDS = (
    ("check", "looks whether indices are in range"),
    ("impossible", "stands for the result of a branch that must not be taken"),
    ("copy", "from one place to another"),
    ("zero", "sets memory to zero"),
)
NODES = "nodes of the model that the kernel was made from"
COLUMNS = (
    Column("time", "of all its calls in one run; with several threads, of the first one"),
    Column("share", "of the run without (rest)"),
    Column("predicted", "what the compiler's cost model expects", rank=2),
    Column("GFLOP/s", "arithmetic operations a second", rank=1),
    Column("of peak", "that rate, of the f32 multiply-adds that the cores were measured to do"),
    Column("moved", "bytes read and written at least", rank=4),
    Column("flop/byte", "operations per byte of these: where it is low, memory decides", rank=5),
    Column("calls", "in one run", rank=6),
    Column("kernel", KERNEL, right=False, words=(*WORDS, *PARTS.values())),
    Column("schedule", "how it is compiled", right=False, rank=3),
    Column("nodes", NODES, right=False),
)


def legend() -> tuple[tuple[str, str], ...]:
    """What the names of schedules mean, and the words that describe them. Loads the code generator,
    which is there where something was scheduled."""
    from ...compiler.backends.llvm.kernel.schedule_kinds import SCHEDULES

    kinds = [(kind.name, kind.meaning) for kind in SCHEDULES]
    return tuple(dict.fromkeys((*kinds, *(word for kind in SCHEDULES for word in kind.words))))


def with_schedules(columns: Sequence[Column]) -> list[Column]:
    """The columns, with a legend for the one of schedules."""
    words = (*legend(), (CALLBACK, "called in Python, not compiled"))
    return [replace(c, words=words) if c.heading == "schedule" else c for c in columns]


def profile_data(profile: Profile, peak: Peak) -> dict:
    """The profile as plain data, kernels that do the same for the same nodes in one row.

    Times in ms per run; shares are of `own_ms`, the sum without the rest; `of_peak` compares
    with the measured f32 peak of as many threads. Where a kernel seems faster than the cores can
    be (`beyond_peak`), the peak was measured on a busy machine, and nothing is compared with it.
    """
    own = profile.total - profile.rest
    gflops = peak.gflops / peak.threads * profile.threads
    rows = kernel_rows(profile.kernels, own, gflops)
    beyond = max((row["of_peak"] for row in rows), default=0) > BEYOND
    return {
        "threads": profile.threads,
        "runs": {"ordinary": profile.ordinary, "stamped": profile.timestamped},
        "busy": profile.busy,
        "wall_ms": profile.wall / 1e6,
        "sum_ms": profile.total / 1e6,
        "own_ms": own / 1e6,
        "sum_to_wall": profile.total / profile.wall,
        "predicted_ms": profile.predicted / 1e6,
        "waiting_ms": profile.waiting / 1e6,
        "outside_ms": profile.outside / 1e6,
        "rest_ms": profile.rest / 1e6,
        "peak_gflops": gflops,
        "beyond_peak": beyond,
        "kernels": [row | {"of_peak": None} for row in rows] if beyond else rows,
    }


def kernel_rows(kernels: Sequence[KernelTime], total: float, peak: float) -> list[dict]:
    """A row per kernel and nodes, the longest first. `total`, what shares are of, is in ns, `peak`
    in GFLOP/s."""
    groups: dict[tuple, list[KernelTime]] = {}
    for k in kernels:
        code, schedule = None, CALLBACK
        if k.code is not None:
            code, schedule = k.code.name, k.code.schedule.name
        groups.setdefault((k.name, schedule, code, k.origins), []).append(k)
    rows = [_row(*key, steps, total, peak) for key, steps in groups.items()]
    return sorted(rows, key=lambda row: -row["ms"])


def _row(
    name: str, schedule: str, code: str | None, origins, steps: list[KernelTime], total, peak
) -> dict:
    ns = sum(k.ns for k in steps)
    works = [k.work for k in steps if k.work is not None]
    flops, moved = sum(w.flops for w in works), sum(w.bytes for w in works)
    rate = flops / ns if ns else 0.0
    return {
        "kernel": name,
        "schedule": schedule,
        "code": code,
        "nodes": list(origins),
        "steps": len(steps),
        "calls": sum(k.calls for k in steps),
        "ms": ns / 1e6,
        "share": ns / total if total else 0.0,
        "predicted_ms": sum(k.predicted for k in steps) / 1e6,
        "flops": flops,
        "bytes": moved,
        "intensity": flops / moved if moved else 0.0,
        "gflops": rate,
        "gbytes_per_s": moved / ns if ns else 0.0,
        "of_peak": rate / peak,
    }


def print_profile(data: dict, out: Console) -> None:
    """The kernels as a table; below it how the sum, an ordinary run and the prediction compare."""
    rows, beyond = data["kernels"], data["beyond_peak"]
    shown = equal_rows(rows, None if beyond else data["peak_gflops"])
    cells = [_cells(row) for row in shown[:ROWS]]
    if len(shown) > ROWS:
        ms = sum(row["ms"] for row in shown[ROWS:])
        cells.append(_part(ms, data, f"({len(shown) - ROWS} more kernels)"))
    cells += [_part(data[key], data, name) for key, (name, _) in PARTS.items()]
    if all(row["calls"] == row["steps"] for row in shown):  # only loops call more often
        cells = [[*c[:7], "", *c[8:]] for c in cells]
    out.print()
    print_table(out, with_schedules(COLUMNS), cells)
    flops = sum(row["flops"] for row in rows)
    rate = flops / data["own_ms"] / 1e6
    out.print(
        f"\nsum {duration(data['sum_ms'])}, an ordinary run {duration(data['wall_ms'])} "
        f"(sum / run {data['sum_to_wall']:.2f}); predicted {duration(data['predicted_ms'])}"
    )
    runs, kernels = data["runs"], sum(row["calls"] for row in rows)
    of_peak = "" if beyond else f", {rate / data['peak_gflops']:.0%} of {data['peak_gflops']:.1f}"
    out.print(
        f"{operations(flops)} in {kernels} kernels: {rate:.1f} GFLOP/s{of_peak}; "
        f"threads: {data['threads']}; 25th percentiles of {runs['stamped']} runs with timestamps "
        f"and {runs['ordinary']} without",
        style="dim",
    )
    if beyond:
        out.print(
            "note: the machine was busy while its peak was measured: shares are left out",
            style="yellow",
        )
    waits = data["waiting_ms"] / data["sum_ms"]
    if data["threads"] > 1 and waits > WAITS:
        out.print(
            f"note: threads wait for each other {waits:.0%} of the time: another program uses the "
            "cores, or the model is small; try --threads 1",
            style="yellow",
        )
    lost = 1 - data["busy"] - data["waiting_ms"] / data["sum_ms"]
    if lost > LOST:
        out.print(
            f"note: other programs had the core for {lost:.0%} of the time; "
            "long kernels seem longer than they are",
            style="yellow",
        )


def equal_rows(rows: Sequence[dict], peak: float | None) -> list[dict]:
    """A row for all kernels with the same code, whatever nodes they were made from, the longest
    first; `nodes` are those of the first."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["kernel"], row["schedule"], row["code"]), []).append(row)
    return sorted((_together(group, peak) for group in groups.values()), key=lambda r: -r["ms"])


def _together(group: list[dict], peak: float | None) -> dict:
    added = ("steps", "calls", "ms", "share", "predicted_ms", "flops", "bytes")
    total = group[0] | {key: sum(row[key] for row in group) for key in added}
    ms, flops, moved = total["ms"], total["flops"], total["bytes"]
    rate = flops / ms / 1e6 if ms else 0.0
    return total | {
        "gflops": rate,
        "intensity": flops / moved if moved else 0.0,
        "of_peak": None if peak is None else rate / peak,
    }


def _part(ms: float, data: dict, name: str) -> list[Cell]:
    return [duration(ms), f"{ms / data['own_ms']:.1%}", *[""] * 6, name, "", ""]


def _cells(row: dict) -> list[Cell]:
    compiled = row["code"] is not None
    return [
        duration(row["ms"]),
        f"{row['share']:.1%}",
        duration(row["predicted_ms"]) if compiled else "",
        f"{row['gflops']:.1f}" if compiled else "",
        f"{row['of_peak']:.0%}" if compiled and row["of_peak"] is not None else "",
        size(row["bytes"]) if compiled else "",
        f"{row['intensity']:.1f}" if compiled else "",
        str(row["calls"]),
        counted(row["kernel"], row["steps"]),
        row["schedule"],
        tuple(row["nodes"]),
    ]


def counted(name: str, count: int) -> str:
    """matmul+gelu × 12"""
    return name if count == 1 else f"{name} × {count}"


def print_peak(peak: Peak, out: Console) -> None:
    """Peak arithmetic and bandwidths in a line each."""
    cores = "one core" if peak.threads == 1 else f"{peak.threads} cores"
    out.print(f"Peak of {cores}", style="bold")
    what = f"multiply-adds in registers, {peak.accumulators} × {peak.vector}"
    out.print(f"  {_rate(peak.flops, 'GFLOP/s')}  {what}")
    for level, rate in peak.reads.items():
        size = peak.sizes[level] / 2**20
        each = "" if peak.threads == 1 else " each"
        out.print(f"  {_rate(rate, 'GB/s   ')}  read from {level} ({size:.0f} MiB{each})")


def _rate(rate: Rate, unit: str) -> str:
    low_high = f"({rate.low:.1f}–{rate.high:.1f})"
    return f"{rate.median:7.1f} {unit} {low_high:15s} {rate.slices} slices"
