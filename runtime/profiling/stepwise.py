"""Run a program kernel by kernel, with someone looking on: for `verify`.

    step_native(built, arrays, observer)       machine code, on this thread
    step_numpy(program, arrays, observer)      the numpy backend

`observer(step)` sees a `Step` after each kernel. Loops and branches are walked here in Python, on
one thread; `profile.py` looks at a run as it really is.
"""

import ctypes
from collections.abc import Callable, Sequence

import numpy as np

from ...compiler.analysis.run_checks import new_record, raise_noted
from ...compiler.backends.llvm.program.plan import Scheduled
from ...compiler.backends.numpy import (
    FLAG,
    Objects,
    _Memory,
    has_bytes,
    run_host_callback,
    run_kernel,
)
from ...compiler.classes import dataclass
from ...compiler.ir.types import TensorType
from ...compiler.kernels.kernel import Call, HostCallback, Kernel, Program, Ref, run_order
from ...compiler.kernels.machine import ALIGNMENT, aligned_empty
from ..base.build import Built


@dataclass(frozen=True)
class Step:
    """A kernel that has run: `outputs` are its arrays by the names of the graph's values.

    `inside` is whether it belongs to a loop; `code` is its KernelCode (native only).
    """

    kernel: Kernel | None
    origins: tuple[str, ...]
    outputs: dict[str, np.ndarray]
    inside: bool
    code: object = None


Observer = Callable[[Step], None]


def step_numpy(program: Program, inputs: Sequence[np.ndarray], observer: Observer) -> list:
    """Run `program` in numpy; returns its outputs."""
    walker = _NumpyWalker(program, inputs, observer)
    with np.errstate(all="ignore"):
        walker.run(program.steps)
    raise_noted(program.checks, walker.memory.record.tolist(), {})
    return walker.memory.results()


def step_native(built: Built, inputs: Sequence[np.ndarray], observer: Observer) -> list:
    """Run a specialization's machine code; returns its outputs. Needs its plan, which executables
    loaded from a package lack."""
    walker = _NativeWalker(built, inputs, observer)
    walker.run(built.code.plan.steps)
    raise_noted(built.code.checks, walker.record.tolist(), {})
    return walker.outputs


class _Walker:
    def __init__(self, observer: Observer, others: Objects):
        self.observer, self.others = observer, others

    def array(self, ref: Ref, type: TensorType, loops: dict) -> np.ndarray:
        raise NotImplementedError

    def run(self, steps: list) -> None:
        holds = lambda place, turns: bool(self.array(place, FLAG, turns))
        for step, turns in run_order(steps, holds):
            if isinstance(step, HostCallback):
                self.host_callback(step, turns)
            else:
                self.call(step, turns)

    def host_callback(self, step: HostCallback, loops: dict) -> None:
        run_host_callback(step, lambda r, t: self.array(r, t, loops), self.others)
        self.observer(Step(None, (step.origin or step.op,), {}, bool(loops)))


class _NumpyWalker(_Walker):
    def __init__(self, program: Program, inputs, observer):
        self.memory = _Memory(program, inputs)
        super().__init__(observer, self.memory.others)

    def array(self, ref, type, loops):
        return self.memory.array(ref, type, loops)

    def call(self, step: Call, loops: dict) -> None:
        kernel = step.kernel
        arrays = [self.array(r, b.type, loops) for r, b in zip(step.refs, kernel.params)]
        run_kernel(kernel, arrays)
        outputs = {b.name: a for b, a in zip(kernel.params, arrays) if b in kernel.outputs}
        self.observer(Step(kernel, kernel.origins, outputs, bool(loops)))


class _NativeWalker(_Walker):
    def __init__(self, built: Built, inputs, observer):
        code, self.module = built.code, built.module
        super().__init__(observer, Objects(inputs, code.weights))
        arena = -(-code.arena // ALIGNMENT) * ALIGNMENT
        self.memory = aligned_empty(arena + code.scratch + ALIGNMENT)
        self.scratch = self.memory.ctypes.data + arena
        self.outputs = [
            aligned_empty(t.nbytes).view(t.dtype.numpy).reshape(t.shape) if has_bytes(t) else None
            for t in self.module.output_types
        ]
        for i, j in self.module.updates.items():
            self.outputs[i] = inputs[j]
        self.host_callbacks = code.host_callbacks
        self.record = new_record(code.checks)
        self.bases = {
            "arena": [self.memory],
            "input": inputs,
            "output": self.outputs,
            "weight": code.weights,
            "record": [self.record],
        }

    def address(self, ref: Ref, loops: dict) -> int:
        base = self.bases[ref.slot.kind][0 if ref.slot.kind == "arena" else ref.slot.index]
        return base.ctypes.data + ref.offset + sum(loops[i] * step for i, step in ref.steps)

    def array(self, ref, type, loops):
        raw = (ctypes.c_uint8 * type.nbytes).from_address(self.address(ref, loops))
        return np.frombuffer(raw, type.dtype.numpy).reshape(type.shape)

    def call(self, step: Scheduled, loops: dict) -> None:
        code = step.code
        pointers = [self.address(r, loops) for r in step.refs]
        packed = None if step.packed is None else self.address(step.packed, loops)
        types = [ctypes.c_void_p] * (len(pointers) + 2) + [ctypes.c_int64] * 2
        function = ctypes.CFUNCTYPE(None, *types)(self.module.address(code.name))
        function(*pointers, packed, self.scratch, 0, code.units)
        kernel = step.call.kernel
        places = dict(zip(code.params, step.refs))
        outputs = {
            mine.name: self.array(places[b], b.type, loops)
            for mine, b in zip(kernel.outputs, code.kernel.outputs)
        }
        self.observer(Step(kernel, kernel.origins, outputs, bool(loops), code))

    def host_callback(self, step: HostCallback, loops: dict) -> None:
        """The plan's steps name host callbacks by number."""
        super().host_callback(self.host_callbacks[step.function], loops)
        for i, y in enumerate(self.outputs):
            self.outputs[i] = self.others.output(i, y)
