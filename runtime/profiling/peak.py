"""The most that this machine's cores can do: `measure_peak(threads, seconds)`.

Arithmetic in registers, and reading from each level of memory, by the loops of
`backends/llvm/program/peak.py`. Each is timed in many short slices, since a machine is seldom
one's own: the median is what to expect, the highest what the core can do when it is left alone.
"""

import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from ...compiler.backends.llvm.base.target import cache_size, host
from ...compiler.backends.llvm.kernel.objects import object_code
from ...compiler.backends.llvm.program import peak
from ...compiler.backends.llvm.program.pool_layout import BARRIER_SYMBOL
from ...compiler.classes import dataclass
from ...compiler.errors import UsageError
from ...compiler.kernels.machine import Machine, aligned_empty
from ...compiler.system.cores import available_cores
from ..native.linker import link
from ..native.pool import get_pool

SLICE = 1e-3  # seconds that a slice should take
FEWEST = 5  # slices of each kind, however short the time
BEYOND = 1 << 30  # bytes that are read from memory at most, to find none of them in a cache
PIECE = 8 << 20  # bytes of them that a slice reads


@dataclass(frozen=True)
class Rate:
    """Something per second over many slices: GFLOP/s or GB/s, of all threads together."""

    median: float
    low: float
    high: float
    slices: int

    @classmethod
    def of(cls, rates: list[float]) -> "Rate":
        """The median, and the tenths of the slices that were slowest and fastest left out."""
        low, median, high = np.percentile(rates, [10, 50, 90])
        return cls(float(median), float(low), float(high), len(rates))


@dataclass(frozen=True)
class Peak:
    """`reads` are GB/s by level: L2, L3 (where there is one) and memory; `sizes` the bytes that
    each thread read there. `vector` is the type that was multiplied and added."""

    threads: int
    vector: str
    accumulators: int
    flops: Rate
    reads: dict[str, Rate]
    sizes: dict[str, int]

    @property
    def gflops(self) -> float:
        """What shares of peak refer to."""
        return self.flops.median

    def report(self) -> dict:
        """As plain data, for JSON."""
        return asdict(self)


def measure_peak(threads: int = 1, seconds: float = 1.0, *, reads: bool = True) -> Peak:
    """Measure for about `seconds` on as many cores; without `reads`, arithmetic alone.

    Raises UsageError where there are not so many cores: threads that take turns have no peak.
    """
    cores = available_cores()
    if not 1 <= threads <= cores:
        raise UsageError(
            "a peak is that of cores that this process may use",
            expected=f"1 to {cores}",
            received=threads,
        )
    return _Meter(threads, seconds, host()).peak(reads)


class _Meter:
    """The loops, linked, and a line of words per thread."""

    def __init__(self, threads: int, seconds: float, target: Machine):
        self.threads, self.seconds, self.target = threads, seconds, target
        self.pool = get_pool()
        symbols = {BARRIER_SYMBOL: self.pool.barrier_address}
        self.image = link({"peak": object_code(peak.peak_module(target), target)}, symbols)
        raw = aligned_empty(threads * peak.WORDS * 8)
        self.lines = raw.view(np.int64).reshape(threads, peak.WORDS)
        self.lines[:] = 0

    def peak(self, with_reads: bool) -> Peak:
        sizes = self._sizes() if with_reads else {}
        share = self.seconds / (1 + len(sizes))
        flops = self._flops(share)
        reads = {level: self._read(level, size, share) for level, size in sizes.items()}
        lanes = self.target.lanes(32)
        count = peak.accumulators(self.target)
        return Peak(self.threads, f"<{lanes} x float>", count, flops, reads, sizes)

    def _sizes(self) -> dict[str, int]:
        """Bytes per thread whose reading shows each level."""
        l2, l3 = self.target.l2, cache_size(3, 0)
        sizes = {"L2": l2 // 2}
        if l3 // self.threads >= 4 * l2:
            # Other programs use the L3 cache too: a little beyond the L2 cache is surely in it.
            sizes["L3"] = min(4 * l2, l3 // self.threads // 2)
        beyond = max(min(2 * l3, BEYOND), 64 << 20)
        sizes["memory"] = max(PIECE, beyond // self.threads // PIECE * PIECE)
        return sizes

    def _flops(self, seconds: float) -> Rate:
        each = peak.flops_per_round(self.target) * self.threads
        self.lines[:, peak.RESULT] = np.float32(1e-12).view(np.int32)
        return self._slices(peak.FMA, seconds, lambda rounds: each * rounds)

    def _read(self, level: str, size: int, seconds: float) -> Rate:
        size -= size % peak.bytes_per_step(self.target)
        buffers = [aligned_empty(size) for _ in range(self.threads)]
        for buffer in buffers:
            buffer[:] = 1  # pages that nothing was written to are all the same one
        self.lines[:, peak.DATA] = [b.ctypes.data for b in buffers]
        if level == "memory":
            return self._stream(buffers, size, seconds)
        self.lines[:, peak.STEPS] = size // peak.bytes_per_step(self.target)
        return self._slices(peak.READ_ENTRY, seconds, lambda r: size * r * self.threads)

    def _stream(self, buffers: list, size: int, seconds: float) -> Rate:
        """Piece after piece, so that what a slice reads was last read a whole buffer ago."""
        self.lines[:, peak.STEPS] = PIECE // peak.bytes_per_step(self.target)
        starts = self.lines[:, peak.DATA].copy()
        rates, end, offset = [], time.perf_counter() + seconds, 0
        while time.perf_counter() < end or len(rates) < FEWEST:
            self.lines[:, peak.DATA] = starts + offset
            rates.append(PIECE * self.threads / self._slice(peak.READ_ENTRY, 1))
            offset = (offset + PIECE) % (size - size % PIECE)
        return Rate.of(rates)

    def _slices(self, entry: str, seconds: float, work: Callable[[int], float]) -> Rate:
        """Slices of as many rounds as fit in `SLICE`, until the time is over."""
        rounds = 1
        while (spent := self._slice(entry, rounds)) < SLICE * 1e9 / 2:
            rounds = max(rounds + 1, min(8 * rounds, int(rounds * SLICE * 1e9 / max(spent, 1.0))))
        rates, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end or len(rates) < FEWEST:
            rates.append(work(rounds) / self._slice(entry, rounds))
        return Rate.of(rates)

    def _slice(self, entry: str, rounds: int) -> float:
        """Nanoseconds from the first thread's begin to the last one's end."""
        self.lines[:, peak.ROUNDS] = rounds
        address = self.image.address(entry)
        used = self.pool.run(address, self.lines.ctypes.data, self.threads)
        if used != self.threads:
            raise UsageError(
                "the system does not give so many threads", expected=self.threads, received=used
            )
        return float(max(1, self.lines[:, peak.ENDED].max() - self.lines[:, peak.BEGAN].min()))
