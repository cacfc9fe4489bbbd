"""Native code in memory: `NativeModule` links objects and runs the entry.

A run fills a table of pointers (see `backends/llvm/program/entry.py`) and crosses into native
code once; the GIL is released meanwhile. Arenas are kept for the next run, one per concurrent run.
"""

import ctypes
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from operator import gt
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...compiler.analysis.run_checks import WORD, raise_noted, words
from ...compiler.backends.llvm.program.native_code import MAIN, Layout, NativeCode
from ...compiler.backends.llvm.program.pool_layout import BARRIER_SYMBOL
from ...compiler.ir.dims import substitute
from ...compiler.kernels.machine import has_bytes
from ...compiler.system.mapped import files_behind
from .linker import link
from .memory import Memory, Workspace
from .pool import get_pool

if TYPE_CHECKING:
    from .host_callbacks import HostCallbacks

LITTLE = 1 << 20  # bytes of slots that stay as large as they once were


def data_address(x: np.ndarray) -> int:
    """Where the elements of an array lie."""
    return x.__array_interface__["data"][0]


if sys.implementation.name == "cpython":
    # The address is the first field of numpy's C struct for an array, after the object's header:
    # a part of numpy's binary interface that is read ten times faster than its Python attributes.
    _HEADER = object.__basicsize__
    _pointer_at: Callable[[int], Any] = ctypes.c_void_p.from_address

    def data_address(x: np.ndarray) -> int:
        return _pointer_at(id(x) + _HEADER).value


class NativeModule:
    """A program's machine code, loaded; callable from several threads at once.

    `memory` is where all that it reads and writes lies, but inputs.
    """

    memory = Memory()

    def __init__(self, code: NativeCode, output_types: Sequence, updates: dict[int, int]):
        self.code, self.output_types, self.updates = code, list(output_types), updates
        self.pool = get_pool()
        self._image = link(code.objects, {BARRIER_SYMBOL: self.pool.barrier_address})
        self._entry = self._image.address(MAIN)
        self._files = files_behind(code.weights)
        self._weights = [self.memory.weight(w) for w in code.weights]
        self._shapes = [
            (t.shape, t.dtype.numpy) if has_bytes(t) else None for t in self.output_types
        ]
        self._host_callbacks = _host_callbacks(code) if code.host_callbacks else None
        # Frames that no run is using, by their number of threads. Lists are taken from and added
        # to in one step each, so that this needs no lock.
        self._frames: dict[int, list[_Frame]] = {}

    def __call__(
        self,
        inputs: Sequence[np.ndarray],
        threads: int,
        outputs: list | None = None,
        at: "Bound | None" = None,
    ) -> list:
        """Run on contiguous arrays of the right types; returns fresh arrays (or `outputs`).

        For each entry of `updates` the input's array is written and returned. `at` are the sizes
        that were open (`bound`).
        """
        for file in self._files:
            file.check()
        if not self.code.parallel or (at is not None and at.small):
            threads = 1
        if outputs is None:
            shapes = self._shapes if at is None else at.shapes
            output = self.memory.output
            outputs = [None if s is None else output(*s) for s in shapes]
        if self.updates:
            for i, j in self.updates.items():
                outputs[i] = inputs[j]
        try:
            frame = self._frames[threads].pop()
        except (KeyError, IndexError):
            workspace = self.memory.workspace()
            frame = _Frame(self.code, self._weights, threads, self._host_callbacks, workspace)
        if frame.at is not at:
            assert at is not None
            frame.fit(at)
        if frame.turn is not None:
            frame.turn.value ^= 1
        table, position = frame.table, Layout.FIRST
        for x in inputs:
            table[position] = data_address(x)
            position += 1
        for y in outputs:
            table[position] = None if y is None else data_address(y)
            position += 1
        if self._host_callbacks is None:
            self._run(frame)
        else:
            run = self._host_callbacks.start(inputs, outputs, self._weights, frame.views)
            if self._host_callbacks.called:
                table[Layout.CALLBACK] = run.callback()
            self._run(frame)
            run.finish()
        self._frames.setdefault(threads, []).append(frame)
        return outputs

    def _run(self, frame: "_Frame") -> None:
        """Run the entry. Raises InputError for what it notes."""
        if not self.code.asks:
            self.pool.run(self._entry, frame.address, frame.threads)
            if frame.record != frame.clear:
                self._raise_noted(frame)
            return
        # Only there do signal handlers run; others would wait for Python's lock, to no end when
        # the process ends.
        main = threading.current_thread() is threading.main_thread()
        frame.table[self.code.layout.ask] = self.pool.ask_address if main else None
        self.pool.run(self._entry, frame.address, frame.threads)
        if main:
            self.pool.raise_pending()
        if frame.record != frame.clear:
            self._raise_noted(frame)

    def _raise_noted(self, frame: "_Frame") -> None:
        """Raises InputError for what a run has noted; its frame is as good as new."""
        noted = np.frombuffer(frame.record, np.int64).tolist()
        sizes: Mapping[str, int] = {} if frame.at is None else frame.at.sizes
        frame.record[:] = frame.clear
        self._frames.setdefault(frame.threads, []).append(frame)  # another run may have it now
        raise_noted(self.code.checks, noted, sizes)

    def address(self, name: str) -> int:
        """Where the function of a kernel lies."""
        return self._image.address(name)

    def bound(self, sizes: Mapping[str, int]) -> "Bound":
        """The module for one combination of its dynamic dims."""
        return Bound(self, sizes)


def _host_callbacks(code: NativeCode) -> "HostCallbacks":
    from .host_callbacks import HostCallbacks

    return HostCallbacks(code.host_callbacks, code.tail)


class Bound:
    """A module with sizes for those that are open: what they make of shapes and memory.

    `slots` and `scratch` are bytes, of the arena's slots and for each thread; a `small` run is
    faster on one thread.
    """

    def __init__(self, module: NativeModule, sizes: Mapping[str, int]):
        code, self.module = module.code, module
        self.sizes = dict(sizes)
        self.values = [sizes[n] for n in code.symbols]
        types = [t.substitute(sizes) for t in module.output_types]
        self.shapes = [(t.shape, t.dtype.numpy) if has_bytes(t) else None for t in types]
        self.slots = [substitute(n, sizes) for n in code.slots]
        self.small = sum(self.slots) < code.alone
        self.scratch = substitute(code.scratch, sizes)

    def __call__(
        self, inputs: Sequence[np.ndarray], threads: int, outputs: list | None = None
    ) -> list:
        return self.module(inputs, threads, outputs, self)


class _Frame:
    """Memory of one run at a time: arena, scratch, and the entry's table of pointers, of which
    those of the weights are set once and those of inputs and outputs by each run. `views` are the
    parts of the arena that Python kernels read. What a run notes is in `record`, which is `clear`
    before it and, where all is well, after it."""

    def __init__(
        self,
        code: NativeCode,
        weights: Sequence[np.ndarray],
        threads: int,
        host_callbacks: "HostCallbacks | None",
        workspace: Workspace,
    ):
        self.code, self.threads, self.workspace = code, threads, workspace
        self.table = (ctypes.c_void_p * code.layout.size)()
        self.address = ctypes.addressof(self.table)
        self.turn: ctypes.c_int64 | None = None
        self.at: Bound | None = None
        self.blocks: list[np.ndarray] = []
        self.room: list[int] = []  # bytes of each slot and of scratch
        self.clear = bytes(WORD * words(code.checks))
        self.record = bytearray(self.clear)
        if code.checks:
            place = ctypes.addressof(ctypes.c_char.from_buffer(self.record))
            self.table[code.layout.position("record", 0)] = place
        if not code.slots and not code.symbols:
            self._place([], cast(int, code.scratch))
        for i, w in enumerate(weights):
            self.table[code.layout.position("weight", i)] = w.ctypes.data
        self.views = [] if host_callbacks is None else host_callbacks.views(self.blocks[0])

    def _place(self, slots: Sequence[int], scratch: int) -> None:
        """Have memory for slots of so many bytes, and for scratch. What was in it is lost."""
        code, table = self.code, self.table
        self.blocks = self.workspace.place([code.arena, *slots, scratch * self.threads])
        starts = [block.ctypes.data for block in self.blocks]
        table[Layout.ARENA], table[Layout.SCRATCH] = starts[0], starts[-1]
        for i, start in enumerate(starts[1:-1]):
            table[code.layout.position("arena", i)] = start
        if code.counters:
            first = code.arena - code.counters
            self.blocks[0][first : code.arena] = 0
            self.turn = ctypes.c_int64.from_address(starts[0] + first)

    def fit(self, at: Bound) -> None:
        """Make ready for other sizes; memory grows, and stays for smaller ones. Where it is little,
        so do the slots, and need not be placed anew."""
        wanted, room = [*at.slots, at.scratch], self.room
        if len(room) != len(wanted) or any(map(gt, wanted, room)):
            if len(room) == len(wanted) and sum(room) + sum(wanted) <= LITTLE:
                wanted = list(map(max, wanted, room))
            self._place(wanted[:-1], wanted[-1])
            self.room = wanted
        for i, value in enumerate(at.values):
            self.table[self.code.layout.position("size", i)] = value
        self.at = at
