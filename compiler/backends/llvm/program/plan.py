"""What the entry is written from: kernels with their code, in order, and their places."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from functools import partial

import numpy as np

from ....classes import dataclass
from ....expr.expr import Buffer
from ....ir.bounds import maybe_below
from ....ir.dims import Sym, symbols
from ....ir.types import TensorType
from ....kernels.kernel import (
    ENDLESS,
    Call,
    For,
    HostCallback,
    If,
    Program,
    Ref,
    walk_calls,
    walk_steps,
)
from ....kernels.machine import ALIGNMENT
from ....system.concurrency import lazy
from ..kernel.codegen import KernelCode
from ..schedules.base import Schedule
from .native_code import Layout, Packing
from .polling import any_long
from .work_stealing import counter_bytes, piece_of

SHARE = 3000.0  # ns of estimated work below which a kernel is not worth a barrier


@dataclass(eq=False)
class Scheduled:
    """A call with its code and the places of its code's parameters."""

    code: KernelCode
    refs: tuple[Ref, ...]
    packed: Ref | None
    call: Call


@dataclass(eq=False)
class Plan:
    """A program ready for code generation: what `build_plan` found.

    `cost` are the ns that a run should take on one thread, `shared_cost` those of kernels that
    threads share. `weights` are the arrays at run time: those still read, and the packed ones; `l2`
    the size of the target's second-level cache.
    """

    program: Program
    steps: list[Scheduled | HostCallback | For | If]
    codes: dict[str, KernelCode]
    weights: list[np.ndarray]
    scratch: int | Sym
    cost: float
    shared_cost: float
    l2: int
    host_callbacks: list[HostCallback] = field(default_factory=list)
    packings: list[Packing] = field(default_factory=list)

    @property
    def tail(self) -> int:
        """How many calls of Python kernels end the program, with nothing after them.

        Machine code need not call these back: whoever runs the entry makes them afterwards.
        """
        count = 0
        while count < len(self.steps) and isinstance(self.steps[-1 - count], HostCallback):
            count += 1
        return count

    @lazy
    def stealable(self) -> dict[int, int]:
        """The place among the counters of each step whose units are taken piece by piece, by its
        id."""
        found = [
            step
            for step, path in walk_calls(self.steps)
            if isinstance(step, Scheduled)
            and not any(isinstance(x, For) for x in path)
            and is_shared(step.code)
            and piece_of(step.code)
        ]
        return {id(step): i for i, step in enumerate(found)}

    @property
    def asks(self) -> bool:
        """Whether the entry lets signal handlers run (`polling.py`)."""
        return any_long(self.steps)

    @property
    def counters(self) -> int:
        """Bytes of the counters, behind the arena (`work_stealing.py`)."""
        return counter_bytes(len(self.stealable))

    @property
    def arena(self) -> int:
        """Bytes of the arena and the counters."""
        return -(-self.program.arena // ALIGNMENT) * ALIGNMENT + self.counters

    @lazy
    def symbols(self) -> tuple[str, ...]:
        """The dynamic dims, in the order of the table."""
        shapes = [t.shape for t in self.program.inputs if isinstance(t, TensorType)]
        return tuple(sorted(set().union(*(symbols(d) for shape in shapes for d in shape))))

    @property
    def layout(self) -> Layout:
        program = self.program
        return Layout(
            len(program.inputs),
            len(program.outputs),
            len(self.weights),
            len(program.slots),
            len(self.symbols),
            min(1, len(program.checks)),
        )


def is_shared(code: KernelCode) -> bool:
    """Whether threads share a kernel's units; else thread 0 runs it alone."""
    return code.units != 1 and code.cost >= SHARE


def constant_arrays(program: Program, call: Call) -> dict[Buffer, np.ndarray]:
    """The parameters of a call whose contents are known."""
    return {
        b: program.weights[r.slot.index]
        for b, r in zip(call.kernel.params, call.refs)
        if r.slot.kind == "weight" and not r.steps and r.offset == 0
    }


def packings_of(
    schedule: Schedule, arrays: Mapping[Buffer, np.ndarray], number: int
) -> Iterator[Packing]:
    """What the constant that a schedule packed may restore, which has this number."""
    for buffer, recipe in schedule.restores():
        yield Packing(number, partial(_itself, arrays[buffer]), recipe)


def _itself(array: np.ndarray) -> np.ndarray:
    return array


@dataclass(frozen=True)
class Regions:
    """Where the places of a program lie: `region(ref, nbytes)` is (memory, first byte, last byte).

    `updates` are the outputs that take over an input's memory; `trips` how often each loop runs. A
    place that moves with loops counts as all that it passes by, as far as the trips are known.
    """

    updates: Mapping[int, int]
    trips: Mapping[int, int | Sym]

    @classmethod
    def of(cls, steps: Iterable, updates: Mapping[int, int]) -> "Regions":
        return cls(updates, {x.id: x.trips for x in walk_steps(steps) if isinstance(x, For)})

    def region(self, ref: Ref, nbytes: int | Sym) -> tuple:
        memory = (ref.slot.kind, ref.slot.index)
        if ref.slot.kind == "output" and ref.slot.index in self.updates:
            memory = ("input", self.updates[ref.slot.index])
        moves = [(self.trips.get(loop, ENDLESS), step) for loop, step in ref.steps]
        if any(isinstance(x, Sym) or x >= ENDLESS for move in moves for x in move):
            return memory, 0, ENDLESS
        ends = [(trips - 1) * step for trips, step in moves]
        low = ref.offset + sum(min(0, end) for end in ends)
        return memory, low, ref.offset + nbytes + sum(max(0, end) for end in ends)


def overlap(x: tuple, y: tuple) -> bool:
    """Whether two regions may have bytes in common."""
    return x[0] == y[0] and maybe_below(x[1], y[2]) and maybe_below(y[1], x[2])
