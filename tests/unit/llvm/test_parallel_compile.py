"""Kernels compiled in several processes are those that one process compiles."""

import os
import signal
from functools import partial

import pytest
from tessel.compiler.backends.llvm import parallel
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.backends.llvm.kernel.objects import object_code


def add(constant: int) -> str:
    return f"define i64 @f(i64 %x) {{\n  %y = add i64 %x, {constant}\n  ret i64 %y\n}}"


def compiled(texts, jobs: int) -> dict[str, bytes]:
    found = {}
    modules = [parallel.Task(name, partial(str, text)) for name, text in texts.items()]
    parallel.compile_all(modules, host(), jobs, found.__setitem__)
    return found


TEXTS = {f"f{i}": add(i) for i in range(24)}
RIGHT = {name: object_code(text, host()) for name, text in TEXTS.items()}


@pytest.mark.parametrize("jobs", [1, 2])
def test_objects_do_not_depend_on_who_compiles(jobs):
    assert compiled(TEXTS, jobs) == RIGHT


def test_a_worker_that_dies_is_no_loss():
    worker = parallel._Worker(host())
    assert worker.compile(TEXTS["f1"]) == RIGHT["f1"]
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    assert worker.compile(TEXTS["f2"]) == RIGHT["f2"]
    assert worker.process is None


def test_few_kernels_start_no_process(monkeypatch):
    def start(target):
        raise AssertionError("a worker was started")

    monkeypatch.setattr(parallel, "_Worker", start)
    for count in (1, 5):
        few = dict(list(TEXTS.items())[:count])
        assert compiled(few, jobs=4) == {name: RIGHT[name] for name in few}


@pytest.mark.parametrize("others", [{}, {"f0": TEXTS["f0"]}, TEXTS])
def test_what_llvm_refuses_is_raised_here(others):
    with pytest.raises(RuntimeError, match="expected"):
        compiled(others | {"wrong": "define i64 @f("}, jobs=2)
