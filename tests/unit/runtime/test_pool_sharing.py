"""Several runs at a time, and none: a pool never puts more threads on the cores than it must."""

import ctypes
import resource
import threading
import time

import numpy as np
import tessel
from tessel.compiler.backends.llvm.program.pool_layout import ACTIVE
from tessel.compiler.ir.builder import Builder
from tessel.runtime.native.pool import Pool, get_pool, native_host

from .test_pool import COUNT, LISTEN, compiled


def pool_of_cores(cores: int) -> Pool:
    pool = Pool(native_host())
    pool._reset(pool.state_address, 1000, cores)
    return pool


def used_beside_another_run(pool: Pool, asked: int) -> int:
    """Threads of a run of `asked` threads while a run of one thread is going on."""
    [listen], [count] = compiled(LISTEN, "listen"), compiled(COUNT, "count")
    heard, slots = np.zeros(2, np.int64), np.zeros(8, np.int64)
    other = threading.Thread(target=pool.run, args=(listen, heard.ctypes.data, 1))
    other.start()
    active = ctypes.c_int64.from_address(pool.state_address + ACTIVE)
    while active.value == 0:
        time.sleep(0.001)
    used = pool.run(count, slots.ctypes.data, asked)
    heard[0] = 1
    other.join()
    assert heard[1] == 1, "the other run was over before"
    return used


def test_a_run_takes_the_cores_that_other_runs_leave():
    assert used_beside_another_run(pool_of_cores(2), asked=2) == 1
    assert used_beside_another_run(pool_of_cores(4), asked=4) == 3
    assert used_beside_another_run(pool_of_cores(4), asked=2) == 2


def test_a_run_by_itself_takes_what_it_asks_for():
    pool = pool_of_cores(2)
    [count] = compiled(COUNT, "count")
    used_beside_another_run(pool, asked=2)
    assert pool.run(count, np.zeros(8, np.int64).ctypes.data, 4) == 4


def products(threads: int):
    """An executable with enough to do for several threads, and an input."""
    b = Builder()
    x = b.input("x", "f32[300,300]")
    b.output("y", b.tanh(x @ x) @ x)
    array = np.random.default_rng(0).standard_normal((300, 300)).astype(np.float32)
    return tessel.compile(b.graph, threads=threads), array


def test_an_idle_process_uses_no_cpu():
    exe, x = products(threads=2)
    for _ in range(3):
        exe(x)
    assert get_pool().workers >= 1
    time.sleep(0.05)
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(0.5)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.05


def test_executables_running_at_the_same_time_give_what_they_give_alone():
    executables = [products(threads=2) for _ in range(2)]
    expected = [exe(x) for exe, x in executables]
    differing = []

    def runs(number: int) -> None:
        exe, x = executables[number]
        for _ in range(50):
            if not np.array_equal(exe(x), expected[number]):
                differing.append(number)

    callers = [threading.Thread(target=runs, args=(i,)) for i in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not differing
