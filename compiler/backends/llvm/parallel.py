"""Object code of many kernels, in several processes: LLVM's Python binding runs one at a time.

A worker is this file run as a module. It reads a target, then tasks: the number of the passes and
a module as text, with their length before them. It answers each with its object file in the same
way. A worker that dies is no loss: its kernel is compiled here.
"""

import contextlib
import json
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import BinaryIO

from ...classes import dataclass
from ...kernels.machine import Machine
from .kernel.objects import Passes, object_code

WORTH = 2.0  # seconds of LLVM from which starting workers (about 0.3 s of each core) pays
LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Task:
    """A module to compile: its name, its text, made when called for, and the passes to run."""

    name: str
    text: Callable[[], str]
    passes: Passes = Passes.ALL
    seconds: float = 0.1  # that it takes, about


def compile_all(
    modules: Sequence[Task],
    target: Machine,
    jobs: int,
    done: Callable[[str, bytes], None],
) -> None:
    """Compile modules with `jobs` processes.

    `done(name, object)` is called from several threads, once per module. Short work goes to
    a thread instead: LLVM works without the GIL on one while the text of the next is made.
    """
    if jobs < 2 or len(modules) < 2:
        for task in modules:
            done(task.name, object_code(task.text(), target, task.passes))
        return
    few = sum(task.seconds for task in modules) < WORTH
    jobs = 1 if few else jobs
    tasks: queue.Queue = queue.Queue(maxsize=2 * jobs)
    errors: list[BaseException] = []
    workers, threads = [], []
    try:
        for _ in range(jobs):
            workers.append(_Here(target) if few or not workers else _Worker(target))
            serve = threading.Thread(
                target=_serve, args=(workers[-1], tasks, done, errors), daemon=True
            )
            serve.start()
            threads.append(serve)
        for task in modules:
            if errors:
                break
            tasks.put((task.name, task.text(), task.passes))
        _finish(tasks, threads)
    except BaseException as error:  # Ctrl-C, say: nothing goes on behind the caller's back
        errors.insert(0, error)
        for worker in workers:
            worker.stop()
        _finish(tasks, [t for t in threads if t.is_alive()])
    if errors:
        raise errors[0]


def _serve(worker, tasks: queue.Queue, done: Callable, errors: list[BaseException]) -> None:
    """A thread: compile what comes with one worker; once there is an error, only take it."""
    while (task := tasks.get()) is not None:
        try:
            if not errors:
                done(task[0], worker.compile(*task[1:]))
        except BaseException as error:
            errors.append(error)
    worker.close()


def _finish(tasks: queue.Queue, threads: list[threading.Thread]) -> None:
    for _ in threads:
        tasks.put(None)
    for t in threads:
        t.join()


class _Here:
    """In the place of a worker: compiles in the thread that asks."""

    def __init__(self, target: Machine):
        self.target = target

    def compile(self, text: str, passes: Passes) -> bytes:
        return object_code(text, self.target, passes)

    def stop(self) -> None:
        """What is being compiled is short."""

    def close(self) -> None:
        """There is no process to end."""


class _Worker:
    """One process; compiles here once it has failed."""

    def __init__(self, target: Machine):
        self.target, self.stopped = target, False
        command = f"from {__name__} import main; main()"
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            _send(self.process.stdin, json.dumps(asdict(target)).encode())
        except OSError:
            self.process = None

    def compile(self, text: str, passes: Passes = Passes.ALL) -> bytes:
        if self.process is not None:
            try:
                _send(self.process.stdin, bytes([passes]) + text.encode())
                answer = _receive(self.process.stdout)
                if answer:
                    return answer
            except OSError:
                pass  # it is gone: what it was asked for is compiled below
            self.close()
        if self.stopped:
            raise InterruptedError("this compilation was stopped")
        return object_code(text, self.target, passes)

    def stop(self) -> None:
        self.stopped = True
        if (process := self.process) is not None:
            process.kill()

    def close(self) -> None:
        if self.process is not None:
            with contextlib.suppress(OSError):  # of what it never read
                # An empty message ends it: a process that was forked meanwhile has the pipe, too.
                _send(self.process.stdin, b"")
            with contextlib.suppress(OSError):
                self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()
            self.process = None


def _send(stream: BinaryIO, data: bytes) -> None:
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def _receive(stream: BinaryIO) -> bytes:
    """The next message; empty at the end of the stream."""
    head = stream.read(LENGTH.size)
    return stream.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""


def main() -> None:
    """The worker's side."""
    given, out = sys.stdin.buffer, sys.stdout.buffer
    target = Machine(**json.loads(_receive(given)))
    while task := _receive(given):
        _send(out, object_code(task[1:].decode(), target, Passes(task[0])))
