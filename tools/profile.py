"""A profile and a peak, as tables and as data: for `run --profile`, `bench --profile`, `--peak`."""

from collections.abc import Sequence

from ..runtime.peak import Peak, Rate
from ..runtime.profile import KernelTime, Profile
from .models import short, table
from .terminal import Console

ROWS = 40  # kernels that are printed; data has all of them
LOST = 0.05  # share of the time without a core, beyond waiting, from which it is worth a note
WAITS = 0.5  # share of the time that the first thread waits, from which threads do not pay
BEYOND = 1.05  # share of peak from which the peak was measured on a busy machine
PARTS = {
    "waiting_ms": "waiting for other threads",
    "outside_ms": "outside the kernels: Python, new arrays, starting threads",
    "rest_ms": "the rest: interruptions by other programs",
}


def schedule_name(code) -> str:
    """matmul (contract), softmax (nest), …: the kernel's name and how it is scheduled."""
    return f"{code.kernel.name} ({code.schedule.name})"


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
        "runs": {"ordinary": profile.ordinary, "stamped": profile.stamped},
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
        name = f"{k.name} (Python)" if k.code is None else schedule_name(k.code)
        code = None if k.code is None else k.code.name
        groups.setdefault((name, code, k.origins), []).append(k)
    rows = [_row(*key, steps, total, peak) for key, steps in groups.items()]
    return sorted(rows, key=lambda row: -row["ms"])


def _row(name: str, code: str | None, origins, steps: list[KernelTime], total, peak) -> dict:
    ns = sum(k.ns for k in steps)
    works = [k.work for k in steps if k.work is not None]
    flops, moved = sum(w.flops for w in works), sum(w.bytes for w in works)
    rate = flops / ns if ns else 0.0
    return {
        "kernel": name,
        "code": code,
        "nodes": list(origins),
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
    rows = data["kernels"]
    numbers = "ms,share,predicted,GFLOP/s,of peak,MB,flop/byte,calls"
    t = table(*numbers.split(","), "kernel", "nodes", right=numbers)
    beyond = data["beyond_peak"]
    for row in rows[:ROWS]:
        t.add_row(*_cells(row), row["kernel"], short(row["nodes"], 60))
    if len(rows) > ROWS:
        rest = rows[ROWS:]
        ms = sum(row["ms"] for row in rest)
        t.add_row(*_part(ms, data), "", f"{len(rest)} more kernels")
    for key, text in PARTS.items():
        t.add_row(*_part(data[key], data), "", text)
    out.print()
    out.print(t)
    flops = sum(row["flops"] for row in rows)
    rate = flops / data["own_ms"] / 1e6
    out.print(
        f"sum {data['sum_ms']:.3f} ms, an ordinary run {data['wall_ms']:.3f} ms "
        f"(sum / run {data['sum_to_wall']:.2f}); predicted {data['predicted_ms']:.3f} ms"
    )
    runs, kernels = data["runs"], sum(row["calls"] for row in rows)
    of_peak = "" if beyond else f", {rate / data['peak_gflops']:.0%} of {data['peak_gflops']:.1f}"
    out.print(
        f"{flops / 1e9:.3f} GFLOP in {kernels} kernels: {rate:.1f} GFLOP/s{of_peak}; "
        f"threads: {data['threads']}; 25th percentiles of {runs['stamped']} runs with stamps and "
        f"{runs['ordinary']} without", style="dim",
    )  # fmt: skip
    if beyond:
        out.print("note: the machine was busy while its peak was measured: shares are left out",
                  style="yellow")  # fmt: skip
    waits = data["waiting_ms"] / data["sum_ms"]
    if data["threads"] > 1 and waits > WAITS:
        out.print(
            f"note: threads wait for each other {waits:.0%} of the time: another program uses the "
            "cores, or the model is small; try --threads 1", style="yellow",
        )  # fmt: skip
    lost = 1 - data["busy"] - data["waiting_ms"] / data["sum_ms"]
    if lost > LOST:
        out.print(
            f"note: other programs had the core for {lost:.0%} of the time; "
            "long kernels seem longer than they are", style="yellow",
        )  # fmt: skip


def _part(ms: float, data: dict) -> list[str]:
    return [f"{ms:.3f}", f"{ms / data['own_ms']:.1%}", *[""] * 6]


def _cells(row: dict) -> list[str]:
    cells = [f"{row['ms']:.3f}", f"{row['share']:.1%}"]
    if row["code"] is None:
        return [*cells, "", "", "", "", "", str(row["calls"])]
    return [
        *cells, f"{row['predicted_ms']:.3f}", f"{row['gflops']:.1f}",
        "" if row["of_peak"] is None else f"{row['of_peak']:.0%}",
        f"{row['bytes'] / 1e6:.2f}", f"{row['intensity']:.1f}", str(row["calls"]),
    ]  # fmt: skip


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
