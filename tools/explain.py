"""`tessel explain`: what the compiler did with a model, what it declined, and why."""

from collections import Counter

import click

from .. import compile as compile_model
from ..compiler.loops.nest import ExternCall, walk_steps
from ..compiler.passes.base import Report
from ..runtime.build import Built, CpuTarget
from ..runtime.executable import Executable
from ..runtime.structured import Structured
from .activity import Activity
from .forms import is_plain
from .given import Given
from .interface import of_executable
from .models import (
    MODEL,
    console,
    given_for,
    level_option,
    open_for,
    shapes_option,
    short,
    size,
    table,
    target_option,
    tune_option,
    tuning_for,
    values_option,
)
from .profile import schedule_name
from .terminal import Console

EPILOG = """\b
Examples:
  tessel explain model.onnx
  tessel explain model.onnx --shapes ids:1x128 --all
"""
ROWS = 25  # of a table, without --all


@click.command(epilog=EPILOG)
@click.argument("model", type=MODEL)
@shapes_option
@values_option
@target_option
@level_option
@click.option("--strict", is_flag=True, help="Refuse what would run outside compiled code.")
@click.option("--all", "whole", is_flag=True, help="Every kernel and every value.")
@tune_option
def explain(model, shapes, inputs, target, opt_level, strict, whole, tune):
    """Say what the compiler does with MODEL (.onnx, .graph or .tsl): what each pass changed, what
    fused into which kernel, what almost matched and why it did not, what runs outside."""
    with Activity(f"reading {model}") as activity:
        graph = open_for(model, shapes, given_for(model, inputs))
        tune = tuning_for(model, tune, target)
        exe = compile_model(
            graph, target=target, opt_level=opt_level, strict=strict, tune=tune, progress=activity
        )
        representative(exe)  # compiled now, so that it is said how far that is
    print_explanation(exe, console(), whole)


def print_explanation(exe: Executable, out: Console, whole: bool = False) -> None:
    """Everything that is known of how `exe` was compiled; kernels are those of guessed sizes where
    dims are open."""
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
        one = "one piece of code serves all sizes; " if exe.for_all_sizes is not None else ""
        out.print(f"\nOpen dims: {one}what follows is for {sizes}", style="dim")
    for number, stage in enumerate(built.stages):
        heading(out, f"Stage {number} of {len(built.stages)}: data decides sizes of the next")
        print_explanation(stage, out, whole)
    if built.program is not None:
        print_kernels(exe, built, out, whole)
        print_refusals(built, out, whole)
        print_winners(exe, built, out)
        print_reasons(built, out, whole)
        print_externs(built, out)


def representative(exe: Executable) -> Built:
    """The latest specialisation; where there is none, one for sizes that are guessed."""
    if exe.specializations:
        built = exe.specializations[-1]
        return exe.fixed(built.binding) if built.is_open else built
    if isinstance(exe, Structured) and exe.alone is not None:
        exe = exe.alone
    interface = of_executable(exe)
    if is_plain(exe.signature.inputs):
        return exe.fixed(interface.guess({}).sizes)
    exe.ready(interface.feeds(Given(), 0, {}))
    return representative(exe)


def heading(out: Console, text: str) -> None:
    out.print(f"\n{text}", style="bold")


def print_report(report: Report, out: Console, whole: bool) -> None:
    heading(out, "Rewrites")
    counts = Counter(a.rule for a in report.applied)
    for rule, n in counts.most_common():
        places = [a.where for a in report.applied if a.rule == rule and a.where]
        example = f"   {short(places[0], 50)}" if places else ""
        out.print(f"  {n:5d} × {rule}{example}")
    if not counts:
        out.print("  none")
    declined = Counter((d.rule, d.reason) for d in report.declined)
    if declined:
        heading(out, "Near misses")
        for (rule, reason), n in cut(declined.most_common(), whole, out):
            first = next(d.where for d in report.declined if (d.rule, d.reason) == (rule, reason))
            out.print(f"  {n:5d} × {rule}: {reason}   {short([first], 50)}")
    seconds = sum(report.seconds.values())
    out.print(f"  passes took {1e3 * seconds:.0f} ms", style="dim")


def cut(rows, whole: bool, out: Console):
    """The first rows, and how many were left out."""
    rows = list(rows)
    yield from rows if whole else rows[:ROWS]
    if not whole and len(rows) > ROWS:
        out.print(f"  … and {len(rows) - ROWS} more (--all)", style="dim")


def print_kernels(exe: Executable, built: Built, out: Console, whole: bool) -> None:
    heading(out, "Kernels")
    rows = kernel_rows(exe, built)
    t = table("ms", "share", "calls", "kernel", "schedule", "nodes", right="ms,share,calls")
    total = sum(row[0] for row in rows)
    for ms, calls, name, schedule, origins in rows if whole else rows[:ROWS]:
        shown = (f"{ms:.4f}", f"{ms / total:.1%}") if ms else ("-", "-")
        t.add_row(*shown, str(calls), name, schedule, short(origins, 70))
    out.print(t)
    if not whole and len(rows) > ROWS:
        out.print(f"… and {len(rows) - ROWS} more (--all)", style="dim")
    if total:
        out.print(f"predicted: {total:.3f} ms on one thread (measured: tessel run --profile)")
    nodes = sum(n.op.name != "constant" for n in built.graph.nodes)
    weights = sum(a.nbytes for a in built.program.weights)
    count = sum(row[1] for row in rows)
    out.print(
        f"{nodes} nodes in {count} kernels; arena {size(built.program.arena)}, "
        f"weights {size(weights)}", style="dim",
    )  # fmt: skip


def kernel_rows(exe: Executable, built: Built) -> list[tuple]:
    """(predicted ms in all, calls, kernel, schedule, nodes), the longest first."""
    plan = getattr(built.code, "plan", None)
    if not isinstance(exe.target, CpuTarget) or plan is None:
        calls = Counter((c.kernel.name, c.kernel.origins) for c in built.program.kernels())
        return [(0.0, n, name, "", origins) for (name, origins), n in calls.items()]
    from ..compiler.backends.llvm.predict import predict

    found: dict[tuple, list] = {}
    for p in predict(plan, exe.target.machine):
        code = p.step.code
        row = found.setdefault((code.name, p.step.call.kernel.origins), [0.0, 0, code])
        row[0] += p.ns * p.rounds / 1e6
        row[1] += p.rounds
    rows = [
        (ms, calls, schedule_name(code), str(code.schedule), origins)
        for (_, origins), (ms, calls, code) in found.items()
    ]
    return sorted(rows, key=lambda row: -row[0])


def print_refusals(built: Built, out: Console, whole: bool) -> None:
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
    heading(out, "Schedules that were refused")
    for (name, reason), n in cut(counts.most_common(), whole, out):
        out.print(f"  {n:5d} × {name}: {reason}   {short(example[name, reason], 50)}")


def print_winners(exe: Executable, built: Built, out: Console) -> None:
    """Which kernels have measured schedules, and how much faster than the default ones they were;
    nothing where none were asked for."""
    tuning = getattr(exe.target, "tuning", None)
    plan = getattr(built.code, "plan", None)
    if tuning is None or plan is None:
        return
    heading(out, "Tuned schedules")
    for note in tuning.notes:
        out.print(f"  {note}", style="dim")
    found = [code for code in plan.codes.values() if code.winner is not None]
    for code in sorted(found, key=lambda c: -c.winner.gain):
        gain, choice = code.winner.gain, code.winner.choice
        origins = short(code.kernel.origins, 50)
        out.print(f"  {schedule_name(code)}: {gain:.2f}× as fast by {choice}   {origins}")
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
    heading(out, "Kept in memory, not fused")
    for reason, n in cut(reasons.most_common(), whole, out):
        out.print(f"  {n:5d} × {reason}   {short([example[reason]], 50)}")
    if not reasons:
        out.print("  nothing")


def print_externs(built: Built, out: Console) -> None:
    heading(out, "Outside compiled code")
    found = [s for s in walk_steps(built.program.steps) if isinstance(s, ExternCall)]
    for step in found:
        out.print(f"  {step.op}   {step.origin}   {extern_reason(step.op)}".rstrip())
    if not found:
        out.print("  nothing")


def extern_reason(op: str) -> str:
    from ..compiler.ops import registry
    from ..compiler.ops.python import STRINGS

    return getattr(registry.get(op).loops, "reason", STRINGS)
