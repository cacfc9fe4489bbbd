"""Signal handlers that raise end loops that would go on for ever; the executable stays usable."""

import contextlib
import signal
import threading
import time

import numpy as np
import onnx.parser
import pytest
import tessel
from tessel.compiler.backends.llvm.program import polling

HEAD = '<ir_version: 9, opset_import: ["": 21]> g '
LARGE = 1 << 18  # elements: enough work for two threads


class Alarm(Exception):
    """What the handler of these tests raises."""


@contextlib.contextmanager
def alarm(seconds: float):
    """Raise Alarm after some time."""

    def handle(*_):
        raise Alarm

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def loop(body: str, more: str = "", arguments: str = ", c, x") -> str:
    """A Loop over x for as long as c is true; `body` makes d of a."""
    return (
        f"y = Loop <body = b (int64 i, bool ci, float[N] a) => (bool co, float[N] d) "
        f"{{ co = Identity(ci) {body} }}> ({arguments}) {more}"
    )


DOUBLE = "d = Add(a, a)"
INNER = (
    "d = Loop <body = b2 (int64 j, bool cj, float[N] e) => (bool cp, float[N] f) "
    "{ cp = Identity(cj) f = Add(e, e) }> (, ci, a)"
)
EITHER = (
    "d = If (ci) <then_branch = t () => (float[N] u) { u = Add(a, a) }, "
    "else_branch = s () => (float[N] v) { v = Sin(a) }>"
)
TEXT = "n = Cast<to=8>(a) m = StringConcat(n, n) k = Cast<to=1>(n) d = Add(k, a)"  # in Python
BODIES = {
    "a loop": loop(DOUBLE),
    "a loop in a loop": loop(INNER),
    "a branch in a loop": loop(EITHER),
    "kernels in Python": loop(TEXT),
}


def model(nodes: str, size: str):
    text = f"{HEAD} (float[{size}] x, bool c) => (float[{size}] y) {{ {nodes} }}"
    return onnx.parser.parse_model(text.replace("[N]", f"[{size}]"))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", ["N", "4"])
@pytest.mark.parametrize("name", BODIES)
def test_an_endless_loop_can_be_interrupted(name, size, threads):
    exe = tessel.compile(model(BODIES[name], size), threads=threads)
    x = np.ones(LARGE if size == "N" and "Python" not in name else 4, np.float32)
    with pytest.raises(Alarm), alarm(0.1):
        exe.run({"x": x, "c": np.array(True)})
    np.testing.assert_array_equal(exe.run({"x": x, "c": np.array(False)})["y"], x)


def test_all_threads_leave_a_loop_together():
    exe = tessel.compile(model(loop(DOUBLE), str(LARGE)), threads=3)
    x = np.ones(LARGE, np.float32)
    for _ in range(5):
        with pytest.raises(Alarm), alarm(0.06):
            exe.run({"x": x, "c": np.array(True)})
    assert exe.specializations[0].code.parallel


def test_a_loop_of_many_turns_can_be_interrupted():
    nodes = "m = Constant<value_ints=[1000000000000]>() k = Squeeze(m) " + loop(
        "d = Mul(a, a)", arguments="k, , x"
    )
    exe = tessel.compile(model(nodes, "4"), threads=1)
    with pytest.raises(Alarm), alarm(0.2):
        exe.run({"x": np.ones(4, np.float32), "c": np.array(True)})


def test_a_package_can_be_interrupted(tmp_path):
    tessel.compile(model(BODIES["a loop"], "4"), threads=2).save(tmp_path / "m.tsl")
    exe = tessel.load(tmp_path / "m.tsl", threads=2)
    x = np.ones(4, np.float32)
    with pytest.raises(Alarm), alarm(0.2):
        exe.run({"x": x, "c": np.array(True)})
    np.testing.assert_array_equal(exe.run({"x": x, "c": np.array(False)})["y"], x)


def test_the_profiled_entry_can_be_interrupted():
    from tessel.runtime.profiling.profile import profile

    exe = tessel.compile(model(BODIES["a loop"], "4"), threads=2)
    x = np.ones(4, np.float32)
    exe.run({"x": x, "c": np.array(False)})
    with pytest.raises(Alarm), alarm(0.3):
        profile(exe, {"x": x, "c": np.array(True)})


def test_handlers_that_return_do_not_end_a_loop():
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(time.monotonic()))
    exe = tessel.compile(model(BODIES["a loop"], "4"), threads=1)
    stop = threading.Event()

    def disturb():
        while not stop.wait(0.02):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    other = threading.Thread(target=disturb)
    other.start()
    try:
        with pytest.raises(Alarm), alarm(0.4):
            exe.run({"x": np.ones(4, np.float32), "c": np.array(True)})
    finally:
        stop.set()
        other.join()
        signal.signal(signal.SIGUSR1, before)
    assert len(seen) >= 2  # they ran while the loop went on


def test_only_what_may_take_long_asks():
    for nodes, asks in (("y = Relu(x)", False), (loop(DOUBLE), True)):
        exe = tessel.compile(model(nodes, "4"), threads=1)
        (built,) = exe.specializations
        assert built.code.asks == polling.any_long(built.code.plan.steps) == asks
