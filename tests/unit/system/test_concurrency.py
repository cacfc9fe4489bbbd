"""First use from many threads, interrupts in the middle of it, forks in the middle of it."""

import re
import subprocess
import sys
import threading
from functools import partial

import pytest
from tessel.compiler.backends.llvm import parallel
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.expr import expr
from tessel.compiler.ir import op
from tessel.compiler.system import concurrency

from ...house.test_house import ROOT, product_files

MODEL = """
import os, signal, sys, threading, time
import numpy as np, onnx.parser, tessel
MODEL = onnx.parser.parse_model('<ir_version: 9, opset_import: ["": 21]> g (float[N,8] x) => '
    '(float[N,8] y) { e = Softmax(x) y = Add(e, w) }'.replace("x)", "x, float[8] w)", 1))
W = np.arange(8, dtype=np.float32)
def right(cache=None):
    "Compile and run; whether the result is right."
    exe = tessel.compile(MODEL, threads=2, cache=cache)
    return np.allclose(exe.run({"x": W[None], "w": W})["y"], np.exp(W) / np.exp(W).sum() + W)
"""


def script(text: str) -> str:
    """What a process of its own prints, in which nothing of tessel has been used."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", MODEL + text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.strip()


# -- many threads --------------------------------------------------------------------------


def test_the_first_use_may_come_from_many_threads():
    text = """
def layers():
    from tessel.frontends.native.layers.basic import Linear
    return Linear
def user():
    from tessel.frontends.user.registration import register
    return register
uses = [right, right, layers, user, lambda: tessel.native.Linear, lambda: tessel.Trainer,
        lambda: tessel.ops.register, lambda: tessel.jit(lambda x: x + 1)(np.ones(3)).all(),
        lambda: tessel.gradients]
go, found = threading.Barrier(2 * len(uses)), []
def use(f):
    go.wait()
    try:
        found.append(bool(f()))
    except BaseException as error:
        found.append(f"{f.__name__}: {type(error).__name__}: {error}")
team = [threading.Thread(target=use, args=(f,)) for f in 2 * uses]
for t in team: t.start()
for t in team: t.join()
print(set(found), len(found))
"""
    assert script(text) == "{True} 18"


def test_equal_expressions_of_several_threads_are_one():
    go, found = threading.Barrier(8), []

    def make():
        go.wait()
        found.append([expr.const(10_000_019 + i) for i in range(2000)])

    team = [threading.Thread(target=make) for _ in range(8)]
    for t in team:
        t.start()
    for t in team:
        t.join()
    assert all(x is y for x, *others in zip(*found) for y in others)


def test_a_lazy_property_is_one_value_and_tries_again_after_an_error():
    class Thing:
        failing = True

        @concurrency.lazy
        def value(self):
            """A new object."""
            if self.failing:
                raise KeyboardInterrupt
            return object()

    thing = Thing()
    with pytest.raises(KeyboardInterrupt):
        thing.value  # noqa: B018
    thing.failing = False
    assert thing.value is thing.value
    assert Thing.value.__doc__ == "A new object."


def test_locks_and_lazy_properties_are_those_that_survive_forks():
    wrong = re.compile(r"threading\.R?Lock\(|\bcached_property\b(?!`)")
    own = ROOT / "compiler" / "concurrency.py"
    files = [f for f in product_files() if f != own and wrong.search(f.read_text())]
    assert not files, "use give_lock and lazy of compiler/system/concurrency.py"


# -- interrupts ----------------------------------------------------------------------------


def test_a_first_compilation_that_is_interrupted_can_be_repeated():
    text = """
codes = []
for delay in (0.02, 0.1, 0.2, 0.3, 0.4, 0.6):
    child = os.fork()
    if child == 0:
        sys.unraisablehook = lambda _: None  # of an interrupt that comes while an object is freed
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, delay)
        try:
            right(cache=False)
        except KeyboardInterrupt:
            pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        os._exit(0 if right() and threading.active_count() == 1 else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(codes)
"""
    assert script(text) == str([0] * 6)


def test_records_of_an_interrupted_import_are_registered_again(monkeypatch):
    relu = op.OPS["relu"]
    maker = op.OPS.makers["relu"]
    again = {"__name__": maker["__name__"]}
    monkeypatch.setitem(op.OPS.makers, "relu", maker)
    op.OPS.add(relu, again)
    assert op.OPS["relu"] is relu
    for other in ({"__name__": "another.file"}, again):
        with pytest.raises(AssertionError, match="relu is registered twice"):
            op.OPS.add(relu, other)


@pytest.mark.parametrize("count", [4, 40])
def test_an_interrupt_ends_the_workers_of_a_compilation(count):
    def text(i: int) -> str:
        if i == count - 2:
            raise KeyboardInterrupt
        return f"define i64 @f(i64 %x) {{\n  ret i64 {i}\n}}"

    before = threading.active_count()
    modules = [parallel.Task(f"f{i}", partial(text, i)) for i in range(count)]
    with pytest.raises(KeyboardInterrupt):
        parallel.compile_all(modules, host(), 2, lambda name, data: None)
    assert threading.active_count() == before


# -- forks ---------------------------------------------------------------------------------


def test_a_child_forked_during_a_first_compilation_compiles():
    text = """
other = threading.Thread(target=right, args=(False,))
other.start()
codes = []
for _ in range(6):
    time.sleep(0.05)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if right() else 1)
    codes.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in codes])
other.join()
"""
    assert script(text) == str([0] * 6)


def test_a_child_does_not_wait_for_locks_of_threads_that_it_lacks():
    text = """
from tessel.compiler.expr import core
from tessel.runtime.native import pool
exe = tessel.compile(MODEL, threads=1)
jitted = tessel.jit(lambda x: x + 1)
locks = [exe._building, exe._bound_run, exe._parsing, jitted._lock, core._making, pool._creating]
inside, leave = threading.Event(), threading.Event()
def hold():
    for lock in locks: lock.acquire()
    inside.set()
    leave.wait()
    for lock in locks: lock.release()
other = threading.Thread(target=hold)
other.start()
inside.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    exe.bind("w", W)
    os._exit(0 if right() and exe(W[None]).shape == (1, 8) and jitted(1.0) == 2 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
leave.set()
other.join()
"""
    assert script(text) == "0"


def test_a_fork_inside_a_locked_block_leaves_it_in_both_processes():
    text = """
class Owner: pass
from tessel.compiler.system.concurrency import give_lock
owner = Owner()
give_lock(owner, "lock", make=threading.RLock)
with owner.lock:
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        with owner.lock:
            pass
with owner.lock:
    if child == 0:
        os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert script(text) == "0"
