"""How far a compilation is: what a function hears, what it may raise, what a terminal shows."""

import os
import pty
import subprocess
import sys
import threading

import numpy as np
import pytest
import tessel
from tessel import Progress
from tessel.compiler.ir.builder import Builder
from tessel.compiler.system.progress import Steps, tell
from tessel.frontends.onnx.exporter import write

STAGES = ["read", "passes", "kernels"]


def graph(type="f32[2,8]"):
    rng = np.random.default_rng(0)
    b = Builder()
    h = b.input("x", type)
    for n in (16, 32, 24):
        h = h @ b.constant(rng.standard_normal((h.shape[1], n)).astype(np.float32))
        h = b.softmax(h, axis=-1)
    b.output("y", h)
    return b.graph


def listening(**options):
    heard = []
    return tessel.compile(graph(**options), cache=False, progress=heard.append), heard


def test_stages_in_order_each_to_its_end():
    _, heard = listening()
    assert list(dict.fromkeys(p.stage for p in heard)) == STAGES
    for stage in STAGES:
        done, total = zip(*((p.done, p.total) for p in heard if p.stage == stage))
        assert done == tuple(range(total[0] + 1)) and len(set(total)) == 1


def test_kernels_of_the_cache_come_first(tmp_path):
    heard = []
    for _ in range(2):
        heard.clear()
        tessel.compile(graph(), cache=tmp_path, reuse=False, progress=heard.append)
    kernels = [p for p in heard if p.stage == "kernels"]
    assert len(kernels) == 1 and kernels[0].done == kernels[0].total > 3


def test_runs_that_compile_are_heard_too():
    b = Builder()
    b.output("y", b.relu(b.input("x", "f32[N,6]")))
    heard = []
    exe = tessel.compile(b.graph, cache=False, target="numpy", progress=heard.append)
    heard.clear()
    exe(np.zeros((2, 6), np.float32))
    assert {p.stage for p in heard} == {"passes"}
    heard.clear()
    exe(np.ones((2, 6), np.float32))
    assert heard == []


@pytest.mark.sweep(8, suite=12)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, tessel.TesselError, TypeError])
@pytest.mark.parametrize("type", ["f32[2,8]", "f32[N,8]"])
def test_what_the_function_raises_ends_the_compilation(stage, kind, type):
    error, heard, before = kind("enough"), [], threading.active_count()

    def listener(progress):
        heard.append(progress)
        if progress.stage == stage and progress.done == progress.total:
            raise error

    with pytest.raises(kind) as caught:
        tessel.compile(graph(type), cache=False, progress=listener)
    assert caught.value is error and heard[-1].stage == stage
    assert threading.active_count() == before
    assert tessel.compile(graph(type), cache=False) is not None


def test_one_call_at_a_time_in_order_from_any_thread():
    inside, heard = [], []

    def listener(progress):
        inside.append(1)
        assert len(inside) == 1
        heard.append(progress.done)
        inside.pop()

    steps = Steps(listener, "kernels")
    threads = [threading.Thread(target=steps, args=(i, 50)) for i in range(51)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert heard == sorted(heard) and heard[-1] == 50


def test_no_listener_hears_nothing():
    tell(None, "read", 0, 1)
    Steps(None, "kernels")(1, 2)
    assert Progress("read", 0, 1) == Progress("read", 0, 1)


# -- on a terminal ----------------------------------------------------------------------------


def terminal(*arguments, folder):
    """Run the command line with stderr a terminal and stdout a pipe: (code, stdout, stderr)."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "XDG_CACHE_HOME": str(folder), "TERM": "xterm", "COLUMNS": "80"}
    command = [sys.executable, "-m", "tessel.tools.cli", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=env) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # the other side is closed
                break
            if not data:
                break
            said += data
        out = process.stdout.read()
    os.close(ours)
    return process.returncode, out.decode(), said.decode()


@pytest.mark.parametrize("command", ["run", "compile", "explain", "verify"])
def test_a_terminal_shows_what_goes_on_and_stdout_does_not(command, tmp_path):
    write(graph("f32[N,8]"), tmp_path / "m.onnx")
    more = ["-o", tmp_path / "m.tsl"] if command == "compile" else []
    code, out, err = terminal(command, tmp_path / "m.onnx", *more, folder=tmp_path)
    assert code == 0, err
    assert "reading" in err and "\x1b" not in out and "reading" not in out
    assert command == "compile" or "guessed" in err


def test_a_pipe_gets_notes_alone(tmp_path):
    write(graph("f32[N,8]"), tmp_path / "m.onnx")
    done = subprocess.run(
        [sys.executable, "-m", "tessel.tools.cli", "run", tmp_path / "m.onnx"],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert done.returncode == 0 and "\x1b" not in done.stderr
    assert all(line.startswith("note: ") for line in done.stderr.splitlines())
