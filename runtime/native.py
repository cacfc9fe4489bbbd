"""Native code in memory: `NativeModule` links objects and runs the entry.

A run fills a table of pointers (see `compiler/backends/llvm/program.py`) and crosses into native
code once; the GIL is released meanwhile. Arenas are kept for the next run, one per concurrent run.
"""

import ctypes
import threading
from collections.abc import Sequence

import llvmlite.binding as llvm
import numpy as np

from ..compiler.backends.base import ALIGNMENT, aligned_empty
from ..compiler.backends.llvm.native_code import MAIN, Layout, NativeCode
from ..compiler.backends.llvm.target import initialize
from ..compiler.backends.numpy import Objects, has_bytes, run_extern
from ..compiler.loops.nest import ExternCall
from ..compiler.types import TensorType
from .pool import get_pool

_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.POINTER(ctypes.c_void_p))


class NativeModule:
    """A program's machine code, loaded; callable from several threads at once."""

    def __init__(self, code: NativeCode, output_types: Sequence, updates: dict[int, int]):
        self.code, self.output_types, self.updates = code, list(output_types), updates
        self.pool = get_pool()
        self._engine = link(code.objects)
        self._entry = self._engine.get_function_address(MAIN)
        self._weights = [np.ascontiguousarray(w) for w in code.weights]
        self._shapes = [
            (t.shape, t.dtype.numpy) if has_bytes(t) else None for t in self.output_types
        ]
        self._frames: list[_Frame] = []
        self._lock = threading.Lock()

    def __call__(self, inputs: Sequence[np.ndarray], threads: int, outputs=None) -> list:
        """Run on contiguous arrays of the right types; returns fresh arrays (or `outputs`).

        For each entry of `updates` the input's array is written and returned.
        """
        threads = threads if self.code.parallel else 1
        if outputs is None:
            outputs = [None if s is None else np.empty(*s) for s in self._shapes]
        for i, j in self.updates.items():
            outputs[i] = inputs[j]
        frame = self._take_frame(threads)
        table, position = frame.table, Layout.FIRST
        for x in inputs:
            table[position] = x.__array_interface__["data"][0]
            position += 1
        for y in outputs:
            table[position] = None if y is None else y.__array_interface__["data"][0]
            position += 1
        externs = self.code.externs
        call = _Externs(externs, inputs, outputs, self._weights) if externs else None
        if call is not None:
            table[Layout.CALLBACK] = ctypes.cast(call.callback, ctypes.c_void_p).value
        self.pool.run(self._entry, frame.address, threads)
        with self._lock:
            self._frames.append(frame)
        if call is not None:
            call.finish()
        return outputs

    def address(self, name: str) -> int:
        """Where the function of a kernel lies."""
        return self._engine.get_function_address(name)

    def _take_frame(self, threads: int) -> "_Frame":
        with self._lock:
            for i, frame in enumerate(self._frames):
                if frame.threads >= threads:
                    return self._frames.pop(i)
        return _Frame(self.code, self._weights, threads)


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


def link(objects: dict[str, bytes]):
    """A JIT engine that holds the objects."""
    initialize()
    tm = llvm.Target.from_default_triple().create_target_machine(opt=0, jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), tm)
    for data in objects.values():
        engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    engine.finalize_object()
    return engine


class _Externs:
    """Runs the hand-written kernels of one run, called back from native code.

    Strings, sequences and maps have no bytes that machine code could hand over: they are kept here
    between the calls, by the places that the program gave them.
    """

    def __init__(self, steps: Sequence[ExternCall], inputs, outputs, weights):
        self.steps, self.outputs = steps, outputs
        self.objects = Objects(inputs, weights)
        self.error: BaseException | None = None
        self.callback = _CALLBACK(self._call)

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

    def finish(self) -> None:
        if self.error is not None:
            raise self.error
        for i, y in enumerate(self.outputs):
            self.outputs[i] = self.objects.output(i, y)
