"""The process-wide pool of SPMD worker threads, for POSIX systems.

    pool = get_pool()
    used = pool.run(entry_address, args_address, nthreads=4)

calls `void entry(ptr args, i64 tid, i64 nthreads, ptr barrier)` on `used` threads, of which the
caller is thread 0, and returns when all have finished; the GIL is released meanwhile. The entry
meets its peers with `tessel_barrier(barrier, nthreads)`, which lies at `pool.barrier_address`.

`used` is what was asked for, or less: one pool serves every executable of the process, and a run
that finds it busy goes on alone rather than put a second team on the same cores; likewise when
the system refuses to start threads. Results never depend on it, so neither is an error.

Workers start when first needed, sleep while idle, ignore Python's signals, never keep the process
alive, and are started afresh in the child after `os.fork`.
"""

import ctypes
import hashlib
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ...compiler.backends.llvm.base.cache import ObjectCache, cache_folder
from ...compiler.backends.llvm.program import pool_layout
from ...compiler.backends.llvm.program.pool_layout import (
    BARRIER_SYMBOL,
    BARRIER_WORD,
    ROUND_NS,
    STARTED,
    PoolHost,
)
from ...compiler.errors import UsageError
from ...compiler.system.concurrency import give_lock
from ...compiler.system.cores import available_cores
from .linker import link

_FUTEX_SYSCALL = {"x86_64": 202, "aarch64": 98}
_FATAL_SIGNALS = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP")


def get_pool() -> "Pool":
    """The pool of this process, made at the first call."""
    global _pool
    if _pool is None:
        with _creating:
            if _pool is None:
                _pool = Pool(native_host())
    return _pool


def native_host() -> PoolHost:
    """This machine, as the pool's code must know it."""
    linux = sys.platform == "linux"
    return PoolHost(
        triple=f"{platform.machine()}-unknown-linux-gnu" if linux else _process_triple(),
        futex=_FUTEX_SYSCALL.get(platform.machine()) if linux else None,
        set_mask=int(signal.SIG_SETMASK),
        fatal_signals=tuple(int(getattr(signal, name)) for name in _FATAL_SIGNALS),
    )


def _process_triple() -> str:
    import llvmlite.binding as llvm

    return llvm.get_process_triple()


class Pool:
    """Use `get_pool()`; a second pool would only be a second team on the same cores.

    run_address      `i64 tessel_pool_run(ptr pool, ptr entry, ptr args, i64 nthreads)`
    barrier_address  `void tessel_barrier(ptr barrier, i64 nthreads)`
    state_address    the `pool` argument of `tessel_pool_run`
    ask_address      `i64 tessel_pool_ask()`, for code that lets signal handlers run
    """

    def __init__(self, host: PoolHost):
        image = link({"tessel_pool": _object(host)}, {})
        self.run_address: int = image.address("tessel_pool_run")
        self.barrier_address: int = image.address(BARRIER_SYMBOL)
        self.state_address: int = image.address("tessel_pool_state")
        self.ask_address: int = image.address("tessel_pool_ask")
        self._raised = (ctypes.c_void_p * 3).from_address(image.address("tessel_pool_raised"))
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self._run = ctypes.CFUNCTYPE(number, pointer, pointer, pointer, number)(self.run_address)
        self._reset = ctypes.CFUNCTYPE(None, pointer, number, number)(
            image.address("tessel_pool_reset")
        )
        spin = ctypes.CFUNCTYPE(ctypes.c_bool, pointer, number, number)(
            image.address("tessel_pool_spin")
        )
        # Workers execute this code and read this state until the process is gone, later than any
        # Python object: nobody may free it.
        image.keep()
        self._pauses = round(ROUND_NS * self._measure_pauses_per_ns(spin))
        self._forget_workers()

    def run(self, entry_address: int, args_address: int | None, nthreads: int) -> int:
        """Run an entry on up to `nthreads` threads; returns how many took part."""
        if nthreads < 1:
            raise UsageError(
                "A run needs a thread.", expected="nthreads >= 1", received=f"nthreads={nthreads}"
            )
        return self._run(self.state_address, entry_address, args_address, nthreads)

    def raise_pending(self) -> None:
        """Raise what a signal handler raised during this thread's run, if any did."""
        if self._raised[0]:
            pending = [ctypes.c_void_p(pointer) for pointer in self._raised]
            self._raised[:] = [None] * 3
            ctypes.pythonapi.PyErr_Restore(*pending)

    @property
    def workers(self) -> int:
        """Threads started so far, without the callers."""
        return ctypes.c_int64.from_address(self.state_address + STARTED).value

    def _forget_workers(self) -> None:
        """Right for a pool that has none: a new one, or the one of a child after a fork."""
        self._reset(self.state_address, self._pauses, available_cores())

    def _measure_pauses_per_ns(
        self, spin: Callable[[int, int, int], object], pauses: int = 1000
    ) -> float:
        """A pause takes from 1 to 60 ns, as the core pleases."""
        never_changes = self.state_address + BARRIER_WORD
        times = []
        for _ in range(5):
            start = time.perf_counter_ns()
            spin(never_changes, 0, pauses)
            times.append(time.perf_counter_ns() - start)
        return pauses / max(1, min(times))


def object_key(host: PoolHost) -> str:
    """The name of the pool's machine code: a hash of all that it follows from, as with kernels."""
    folder = Path(pool_layout.__file__).parent
    sources = [(folder / f"{m}.py").read_bytes() for m in ("pool_ir", "futex", "pool_layout")]
    return "p_" + hashlib.sha256(b"".join([repr(host).encode(), *sources])).hexdigest()[:24]


def _object(host: PoolHost) -> bytes:
    """The pool's machine code: of the user's cache folder, shipped beside this file (in the wheel
    of tessel-run, `tools/wheels.py`), or compiled now."""
    key = object_key(host)
    cache = ObjectCache(cache_folder() / "objects")
    found = cache.get(key)
    if found is None and (shipped := Path(__file__).with_name(f"{key}.o")).is_file():
        return shipped.read_bytes()
    if found is None:
        from ...compiler.backends.llvm.program.pool_ir import pool_object

        found = pool_object(host)
        cache.put(key, found)
    return found


def _after_fork_in_child() -> None:
    """Only the forking thread came along: there are no workers."""
    if _pool is not None:
        _pool._forget_workers()


_pool: Pool | None = None
_creating = give_lock(sys.modules[__name__], "_creating")
os.register_at_fork(after_in_child=_after_fork_in_child)
