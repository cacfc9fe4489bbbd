"""`tessel explain`: what the compiler did with a model, what it declined, and why."""

from collections import Counter
from collections.abc import Sequence

import click
from rich.text import Text

from .. import compile as compile_model
from ..compiler.backends.llvm.schedules.roofline import SLOW, Roofline
from ..compiler.classes import dataclass
from ..compiler.ir.graph import Graph
from ..compiler.kernels.kernel import HostCallback, walk_steps
from ..compiler.passes.base import Report
from ..runtime.base.build import Built
from ..runtime.execution.executable import Executable
from ..runtime.execution.structured import Structured
from .common.activity import Activity
from .common.given import Given
from .common.interface import of_executable
from .common.models import (
    MODEL,
    given_for,
    level_option,
    open_for,
    passes_option,
    precision_option,
    quantize_option,
    shapes_option,
    target_option,
    tune_option,
    tuning_for,
    values_option,
)
from .common.profile_tables import KERNEL, NODES, WORDS, counted, with_schedules
from .common.structures import is_plain
from .common.tables import (
    Column,
    console,
    duration,
    print_list,
    print_rest,
    print_table,
    short,
    size,
)
from .common.terminal import Console
from .compare import against_option, explain_against

EPILOG = """\b
Examples:
  tessel explain model.onnx
  tessel explain model.onnx --shapes ids:1x128 --all
  tessel explain int8.onnx --against model.onnx --inputs x.npz
"""
ROWS = 25  # of a table, without --all
EXAMPLE = 60  # columns of the name of a node
SHOWN = 0.01  # of a run: a slow kernel that takes less is left out, without --all
COLUMNS = (
    Column("predicted", "time in one run on one thread, by the compiler's cost model"),
    Column("share", "of the whole run"),
    Column("of least", "predicted time by the least that its operations and bytes allow", rank=3),
    Column("calls", "in one run: kernels in loops are called again", rank=1),
    Column("kernel", KERNEL, right=False, words=WORDS),
    Column("schedule", "how it is compiled", right=False, rank=2),
    Column("nodes", NODES, right=False),
)


@click.command(epilog=EPILOG)
@click.argument("model", type=MODEL)
@shapes_option
@values_option
@target_option
@level_option
@passes_option
@precision_option
@quantize_option
@against_option("The model that MODEL was quantized from: which kernels err, and how much.")
@click.option("--strict", is_flag=True, help="Refuse what would run outside compiled code.")
@click.option(
    "--all",
    "whole",
    is_flag=True,
    help="Every kernel and every value, and which schedules were refused.",
)
@tune_option
def explain(model, shapes, inputs, target, whole, tune, against, **options):
    """Say what the compiler does with MODEL (.onnx, .graph or .tsl): what each pass changed, what
    fused into which kernel, what almost matched and why it did not, what runs outside."""
    if against is not None:
        explain_against(model, against, inputs, shapes, console(), whole)
        return
    with Activity(f"reading {model}") as activity:
        graph = open_for(model, shapes, given_for(model, inputs))
        tune = tuning_for(model, tune, target)
        exe = compile_model(graph, target=target, tune=tune, progress=activity, **options)
        representative(exe)  # compiled now, so that it is said how far that is
    print_explanation(exe, console(), whole)


def print_explanation(exe: Executable, out: Console, whole: bool = False) -> None:
    """Everything that is known of how `exe` was compiled; kernels are those of guessed sizes where
    dims are dynamic."""
    heading(out, "Signature")
    for p in exe.inputs:
        out.print(f"  in   {p}")
    for p in exe.outputs:
        out.print(f"  out  {p}")
    for o, i in exe.signature.updates.items():
        out.print(f"  {exe.outputs[o].name} is written over {exe.inputs[i].name}")
    if exe.report is not None:
        print_report(exe.report, out, whole)
    built = representative(exe)
    if exe.signature.symbols:
        sizes = ", ".join(f"{k}={v}" for k, v in built.binding.items())
        one = "one program serves all sizes; " if exe.for_all_sizes is not None else ""
        out.print(f"\nDynamic dims: {one}what follows is for {sizes}", style="dim")
    for number, stage in enumerate(built.stages):
        heading(
            out,
            f"Stage {number + 1} of {len(built.stages)}",
            "a program of its own, as data decides the shapes after it",
        )
        print_explanation(stage, out, whole)
    if built.program is not None:
        print_kernels(exe, built, out, whole)
        if whole:
            print_refusals(built, out)
        print_tuning_records(exe, built, out)
        print_reasons(built, out, whole)
        print_host_callbacks(built, out)


def representative(exe: Executable) -> Built:
    """The latest specialization; where there is none, one for sizes that are guessed."""
    if exe.specializations:
        built = exe.specializations[-1]
        return exe.fixed(built.binding) if built.is_dynamic else built
    if isinstance(exe, Structured) and exe.alone is not None:
        exe = exe.alone
    interface = of_executable(exe)
    if is_plain(exe.signature.inputs):
        return exe.fixed(interface.guess({}).sizes)
    exe.ready(interface.feeds(Given(), 0, {}))
    return representative(exe)


def heading(out: Console, text: str, meaning: str = "") -> None:
    """A line in bold, and what follows it means."""
    out.print()
    out.print(Text(text, style="bold") + Text(f": {meaning}" if meaning else "", style="dim"))


def print_report(report: Report, out: Console, whole: bool) -> None:
    heading(out, "Rewrites", "equations that were applied to the graph, and where first")
    counts = Counter(a.rule for a in report.applied)
    first: dict[str, str] = {}
    for a in report.applied:
        if a.where:
            first.setdefault(a.rule, short(a.where, EXAMPLE))
    print_list(out, [(n, _example(rule, first.get(rule))) for rule, n in counts.most_common()])
    if not counts:
        out.print("  none")
    declined = Counter((d.rule, d.reason) for d in report.declined)
    if declined:
        heading(out, "Near misses", "rewrites whose pattern was found, and why they were declined")
        where: dict[tuple, str] = {}
        for d in report.declined:
            where.setdefault((d.rule, d.reason), d.where)
        print_list(
            out,
            [
                (n, f"{rule}\n{_example('  ' + reason, short([where[rule, reason]], EXAMPLE))}")
                for (rule, reason), n in cut(declined.most_common(), whole)
            ],
        )
        print_rest(out, rest(len(declined), whole))
    seconds = sum(report.seconds.values())
    out.print(f"  passes took {duration(1e3 * seconds)}", style="dim")


def _example(text: str, where: str | None) -> str:
    return f"{text}   (first at {where})" if where else text


def cut(rows: Sequence, whole: bool) -> Sequence:
    """The rows that are printed."""
    return rows if whole else rows[:ROWS]


def rest(count: int, whole: bool) -> str:
    """How many rows were left out, if any."""
    return "" if whole or count <= ROWS else f"  … and {count - ROWS} more (--all)"


def print_kernels(exe: Executable, built: Built, out: Console, whole: bool) -> None:
    heading(out, "Kernels", "pieces of compiled code that run one after the other")
    rows = kernel_rows(exe, built)
    total = sum(row.ms for row in rows)
    loops = any(row.calls != row.count for row in rows)
    print_table(
        out,
        with_schedules(COLUMNS),
        [
            [
                *(r.figures(total) if total else ("", "", "")),
                str(r.calls) if loops else "",
                counted(r.kernel, r.count),
                r.schedule,
                r.origins,
            ]
            for r in cut(rows, whole)
        ],
        rest(len(rows), whole),
    )
    if total:
        out.print(
            f"\npredicted: {duration(total)} on one thread (tessel run --profile measures it)"
        )
    print_slow(rows, total, out, whole)
    nodes = _count(built.graph)
    weights = sum(a.nbytes for a in built.program.weights)
    count = sum(row.calls for row in rows)
    out.print(
        f"{nodes} nodes in {count} kernels; intermediate values "
        f"{size(built.program.arena)}, weights {size(weights)}",
        style="dim",
    )


def _count(graph: Graph) -> int:
    """The nodes of a graph that compute something, also those of its regions."""
    inner = sum(_count(region) for node in graph.nodes for _, region in node.regions())
    return inner + sum(n.op.name != "constant" for n in graph.nodes)


def print_slow(rows: Sequence["Row"], total: float, out: Console, whole: bool) -> None:
    """Which kernels run far below what the machine could do, and why; the longest first."""
    slow = [r for r in rows if r.roofline is not None and r.roofline.is_slow]
    if not whole:
        slow = [r for r in slow if r.ms >= SHOWN * total]
    heading(
        out,
        "Slow kernels",
        f"predicted to take over {SLOW:g} times what their operations and bytes allow",
    )
    print_list(out, [(r.count, _example(r.reason(), short(r.origins, EXAMPLE))) for r in slow])
    if not slow:
        out.print("  none" + ("" if whole else f" that takes {SHOWN:.0%} of a run or more"))


@dataclass
class Row:
    """Kernels with the same code: how many, their predicted ms and calls, nodes and the roofline of
    the first."""

    kernel: str
    schedule: str
    origins: tuple[str, ...]
    roofline: Roofline | None = None
    count: int = 0
    ms: float = 0.0
    calls: int = 0

    def add(self, ms: float, calls: int) -> None:
        self.count += 1
        self.ms += ms
        self.calls += calls

    def figures(self, total: float) -> tuple[str, str, str]:
        """Predicted time, its share of the `total`, and how far from the least it is."""
        factor = "" if self.roofline is None else f"{self.roofline.factor:.1f}×"
        return duration(self.ms), f"{self.ms / total:.1%}", factor

    def reason(self) -> str:
        """pool: 6.3× the least, because …"""
        shares = [f"{reason} ({share:.0%})" for reason, share in self.roofline.reasons]
        because = f", because {'; '.join(shares)}" if shares else ""
        return f"slow: {self.kernel}, {self.roofline.factor:.1f}× the least{because}"


def kernel_rows(exe: Executable, built: Built) -> list[Row]:
    """A row for all kernels with the same code, the longest first."""
    predicted = exe.target.predict(built.code)
    rows: dict[tuple, Row] = {}
    if predicted is None:
        for call in built.program.kernels():
            kernel = call.kernel
            row = rows.setdefault(
                (kernel.name, kernel.text()), Row(kernel.name, "", kernel.origins)
            )
            row.add(0.0, 1)
        return list(rows.values())
    for p in predicted:
        code, kernel = p.step.code, p.step.call.kernel
        row = rows.get((kernel.name, code.name))
        if row is None:
            row = Row(kernel.name, describe_schedule(code), kernel.origins, p.roofline)
            rows[kernel.name, code.name] = row
        row.add(p.ns * p.rounds / 1e6, p.rounds)
    return sorted(rows.values(), key=lambda row: -row.ms)


def describe_schedule(code) -> str:
    """contract: tile 14×32, A direct, B constant / nest: lanes 16"""
    return f"{code.schedule.name}: {code.schedule}"


def print_refusals(built: Built, out: Console) -> None:
    """Why kernels did not get the schedules that are asked before theirs."""
    plan = getattr(built.code, "plan", None)
    if plan is None:
        return
    counts: Counter = Counter()
    example: dict[tuple, tuple] = {}
    for code in plan.codes.values():
        for name, refusal in code.refused.items():
            counts[name, refusal.reason] += 1
            example.setdefault((name, refusal.reason), code.kernel.origins)
    if not counts:
        return
    heading(out, "Schedules that were refused", "asked for before the one that a kernel has")
    print_list(
        out,
        [
            (n, _example(f"{name}: {reason}", short(example[name, reason], EXAMPLE)))
            for (name, reason), n in counts.most_common()
        ],
    )


def print_tuning_records(exe: Executable, built: Built, out: Console) -> None:
    """Which kernels have measured schedules, and how much faster than the default ones they were;
    nothing where none were asked for."""
    tuning = exe.target.tuning
    plan = getattr(built.code, "plan", None)
    if tuning is None or plan is None:
        return
    heading(out, "Tuned schedules", "measured to be faster here than the default ones")
    for note in tuning.notes:
        out.print(f"  {note}", style="dim")
    found = [code for code in plan.codes.values() if code.tuning_record is not None]
    for code in sorted(found, key=lambda c: -c.tuning_record.gain):
        gain, choice = code.tuning_record.gain, code.tuning_record.choice
        origins = short(code.kernel.origins, EXAMPLE)
        out.print(f"  {code.kernel.name}: {gain:.2f}× as fast by {choice}   {origins}")
    if not found:
        out.print("  none: every kernel has its default schedule")


def print_reasons(built: Built, out: Console, whole: bool) -> None:
    """Why values have memory rather than being computed inside their readers."""
    reasons: Counter = Counter()
    example: dict[str, str] = {}
    for fusion in built.program.fusions:
        for value, reason in fusion.reasons.items():
            if reason not in ("constant", "it is a constant"):
                reasons[reason] += 1
                where = value.node.where if value.node is not None else value.name
                example.setdefault(reason, where)
    heading(out, "Kept in memory, not fused", "why values are not computed inside their readers")
    print_list(
        out,
        [
            (n, _example(reason, short([example[reason]], EXAMPLE)))
            for reason, n in cut(reasons.most_common(), whole)
        ],
    )
    print_rest(out, rest(len(reasons), whole))
    if not reasons:
        out.print("  nothing")


def print_host_callbacks(built: Built, out: Console) -> None:
    heading(out, "Host callbacks", "what runs in Python, outside compiled code, and why")
    found: Counter = Counter()
    where: dict[str, str] = {}
    for step in walk_steps(built.program.steps):
        if isinstance(step, HostCallback):
            found[step.op] += 1
            where.setdefault(step.op, step.origin)
    print_list(
        out,
        [
            (n, _example(f"{op}: {host_callback_reason(op)}".removesuffix(": "), where[op]))
            for op, n in found.items()
        ],
    )
    if not found:
        out.print("  none")


def host_callback_reason(op: str) -> str:
    from ..compiler.ir import op as registry
    from ..compiler.ir.host_callbacks import STRINGS

    return getattr(registry.get(op).loops, "reason", STRINGS)
