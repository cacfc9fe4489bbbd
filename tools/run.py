"""`tessel run`: a model or package on given or random inputs."""

import time
from collections.abc import Mapping

import click
import numpy as np

from ..compiler.errors import UsageError
from ..runtime.executable import Executable
from ..runtime.stepwise import step_native
from .models import (
    MODEL,
    console,
    inputs_options,
    is_package,
    make_feeds,
    open_executable,
    shapes_option,
    short,
    table,
    target_option,
    threads_option,
)

EPILOG = """\b
Examples:
  tessel run model.onnx --random 0
  tessel run model.tsl --inputs in.npz -o out.npz --threads 2
  tessel run model.onnx --shapes x:1x3x224x224 --profile
"""
ROUNDS = 5  # runs that a profile is the median of


@click.command(epilog=EPILOG)
@click.argument("model", type=MODEL)
@inputs_options
@shapes_option
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write a .npz of outputs.")
@target_option
@threads_option
@click.option("--profile", is_flag=True, help="Time each kernel, on one thread.")
@click.option("--no-native", is_flag=True, help="Ignore a package's code; compile its graph.")
def run(model, inputs, seed, shapes, output, target, threads, profile, no_native):
    """Run MODEL (.onnx, .graph or .tsl); inputs are random where none are given."""
    out = console()
    if is_package(model):
        # Which kernels there are is known to the compiler, not to a package.
        exe = open_executable(model, native=not (no_native or profile), threads=threads)
    else:
        exe = open_executable(model, threads=threads, target=target)
    own = exe.signature.values
    feeds = make_feeds(exe.inputs, inputs, seed, shapes, [n for n in exe.static if n not in own])
    if inputs is None:
        feeds |= own
    exe.run(feeds)
    for note in exe.notes:
        console(stderr=True).print(f"note: {note}")
    start = time.perf_counter()
    results = exe.run(feeds)
    spent = time.perf_counter() - start
    for name, value in results.items():
        out.print(describe(name, value))
    out.print(f"{1e3 * spent:.3f} ms, threads: {exe.threads}", style="dim")
    if output is not None:
        save(output, results)
    if profile:
        print_profile(exe, feeds, out)


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
    with open(path, "wb") as file:
        np.savez(file, **plain)
    if left:
        console(stderr=True).print(f"note: no arrays, so not in {path}: {', '.join(left)}")


def print_profile(exe: Executable, feeds: Mapping, out) -> None:
    """The kernels by their time: the median of a few runs, one kernel after the other."""
    built = exe.specializations[-1]
    if getattr(built.code, "plan", None) is None:
        raise UsageError("only CPU code can be profiled", received=exe.target.name)
    arrays, _ = exe.signature.check(feeds)
    rounds: list[list] = []
    for _ in range(ROUNDS + 1):
        steps: list = []
        step_native(built, [a.copy() for a in arrays], steps.append)
        rounds.append(steps)
    medians = np.median([[s.nanoseconds for s in r] for r in rounds[1:]], axis=0)
    rows: dict[tuple, list] = {}
    for step, ns in zip(rounds[0], medians):
        schedule = "extern" if step.code is None else schedule_name(step.code)
        row = rows.setdefault((schedule, step.origins), [0, 0.0])
        row[0] += 1
        row[1] += ns
    total = sum(ns for _, ns in rows.values())
    t = table("ms", "share", "calls", "kernel", "nodes", right="ms,share,calls")
    for (schedule, origins), (calls, ns) in sorted(rows.items(), key=lambda r: -r[1][1]):
        t.add_row(f"{ns / 1e6:.3f}", f"{ns / total:.1%}", str(calls), schedule, short(origins, 90))
    out.print()
    out.print(t)
    out.print(f"{total / 1e6:.3f} ms in {len(medians)} kernels, on one thread", style="dim")


def schedule_name(code) -> str:
    """matmul, conv, …: the kernel's name and how it is scheduled."""
    kind = type(code.schedule).__name__.removesuffix("Schedule").lower()
    return f"{code.kernel.name} ({kind})"
