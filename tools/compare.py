"""`--against`: a quantized model beside the one that it was made of, for `explain` and `verify`."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from ..compiler.compress.comparison import Comparison
from ..compiler.compress.report import Report
from ..compiler.errors import CheckFailed, UsageError
from ..compiler.system.files import write_file
from ..runtime.compress.compare import compare
from ..runtime.compress.data import Data
from ..runtime.compress.quantize import prepared
from .benchmark.error_picture import draw
from .common.activity import Activity
from .common.interface import of_graph
from .common.models import MODEL, given_for, model_ports, open_for
from .common.pictures import check as check_picture
from .common.tables import console
from .common.terminal import Console


def against_option(help: str) -> Callable:
    return click.option("--against", type=MODEL, metavar="MODEL", help=help)


def compared(
    model: str,
    against: str,
    inputs: Sequence[str] = (),
    shapes: Mapping | None = None,
    *,
    seed: int | None = None,
    measure: bool = False,
    activity: Activity | None = None,
) -> Comparison:
    """The comparison of two model files on the data that `--inputs` says, random without."""
    shapes = shapes or {}
    data = _data(against, inputs)
    given = given_for(against, inputs if data is None else ())
    original, quantized = (open_for(path, shapes, given, seed) for path in (against, model))
    original = prepared(original)
    random = data is None and not given.arrays
    if data is None:
        feeds = of_graph(original).feeds(given, seed, shapes, against)
        data = [feeds]
    result = compare(original, quantized, data, measure=measure, progress=activity)
    if random:
        result.notes.append("random inputs: --inputs x.npz compares on those that matter")
    return result


def explain_against(
    model: str, against: str, inputs: Sequence[str], shapes: Mapping, out: Console, whole: bool
) -> None:
    """Print which kernels of a quantized model err, and what they cost."""
    with Activity(f"comparing {model}") as activity:
        found = compared(model, against, inputs, shapes, activity=activity)
    for line in found.lines(whole):
        out.print(line, soft_wrap=True)


def verify_against(
    model: str,
    against: str,
    inputs: Sequence[str],
    shapes: Mapping,
    limit: float,
    seed: int | None = None,
) -> None:
    """Raise CheckFailed for a model of which a kernel is below `limit` dB, naming the first."""
    out = console()
    with Activity(f"comparing {model}") as activity:
        found = compared(model, against, inputs, shapes, seed=seed, activity=activity)
    for line in found.heads():
        out.print(line)
    first = found.first_below(limit)
    if first is not None:
        raise CheckFailed(
            f"a kernel is below {limit:g} dB",
            where=" + ".join(first.nodes),
            received=f"{first.accumulated:.1f} dB as it runs, {first.own:.1f} dB by itself "
            f"(its inputs those of {against})",
            fix="see tessel explain --against; what errs most by itself may stay f32 (--keep)",
        )
    least = min((k.accumulated for k in found.kernels), default=0.0)
    out.print(
        f"all {len(found.kernels)} kernels are at {limit:g} dB or above, the least {least:.1f}",
        style="green",
    )


def _data(model: str, inputs: Sequence[str]) -> Data | None:
    """A set of samples, where `--inputs` is one file or folder of arrays."""
    if len(inputs) != 1 or not Path(inputs[0]).exists():
        return None
    path = Path(inputs[0])
    arrays = path.suffix in (".npz", ".npy") or (path.is_dir() and any(path.glob("*.np[zy]")))
    return Data.of(path, model_ports(model)) if arrays else None


REPORTS = (".json", ".html", ".png", ".svg", ".pdf")


def check_report(path: str) -> None:
    """Raise for a report that cannot be written, before anything is computed for it."""
    if Path(path).suffix not in REPORTS:
        raise UsageError(
            "this is no format for a report", expected=", ".join(REPORTS), received=path
        )
    if Path(path).suffix not in (".json", ".html"):
        check_picture(path)


def write_report(report: Report, path: str) -> None:
    """A report of `quantize` whose models were compared, in the format that the path says."""
    check_report(path)
    match Path(path).suffix:
        case ".json":
            text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False)
        case ".html":
            text = report.html()
        case _:
            assert report.comparison is not None
            draw(path, report.comparison, next(iter(report.lines())))
            return
    write_file(Path(path), text.encode(), UsageError)
