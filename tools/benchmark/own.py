"""What `tessel bench` measures of tessel itself: peak, profile, predictions, and the picture.

These run in the process of the command, after the backends have been compared, pinned like them.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from ...compiler.errors import UsageError
from ...compiler.system.cores import available_cores
from ...runtime.execution.executable import Executable
from ...runtime.profiling.peak import Peak, measure_peak
from ...runtime.profiling.profile import profile
from ..common.models import is_package, open_executable
from ..common.pictures import check
from ..common.profile_tables import print_peak, print_profile, profile_data
from ..common.terminal import Console
from .compare import Settings, choose_cpus
from .predictions import measure_kernels, print_predictions, report

LONGEST = 2.0  # seconds that a peak or a profile is measured for, if `--duration` is longer


def check_plot(path: str | None, models: tuple[str, ...]) -> None:
    """Raise, before anything is measured, if there could be no picture in the end."""
    if path is None:
        return
    if len(models) != 1:
        raise UsageError(
            "a picture shows one model",
            received=f"{len(models)} models",
            fix="--plot with one MODEL",
        )
    check(path)


@contextmanager
def pinned(settings: Settings) -> Iterator[None]:
    """Keep this process on the CPUs that the backends were kept on."""
    cpus = choose_cpus(settings.threads) if settings.pin else None
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure_peaks(settings: Settings, reads: bool = True) -> list[Peak]:
    """Of one core, and of as many as there are threads (or cores, if those are fewer)."""
    most = min(settings.threads, available_cores())
    seconds = min(settings.duration, LONGEST)
    return [measure_peak(n, seconds, reads=reads) for n in dict.fromkeys([1, most])]


def print_peaks(peaks: list[Peak], out: Console) -> None:
    for peak in peaks:
        print_peak(peak, out)
    out.print()


def measure_profile(
    path: str, feeds: Mapping, settings: Settings, peaks: list[Peak]
) -> tuple[dict, Peak]:
    """The profile of a model as plain data, and the peak of as many threads as it used.

    A package is compiled anew: its kernels are known to the compiler only.
    """
    found = profile(_open(path, settings), feeds, min(settings.duration, LONGEST))
    peak = next((p for p in peaks if p.threads == found.threads), peaks[-1])
    return profile_data(found, peak), peak


def _open(path: str, settings: Settings) -> Executable:
    """The model, compiled as the timed process has compiled it."""
    options = {} if is_package(path) else {"target": "cpu"}
    if options and settings.tune is not None:
        options["tune"] = 0  # what the timed process has found
    if options and settings.quantize is not None:
        options["quantize"] = settings.quantize
    return open_executable(path, native=False, threads=settings.threads, reuse=False, **options)


def compare_predictions(feeds: Mapping[str, Mapping], settings: Settings) -> list[dict]:
    """How far the cost model is from what the kernels of the models take; the report of it."""
    alone, kernels = replace(settings, threads=1), []
    for path in feeds:
        exe, seconds = _open(path, alone), min(settings.duration, LONGEST)
        kernels += measure_kernels(path, exe, feeds[path], seconds)
    print_predictions(", ".join(feeds), kernels)
    return report(kernels)


def show_profile(title: str, data: dict, out: Console) -> None:
    out.print(f"{title}: profile of tessel", style="bold")
    print_profile(data, out)
    out.print()
