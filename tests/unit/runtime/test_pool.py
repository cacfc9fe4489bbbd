"""The SPMD worker pool: threads, barriers, sharing, idling, forking, leaving."""

import dataclasses
import platform
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from tessel.compiler.backends.llvm.base.target import initialize
from tessel.compiler.backends.llvm.program.futex import PoolHost
from tessel.compiler.backends.llvm.program.pool_ir import build_pool_module
from tessel.compiler.errors import UsageError
from tessel.compiler.system.cores import available_cores
from tessel.runtime.native.pool import Pool, get_pool, native_host

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc or limits of Linux")
on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="reads MXCSR")

# Each phase: write my slot, meet, check my neighbour's slot, meet. Slots are 64 bytes apart.
# args = {i64 phases, i64 errors, …, slots at byte 64}
EXCHANGE = """
declare void @tessel_barrier(ptr, i64)
define void @exchange(ptr %args, i64 %tid, i64 %n, ptr %barrier) {
start:
  %phases = load i64, ptr %args
  %errors = getelementptr i64, ptr %args, i64 1
  %slots = getelementptr i64, ptr %args, i64 8
  %next = add i64 %tid, 1
  %neighbour = urem i64 %next, %n
  %my_offset = mul i64 %tid, 8
  %its_offset = mul i64 %neighbour, 8
  %mine = getelementptr i64, ptr %slots, i64 %my_offset
  %its = getelementptr i64, ptr %slots, i64 %its_offset
  br label %loop
loop:
  %phase = phi i64 [0, %start], [%following, %loop]
  %base = mul i64 %phase, 1000
  %value = add i64 %base, %tid
  store i64 %value, ptr %mine
  call void @tessel_barrier(ptr %barrier, i64 %n)
  %seen = load i64, ptr %its
  %expected = add i64 %base, %neighbour
  %differs = icmp ne i64 %seen, %expected
  %error = zext i1 %differs to i64
  %ignored = atomicrmw add ptr %errors, i64 %error monotonic
  call void @tessel_barrier(ptr %barrier, i64 %n)
  %following = add i64 %phase, 1
  %more = icmp ult i64 %following, %phases
  br i1 %more, label %loop, label %leave
leave:
  ret void
}
"""

# args[tid] += tid + 1
COUNT = """
define void @count(ptr %args, i64 %tid, i64 %n, ptr %barrier) {
  %slot = getelementptr i64, ptr %args, i64 %tid
  %old = load i64, ptr %slot
  %step = add i64 %tid, 1
  %new = add i64 %old, %step
  store i64 %new, ptr %slot
  ret void
}
"""

# args = {ptr run, ptr pool, ptr entry, i64 threads used}: thread 0 starts a run inside the run.
NEST = """
define void @nest(ptr %args, i64 %tid, i64 %n, ptr %barrier) {
  %first = icmp eq i64 %tid, 0
  br i1 %first, label %again, label %leave
again:
  %pool_at = getelementptr i64, ptr %args, i64 1
  %entry_at = getelementptr i64, ptr %args, i64 2
  %used_at = getelementptr i64, ptr %args, i64 3
  %inner_args = getelementptr i64, ptr %args, i64 4
  %run = load ptr, ptr %args
  %pool = load ptr, ptr %pool_at
  %entry = load ptr, ptr %entry_at
  %used = call i64 %run(ptr %pool, ptr %entry, ptr %inner_args, i64 2)
  store i64 %used, ptr %used_at
  br label %leave
leave:
  ret void
}
"""

# args[tid] = this thread's floating-point control register; `set_mode` sets the caller's.
FP_MODE = """
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
define void @fp_mode(ptr %args, i64 %tid, i64 %n, ptr %barrier) {
  %slot = getelementptr i64, ptr %args, i64 %tid
  call void @llvm.x86.sse.stmxcsr(ptr %slot)
  ret void
}
define void @set_mode(ptr %args, i64 %tid, i64 %n, ptr %barrier) {
  call void @llvm.x86.sse.ldmxcsr(ptr %args)
  ret void
}
"""

# args[1] = args[0] once that is not zero; gives up after a second or so.
LISTEN = """
define void @listen(ptr %args, i64 %tid, i64 %n, ptr %barrier) {
start:
  br label %look
look:
  %turn = phi i64 [0, %start], [%following, %look]
  %heard = load atomic i64, ptr %args monotonic, align 8
  %following = add i64 %turn, 1
  %answered = icmp ne i64 %heard, 0
  %tired = icmp ugt i64 %turn, 1000000000
  %enough = or i1 %answered, %tired
  br i1 %enough, label %leave, label %look
leave:
  %answer = getelementptr i64, ptr %args, i64 1
  store i64 %heard, ptr %answer
  ret void
}
"""

_engines = []


def compiled(text: str, *names: str) -> list[int]:
    """Addresses of the functions of some IR, kept for the whole session."""
    initialize()
    llvm.add_symbol("tessel_barrier", get_pool().barrier_address)
    target = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), target)
    engine.finalize_object()
    _engines.append(engine)
    return [engine.get_function_address(name) for name in names]


@pytest.fixture(scope="module", params=["native", "mutex"])
def pool_and_exchange(request):
    """The pool of this process, and one that sleeps as on systems without futexes."""
    if request.param == "native":
        pool, barrier = get_pool(), "tessel_barrier"
    else:
        pool, barrier = Pool(dataclasses.replace(native_host(), futex=None)), "mutex_barrier"
        llvm.add_symbol(barrier, pool.barrier_address)
    [exchange] = compiled(EXCHANGE.replace("@tessel_barrier", "@" + barrier), "exchange")
    return pool, exchange


@pytest.mark.parametrize("nthreads", [1, 2, 4, 7])
def test_ten_thousand_barriers_keep_phases_apart(pool_and_exchange, nthreads):
    pool, exchange = pool_and_exchange
    args = np.zeros(8 + 8 * nthreads, np.int64)
    args[0] = 5_000
    start = time.monotonic()
    assert pool.run(exchange, args.ctypes.data, nthreads) == nthreads
    assert args[1] == 0, "a thread read a slot of another phase"
    np.testing.assert_array_equal(args[8::8], 4_999_000 + np.arange(nthreads))
    assert time.monotonic() - start < 20


def test_runs_follow_each_other_with_any_number_of_threads(pool_and_exchange):
    pool, exchange = pool_and_exchange
    for repeat in range(300):
        nthreads = 1 + repeat % 5
        args = np.zeros(8 + 8 * nthreads, np.int64)
        args[0] = 1 + repeat % 3
        assert pool.run(exchange, args.ctypes.data, nthreads) == nthreads
        assert args[1] == 0


def test_every_thread_runs_once(pool_and_exchange):
    pool, _ = pool_and_exchange
    [count] = compiled(COUNT, "count")
    slots = np.zeros(8, np.int64)
    for _ in range(1000):
        pool.run(count, slots.ctypes.data, 3)
    np.testing.assert_array_equal(slots, [1000, 2000, 3000, 0, 0, 0, 0, 0])


def test_parked_workers_wake(pool_and_exchange):
    pool, exchange = pool_and_exchange
    for _ in range(5):
        time.sleep(0.01)  # far longer than workers stay awake
        args = np.zeros(8 + 8 * 3, np.int64)
        args[0] = 10
        assert pool.run(exchange, args.ctypes.data, 3) == 3
        assert args[1] == 0


def test_python_threads_share_the_pool(pool_and_exchange):
    pool, exchange = pool_and_exchange
    used, errors = [], []

    def caller():
        args = np.zeros(8 + 8 * 4, np.int64)
        args[0] = 5
        for repeat in range(200):
            used.append(pool.run(exchange, args.ctypes.data, 2 + repeat % 3))
            errors.append(int(args[1]))

    with ThreadPoolExecutor(8) as callers:
        [future.result() for future in [callers.submit(caller) for _ in range(8)]]
    assert len(used) == 8 * 200
    assert set(used) <= {1, 2, 3, 4}
    assert max(used) > 1, "nobody got the pool"
    assert set(errors) == {0}


def test_a_run_inside_a_run_goes_on_alone():
    pool = get_pool()
    [nest], [count] = compiled(NEST, "nest"), compiled(COUNT, "count")
    args = np.array([pool.run_address, pool.state_address, count, -1, 0, 0], np.int64)
    assert pool.run(nest, args.ctypes.data, 2) == 2
    np.testing.assert_array_equal(args[3:], [1, 1, 0])


def test_one_thread_starts_no_worker():
    pool = Pool(native_host())
    [count] = compiled(COUNT, "count")
    slots = np.zeros(2, np.int64)
    assert pool.run(count, slots.ctypes.data, 1) == 1
    assert pool.workers == 0
    assert pool.run(count, slots.ctypes.data, 2) == 2
    assert pool.workers == 1


@pytest.mark.parametrize(
    ("triple", "futex", "pause"),
    [
        ("x86_64-unknown-linux-gnu", 202, "x86.sse2.pause"),
        ("aarch64-unknown-linux-gnu", 98, "aarch64.isb"),
        ("arm64-apple-darwin22", None, "aarch64.isb"),
        ("riscv64-unknown-linux-gnu", None, "sched_yield"),
    ],
)
def test_other_machines_have_a_valid_pool(triple, futex, pause):
    text = str(build_pool_module(PoolHost(triple, futex, set_mask=2, fatal_signals=(11,))))
    llvm.parse_assembly(text).verify()
    assert pause in text
    assert ('@"syscall"' in text) == (futex is not None)
    assert ("pthread_cond_wait" in text) == (futex is None)


def test_a_run_without_threads_is_refused():
    [count] = compiled(COUNT, "count")
    with pytest.raises(UsageError, match="expected: nthreads >= 1\n  received: nthreads=0"):
        get_pool().run(count, None, 0)


def test_the_pool_is_one():
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: get_pool(), range(8))) == {get_pool()}
    assert 1 <= available_cores() <= 4096


@on_x86
def test_workers_take_the_floating_point_mode_of_the_caller():
    pool = get_pool()
    fp_mode, set_mode = compiled(FP_MODE, "fp_mode", "set_mode")
    modes, flush = np.zeros(3, np.int64), np.array([0x9FC0], np.int64)
    usual = np.zeros(1, np.int64)
    pool.run(fp_mode, usual.ctypes.data, 1)
    pool.run(set_mode, flush.ctypes.data, 1)
    try:
        pool.run(fp_mode, modes.ctypes.data, 3)
    finally:
        pool.run(set_mode, usual.ctypes.data, 1)
    assert [hex(mode & 0xFFC0) for mode in modes] == ["0x9fc0"] * 3


@on_linux
def test_workers_block_the_signals_of_python():
    [count] = compiled(COUNT, "count")
    known = {path.name for path in Path("/proc/self/task").iterdir()}
    pool = Pool(native_host())
    pool.run(count, np.zeros(2, np.int64).ctypes.data, 2)
    [worker] = {path.name for path in Path("/proc/self/task").iterdir()} - known
    status = Path(f"/proc/self/task/{worker}/status").read_text()
    [blocked] = [int(line.split()[1], 16) for line in status.splitlines() if "SigBlk" in line]
    sigint, sigsegv = 1 << (2 - 1), 1 << (11 - 1)
    assert blocked & sigint
    assert not blocked & sigsegv


def test_an_idle_pool_uses_no_cpu():
    [count] = compiled(COUNT, "count")
    get_pool().run(count, np.zeros(4, np.int64).ctypes.data, 4)
    time.sleep(0.05)
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(0.3)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 0.005


SCRIPT = (
    f"COUNT = {COUNT!r}\n"
    + """
import ctypes, os, resource, sys, threading, time
import llvmlite.binding as llvm
from tessel.compiler.backends.llvm.base.target import initialize
from tessel.runtime.native.pool import get_pool
pool = get_pool()
initialize()
target = llvm.Target.from_default_triple().create_target_machine(jit=True)
engine = llvm.create_mcjit_compiler(llvm.parse_assembly(COUNT), target)
engine.finalize_object()
count = engine.get_function_address("count")
slots = (ctypes.c_int64 * 8)()
run = lambda nthreads: pool.run(count, ctypes.addressof(slots), nthreads)
"""
)


def run_script(text: str) -> str:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT + text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("repeat", range(3))
def test_the_process_leaves_at_once_after_a_run(repeat):
    assert run_script("print(run(4))") == "4\n"


def test_the_process_leaves_while_a_daemon_thread_runs():
    text = """
def forever(run, slots):
    while True:
        run(3)
threading.Thread(target=forever, args=(run, slots), daemon=True).start()
time.sleep(0.05)
print("bye")
"""
    assert run_script(text) == "bye\n"


def test_a_forked_child_has_its_own_workers():
    text = """
run(3)
child = os.fork()
if child == 0:
    before = pool.workers
    used = run(3)
    os._exit(0 if (before, used, list(slots)) == (0, 3, [2, 4, 6, 0, 0, 0, 0, 0]) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), run(3), list(slots)[:3])
"""
    assert run_script(text) == "0 3 [2, 4, 6]\n"


def test_a_child_forked_during_a_run_finds_the_pool_free():
    text = """
stop = False
def busy():
    while not stop:
        run(2)
thread = threading.Thread(target=busy)
thread.start()
codes = []
for _ in range(10):
    child = os.fork()
    if child == 0:
        os._exit(run(2))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop = True
thread.join()
print(codes)
"""
    assert run_script(text) == f"{[2] * 10}\n"


@on_linux
def test_a_system_that_refuses_threads_gets_the_same_result():
    text = """
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (1 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
print(run(4), list(slots)[:4])
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(run(4), list(slots)[:4])
"""
    assert run_script(text) == "1 [1, 0, 0, 0]\n4 [2, 2, 3, 4]\n"


def test_the_gil_is_free_during_a_run():
    [listen] = compiled(LISTEN, "listen")
    args = np.zeros(2, np.int64)
    thread = threading.Thread(target=get_pool().run, args=(listen, args.ctypes.data, 1))
    thread.start()
    args[0] = 42
    thread.join()
    assert args[1] == 42
