"""Models on a GPU: `CudaModel(module).run(inputs) -> outputs`, and the loader of the target `cuda`.

Everything that a run touches is allocated once: weights, arena, inputs and outputs on the device,
and pinned host memory on the way to them. A program without `if`s and calls into Python is recorded
as one CUDA graph, copies included, so that a run is one call of the driver.
"""

import contextlib
import weakref
from collections.abc import Mapping, Sequence

import numpy as np

from ...compiler.analysis.run_checks import WORD, raise_noted, words
from ...compiler.backends.triton.backend import Launch, TritonModule
from ...compiler.backends.triton.target import parse_target
from ...compiler.errors import InputError
from ...compiler.ir.types import TensorType, tensor_type_of
from ...compiler.kernels.kernel import HostCallback, Program, Ref, run_order
from ...compiler.system.concurrency import give_lock
from ...compiler.system.cores import available_cores
from ...compiler.targets.base import Target
from ..base.build import Module, in_place
from .driver import RUN_ELSEWHERE, CudaDevice, DeviceError, available, why_unavailable

ALIGNMENT = 256


class CudaModel:
    """A module on a device.

    `weights` replace the module's own arrays, in their order. Kernels without machine code are
    compiled first, which needs triton. Raises DeviceError where there is no GPU.
    """

    def __init__(
        self,
        module: TritonModule,
        weights: Sequence[np.ndarray] | None = None,
        *,
        device: CudaDevice | None = None,
        use_graph: bool = True,
    ):
        self.module = module
        self.device = device if device is not None else CudaDevice()
        self._check_target()
        module.compile(threads=available_cores())
        give_lock(self, "_lock")
        self._others: dict = {}
        # Freed in reverse when the model is closed or collected, also if setting up fails.
        self._resources = contextlib.ExitStack()
        self._end = weakref.finalize(self, _release, self.device, self._resources)
        try:
            self._set_up(module.weights if weights is None else weights)
            self._graph = None
            if use_graph and module.is_static:
                self._graph = self.device.capture(self._queue)
                self._resources.callback(self._graph.close)
        except BaseException:
            self._end()
            raise

    def _check_target(self) -> None:
        target, device = self.module.target, self.device
        ok = target.api == "cuda" and target.arch // 10 == device.arch // 10
        # From sm_90 on, code uses features of exactly one architecture (sm_90a).
        ok = ok and (
            target.arch == device.arch if target.arch >= 90 else target.arch <= device.arch
        )
        if not ok:
            raise DeviceError(
                "the model was compiled for another GPU",
                expected=device.target,
                received=target.name,
                fix=f"compile for {device.target}",
            )

    def _set_up(self, weights: Sequence[np.ndarray]) -> None:
        d, module, own = self.device, self.module, self._resources
        d.activate()
        self._clear, self._noted = (self._words() for _ in range(2))
        self._clear[...] = 0
        sizes = {
            "weight": [w.nbytes for w in weights],
            "input": [_nbytes(t) for t in module.inputs],
            "output": [_nbytes(t) for t in module.outputs],
            "arena": [module.arena],
            "record": [self._clear.nbytes],
        }
        self._bases: dict[tuple[str, int], int] = {}
        for kind, parts in sizes.items():
            offsets, total = _offsets(parts)
            base = d.allocate(total)
            own.callback(d.free, base)
            self._bases |= {(kind, i): base + offset for i, offset in enumerate(offsets)}
        self._host_inputs = [self._staging(t) for t in module.inputs]
        self._host_outputs = [self._staging(t) for t in module.outputs]
        self._functions = {}
        for key, binary in module.binaries.items():
            self._functions[key] = d.load(binary)
            own.callback(d.unload, self._functions[key])
        scratch = [module.binaries[x.key].scratch * x.programs for x in module.launches()]
        self._scratch = 0
        if any(scratch):
            self._scratch = d.allocate(max(scratch))
            own.callback(d.free, self._scratch)
        for i, w in enumerate(weights):
            d.upload(self._bases["weight", i], np.ascontiguousarray(w))
            d.synchronize()

    def _words(self) -> np.ndarray:
        """Pinned host memory for what runs note."""
        memory = self.device.pinned(WORD * max(1, words(self.module.checks)))
        self._resources.callback(self.device.free_pinned, memory)
        return memory.view(np.int64)

    def _staging(self, type) -> np.ndarray | None:
        """Pinned host memory for an input or output."""
        if not isinstance(type, TensorType):
            return None
        memory = self.device.pinned(type.nbytes)
        self._resources.callback(self.device.free_pinned, memory)
        return memory.view(type.dtype.numpy).reshape(type.shape)

    # -- running --------------------------------------------------------------------------

    def run(self, inputs: Sequence[np.ndarray]) -> list:
        """Outputs of the model, in order, in arrays of the caller's own. Raises InputError for
        inputs that don't fit, and for what the run notes."""
        inputs = [np.asarray(x) for x in inputs]
        self._check_inputs(inputs)
        with self._lock:
            self.device.activate()
            for staged, x in zip(self._host_inputs, inputs):
                staged[...] = x
            if self._graph is not None:
                self._graph.replay()
            else:
                self._queue()
            self.device.synchronize()
            raise_noted(self.module.checks, self._noted.tolist(), {})
            return [
                self._others[i] if host is None else host.copy()
                for i, host in enumerate(self._host_outputs)
            ]

    def _check_inputs(self, inputs: list) -> None:
        types = self.module.inputs
        if len(inputs) != len(types):
            raise InputError("wrong number of inputs", expected=len(types), received=len(inputs))
        for i, (x, t) in enumerate(zip(inputs, types)):
            if tensor_type_of(x) != t:
                raise InputError(f"input {i} does not fit", expected=t, received=tensor_type_of(x))

    def _queue(self) -> None:
        d = self.device
        for i, staged in enumerate(self._host_inputs):
            d.upload(self._bases["input", i], staged)
        if self.module.checks:
            d.upload(self._bases["record", 0], self._clear)
        holds = lambda place, turns: bool(self._read(place, np.bool_, (), turns))
        for step, turns in run_order(self.module.steps, holds):
            if isinstance(step, Launch):
                pointers = [self._address(r, turns) for r in step.refs]
                function = self._functions[step.key]
                d.launch(function, step.programs, pointers, self._scratch)
            else:
                self._host_callback(step, turns)
        if self.module.checks:
            d.download(self._noted, self._bases["record", 0])
        for i, staged in enumerate(self._host_outputs):
            if staged is not None:
                d.download(staged, self._bases["output", i])

    def _address(self, ref: Ref, loops: dict[int, int]) -> int:
        moved = sum(loops[loop] * step for loop, step in ref.steps)
        index = 0 if ref.slot.kind == "arena" else ref.slot.index
        return self._bases[ref.slot.kind, index] + ref.offset + moved

    def _read(self, ref: Ref, dtype, shape, loops) -> np.ndarray:
        host = np.empty(shape, dtype)
        self.device.download(host, self._address(ref, loops))
        self.device.synchronize()
        return host

    def _host_callback(self, step: HostCallback, loops: dict[int, int]) -> None:
        """Call a kernel written in Python on host copies of its operands."""
        arrays = []
        for ref, type in zip(step.inputs, step.input_types):
            if ref is None:
                arrays.append(None)
            elif isinstance(type, TensorType):
                arrays.append(self._read(ref, type.dtype.numpy, type.shape, loops))
            else:
                arrays.append(self._others[ref.slot.index])
        results = step.function(*arrays, **step.attrs)
        results = results if isinstance(results, tuple) else (results,)
        for ref, type, result in zip(step.outputs, step.output_types, results):
            if isinstance(type, TensorType):
                host = np.ascontiguousarray(result, type.dtype.numpy).reshape(type.shape)
                self.device.upload(self._address(ref, loops), host)
                self.device.synchronize()
            else:
                self._others[ref.slot.index] = result

    def close(self) -> None:
        """Give back everything on the device; the model cannot run afterwards."""
        self._end()

    def __enter__(self) -> "CudaModel":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _release(device: CudaDevice, resources: contextlib.ExitStack) -> None:
    device.activate()
    resources.close()


def _nbytes(type) -> int:
    return type.nbytes if isinstance(type, TensorType) else 0


def _offsets(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Places of parts in one allocation, and its size."""
    offsets, end = [], 0
    for size in sizes:
        offsets.append(end)
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return offsets, end


class CudaLoader:
    """Puts a target's modules on the GPU that is here; a bare `cuda` is that one."""

    def __init__(self, target: Target, device: CudaDevice | None = None):
        self.target, self.device = target, device
        self.absent = None
        if device is None:
            self.absent = why_unavailable()
            self.device = CudaDevice() if self.absent is None else None
        if self.device is not None and target.name == "cuda":
            target.machine = parse_target(self.device.target)

    def load(
        self, record: TritonModule, program: Program, outputs: Sequence, updates: Mapping[int, int]
    ) -> Module:
        if self.device is None:
            return _Absent(self.target.name, self.absent)
        return _CudaModule(CudaModel(record, device=self.device), dict(updates))


class _CudaModule:
    """A CudaModel as the face calls it; updated inputs are written in place."""

    def __init__(self, model: CudaModel, updates: dict[int, int]):
        self.model, self.updates = model, updates

    def __call__(self, inputs: Sequence[np.ndarray], threads: int) -> list:
        return in_place(self.model.run(inputs), inputs, self.updates)


class _Absent:
    """Stands for a model where no GPU is: it can be printed and compiled, not called."""

    def __init__(self, name: str, why: str):
        self.name, self.why = name, why

    def __call__(self, inputs: Sequence[np.ndarray], threads: int) -> list:
        raise DeviceError(f"{self.name} needs an NVIDIA GPU", received=self.why, fix=RUN_ELSEWHERE)


__all__ = ["CudaDevice", "CudaLoader", "CudaModel", "DeviceError", "available", "why_unavailable"]
