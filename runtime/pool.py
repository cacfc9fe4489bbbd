"""The process-wide pool of SPMD worker threads, for POSIX systems.

    pool = get_pool()
    used = pool.run(entry_address, args_address, nthreads=4)

calls `void entry(ptr args, i64 tid, i64 nthreads, ptr barrier)` on `used` threads, of which the
caller is thread 0, and returns when all have finished; the GIL is released meanwhile. The entry
meets its peers with `tessel_barrier(barrier, nthreads)`, an external symbol that `get_pool`
registers with LLVM.

`used` is what was asked for, or less: one pool serves every executable of the process, and a run
that finds it busy goes on alone rather than put a second team on the same cores; likewise when
the system refuses to start threads. Results never depend on it, so neither is an error.

Workers start when first needed, sleep while idle, ignore Python's signals, never keep the process
alive, and are started afresh in the child after `os.fork`.
"""

import ctypes
import os
import platform
import signal
import sys
import threading
import time

import llvmlite.binding as llvm

from ..compiler.backends.llvm.park_ir import PoolHost
from ..compiler.backends.llvm.pool_ir import (
    BARRIER_SYMBOL,
    BARRIER_WORD,
    ROUND_NS,
    STARTED,
    build_pool_module,
)
from ..compiler.errors import UsageError

_FUTEX_SYSCALL = {"x86_64": 202, "aarch64": 98}
_FATAL_SIGNALS = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP")


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def get_pool() -> "Pool":
    """The pool of this process, compiled at the first call."""
    global _pool
    if _pool is None:
        with _creating:
            if _pool is None:
                pool = Pool(native_host())
                llvm.add_symbol(BARRIER_SYMBOL, pool.barrier_address)
                _pool = pool
    return _pool


def native_host() -> PoolHost:
    """This machine, as the pool's code must know it."""
    return PoolHost(
        triple=llvm.get_process_triple(),
        futex=_FUTEX_SYSCALL.get(platform.machine()) if sys.platform == "linux" else None,
        set_mask=int(signal.SIG_SETMASK),
        fatal_signals=tuple(int(getattr(signal, name)) for name in _FATAL_SIGNALS),
    )


class Pool:
    """Use `get_pool()`; a second pool would only be a second team on the same cores.

    run_address      `i64 tessel_pool_run(ptr pool, ptr entry, ptr args, i64 nthreads)`
    barrier_address  `void tessel_barrier(ptr barrier, i64 nthreads)`
    state_address    the `pool` argument of `tessel_pool_run`
    """

    def __init__(self, host: PoolHost):
        engine = _compile(host)
        self.run_address: int = engine.get_function_address("tessel_pool_run")
        self.barrier_address: int = engine.get_function_address(BARRIER_SYMBOL)
        self.state_address: int = engine.get_global_value_address("tessel_pool_state")
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self._run = ctypes.CFUNCTYPE(number, pointer, pointer, pointer, number)(self.run_address)
        self._reset = ctypes.CFUNCTYPE(None, pointer, number, number)(
            engine.get_function_address("tessel_pool_reset")
        )
        spin = ctypes.CFUNCTYPE(ctypes.c_bool, pointer, number, number)(
            engine.get_function_address("tessel_pool_spin")
        )
        # Workers execute this code and read this state until the process is gone, later than any
        # Python object: nobody may free it.
        engine.detach()
        self._pauses = round(ROUND_NS * self._measure_pauses_per_ns(spin))
        self._forget_workers()

    def run(self, entry_address: int, args_address: int | None, nthreads: int) -> int:
        """Run an entry on up to `nthreads` threads; returns how many took part."""
        if nthreads < 1:
            raise UsageError(
                "A run needs a thread.", expected="nthreads >= 1", received=f"nthreads={nthreads}"
            )
        return self._run(self.state_address, entry_address, args_address, nthreads)

    @property
    def workers(self) -> int:
        """Threads started so far, without the callers."""
        return ctypes.c_int64.from_address(self.state_address + STARTED).value

    def _forget_workers(self) -> None:
        """Right for a pool that has none: a new one, or the one of a child after a fork."""
        self._reset(self.state_address, self._pauses, available_cores())

    def _measure_pauses_per_ns(self, spin, pauses: int = 1000) -> float:
        """A pause takes from 1 to 60 ns, as the core pleases."""
        never_changes = self.state_address + BARRIER_WORD
        best = None
        for _ in range(5):
            start = time.perf_counter_ns()
            spin(never_changes, 0, pauses)
            elapsed = time.perf_counter_ns() - start
            best = elapsed if best is None else min(best, elapsed)
        return pauses / max(best, 1)


def _compile(host: PoolHost) -> llvm.ExecutionEngine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(str(build_pool_module(host)))
    module.verify()
    target = llvm.Target.from_triple(host.triple).create_target_machine(opt=2, jit=True)
    engine = llvm.create_mcjit_compiler(module, target)
    engine.finalize_object()
    return engine


def _after_fork_in_child() -> None:
    """Only the forking thread came along: no workers, and no owner of any lock."""
    global _creating
    _creating = threading.Lock()
    if _pool is not None:
        _pool._forget_workers()


_pool: Pool | None = None
_creating = threading.Lock()
os.register_at_fork(after_in_child=_after_fork_in_child)
