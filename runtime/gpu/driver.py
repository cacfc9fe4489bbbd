"""A CUDA device through the driver API: memory, copies, code, launches, graphs.

The driver comes with the GPU's own software; its Python binding is the package cuda-bindings. No
CUDA toolkit is needed. Every method raises DeviceError if the driver refuses.
"""

import ctypes
import weakref
from collections.abc import Sequence

import numpy as np

from ...compiler.backends.triton.jit import Binary
from ...compiler.errors import TesselError

STATIC_SHARED = 48 << 10  # bytes of shared memory that a launch gets without asking
RUN_ELSEWHERE = "run on the CPU (target='cpu'), or on a machine with an NVIDIA GPU"


class DeviceError(TesselError):
    """The GPU is absent, or its driver refused something."""


def load_driver():
    """The driver's binding. Raises DeviceError where it is not installed."""
    try:
        from cuda.bindings import driver
    except ImportError:
        raise DeviceError(
            "running on a GPU needs the package cuda-bindings",
            fix="pip install 'tessel[gpu]', or run on the CPU (target='cpu')",
        ) from None
    return driver


def why_unavailable(driver=None) -> str | None:
    """Why no CUDA device can be used here, or None if one can."""
    try:
        driver = load_driver() if driver is None else driver
        status = driver.cuInit(0)[0]
        if int(status) != 0:
            return f"the CUDA driver does not start: {_name(driver, status)}"
        status, count = driver.cuDeviceGetCount()
        return None if int(status) == 0 and count > 0 else "the CUDA driver finds no device"
    except DeviceError as error:
        return error.message
    except (RuntimeError, OSError) as error:  # the binding's way to say: no libcuda
        return f"the CUDA driver is not installed ({str(error).splitlines()[0]})"


def available() -> bool:
    """Whether a CUDA device can be used here."""
    return why_unavailable() is None


def _name(driver, status) -> str:
    name = driver.cuGetErrorName(status)[1]
    text = driver.cuGetErrorString(status)[1]
    decode = lambda x: x.decode() if isinstance(x, bytes) else str(x)
    return f"{decode(name)}: {decode(text)}"


class Function:
    """A kernel that the device has loaded."""

    __slots__ = ("binary", "handle", "module")

    def __init__(self, module, handle, binary: Binary):
        self.module, self.handle, self.binary = module, handle, binary


class CudaDevice:
    """One GPU, with one stream that everything is queued on.

    Pointers are ints. `driver` replaces the real driver in tests.
    """

    def __init__(self, ordinal: int = 0, driver=None):
        why = why_unavailable(driver)
        if why is not None:
            raise DeviceError("there is no CUDA device", received=why, fix=RUN_ELSEWHERE)
        self.driver = d = load_driver() if driver is None else driver
        self.device = self.check(d.cuDeviceGet(ordinal), "open the device")
        self.context = self.check(d.cuDevicePrimaryCtxRetain(self.device), "open the device")
        self.activate()
        attribute = d.CUdevice_attribute
        prefix = "CU_DEVICE_ATTRIBUTE_"
        get = lambda name: int(
            self.check(
                d.cuDeviceGetAttribute(getattr(attribute, prefix + name), self.device), "ask it"
            )
        )
        self.arch = 10 * get("COMPUTE_CAPABILITY_MAJOR") + get("COMPUTE_CAPABILITY_MINOR")
        self.shared = get("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")
        self.processors = get("MULTIPROCESSOR_COUNT")
        flag = d.CUstream_flags.CU_STREAM_NON_BLOCKING
        self.stream = self.check(d.cuStreamCreate(int(flag)), "create a stream")
        # One 8-byte slot per parameter; the driver copies them when a kernel is launched.
        self._slots = (ctypes.c_uint64 * 128)()
        base = ctypes.addressof(self._slots)
        self._params = (ctypes.c_void_p * 128)(*(base + 8 * i for i in range(128)))

    @property
    def target(self) -> str:
        """The name of the target that code for this device is compiled for."""
        return f"cuda:sm_{self.arch}"

    def check(self, result: tuple, action: str):
        """The value of a driver's answer. Raises DeviceError with the driver's words."""
        status, *values = result
        if int(status) != 0:
            raise DeviceError(f"the GPU could not {action}", received=_name(self.driver, status))
        return values[0] if len(values) == 1 else values or None

    def activate(self) -> None:
        """Make the device's context this thread's."""
        self.check(self.driver.cuCtxSetCurrent(self.context), "select the device")

    # -- memory ---------------------------------------------------------------------------

    def allocate(self, nbytes: int) -> int:
        """Device memory, a multiple of 256 bytes into the address space."""
        return int(
            self.check(self.driver.cuMemAlloc(max(1, nbytes)), f"allocate {nbytes} bytes of memory")
        )

    def free(self, pointer: int) -> None:
        self.check(self.driver.cuMemFree(pointer), "free memory")

    def pinned(self, nbytes: int) -> np.ndarray:
        """Host memory that the GPU copies from and to by itself, as bytes."""
        address = int(self.check(self.driver.cuMemHostAlloc(max(1, nbytes), 0), "pin host memory"))
        memory = np.ctypeslib.as_array(ctypes.cast(address, _BYTES), (max(1, nbytes),))
        return memory[:nbytes]

    def free_pinned(self, array: np.ndarray) -> None:
        self.check(self.driver.cuMemFreeHost(array.ctypes.data), "unpin host memory")

    def upload(self, pointer: int, array: np.ndarray) -> None:
        """Queue a copy of a contiguous host array to the device."""
        if array.nbytes:
            copy = self.driver.cuMemcpyHtoDAsync
            self.check(copy(pointer, array.ctypes.data, array.nbytes, self.stream), "copy to it")

    def download(self, array: np.ndarray, pointer: int) -> None:
        """Queue a copy from the device into a contiguous host array."""
        if array.nbytes:
            copy = self.driver.cuMemcpyDtoHAsync
            self.check(copy(array.ctypes.data, pointer, array.nbytes, self.stream), "copy from it")

    def synchronize(self) -> None:
        """Wait until everything queued is done."""
        self.check(self.driver.cuStreamSynchronize(self.stream), "finish its work")

    # -- kernels --------------------------------------------------------------------------

    def load(self, binary: Binary) -> Function:
        """Load machine code. Raises DeviceError if this device cannot run it."""
        if binary.shared > self.shared:
            raise DeviceError(
                f"kernel {binary.name} needs more shared memory than this GPU has",
                expected=f"at most {self.shared} bytes",
                received=f"{binary.shared} bytes",
                fix=f"compile for {self.target}",
            )
        d = self.driver
        module = self.check(d.cuModuleLoadData(binary.code), f"load kernel {binary.name}")
        name = binary.name.encode()
        handle = self.check(d.cuModuleGetFunction(module, name), f"find kernel {binary.name}")
        if binary.shared > STATIC_SHARED:
            attribute = d.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            grow = d.cuFuncSetAttribute(handle, attribute, binary.shared)
            self.check(grow, f"give kernel {binary.name} its shared memory")
        return Function(module, handle, binary)

    def unload(self, function: Function) -> None:
        self.check(self.driver.cuModuleUnload(function.module), "unload a kernel")

    def launch(
        self, function: Function, programs: int, pointers: Sequence[int], scratch: int = 0
    ) -> None:
        """Queue a kernel. Its arguments are pointers, then Triton's two scratch pointers."""
        count = len(pointers) + 2
        assert count <= len(self._slots), f"{function.binary.name}: {count} arguments"
        self._slots[:count] = [*pointers, scratch, 0]
        b = function.binary
        status = self.driver.cuLaunchKernel(
            function.handle,
            programs,
            1,
            1,
            b.num_warps * b.warp,
            1,
            1,
            b.shared,
            self.stream,
            ctypes.addressof(self._params),
            0,
        )
        self.check(status, f"launch kernel {b.name}")

    # -- graphs ---------------------------------------------------------------------------

    def capture(self, queue) -> "Graph":
        """What `queue()` puts on the stream, as a graph that one call replays."""
        d = self.driver
        mode = d.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self.check(d.cuStreamBeginCapture(self.stream, mode), "record a graph")
        try:
            queue()
        except BaseException:
            d.cuStreamEndCapture(self.stream)
            raise
        graph = self.check(d.cuStreamEndCapture(self.stream), "record a graph")
        executable = self.check(d.cuGraphInstantiate(graph, 0), "prepare a graph")
        self.check(d.cuGraphDestroy(graph), "drop a graph")
        return Graph(self, executable)


class Graph:
    """Recorded work; `replay` queues all of it at once."""

    def __init__(self, device: CudaDevice, executable):
        self.device, self.executable = device, executable
        self._end = weakref.finalize(self, device.driver.cuGraphExecDestroy, executable)

    def replay(self) -> None:
        d = self.device
        d.check(d.driver.cuGraphLaunch(self.executable, d.stream), "run a graph")

    def close(self) -> None:
        self._end()


_BYTES = ctypes.POINTER(ctypes.c_uint8)
