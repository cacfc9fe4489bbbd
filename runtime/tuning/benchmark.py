"""Which of several schedules of a kernel is fastest, on a machine that others use too.

Each is timed in short slices that take turns with slices of the default one, and what counts is
the median of the ratios of neighbours: whoever disturbs, disturbs both. Time is that of the thread
on its core: while another program has the core, it stands still. A challenger that comes first
among several was also lucky, so it meets the default once more, and only that counts.
"""

import ctypes
import time
from collections.abc import Callable, Sequence

import numpy as np

from ...compiler.backends.llvm.base.cache import ObjectCache
from ...compiler.backends.llvm.kernel.codegen import KernelCode, kernel_module
from ...compiler.backends.llvm.kernel.objects import object_code
from ...compiler.backends.llvm.program.slices import SLICE, pointers_of, slice_module
from ...compiler.classes import dataclass
from ...compiler.expr.expr import Buffer
from ...compiler.kernels.machine import Machine, aligned_empty
from ..native.linker import link

SECONDS = 2e-3  # of a slice: long against the clock, short against what disturbs
AROUND = 32 << 20  # bytes of weights that calls take in turn, at most
COPIES = 256  # of them, at most
TRIAL_PAIRS = 9  # pairs of slices in which a challenger shows what it can do
FINAL = 25  # pairs that decide
FEWEST = 7  # pairs of a final without which nothing is decided
MARGIN = 1.03  # by which a challenger must be faster
LOW = 25  # percentile of the ratios at which it still must not be slower

Slice = Callable[[], float]  # ns that a run of the kernel took, as the mean of one slice


@dataclass(eq=False)
class Candidate:
    """Code for a kernel; `slice` times it."""

    code: KernelCode
    slice: Slice


def ratios(default: Slice, other: Slice, pairs: int, over: Callable[[], bool]) -> list[float]:
    """The default's time divided by the other's, of `pairs` neighbours or until it is `over`."""
    found = []
    while len(found) < pairs and not over():
        # Who begins changes, so that a machine that slows down favours neither.
        if len(found) % 2:
            y, x = other(), default()
        else:
            x, y = default(), other()
        found.append(x / y)
    return found


def best_of(
    default: Candidate, others: Sequence[Candidate], over: Callable[[], bool]
) -> tuple[Candidate, float] | None:
    """The fastest candidate, and by which factor; (default, 1.0) if none is faster beyond doubt.

    None if it was `over` before that was known.
    """
    trials = [(ratios(default.slice, x.slice, TRIAL_PAIRS, over), x) for x in others]
    trials = [(float(np.median(r)), x) for r, x in trials if r]
    gain, fastest = max(trials, key=lambda h: h[0], default=(1.0, default))
    if over():
        return None
    if gain < MARGIN:
        return default, 1.0
    final = ratios(default.slice, fastest.slice, FINAL, over)
    if len(final) < min(FEWEST, FINAL):
        return None
    gain = float(np.median(final))
    sure = gain >= MARGIN and np.percentile(final, LOW) > 1.0
    return (fastest, gain) if sure else (default, 1.0)


class Stage:
    """Where the schedules of one kernel are timed, on one thread.

    `arrays` are the kernel's constants; everything else is random. `between` are the bytes that
    the model touches before it comes to this kernel again.
    """

    def __init__(
        self, target: Machine, arrays: dict[Buffer, np.ndarray], between: int, cache: ObjectCache
    ):
        self.target, self.constants, self.between, self.cache = target, arrays, between, cache
        self.arrays: dict[Buffer, np.ndarray] = {}
        self.packed: dict[int, list[np.ndarray]] = {}
        self.random = np.random.default_rng(0)

    def enter(self, code: KernelCode) -> Candidate:
        """Compile `code` and get ready to run it."""
        found = self.cache.get(code.name)
        if found is None:
            found = object_code(kernel_module(code, self.target), self.target)
        loop = object_code(slice_module(code, self.target), self.target)
        return Candidate(
            code, _Slice(link({code.name: found, SLICE: loop}, {}), self._rows(code), code)
        )

    def _rows(self, code: KernelCode) -> list[list[np.ndarray]]:
        """What a row of the table points to, for as many rows as there are copies of weights."""
        arrays = [self._array(b) for b in code.params]
        scratch = aligned_empty(code.scratch)
        copies = self._packed(code) if code.packs else [aligned_empty(0)]
        return [[*arrays, packed, scratch] for packed in copies]

    def _packed(self, code: KernelCode) -> list[np.ndarray]:
        """Copies of the packed constant, which is the same for tiles of the same width."""
        width = code.schedule.width
        if width not in self.packed:
            first = code.pack(self.constants)
            count = max(1, min(COPIES, min(self.between, AROUND) // first.nbytes))
            self.packed[width] = [first]
            for _ in range(count - 1):
                copy = aligned_empty(first.nbytes)
                copy[:] = first.reshape(-1).view(np.uint8)
                self.packed[width].append(copy)
        return self.packed[width]

    def _array(self, buffer: Buffer) -> np.ndarray:
        """The same bytes for every schedule."""
        if buffer not in self.arrays:
            shape, dtype = buffer.type.shape, buffer.type.dtype
            array = self.constants.get(buffer)
            if array is None:
                # Small integers are in the range of every dtype.
                draw = self.random.standard_normal if dtype.is_float else self._integers
                array = draw(shape).astype(dtype.numpy)
            own = aligned_empty(array.nbytes)
            own[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            self.arrays[buffer] = own
        return self.arrays[buffer]

    def _integers(self, shape) -> np.ndarray:
        return self.random.integers(0, 2, shape)


class _Slice:
    """Runs a kernel for `SECONDS`; its first run says how often that is."""

    def __init__(self, image, rows: list[list[np.ndarray]], code: KernelCode):
        self.kept = image, rows  # what the pointers lead to
        self.table = (ctypes.c_void_p * (len(rows) * pointers_of(code)))(
            *(x.ctypes.data for row in rows for x in row)
        )
        self.sets = len(rows)
        type = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        self.run = type(image.address(SLICE))
        self.times = 1
        self._time()  # brings in pages and code
        self.times = max(1, int(SECONDS * 1e9 / max(1.0, self._time())))

    def _time(self) -> float:
        start = time.thread_time_ns()
        self.run(self.table, self.sets, self.times)
        return max(1, time.thread_time_ns() - start) / self.times

    __call__ = _time
