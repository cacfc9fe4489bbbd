"""The entry that times its steps, for profiles.

    timestamped_module(plan, target)   the entry of `entry.py`, with the clock read after each step
    timestamped_code(code, threads)    NativeCode with it, and the array that the times go to

The array is i64 [threads, steps + 1, 2]: nanoseconds and rounds of each step, in the order of
`timestamped_steps`; the last row is what the thread waited at barriers. A step's time is what
passed since the thread's step before it, so that a thread's rows add up to its whole walk: kernels,
the loops around them, waiting. Every read of the clock adds about 30 ns.
"""

from collections.abc import Iterator
from dataclasses import replace

import llvmlite.ir as ir
import numpy as np

from ....kernels.kernel import HostCallback, walk_calls
from ....kernels.machine import Machine, aligned_empty
from ..base.types import I8, I64, PTR, i64
from ..kernel.objects import object_code
from .clock import MONOTONIC, clock
from .entry import Main
from .native_code import MAIN, NativeCode
from .plan import Plan, Scheduled
from .pool_ir import ENTRY

ROW = 16  # bytes: nanoseconds, rounds


def timestamped_steps(steps: list) -> Iterator[Scheduled | HostCallback]:
    """The steps that get a row each, in order; a loop's body is there once."""
    return (step for step, _ in walk_calls(steps))


def timestamped_code(
    code: NativeCode, threads: int, updates: dict[int, int], which: int = MONOTONIC
):
    """(NativeCode, array): code that adds its times to the array, for up to `threads` threads.
    `which` is the clock that it reads (`clock.py`).

    The array is handed over as one more weight: to what runs code, it is no different from others.
    """
    plan = code.plan
    rows = sum(1 for _ in timestamped_steps(plan.steps)) + 1
    raw = aligned_empty(threads * _pitch(rows)).view(np.int64)
    raw[:] = 0
    timestamps = raw.reshape(threads, -1)[:, : 2 * rows].reshape(threads, rows, 2)
    plan = replace(plan, weights=[*code.weights, raw])
    module = timestamped_module(plan, code.target, updates, which)
    objects = code.objects | {MAIN: object_code(module, code.target)}
    made = replace(code, objects=objects, weights=plan.weights, layout=plan.layout, tail=0)
    return made, timestamps


def _pitch(rows: int) -> int:
    """Bytes from one thread's rows to the next one's: no line of the cache is shared."""
    return -(-rows * ROW // 128) * 128


def timestamped_module(
    plan: Plan, target: Machine, updates: dict[int, int] | None = None, which: int = MONOTONIC
) -> ir.Module:
    """The LLVM module of the entry that times its steps, in the last of the weights."""
    module = ir.Module(name=MAIN)
    module.triple = target.triple
    _Stamped(plan, module, ir.Function(module, ENTRY, MAIN), updates or {}, which).emit()
    return module


class _Stamped(Main):
    def __init__(self, plan: Plan, module: ir.Module, f: ir.Function, updates, which: int):
        super().__init__(plan, module, f, updates)
        self.tail = 0  # kernels that end the program in Python are called, to be timed like others
        steps = list(timestamped_steps(plan.steps))
        self.rows = {id(step): row for row, step in enumerate(steps)}
        self.waiting = len(steps)
        self.now = clock(module, which)
        self.last = self.b.alloca(I64)
        self.last.type = PTR
        self.timestamps = None

    def emit(self) -> None:
        layout = self.plan.layout
        start = self._pointer(layout.position("weight", layout.weights - 1))
        mine = self.b.mul(self.tid, i64(_pitch(self.waiting + 1)))
        self.timestamps = self.b.gep(start, [mine], source_etype=I8)
        self.b.store(self.b.call(self.now, []), self.last)
        super().emit()

    def _stamp(self, row: int, rounds: int = 1) -> None:
        b = self.b
        now = b.call(self.now, [])
        spent = b.sub(now, b.load(self.last, typ=I64))
        b.store(now, self.last)
        for offset, more in ((0, spent), (8, i64(rounds))):
            place = b.gep(self.timestamps, [i64(ROW * row + offset)], source_etype=I8)
            b.store(b.add(b.load(place, typ=I64), more), place)

    def _synchronise(self) -> None:
        waits = bool(self.pending) and not self.alone
        super()._synchronise()
        if waits:
            self._stamp(self.waiting)

    def _invoke(self, step: Scheduled, chosen, begin, end) -> None:
        super()._invoke(step, chosen, begin, end)
        self._stamp(self.rows[id(step)], rounds=0)

    def _done(self, step: Scheduled) -> None:
        self._stamp(self.rows[id(step)])

    def _call_back(self, step: HostCallback, words: ir.Value) -> None:
        super()._call_back(step, words)
        self._stamp(self.rows[id(step)])
