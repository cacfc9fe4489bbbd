"""Compare backends on one model: a process each, agreement first, then alternating slices.

Each backend lives in a process of its own and is idle while another one is measured, so that the
engines' spinning threads do not disturb each other. All get the same number of threads and are
pinned to the same CPUs. Before anything is timed, the outputs are compared with a reference
backend's; who disagrees is not timed. The timed slices alternate, so that a drift of the
machine's speed hits all alike, and every other round runs backwards.

The figure to quote is the ratio of medians, with the lowest and highest ratio of single rounds.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe
from pathlib import Path

import numpy as np

from ...compiler.classes import dataclass
from ...compiler.errors import CheckFailed, UsageError
from ..common.agreement import disagreement
from . import worker as bench_worker
from .worker import BACKENDS


@dataclass(frozen=True)
class Settings:
    """What every backend is measured with.

    duration     seconds of timed runs per backend, over all rounds
    iterations   timed runs per backend instead of a duration
    warmup       uncounted runs before the first slice; each later slice begins with one
    tolerance    overrides `agreement.TOLERANCE`, for every dtype
    reference    the backend whose outputs are right; None: onnxruntime where it runs, else the
                 first that does
    pin          keep every backend on the same `threads` CPUs
    timeout      seconds after which a backend that does not answer is ended
    tune         seconds in which tessel measures schedules before the first run; None: it does not
    quantize     the recipe by which tessel quantizes the model first; None: it does not
    """

    threads: int = 1
    duration: float = 6.0
    rounds: int = 6
    iterations: int | None = None
    warmup: int = 3
    percentiles: tuple[int, ...] = (90, 95, 99)
    tolerance: float | None = None
    reference: str | None = None
    ort_level: str = "all"
    pin: bool = True
    timeout: float = 900.0
    tune: float | None = None
    quantize: str | None = None


class Unavailable(Exception):
    """The backend is not installed, or does not read this kind of file."""


class Broken(Exception):
    """The backend was started and failed."""


class Worker:
    """One backend's process; see `bench_worker` for the conversation."""

    def __init__(self, name: str, settings: Settings):
        self.name, self.timeout = name, settings.timeout
        # Read at import by the BLAS libraries below numpy and torch.
        limits = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        self.pipe, theirs = Pipe()
        with theirs:
            # -P: the folder of the script must not shadow modules of the standard library.
            self.process = subprocess.Popen(
                [sys.executable, "-P", bench_worker.__file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | dict.fromkeys(limits, str(settings.threads)),
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
            )

    def open(self, path: str, feeds: Mapping, options: Mapping) -> dict:
        self._send({"backend": self.name, "path": path, "feeds": feeds, "options": options})
        return self._reply() | self._reply() | self._reply()

    def ask(self, job: object) -> object:
        self._send(job)
        return self._reply()

    def close(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.wait()
        self.log.close()

    def _send(self, job: object) -> None:
        try:
            self.pipe.send(job)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Broken(self._last_words()) from error

    def _reply(self) -> object:
        if not self.pipe.poll(self.timeout):
            raise Broken(f"no answer in {self.timeout:g} s")
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise Broken(self._last_words()) from error
        if isinstance(answer, dict) and "missing" in answer:
            raise Unavailable(answer["missing"])
        if isinstance(answer, dict) and "error" in answer:
            raise Broken(answer["error"])
        return answer

    def _last_words(self) -> str:
        code = self.process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return f"the process ended with {how}" + (f": {lines[-1]}" if lines else "")


def compare(
    path: str | Path,
    backends: Sequence[str],
    feeds: Mapping[str, np.ndarray],
    settings: Settings | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, dict]:
    """Measure `path` on each backend; a report per backend, in the order given.

    `report["status"]` is "ok", "unavailable" (not installed, or not a file that it reads),
    "failed" or "disagrees"; every status but the first has its `reason`, and no timings.
    """
    settings = settings or Settings()
    check_backends(backends, settings)
    path = str(path)
    reports: dict[str, dict] = {name: {} for name in backends}
    workers: dict[str, Worker] = {}
    try:
        for name in backends:
            progress(f"{name} loads")
            workers[name] = Worker(name, settings)
            with _judged(name, reports, workers):
                reports[name] |= _open(workers[name], path, feeds, settings)
        _gate(reports, workers, settings, progress)
        slices = _time(reports, workers, settings, progress)
        for name in list(workers):
            with _judged(name, reports, workers):
                reports[name] |= workers[name].ask(None)
                reports[name] |= {"status": "ok"} | summary(slices[name], settings.percentiles)
    finally:
        for worker in workers.values():
            worker.close()
    _add_ratios(reports, {name: slices[name] for name in workers})
    return reports


def check_backends(backends: Sequence[str], settings: Settings) -> None:
    unknown = [
        name
        for name in backends
        if name not in BACKENDS and not (".py:" in name and Path(name.rpartition(":")[0]).is_file())
    ]
    if unknown:
        raise UsageError(
            f"No backend is called {unknown[0]!r}.",
            expected=f"{', '.join(BACKENDS)}, or path/to/file.py:function",
        )
    if len(set(backends)) != len(backends):
        raise UsageError("A backend is named twice.", received=", ".join(backends))
    if settings.reference is not None and settings.reference not in backends:
        raise UsageError(
            "The reference is not among the backends.",
            expected=" or ".join(backends),
            received=settings.reference,
        )


@contextmanager
def _judged(name: str, reports: dict[str, dict], workers: dict[str, Worker]) -> Iterator[None]:
    """What goes wrong inside ends the backend's process and becomes its report."""
    try:
        yield
    except (Unavailable, Broken) as error:
        workers.pop(name).close()
        status = "unavailable" if isinstance(error, Unavailable) else "failed"
        reports[name] |= {"status": status, "reason": str(error)}


def _open(worker: Worker, path: str, feeds: Mapping, settings: Settings) -> dict:
    suffix = Path(path).suffix
    if worker.name in BACKENDS and suffix not in BACKENDS[worker.name].suffixes:
        raise Unavailable(f"does not read {suffix or 'such'} files")
    options = {
        "threads": settings.threads,
        "ort_level": settings.ort_level,
        "tune": settings.tune,
        "quantize": settings.quantize,
        "cpus": choose_cpus(settings.threads) if settings.pin else None,
    }
    return worker.open(path, feeds, options)


def _gate(reports, workers: dict[str, Worker], settings: Settings, progress) -> None:
    """Compare everyone's outputs with the reference's; who disagrees leaves."""
    progress("outputs are compared")
    reference = settings.reference
    if reference is not None and reference not in workers:
        raise CheckFailed(
            f"The reference backend {reference} did not run.", received=reports[reference]["reason"]
        )
    if reference is None:
        reference = "onnxruntime" if "onnxruntime" in workers else next(iter(workers), None)
    if reference is None:
        return
    right = workers[reference].ask("outputs")
    reports[reference] |= {"reference": True, "max_error": 0.0}
    for name in [name for name in workers if name != reference]:
        with _judged(name, reports, workers):
            error, reason = disagreement(right, workers[name].ask("outputs"), settings.tolerance)
            reports[name]["max_error"] = error
            if reason is not None:
                workers.pop(name).close()
                reports[name] |= {"status": "disagrees", "reason": f"with {reference}: {reason}"}


def _time(reports, workers: dict[str, Worker], settings: Settings, progress) -> dict[str, dict]:
    """Alternate slices over the rounds: for each backend `{round: slice}`.

    A backend whose single run is longer than its share of a round sits out the rounds that it
    has already used up.
    """
    slices: dict[str, dict] = {name: {} for name in workers}
    spent = dict.fromkeys(workers, 0.0)
    for turn in range(settings.rounds):
        order = list(workers) if turn % 2 == 0 else list(reversed(workers))
        for name in order:
            progress(f"round {turn + 1} of {settings.rounds}, {name}")
            runs = seconds = None
            if settings.iterations is not None:
                runs = settings.iterations * (turn + 1) // settings.rounds
                runs -= settings.iterations * turn // settings.rounds
            else:
                seconds = settings.duration * (turn + 1) / settings.rounds - spent[name]
            if (runs if seconds is None else seconds) <= 0:
                continue
            warm = 1 if slices[name] else settings.warmup
            with _judged(name, reports, workers):
                slices[name][turn] = workers[name].ask(("slice", seconds, runs, warm))
                spent[name] += slices[name][turn]["wall_s"]
    return slices


def summary(slices: Mapping[int, dict], percentiles: Sequence[int]) -> dict:
    """The figures of one backend from its slices."""
    times = np.concatenate([part["ms"] for part in slices.values()])
    wall = sum(part["wall_s"] for part in slices.values())
    figures = {
        "runs": len(times),
        "min_ms": float(times.min()),
        "mean_ms": float(times.mean()),
        "cv": float(times.std() / times.mean()),
        "p50_ms": float(np.median(times)),
    }
    for p in percentiles:
        figures[f"p{p}_ms"] = float(np.percentile(times, p))
    cpu = sum(part["cpu_s"] for part in slices.values())
    return figures | {"throughput": len(times) / wall, "cpu_cores": cpu / wall}


def _add_ratios(reports: dict[str, dict], slices: Mapping[str, Mapping[int, dict]]) -> None:
    """time / tessel's time; where tessel was not timed, / the first that was."""
    if not slices:
        return
    base = "tessel" if "tessel" in slices else next(iter(slices))
    medians = {
        name: {turn: statistics.median(part["ms"]) for turn, part in turns.items()}
        for name, turns in slices.items()
    }
    for name, turns in medians.items():
        shared = [turns[t] / medians[base][t] for t in turns.keys() & medians[base].keys()]
        reports[name] |= {
            "baseline": base,
            "ratio": reports[name]["p50_ms"] / reports[base]["p50_ms"],
            "ratio_low": min(shared),
            "ratio_high": max(shared),
        }


def choose_cpus(count: int) -> list[int] | None:
    """`count` of the CPUs that this process may use, whole cores before their second threads.

    None where the system cannot pin (macOS) or has no more CPUs than that.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    if count >= len(allowed):
        return None
    firsts, seconds, seen = [], [], set()
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        core = siblings.read_text() if siblings.exists() else str(cpu)
        (seconds if core in seen else firsts).append(cpu)
        seen.add(core)
    return (firsts + seconds)[:count]
