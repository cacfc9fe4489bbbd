"""`tessel compile`: a model to a package, or to any stage on the way, as text."""

import time
from contextlib import nullcontext
from pathlib import Path

import click

from .. import compile as compile_model
from ..compiler.errors import UsageError
from .common.activity import Activity
from .common.given import read_given
from .common.interface import of_executable
from .common.models import (
    MODEL,
    is_package,
    level_option,
    limits,
    open_graph,
    passes_option,
    precision_option,
    quantize_option,
    shapes_option,
    target_option,
    tune_option,
    tuning_for,
    unchecked_option,
    values_option,
)
from .common.tables import console, duration, size
from .common.terminal import write
from .emit import EMITTERS, emit

EPILOG = """\b
Examples:
  tessel compile model.onnx -o model.tsl
  tessel compile model.onnx --target cpu:x86-64-v3 --shapes x:1x3x224x224
  tessel compile model.onnx --emit graph --print-after attention
  tessel compile model.onnx --emit asm -o model.s
  tessel compile model.onnx --tune 60 -o model.tsl
"""


@click.command(epilog=EPILOG)
@click.argument("model", type=MODEL)
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Where to write.")
@target_option
@shapes_option
@values_option
@level_option
@passes_option
@precision_option
@quantize_option
@click.option(
    "--emit",
    "stage",
    type=click.Choice(["package", *EMITTERS]),
    default="package",
    show_default=True,
    help="What to write. Text goes to the terminal without -o.",
)
@click.option("--print-after", metavar="PASS", help="Print the graph after a pass, or `all`.")
@click.option("--explain", is_flag=True, help="Say what was done, as `tessel explain` does.")
@click.option(
    "--strict",
    is_flag=True,
    help="Refuse what would run outside compiled code; keep sums as they are.",
)
@unchecked_option
@click.option(
    "--verify-bounds",
    is_flag=True,
    help="Prove that the loops cannot leave their arrays; exit with 1 where there is no proof.",
)
@tune_option
def compile(
    model,
    output,
    target,
    shapes,
    inputs,
    opt_level,
    passes,
    precision,
    quantize,
    stage,
    print_after,
    explain,
    strict,
    unchecked,
    verify_bounds,
    tune,
):
    """Compile MODEL (.onnx, .graph or .tsl) to a package, or print a stage of its compilation."""
    start = time.perf_counter()
    if stage == "package" and output is None:
        output = Path(model).with_suffix(".tsl").name
        if is_package(model):
            raise UsageError("the package would replace itself", fix="give its name with -o")
    out = console()
    observer = None if print_after is None else PrintAfter(print_after)
    tuning = tuning_for(model, tune, target)
    if stage == "onnx":
        target = "numpy"  # readers of ONNX choose layouts for themselves, and need no code
    with Activity(f"reading {model}") if observer is None else nullcontext() as activity:
        plain = Path(model).suffix != ".onnx"
        source = open_graph(model, shapes) if plain or not Path(model).is_file() else model
        exe = compile_model(
            source,
            target=target,
            shapes=shapes or None if source is model else None,
            opt_level=opt_level,
            passes=passes,
            precision=precision,
            quantize=quantize,
            strict=strict,
            unchecked=unchecked,
            observer=observer,
            tune=tuning,
            verify_bounds=verify_bounds,
            limits=limits(),
            progress=activity,
            reuse=stage == "package" and not (explain or verify_bounds),
        )
        interface, given = of_executable(exe), read_given(inputs, lambda: exe.inputs)
        if given or interface.static():
            exe.ready(interface.feeds(given, None, {}, model))
    notes = console(stderr=True)
    if verify_bounds:
        notes.print(f"{exe.session.driver.verified} accesses stay inside their arrays")
    for note in [] if tuning is None else tuning.notes:
        notes.print(f"note: {note}")
    if observer is not None:
        observer.finish()
    if explain:
        from .explain import print_explanation

        print_explanation(exe, out)
    if stage != "package":
        emit(exe, stage, output)
        if output is not None:
            notes.print(f"wrote {output}: {size(Path(output).stat().st_size)}")
        return
    exe.save(output)
    spent = time.perf_counter() - start
    if not exe.specializations and exe.for_all_sizes is None:
        notes.print(
            "note: shapes are dynamic, so the package holds the graph and is compiled when it is "
            "run; give --shapes to compile now"
        )
    notes.print(f"wrote {output}: {size(Path(output).stat().st_size)}, in {duration(1e3 * spent)}")


class PrintAfter:
    """Prints the graph after the pass `name`, each time it runs."""

    def __init__(self, name: str):
        self.name = name
        self.seen: dict[str, None] = {}

    def __call__(self, action, graph, changed: bool) -> None:
        self.seen[action.name] = None
        if self.name in (action.name, "all"):
            effect = "" if changed else " (changed nothing)"
            write(f"# after {action.name}{effect}\n{graph}\n\n")

    def finish(self) -> None:
        if self.name != "all" and self.name not in self.seen:
            raise UsageError(
                f"no pass {self.name!r} in this pipeline", expected=", ".join([*self.seen, "all"])
            )
