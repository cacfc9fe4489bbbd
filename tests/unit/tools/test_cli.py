"""The command line, as a user calls it: what it prints, writes and exits with."""

import json
import subprocess
import sys

import llvmlite.ir as ir
import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.schedules import nest
from tessel.compiler.ir.builder import Builder
from tessel.compiler.passes.cleanup import CommonSubexpressionElimination
from tessel.frontends.onnx.exporter import write
from tessel.tools import cli
from tessel.tools.cli import COMMANDS

X = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)


@pytest.fixture
def call(capsys):
    """Run a command; (exit code, stdout, stderr)."""

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return call


def graph(type="f32[N,8]"):
    rng = np.random.default_rng(0)
    b = Builder(name="small")
    b.origin = "dense"
    h = b.input("x", type) @ b.constant(rng.standard_normal((8, 16)).astype(np.float32))
    b.origin = "tanh"
    h = b.tanh(h * 1.0)
    b.origin = "probabilities"
    b.output("y", b.softmax(h, axis=-1))
    return b.graph


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    write(graph(), path)
    return path


@pytest.fixture
def static(tmp_path):
    path = tmp_path / "static.onnx"
    write(graph("f32[2,8]"), path)
    return path


@pytest.fixture
def inputs(tmp_path):
    np.savez(tmp_path / "in.npz", x=X)
    return tmp_path / "in.npz"


# -- the line itself -----------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(call, command):
    code, out, _ = call(command, "--help")
    assert code == 0 and out.startswith("Usage: tessel " + command)
    assert command == "bench" or "Example" in out


def test_help_and_version(call):
    code, out, _ = call("--help")
    assert code == 0 and all(c in out for c in COMMANDS)
    assert call("--version") == (0, f"tessel, version {tessel.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["run"], ["run", "m.onnx", "--nothing"], ["run", "m", "--threads=0"]]
)
def test_wrong_usage_exits_with_2(call, arguments):
    code, out, err = call(*arguments)
    assert code == 2 and out == "" and "Usage" in err


@pytest.mark.parametrize("command", ["compile", "run", "verify", "explain", "inspect"])
def test_an_absent_file_is_an_error_without_a_traceback(call, command):
    code, _, err = call(command, "absent.onnx")
    assert code == 2
    assert "absent.onnx" in err and "Traceback" not in err


def test_debug_shows_the_traceback(call, tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"no model")
    assert "Traceback" not in call("inspect", path)[2]
    assert "Traceback" in call("inspect", path, "--debug")[2]


def test_it_is_installed():
    done = subprocess.run(
        [sys.executable, "-m", "tessel.tools.cli", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0 and tessel.__version__ in done.stdout


# -- compile -------------------------------------------------------------------------------


def test_compile_writes_a_package(call, model, tmp_path):
    out = tmp_path / "out.tsl"
    code, _, err = call("compile", model, "-o", out, "--shapes", "x:2x8")
    assert code == 0 and f"wrote {out}" in err
    exe = tessel.load(out)
    assert len(exe.specializations) == 1 and exe.inputs[0].shape == (2, 8)


def test_a_package_has_code_for_all_sizes(call, model, tmp_path):
    code, _, err = call("compile", model, "-o", tmp_path / "out.tsl")
    assert code == 0 and "give --shapes" not in err
    assert "all sizes of N: " in call("inspect", tmp_path / "out.tsl")[1]
    assert tessel.load(tmp_path / "out.tsl").run({"x": X})["y"].shape == (2, 16)


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        ("graph", "graph small(%x: f32[2,8]) -> (%y)"),
        ("loops", "kernel tanh+softmax_"),
        ("llvm", "define void @tessel_main"),
        ("asm", "tessel_main:"),
        ("triton", "@triton.jit"),
    ],
)
def test_stages_as_text(call, static, tmp_path, stage, text):
    code, out, _ = call("compile", static, "--emit", stage)
    assert code == 0 and text in out
    assert call("compile", static, "--emit", stage, "-o", tmp_path / "stage")[:2] == (0, "")
    assert text in (tmp_path / "stage").read_text()


def test_a_graph_text_is_a_model(call, model, tmp_path, inputs):
    text = tmp_path / "g.graph"
    assert call("compile", model, "--emit", "graph", "-o", text)[0] == 0
    assert (tmp_path / "g.safetensors").exists()
    assert call("run", text, "--inputs", inputs, "-o", tmp_path / "o.npz")[0] == 0
    np.testing.assert_allclose(np.load(tmp_path / "o.npz")["y"], tessel.compile(model)(X), 1e-6)


def test_onnx_and_object_go_to_files(call, static, tmp_path):
    assert call("compile", static, "--emit", "object")[0] == 2
    assert call("compile", static, "--emit", "object", "-o", tmp_path / "m.o")[0] == 0
    assert (tmp_path / "m.o").read_bytes()[:4] == b"\x7fELF"
    code, out, err = call("compile", static, "--emit", "onnx", "-o", tmp_path / "m.onnx")
    assert (code, out) == (0, "") and err.startswith("wrote ")
    np.testing.assert_allclose(
        tessel.compile(tmp_path / "m.onnx")(X), tessel.compile(static)(X), 1e-6
    )


def test_triton_needs_sizes(call, model):
    code, _, err = call("compile", model, "--emit", "triton")
    assert code == 2 and "--shapes" in err


@pytest.mark.parametrize(("stage", "text"), [("loops", "for i0<N"), ("llvm", "tessel_main")])
def test_code_for_all_sizes(call, model, stage, text):
    code, out, _ = call("compile", model, "--emit", stage)
    assert code == 0 and text in out


@pytest.mark.parametrize("shapes", ["x:2x8", "x[2,8]"])
def test_both_ways_to_write_shapes(call, model, shapes):
    code, out, _ = call("compile", model, "--emit", "graph", "--shapes", shapes)
    assert code == 0 and "%x: f32[2,8]" in out


def test_shapes_that_do_not_fit(call, model):
    assert call("compile", model, "--shapes", "x:2x9")[0] == 2
    assert call("compile", model, "--shapes", "x")[0] == 2


def test_print_after(call, static, tmp_path):
    out = ["-o", tmp_path / "m.tsl"]
    code, text, _ = call("compile", static, "--print-after", "simplify", *out)
    assert code == 0 and "# after simplify\ngraph small(" in text
    code, _, err = call("compile", static, "--print-after", "nothing", *out)
    assert code == 2 and "simplify" in err


def test_another_machine(call, static, tmp_path):
    code, out, _ = call("compile", static, "--target", "cpu:aarch64", "--emit", "asm")
    assert code == 0 and "\tret" in out
    assert call("compile", static, "--target", "cpu:z80")[0] == 2


# -- run -----------------------------------------------------------------------------------


def test_run_on_given_inputs(call, model, inputs, tmp_path):
    code, out, _ = call("run", model, "--inputs", inputs, "-o", tmp_path / "o.npz")
    assert code == 0 and "y: float32[2, 16]" in out
    np.testing.assert_array_equal(np.load(tmp_path / "o.npz")["y"], tessel.compile(model)(X))


def test_run_on_random_inputs(call, model, tmp_path):
    for name in "ab":
        options = ["--random", 3, "--shapes", "x:5x8", "--threads", 1, "-o", tmp_path / name]
        assert call("run", model, *options)[0] == 0
    a, b = (np.load(tmp_path / name)["y"] for name in "ab")
    assert a.shape == (5, 16) and np.array_equal(a, b)


def test_run_a_package(call, static, inputs, tmp_path):
    package = tmp_path / "m.tsl"
    assert call("compile", static, "-o", package)[0] == 0
    assert call("run", package, "--inputs", inputs)[0] == 0
    code, _, err = call("run", package, "--inputs", inputs, "--no-native")
    assert code == 0 and "ignored" in err
    package.write_bytes(package.read_bytes()[:-1])
    code, _, err = call("run", package)
    assert code == 2 and "cut off" in err


def test_run_profiles_kernels(call, static, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    code, out, _ = call("run", static, "--profile")
    assert code == 0 and "dense" in out
    for column in ("share", "predicted", "GFLOP/s", "of peak", "flop/byte"):
        assert out.count(column) >= 2  # in the table and in its legend
    assert "tanh+softmax  nest" in out
    assert "an ordinary run" in out


def test_run_profiles_a_package(call, static, tmp_path):
    call("compile", static, "-o", tmp_path / "m.tsl")
    code, out, err = call("run", tmp_path / "m.tsl", "--profile", "--threads", 2)
    assert code == 0 and "dense" in out and "ignored" in err


def test_only_cpu_code_is_profiled(call, static):
    code, _, err = call("run", static, "--target", "numpy", "--profile")
    assert code == 2 and "can be profiled" in err and "numpy" in err


def test_inputs_that_do_not_fit(call, model, tmp_path):
    np.savez(tmp_path / "other.npz", z=X)
    code, _, err = call("run", model, "--inputs", tmp_path / "other.npz")
    assert code == 2 and "inputs are missing: x" in err
    np.savez(tmp_path / "wide.npz", x=X.astype(np.float64))
    code, _, err = call("run", model, "--inputs", tmp_path / "wide.npz")
    assert code == 2 and "wrong dtype" in err
    (tmp_path / "no.npz").write_text("nothing")
    assert call("run", model, "--inputs", tmp_path / "no.npz")[0] == 2


@pytest.mark.parametrize("command", ["compile", "run", "explain"])
def test_a_precision_that_the_target_does_not_offer(call, model, command):
    code, _, err = call(command, model, "--precision", "tf32")
    assert code == 2 and "precision is not supported by the target cpu" in err


def test_a_package_has_the_precision_that_it_was_compiled_with(call, static, tmp_path):
    package = tmp_path / "model.tsl"
    assert call("compile", static, "-o", package)[0] == 0
    code, _, err = call("run", package, "--precision", "tf32")
    assert code == 2 and "say --precision when it is compiled" in err


def test_refused_schedules_are_for_who_wants_all(call, static):
    assert "Schedules that were refused" not in call("explain", static)[1]
    assert "Schedules that were refused" in call("explain", static, "--all")[1]


# -- verify --------------------------------------------------------------------------------


def test_verify_passes(call, model, inputs, tmp_path):
    np.savez(tmp_path / "out.npz", y=tessel.compile(model, target="numpy")(X))
    code, out, _ = call("verify", model, "--inputs", inputs, "--expect", tmp_path / "out.npz")
    assert code == 0
    for stage in ("graph: ", "pass ", "sizes N=2", "loops", "threads: 1", "all stages agree"):
        assert stage in out


def test_verify_fails_on_other_expectations(call, model, inputs, tmp_path):
    np.savez(tmp_path / "out.npz", y=np.zeros((2, 16), np.float32))
    arguments = ["verify", model, "--inputs", inputs, "--expect", tmp_path / "out.npz"]
    code, _, err = call(*arguments)
    assert code == 1 and "expected outputs" in err
    assert call(*arguments, "--atol", 1)[0] == 0


def test_verify_names_a_guilty_pass_and_node(call, model, monkeypatch):
    def spoil(self, graph, report):
        node = next(n for n in graph.nodes if n.op.name == "matmul")
        node.inputs[1].node.attrs["value"] = node.inputs[1].constant + 1
        return True

    monkeypatch.setattr(CommonSubexpressionElimination, "run", spoil)
    code, out, err = call("verify", model)
    assert code == 1 and "pass cse differs" in err
    assert "dense (matmul" in err and "Traceback" not in err
    assert "all stages agree" not in out


def test_verify_names_a_guilty_kernel(call, model, monkeypatch, tmp_path):
    original = nest.emit_nest

    def spoil(e, kernel, *rest):
        original(e, kernel, *rest)
        if kernel.name == "tanh+softmax":
            place = next(p for b, p in e.pointers.items() if b in kernel.outputs)
            e.b.store(ir.Constant(ir.FloatType(), 7.0), place)

    monkeypatch.setattr(nest, "emit_nest", spoil)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # spoiled code belongs in no cache
    code, _, err = call("verify", model)
    assert code == 1 and "cpu, threads: 1 differs" in err
    assert "probabilities" in err and "softmax" in err


# -- explain, inspect, demo ----------------------------------------------------------------


def test_explain(call, model):
    code, out, _ = call("explain", model)
    assert code == 0
    for text in (
        "x: f32[N,8]",
        "x * 1 => x",
        "Kernels",
        "dense",
        "what follows is for N=1",
        "predicted: ",
        "of least",
        "Slow kernels",
        "Kept in memory",
        "Host callbacks",
        "  none\n",
    ):
        assert text in out


def test_explain_says_which_kernels_are_slow_and_why(call, tmp_path):
    b = Builder()
    x = b.input("x", "f32[64,64,64]")
    places = np.arange(64)[::-1] * 5 % 64
    b.output("y", b.gather(x, b.constant(places), axis=2))
    path = tmp_path / "scattered.onnx"
    write(b.graph, path)
    code, out, _ = call("explain", path, "--all")
    assert code == 0
    slow = out.split("Slow kernels")[1].split("Kept in memory")[0]
    assert "× the least, because elements of a vector lie apart" in slow


def test_compile_explains_too(call, static, tmp_path):
    code, out, _ = call("compile", static, "--explain", "-o", tmp_path / "m.tsl")
    assert code == 0 and "Rewrites" in out


def test_inspect_a_model(call, model):
    code, out, _ = call("inspect", model)
    assert code == 0 and "129 weights in 2 arrays" in out and "softmax" in out
    assert call("inspect", model, "--check")[0] == 2


def test_inspect_a_package(call, static, tmp_path):
    package = tmp_path / "m.tsl"
    call("compile", static, "-o", package)
    code, out, _ = call("inspect", package, "--check")
    assert code == 0 and "which runs here" in out and "fixed sizes: " in out and "verified" in out
    package.write_text(json.dumps({}))
    assert call("inspect", package)[0] == 2


def test_demo(call):
    code, out, _ = call("demo")
    assert code == 0 and "10 of 10 are right" in out


def test_demo_without_its_model(call, monkeypatch, tmp_path):
    monkeypatch.setattr("tessel.tools.demo.MODEL", tmp_path / "absent.onnx")
    code, _, err = call("demo")
    assert code == 2 and "train_digits.py" in err
