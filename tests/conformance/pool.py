"""Cases in worker processes: what one case does to its process does not reach the others."""

import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .cases import ROOT, Case, to_bytes
from .worker import read_message, write_message

TIMEOUT = 60.0  # seconds of CPU time for one case
PATIENCE = 5  # how many times longer it may take by the clock, on a busy machine


class Worker:
    """One process, replaced after a crash or a timeout."""

    def __init__(self, engine: str):
        self.engine, self.process = engine, None

    def run(self, case: Case, timeout: float) -> dict:
        """The result of `worker.run_case`, or a crash or timeout."""
        if self.process is None:
            self._start()
        try:
            write_message(self.process.stdin, to_bytes(case))
            ready = self._wait(timeout)
            answer = read_message(self.process.stdout) if ready else None
        except OSError:
            ready, answer = True, None
        if answer is not None:
            return answer
        if ready:
            status, message = "crash", self._last_words()
        else:
            status, message = "timeout", f"longer than {timeout:g} s"
        self.close()
        return {"status": status, "message": message, "seconds": 0.0, "externs": []}

    def _start(self) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.conformance.worker", self.engine],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )

    def _wait(self, timeout: float) -> bool:
        """Whether an answer (or the end) comes in time."""
        start, used = time.monotonic(), cpu_seconds(self.process.pid)
        while time.monotonic() - start < PATIENCE * timeout:
            if select.select([self.process.stdout], [], [], 1.0)[0]:
                return True
            if cpu_seconds(self.process.pid) - used > timeout:
                return False
        return False

    def _last_words(self) -> str:
        code = self.process.wait()
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        end = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"{end}: {' | '.join(lines[-3:])}"

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.log.close()
            self.process = None


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far; 0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_cases(
    cases: Iterable[Case],
    engine: str = "tessel",
    jobs: int | None = None,
    timeout: float = TIMEOUT,
    report: Callable[[Case, dict], None] = lambda case, result: None,
) -> dict[str, dict]:
    """The result of every case by its id; `report` sees each as it arrives."""
    todo: queue.SimpleQueue = queue.SimpleQueue()
    cases = list(cases)
    for case in sorted(cases, key=lambda c: c.category != "real"):  # the long ones first
        todo.put(case)
    results: dict[str, dict] = {}
    failures: list[BaseException] = []
    lock = threading.Lock()

    def serve():
        worker = Worker(engine)
        try:
            while not failures:
                case = todo.get_nowait()
                result = worker.run(case, timeout)
                with lock:
                    results[case.id] = result
                    report(case, result)
        except queue.Empty:
            pass
        except BaseException as error:
            failures.append(error)
        finally:
            worker.close()

    jobs = jobs or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else jobs or 2
    threads = [threading.Thread(target=serve, daemon=True) for _ in range(min(jobs, len(cases)))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt as error:
        failures.append(error)
    if failures:
        raise failures[0]
    return {c.id: results[c.id] for c in cases}
