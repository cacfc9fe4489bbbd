"""`tessel bench`: models on several backends, side by side, as a table, JSON or CSV."""

import csv
import io
import json
import os
import platform
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import click
import numpy as np
from rich.measure import Measurement

from ..compiler.errors import CheckFailed, UsageError
from ..compiler.system.files import write_file
from ..runtime.tuning.tune import check_seconds
from .benchmark import operators, own
from .benchmark.compare import Settings, check_backends, compare
from .benchmark.roofline import draw
from .benchmark.worker import BACKENDS
from .common.feeds import parse_shapes
from .common.models import given_for, open_interface, quantize_option, values_option
from .common.tables import console as plain_console
from .common.tables import duration, print_legend, three_digits
from .common.terminal import Console, Table

ROUGHLY = 0.25  # that quantized outputs may differ by, of their largest magnitude


def _numbers(context, parameter, text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of whole numbers") from None
    if not all(0 <= number <= 100 for number in numbers):
        raise click.BadParameter("percentiles are between 0 and 100")
    return numbers


@click.command()
@click.argument("models", nargs=-1, type=click.Path(dir_okay=False), metavar="[MODEL…]")
@click.option(
    "--backends",
    default="tessel,onnxruntime,openvino",
    show_default=True,
    help=f"Any of {', '.join(BACKENDS)}, or path/to/file.py:function.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--duration",
    type=click.FloatRange(0, min_open=True),
    help=f"Seconds of timed runs per backend; default: {Settings.duration:g}, with --ops "
    f"{operators.DURATION:g} for each operator.",
)
@click.option(
    "--iterations", type=click.IntRange(1), help="Timed runs per backend, instead of --duration."
)
@click.option(
    "--warmup",
    type=click.IntRange(0),
    default=Settings.warmup,
    show_default=True,
    help="Uncounted runs before the first timed one.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=Settings.rounds,
    show_default=True,
    help="Alternating slices that the timed runs are divided into.",
)
@click.option(
    "--percentile",
    "percentiles",
    default="90,95,99",
    show_default=True,
    callback=_numbers,
    help="Percentiles to report besides the median.",
)
@values_option
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of random inputs."
)
@click.option(
    "--shapes",
    multiple=True,
    help="x:1x3x224x224 or x[1,3,224,224]; other dynamic dims are guessed.",
)
@click.option("--reference", help="Backend whose outputs are right; default: onnxruntime.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    help="Allowed error of an output, as a share of its largest magnitude; "
    "default: by dtype (f32 1e-3, f16 5e-3, bf16 2e-2, integers 0).",
)
@click.option(
    "--ort-level",
    type=click.Choice(["off", "basic", "extended", "all"]),
    default=Settings.ort_level,
    show_default=True,
    help="ONNX Runtime's graph optimisation.",
)
@click.option(
    "--pin/--no-pin",
    default=True,
    show_default=True,
    help="Keep every backend on the same CPUs, one per thread (Linux).",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=Settings.timeout,
    show_default=True,
    help="Seconds after which a backend that does not answer is given up.",
)
@click.option("--ops", is_flag=True, help="Time each operator of the MODELs by itself instead.")
@click.option("--peak", is_flag=True, help="Measure what the cores can do; needs no MODEL.")
@click.option(
    "--predictions",
    is_flag=True,
    help="Compare what tessel's kernels take with what its cost model expects, instead.",
)
@click.option("--profile", is_flag=True, help="Time tessel's kernels: see `tessel run --profile`.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False),
    help="Draw the kernels under the machine's roofs (.png, .svg, .pdf); needs matplotlib.",
)
@click.option(
    "--tune",
    type=float,
    metavar="SECONDS",
    help="Let tessel measure its schedules for so long before it is timed; not for packages.",
)
@quantize_option
@click.option("--json", "json_file", type=click.Path(dir_okay=False), help="Write the report here.")
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False), help="Write the rows here.")
def bench(
    models, backends, inputs, seed, shapes, ops, peak, profile, plot, json_file, csv_file, **options
):
    """Time MODELs on several backends, side by side.

    Each backend runs in a process of its own; timed slices alternate between them. A backend whose
    outputs differ from the reference's is not timed, and the exit code is 1, as it is when
    tessel fails. Another engine that is not installed, or cannot run the model, is listed as such.

    --peak says what the cores can do at most, --profile how near tessel's kernels come to it.

    --quantize is for tessel; outputs may then differ by a quarter of their largest magnitude,
    unless --tolerance says otherwise.

    --predictions says how far the compiler's cost model is from what kernels take, on one core that
    is left alone: by kind of schedule, and those furthest off.

    --ops takes the models apart: each distinct operator is a model of its own, with the shapes and
    values that it meets there; those that lose most to the fastest other engine come first.
    """
    if not models and not peak:
        raise click.UsageError("Missing argument 'MODEL…'; only --peak needs none.")
    backends = [name.strip() for name in backends.split(",") if name.strip()]
    predictions = options.pop("predictions")
    if (ops or predictions) and (profile or plot or (ops and predictions)):
        raise click.UsageError(
            "--ops, --predictions, and --profile with --plot show one thing each."
        )
    if options["duration"] is None:
        options["duration"] = operators.DURATION if ops else Settings.duration
    if options["quantize"] is not None and options["tolerance"] is None:
        options["tolerance"] = ROUGHLY
    settings = Settings(**options)
    check_backends(backends, settings)
    own.check_plot(plot, models)
    if settings.tune is not None:
        check_seconds(settings.tune)
    feeds = {path: feeds_for(path, inputs, seed, parse_shapes(shapes)) for path in models}

    console = Console()
    report = {"format": "tessel bench 1", "machine": machine(), "settings": asdict(settings)}
    report["models"] = {}
    peaks = []
    if peak or profile or plot:
        with own.pinned(settings):
            peaks = own.measure_peaks(settings, reads=peak or plot is not None)
    if peak:
        own.print_peaks(peaks, plain_console())
        report["peak"] = [found.report() for found in peaks]
    if predictions:
        with own.pinned(settings):
            report["predictions"] = own.compare_predictions(feeds, settings)
    for path in models if ops else ():
        report["models"][path] = measure_operators(path, backends, feeds[path], settings)
    for path in models if not (ops or predictions) else ():
        with Console(stderr=True).status(path) as status:
            rows = compare(path, backends, feeds[path], settings, status.update)
        report["models"][path] = {
            "inputs": {name: f"{a.dtype}{list(a.shape)}" for name, a in feeds[path].items()},
            "backends": rows,
        }
        print_table(
            console, f"{path}, threads: {settings.threads}", rows, settings, path == models[-1]
        )
        if (profile or plot) and rows.get("tessel", {}).get("status") != "failed":
            with own.pinned(settings):
                data, roof = own.measure_profile(path, feeds[path], settings, peaks)
            report["models"][path]["profile"] = data
            if profile:
                own.show_profile(path, data, plain_console())
            if plot:
                draw(plot, data, roof, Path(path).name, report["machine"]["cpu"])
    if json_file is not None:
        # Infinity is not JSON: an error without bounds is null there.
        text = json.dumps(_finite(report), indent=1, allow_nan=False) + "\n"
        write_file(json_file, text.encode(), UsageError)
    if csv_file is not None:
        write_csv(csv_file, report)
    if models and not predictions:
        check(report)


def measure_operators(
    path: str, backends: Sequence[str], feeds: Mapping, settings: Settings
) -> dict:
    """Time each operator of a model by itself, print the table; the model's part of the report."""
    rows = []
    with Console(stderr=True).status(path) as status, tempfile.TemporaryDirectory() as folder:
        status.update(f"{path}: what its operators work on")
        found, left_out = operators.operators_of(path, feeds)
        file = Path(folder, "operator.onnx")
        for number, operator in enumerate(found):
            about = f"{path}: {number + 1} of {len(found)}, {operator.text}: "
            file.write_bytes(operator.model.SerializeToString())
            say = lambda text, about=about: status.update(about + text)
            measured = compare(file, backends, operator.feeds, settings, say)
            rows.append(operators.row_of(operator, measured))
    operators.print_operators(f"{path}, threads: {settings.threads}", rows, left_out)
    return {"operators": rows, "left_out": dict(left_out)}


def feeds_for(path: str, inputs: Sequence[str], seed: int, shapes: Mapping) -> dict:
    """The model's inputs: those that are given, others at random."""
    given = given_for(path, inputs)
    return open_interface(path).feeds(given, None if given else seed, shapes, path)


def machine() -> dict:
    """What the figures depend on and a reader cannot see."""
    packages = {}
    for name in ["tessel", "numpy", "onnxruntime", "openvino", "torch"]:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = None
    return {
        "cpu": cpu_name(),
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": packages,
    }


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def print_table(
    console: Console,
    title: str,
    rows: Mapping[str, Mapping],
    settings: Settings,
    legend: bool = True,
) -> None:
    """A line of figures per backend that was timed; below them, why another was not."""
    columns = _columns(rows, settings)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("backend", no_wrap=True)
    for heading, _, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in rows.items():
        if row["status"] == "ok":
            table.add_row(name, *(cell(row) for _, cell, _ in columns))

    plain = {"markup": False, "highlight": False, "soft_wrap": True}
    console.print(title, style="bold", **plain)
    if table.row_count:
        # At its natural width: a line that the terminal wraps tells more than one cut off.
        natural = Measurement.get(console, console.options.update(width=1000), table).maximum
        console.width = max(console.width, natural)
        console.print(table)
        if legend:
            print_legend(console, [(heading, meaning) for heading, _, meaning in columns])
    for name, row in rows.items():
        if row["status"] != "ok":
            style = "dim" if row["status"] == "unavailable" else "red"
            console.print(_verdict(name, row), style=style, **plain)
    console.print()


def _columns(rows: Mapping[str, Mapping], settings: Settings) -> list:
    """(heading, row -> text, meaning) for each column."""
    baseline = next((row["baseline"] for row in rows.values() if "baseline" in row), "tessel")
    return [
        ("load", lambda r: duration(1e3 * r["load_s"]), "from the file to something that runs"),
        ("first", lambda r: duration(r["first_ms"]), "the first run"),
        ("p50", lambda r: duration(r["p50_ms"]), "the median of the timed runs"),
        *[
            (f"p{p}", lambda r, key=f"p{p}_ms": duration(r[key]), f"{p} % of the runs take less")
            for p in settings.percentiles
        ],
        ("mean", lambda r: duration(r["mean_ms"]), "of the timed runs"),
        ("cv", lambda r: f"{r['cv']:.1%}", "their standard deviation, of the mean"),
        ("runs/s", lambda r: three_digits(r["throughput"]), "one after the other"),
        ("CPUs", lambda r: f"{r['cpu_cores']:.2f}", "CPU time of all threads, per time"),
        ("RSS MiB", lambda r: f"{r['peak_rss_mib']:.0f}", "the most memory that the process had"),
        (
            "error",
            lambda r: "reference" if r.get("reference") else f"{r['max_error']:.1e}",
            "largest difference from the reference, as a share of the largest magnitude",
        ),
        (
            f"time / {baseline}",
            lambda r: f"{r['ratio']:.2f} ({r['ratio_low']:.2f}–{r['ratio_high']:.2f})",
            f"median by {baseline}'s, with its range over the rounds",
        ),
    ]


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _measured(report: Mapping) -> Iterator[tuple[str, str, Mapping[str, Mapping]]]:
    """(model, operator or "", the reports of the backends) of all that was compared."""
    for model, entry in report["models"].items():
        if "backends" in entry:
            yield model, "", entry["backends"]
        for row in entry.get("operators", ()):
            yield model, row["operator"], row["backends"]


def write_csv(path: str, report: Mapping) -> None:
    """A line per model, or operator, and backend; columns are the keys of the JSON report."""
    rows = [
        {"model": model} | ({"operator": operator} if operator else {}) | {"backend": backend} | row
        for model, operator, rows in _measured(report)
        for backend, row in rows.items()
    ]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_file(path, text.getvalue().encode(), UsageError)


def check(report: Mapping) -> None:
    """Raise `CheckFailed` if a backend disagreed, tessel failed, or nothing could be timed."""
    findings, timed = [], 0
    for model, operator, rows in _measured(report):
        for name, row in rows.items():
            timed += row["status"] == "ok"
            peer = name in BACKENDS and BACKENDS[name].peer
            if row["status"] == "disagrees" or (row["status"] == "failed" and not peer):
                where = f"{model}: {operator}" if operator else model
                findings.append(CheckFailed(_verdict(name, row), where=where))
    if findings:
        raise CheckFailed("Not every backend ran the models and agreed.", findings=findings)
    if not timed:
        raise CheckFailed("No backend could be timed.", fix="install one, or choose --backends")


def _verdict(name: str, row: Mapping) -> str:
    """Why a backend was not timed, short enough to read; the JSON report has all of it."""
    if row["status"] == "unavailable":
        return f"{name}: {row['reason']}"
    return textwrap.shorten(f"{name} {row['status']}: {row['reason']}", 300, placeholder=" …")
