"""A CUDA driver in Python, with the functions of `cuda.bindings.driver` that the runtime calls.

Device memory is host memory. Launches are recorded as (kernel, programs, threads, pointers, last
two arguments) and, if `execute` is given, carried out by it. Machine code is the kernel's key.
Work that is queued while a stream records goes into the graph and happens when that is launched.
"""

import ctypes
from enum import Enum, auto
from types import SimpleNamespace

import numpy as np

SUCCESS, INVALID, OUT_OF_MEMORY, NO_DEVICE = 0, 1, 2, 100
NAMES = {1: "CUDA_ERROR_INVALID_VALUE", 2: "CUDA_ERROR_OUT_OF_MEMORY", 100: "CUDA_ERROR_NO_DEVICE"}


class Attribute(Enum):
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = auto()
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = auto()
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = auto()
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = auto()


class FakeDriver:
    """One device. `arch` = 10 * major + minor; `memory` bytes may be allocated in all."""

    CUdevice_attribute = Attribute
    CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)
    CUfunction_attribute = SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8)

    def __init__(self, *, arch=90, devices=1, memory=1 << 30, execute=None):
        self.devices, self.memory, self.execute = devices, memory, execute
        self.attributes = dict(zip(Attribute, (arch // 10, arch % 10, 227 << 10, 132)))
        self.buffers: dict[int, np.ndarray] = {}
        self.launches: list[tuple] = []
        self.calls: list[str] = []
        self.modules: set[bytes] = set()
        self.shared: dict[bytes, int] = {}
        self.arity: dict[bytes, int] = {}
        self.recording: list | None = None

    def ranges(self) -> list[tuple[int, int]]:
        return [(p, p + b.nbytes) for p, b in self.buffers.items()]

    def buffers_at(self, pointer: int) -> np.ndarray:
        """The bytes of device memory from a pointer on."""
        for start, buffer in self.buffers.items():
            if start <= pointer < start + buffer.nbytes:
                return buffer[pointer - start :]
        raise IndexError(hex(pointer))

    def _queue(self, work):
        if self.recording is None:
            work()
        else:
            self.recording.append(work)
        return (SUCCESS,)

    # -- the driver's functions -----------------------------------------------------------

    def cuInit(self, flags):
        return (SUCCESS if self.devices else NO_DEVICE,)

    def cuGetErrorName(self, status):
        return SUCCESS, NAMES[status].encode()

    def cuGetErrorString(self, status):
        return SUCCESS, b"as the fake says"

    def cuDeviceGetCount(self):
        return SUCCESS, self.devices

    def cuDeviceGet(self, ordinal):
        return SUCCESS, ordinal

    def cuDeviceGetAttribute(self, attribute, device):
        return SUCCESS, self.attributes[attribute]

    def cuDevicePrimaryCtxRetain(self, device):
        return SUCCESS, "context"

    def cuCtxSetCurrent(self, context):
        return (SUCCESS,)

    def cuStreamCreate(self, flags):
        return SUCCESS, "stream"

    def cuStreamSynchronize(self, stream):
        self.calls.append("synchronize")
        return (SUCCESS,)

    def cuMemAlloc(self, nbytes):
        if sum(b.nbytes for b in self.buffers.values()) + nbytes > self.memory:
            return OUT_OF_MEMORY, 0
        buffer = np.full(nbytes + 256, 0xCD, np.uint8)
        start = -buffer.ctypes.data % 256
        buffer = buffer[start : start + nbytes]
        self.buffers[buffer.ctypes.data] = buffer
        return SUCCESS, buffer.ctypes.data

    def cuMemFree(self, pointer):
        del self.buffers[pointer]
        return (SUCCESS,)

    def cuMemHostAlloc(self, nbytes, flags):
        return self.cuMemAlloc(nbytes)

    cuMemFreeHost = cuMemFree

    def cuMemcpyHtoDAsync(self, target, source, nbytes, stream):
        return self._queue(lambda: ctypes.memmove(target, source, nbytes))

    def cuMemcpyDtoHAsync(self, target, source, nbytes, stream):
        return self._queue(lambda: ctypes.memmove(target, source, nbytes))

    def cuModuleLoadData(self, code):
        self.modules.add(code)
        return SUCCESS, code

    def cuModuleUnload(self, module):
        self.modules.remove(module)
        return (SUCCESS,)

    def cuModuleGetFunction(self, module, name):
        return SUCCESS, module

    def cuFuncSetAttribute(self, function, attribute, value):
        self.shared[function] = value
        return (SUCCESS,)

    def cuLaunchKernel(self, function, gx, gy, gz, bx, by, bz, shared, stream, params, extra):
        if not 0 < gx < 2**31 or (gy, gz, by, bz, extra) != (1, 1, 1, 1, 0):
            return (INVALID,)
        count = self.arity[function] + 2
        slots = (ctypes.c_void_p * count).from_address(params)
        values = [ctypes.c_uint64.from_address(slot).value for slot in slots]
        record = (function.decode(), gx, bx, tuple(values[:-2]), tuple(values[-2:]))

        def work():
            self.launches.append(record)
            if self.execute is not None:
                self.execute(*record)

        return self._queue(work)

    def cuStreamBeginCapture(self, stream, mode):
        self.recording = []
        return (SUCCESS,)

    def cuStreamEndCapture(self, stream):
        graph, self.recording = self.recording, None
        return SUCCESS, graph

    def cuGraphInstantiate(self, graph, flags):
        self.calls.append("instantiate")
        return SUCCESS, graph

    def cuGraphDestroy(self, graph):
        return (SUCCESS,)

    def cuGraphExecDestroy(self, executable):
        self.calls.append("destroy")
        return (SUCCESS,)

    def cuGraphLaunch(self, executable, stream):
        self.calls.append("graph")
        for work in executable:
            work()
        return (SUCCESS,)
