"""`tessel run`: a model or package on given or random inputs."""

import time
from collections.abc import Mapping

import click
import numpy as np

from ..compiler.errors import UsageError
from ..compiler.system.files import replacing
from ..runtime.execution.executable import Executable
from ..runtime.execution.structured import Structured
from .common.activity import Activity
from .common.given import read_given
from .common.interface import of_executable
from .common.models import (
    MODEL,
    inputs_options,
    is_package,
    open_executable,
    passes_option,
    precision_option,
    quantize_option,
    shapes_option,
    target_option,
    threads_option,
    trust_option,
    unchecked_option,
)
from .common.structures import spread
from .common.tables import console, duration

EPILOG = """\b
Examples:
  tessel run model.onnx --random 0
  tessel run model.tsl --inputs in.npz -o out.npz --threads 2
  tessel run model.onnx --inputs image=cat.png --inputs 'size=[224,224]'
  tessel run model.onnx --shapes x:1x3x224x224 --profile
"""
PEAK_SECONDS = 0.3  # of measuring what the cores can do, for a profile


@click.command(epilog=EPILOG)
@click.argument("model", type=MODEL)
@inputs_options
@shapes_option
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write a .npz of outputs.")
@target_option
@threads_option
@click.option("--profile", is_flag=True, help="Time each kernel; say how near the peak it is.")
@click.option("--no-native", is_flag=True, help="Ignore a package's code; compile its graph.")
@trust_option
@unchecked_option
@passes_option
@precision_option
@quantize_option
def run(
    model,
    inputs,
    seed,
    shapes,
    output,
    target,
    threads,
    profile,
    no_native,
    trust,
    unchecked,
    passes,
    precision,
    quantize,
):
    """Run MODEL (.onnx, .graph or .tsl); inputs are random where none are given.

    Running a package (.tsl) is running the code that it carries: run what you trust, insist on who
    signed it with --trust, or leave its code alone with --no-native.
    """
    out = console()
    if is_package(model):
        said = {"unchecked": unchecked, "passes": passes, "precision": precision}
        said["quantize"] = quantize
        for option, value in said.items():
            if value:
                raise UsageError(
                    "a package's code is what it is", fix=f"say --{option} when it is compiled"
                )
    with Activity(f"reading {model}") as activity:
        # Which kernels there are is known to the compiler, not to a package.
        exe = open_executable(
            model,
            native=not (no_native or profile),
            threads=threads,
            trust=trust,
            progress=activity,
            **(
                {}
                if is_package(model)
                else {
                    "target": target,
                    "unchecked": unchecked,
                    "passes": passes,
                    "precision": precision,
                    "quantize": quantize,
                    "reuse": not profile,
                }
            ),
        )
        given = read_given(inputs, lambda: exe.inputs)
        feeds = of_executable(exe).feeds(given, seed, shapes, model)
        exe.run(feeds)
    for note in exe.notes:
        console(stderr=True).print(f"note: {note}")
    start = time.perf_counter()
    results = exe.run(feeds)
    spent = time.perf_counter() - start
    results = spread(results)
    for name, value in results.items():
        out.print(describe(name, value))
    out.print(f"one run took {duration(1e3 * spent)}, threads: {exe.threads}", style="dim")
    if output is not None:
        save(output, results)
    if profile:
        print_profile(exe, feeds, out)


def print_profile(exe: Executable, feeds: Mapping, out) -> None:
    """Where the time of a run goes, and how near each kernel comes to the peak."""
    from ..compiler.system.cores import available_cores
    from ..runtime.profiling.peak import measure_peak
    from ..runtime.profiling.profile import profile
    from .common import profile_tables as view

    if isinstance(exe, Structured):
        exe, feeds, _ = exe.resolve(feeds)
    found = profile(exe, feeds)
    peak = measure_peak(min(found.threads, available_cores()), PEAK_SECONDS, reads=False)
    data = view.profile_data(found, peak)
    if data["beyond_peak"]:  # another program had the cores meanwhile
        again = measure_peak(peak.threads, PEAK_SECONDS, reads=False)
        data = view.profile_data(found, max(peak, again, key=lambda p: p.gflops))
    view.print_profile(data, out)


def describe(name: str, value) -> str:
    """One output in a line: all of a small one, else its range and first elements."""
    if not isinstance(value, np.ndarray):
        return f"{name}: {shorten(repr(value))}"
    head = f"{name}: {value.dtype}{list(value.shape)}"
    if value.size <= 8 or value.dtype.kind in "OUSb":
        return (
            f"{head} = {shorten(np.array2string(value.reshape(-1), precision=6, separator=', '))}"
        )
    wide = value.astype(np.float64)
    first = np.array2string(wide.reshape(-1)[:4], precision=5, separator=", ")[1:-1]
    return f"{head} in [{wide.min():.5g}, {wide.max():.5g}], mean {wide.mean():.5g}: {first}, …"


def shorten(text: str, limit: int = 200) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def save(path: str, results: Mapping) -> None:
    """Write the arrays; what a `.npz` cannot hold without pickle is named on stderr."""
    plain = {n: v for n, v in results.items() if isinstance(v, np.ndarray) and v.dtype != object}
    plain |= {
        n: v.astype(str)
        for n, v in results.items()
        if isinstance(v, np.ndarray) and v.dtype == object
    }
    left = [n for n in results if n not in plain]
    with replacing(path, UsageError) as file:
        np.savez(file, **plain)
    if left:
        console(stderr=True).print(f"note: no arrays, so not in {path}: {', '.join(left)}")
