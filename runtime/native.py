"""Native code in memory: `NativeModule` links objects and runs the entry.

A run fills a table of pointers (see `compiler/backends/llvm/program.py`) and crosses into native
code once; the GIL is released meanwhile. Arenas are kept for the next run, one per concurrent run.
"""

import ctypes
from collections.abc import Sequence

import llvmlite.binding as llvm
import numpy as np

from ..compiler.backends.base import ALIGNMENT, aligned_empty
from ..compiler.backends.llvm.native_code import MAIN, Layout, NativeCode
from ..compiler.backends.llvm.target import initialize
from ..compiler.backends.numpy import Objects, has_bytes, run_extern
from ..compiler.loops.nest import ExternCall, Ref
from ..compiler.types import TensorType
from .pool import get_pool

# An array's address is the first field of numpy's C struct for it, after the object's header: part
# of numpy's binary interface, and read several times faster than through its Python attributes.
_DATA_FIELD = object.__basicsize__
_pointer_at = ctypes.c_void_p.from_address


def data_address(x: np.ndarray) -> int:
    """Where the elements of an array lie."""
    return _pointer_at(id(x) + _DATA_FIELD).value


_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.POINTER(ctypes.c_void_p))


class NativeModule:
    """A program's machine code, loaded; callable from several threads at once."""

    def __init__(self, code: NativeCode, output_types: Sequence, updates: dict[int, int]):
        self.code, self.output_types, self.updates = code, list(output_types), updates
        self.pool = get_pool()
        self._engine = _link(code.objects)
        self._entry = self._engine.get_function_address(MAIN)
        self._weights = [np.ascontiguousarray(w) for w in code.weights]
        self._shapes = [
            (t.shape, t.dtype.numpy) if has_bytes(t) else None for t in self.output_types
        ]
        # Frames that no run is using, by their number of threads. Lists are taken from and added
        # to in one step each, so that this needs no lock.
        self._frames: dict[int, list[_Frame]] = {}

    def __call__(self, inputs: Sequence[np.ndarray], threads: int, outputs=None) -> list:
        """Run on contiguous arrays of the right types; returns fresh arrays (or `outputs`).

        For each entry of `updates` the input's array is written and returned.
        """
        if not self.code.parallel:
            threads = 1
        if outputs is None:
            outputs = [None if s is None else np.empty(*s) for s in self._shapes]
        if self.updates:
            for i, j in self.updates.items():
                outputs[i] = inputs[j]
        try:
            frame = self._frames[threads].pop()
        except (KeyError, IndexError):
            frame = _Frame(self.code, self._weights, threads)
        table, position = frame.table, Layout.FIRST
        for x in inputs:
            table[position] = data_address(x)
            position += 1
        for y in outputs:
            table[position] = None if y is None else data_address(y)
            position += 1
        if self.code.externs:
            self._run_with_externs(inputs, outputs, frame)
        else:
            self.pool.run(self._entry, frame.address, threads)
        self._frames.setdefault(threads, []).append(frame)
        return outputs

    def _run_with_externs(self, inputs: Sequence[np.ndarray], outputs: list, frame) -> None:
        steps = self.code.externs
        within = len(steps) - self.code.tail
        call = _Externs(steps, inputs, outputs, self._weights, frame.memory)
        if within:
            frame.table[Layout.CALLBACK] = ctypes.cast(call.callback(), ctypes.c_void_p).value
        self.pool.run(self._entry, frame.address, frame.threads)
        call.finish(within)

    def address(self, name: str) -> int:
        """Where the function of a kernel lies."""
        return self._engine.get_function_address(name)


class _Frame:
    """Memory of one run at a time: arena, scratch, and the entry's table of pointers, of which
    those of the weights are set once and those of inputs and outputs by each run."""

    def __init__(self, code: NativeCode, weights: Sequence[np.ndarray], threads: int):
        self.threads = threads
        arena = -(-code.arena // ALIGNMENT) * ALIGNMENT
        self.memory = aligned_empty(arena + code.scratch * threads + ALIGNMENT)
        self.table = (ctypes.c_void_p * code.layout.size)()
        self.address = ctypes.addressof(self.table)
        start = self.memory.ctypes.data
        self.table[Layout.ARENA], self.table[Layout.SCRATCH] = start, start + arena
        for i, w in enumerate(weights):
            self.table[code.layout.position("weight", i)] = w.ctypes.data


def _link(objects: dict[str, bytes]):
    """A JIT engine that holds the objects."""
    initialize()
    tm = llvm.Target.from_default_triple().create_target_machine(opt=0, jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), tm)
    for data in objects.values():
        engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    engine.finalize_object()
    return engine


class _Externs:
    """Runs the hand-written kernels of one run: those at the program's end after the machine code,
    the others called back from it.

    Strings, sequences and maps have no bytes that machine code could hand over: they are kept here
    between the calls, by the places that the program gave them.
    """

    def __init__(self, steps: Sequence[ExternCall], inputs, outputs, weights, arena):
        self.steps, self.outputs = steps, outputs
        self.memory = {"arena": [arena], "input": inputs, "output": outputs, "weight": weights}
        self.objects = Objects(inputs, weights)
        self.error: BaseException | None = None

    def callback(self):
        """What machine code calls; to be kept for as long as it runs."""
        self._callback = _CALLBACK(self._call)
        return self._callback

    def _call(self, number: int, pointers) -> None:
        if self.error is not None:
            return
        try:
            self._run(self.steps[number], pointers)
        except BaseException as error:  # must not unwind through native code
            self.error = error

    def _run(self, step: ExternCall, pointers) -> None:
        refs = [r for r in (*step.inputs, *step.outputs) if r is not None]
        where = {r: pointers[i] for i, r in enumerate(refs)}
        run_extern(step, lambda r, t: self._array(where[r], t), self.objects)

    @staticmethod
    def _array(address: int, type: TensorType) -> np.ndarray:
        raw = (ctypes.c_uint8 * type.nbytes).from_address(address)
        return np.frombuffer(raw, type.dtype.numpy).reshape(type.shape)

    def finish(self, first: int) -> None:
        """Run the steps from `first`, and put outputs without bytes in their places."""
        if self.error is not None:
            raise self.error
        for step in self.steps[first:]:
            run_extern(step, self._view, self.objects)
        for i, y in enumerate(self.outputs):
            if y is None:
                self.outputs[i] = self.objects.output(i, y)

    def _view(self, ref: Ref, type: TensorType) -> np.ndarray:
        memory = self.memory[ref.slot.kind][0 if ref.slot.kind == "arena" else ref.slot.index]
        raw = memory.reshape(-1).view(np.uint8)[ref.offset : ref.offset + type.nbytes]
        return raw.view(type.dtype.numpy).reshape(type.shape)
