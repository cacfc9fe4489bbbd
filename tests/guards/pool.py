"""Cases in worker processes; what a crash or a hang does stays in one of them."""

import json
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

from ..conformance.cases import ROOT
from ..conformance.pool import cpu_seconds

SECONDS = 60.0  # of CPU time, for one case
PATIENCE = 6  # how many times longer it may take by the clock
RENEWED = 400  # cases after which a worker is replaced: what LLVM keeps adds up


class Worker:
    """One process, started again after a crash."""

    def __init__(self, module: str):
        self.module = module
        self.process, self.done = None, 0

    def run(self, case: str) -> list[dict]:
        """The outcomes of a case's feeds."""
        if self.process is None:
            self._start()
        self.process.stdin.write(case.encode() + b"\n")
        self.process.stdin.flush()
        self.done += 1
        at, start, used = "make", time.monotonic(), cpu_seconds(self.process.pid)
        while True:
            late = time.monotonic() - start > PATIENCE * SECONDS
            if late or cpu_seconds(self.process.pid) - used > SECONDS:
                self.close()
                return [{"kind": "hang", "message": f"longer than {SECONDS:g} s, {at}"}]
            if not select.select([self.process.stdout], [], [], 1.0)[0]:
                continue
            line = self.process.stdout.readline()
            if not line:
                message = f"{self._last_words()}, {at}"
                self.close()
                return [{"kind": "crash", "message": message}]
            answer = json.loads(line)
            if "outcomes" in answer:
                if self.done >= RENEWED:
                    self.close()
                return answer["outcomes"]
            at = answer["at"]

    def _start(self) -> None:
        self.log, self.done = tempfile.TemporaryFile(), 0  # noqa: SIM115 (as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module],
            cwd=ROOT,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )

    def _last_words(self) -> str:
        code = self.process.wait()
        self.log.seek(0)
        text = self.log.read().decode(errors="replace").strip().splitlines()
        lines = [s.strip() for s in text if "Error" in s or 'File "' in s]
        end = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"{end} ({lines[0] if lines else 'no words'})"

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.log.close()
            self.process = None


def run_cases(
    cases: Iterator[str],
    jobs: int,
    report: Callable[[str, list[dict]], None],
    enough: Callable[[], bool] = lambda: False,
    worker: str = "tests.guards.worker",
) -> None:
    """Run cases on `jobs` processes of a worker's module until there are no more or it is `enough`;
    `report` sees the outcomes of each."""
    lock, failures = threading.Lock(), []

    def take() -> str | None:
        with lock:
            return None if failures or enough() else next(cases, None)

    def serve() -> None:
        process = Worker(worker)
        try:
            while (case := take()) is not None:
                outcomes = process.run(case)
                with lock:
                    report(case, outcomes)
        except BaseException as error:
            failures.append(error)
        finally:
            process.close()

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt as error:
        failures.append(error)
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
