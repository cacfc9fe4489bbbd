"""How many cores there are for this process, and how many threads a run takes.

    TESSEL_THREADS=n     the number of threads of who does not say `threads=`

Three things can limit the cores: the machine, the affinity of the process, and the quota of its
control group, as containers have it ("cpu.max" of cgroup v2, "cpu.cfs_quota_us" of v1; a group's
limits hold for all groups within it). Half a core more than n is n: threads that meet at barriers
would wait for the one that is throttled.
"""

import numbers
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import UsageError

VARIABLE = "TESSEL_THREADS"


def available_cores(root: Path = Path("/")) -> int:
    """The cores that this process may use; `root` is where /proc and /sys are."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, int(min([cores, *_quotas(root)])))


def default_threads() -> int:
    """What TESSEL_THREADS says, or the available cores. Raises UsageError for anything else."""
    said = os.environ.get(VARIABLE, "").strip()
    if not said:
        return available_cores()
    if not (said.isascii() and said.isdigit() and int(said) > 0):
        raise UsageError(
            f"{VARIABLE} is no number of threads",
            expected="1, 2, …",
            received=said,
            fix=f"unset {VARIABLE}, or set it to the number of threads that runs may take",
        )
    return int(said)


def check_threads(threads: int | None) -> int:
    """The number of threads that `threads` means. Raises UsageError for less than one."""
    if threads is None:
        return default_threads()
    if isinstance(threads, bool) or not isinstance(threads, numbers.Integral) or threads < 1:
        raise UsageError("a run needs a thread", expected="threads ≥ 1, or None", received=threads)
    return int(threads)


def _quotas(root: Path) -> Iterator[float]:
    """The quotas of this process's control groups, in cores."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            for folder in _upwards(root / "sys/fs/cgroup", group):
                quota, _, period = _read(folder / "cpu.max").partition(" ")
                yield from _cores(quota, period)
        elif "cpu" in controllers.split(","):
            for mount in dict.fromkeys((controllers, "cpu")):
                for folder in _upwards(root / "sys/fs/cgroup" / mount, group):
                    quota, period = (_read(folder / f"cpu.cfs_{n}_us") for n in ("quota", "period"))
                    yield from _cores(quota, period)


def _upwards(mount: Path, group: str) -> Iterator[Path]:
    """The folders of a group and of those it is in. In a container the group may be named as it
    is outside, and only the mount itself is there."""
    parts = [p for p in group.split("/") if p not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:count])


def _cores(quota: str, period: str) -> Iterator[float]:
    """quota / period, where there is a quota: v2 says "max" for none, v1 -1."""
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return
    if cores > 0:
        yield cores


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
