"""What the command line prints and how it ends, whatever models are called and who interrupts."""

import ast
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import tessel
from onnx import helper
from tessel.compiler.errors import InputError, printable
from tessel.tools import cli
from tessel.tools.common.terminal import Console, Table

from ..system.test_entrances import raising

EVIL = "\x1b]0;owned\x07\x1b[31m\x9b2J\x00\u202eevil"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
TOOLS = Path(cli.__file__).parent
TESSEL = [sys.executable, "-m", "tessel.tools.cli"]


def named(name, operator="Relu"):
    """A model in which everything that can have a name has this one."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(operator, [f"x{name}"], [f"y{name}"], name)],
        name,
        [info(f"x{name}", 1, [f"N{name}", 4])],
        [info(f"y{name}", 1, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model.metadata_props.add(key=name, value=name)
    model.doc_string = name
    return model


@pytest.fixture
def call(capfd):
    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return end.value.code, out + err

    return call


# -- control characters -----------------------------------------------------------------------


def test_printable_text():
    assert printable("a\tb\nc é ×") == "a\tb\nc é ×"
    assert printable("\x1b[2J\x07\x00\x9b\u202e") == r"\x1b[2J\x07\x00\x9b\u202e"
    assert printable("\ud800") == r"\ud800"


@pytest.mark.parametrize(
    "command",
    [
        ["inspect"],
        ["inspect", "--types"],
        ["explain"],
        ["run", "--random", 0],
        ["verify"],
        ["compile", "--emit", "graph"],
        ["compile", "--emit", "loops"],
        ["compile", "--emit", "llvm"],
        ["compile", "--print-after", "all", "--emit", "graph"],
        ["run", "--profile"],
    ],
)
def test_names_never_reach_the_terminal_raw(command, call, tmp_path):
    path = tmp_path / "m\x1b[31m.onnx"
    onnx.save(named(EVIL), path)
    code, said = call(*command, path)
    assert code == 0 and said
    assert not RAW.search(said)


def test_nor_do_those_in_errors(call, tmp_path):
    onnx.save(named(EVIL, "Nothing"), tmp_path / "m.onnx")
    for arguments in (
        ["explain", tmp_path / "m.onnx"],
        ["run", tmp_path / f"{EVIL[1:5]}\x1b.onnx"],
        ["run", tmp_path / "m.onnx", "--shapes", "\x1b[31m"],
        ["\x1b[31m"],
        ["run", tmp_path / "m.onnx", "--inputs", "\x1b.npz"],
    ):
        code, said = call(*arguments)
        assert code == 2 and said and not RAW.search(said)


def test_errors_in_python_are_printable_too():
    with pytest.raises(tessel.TesselError) as caught:
        tessel.compile(named(EVIL, "Nothing"))
    assert not RAW.search(str(caught.value)) and r"\x1b" in str(caught.value)


def test_only_one_file_prints():
    """Names of files are printed by what cleans them; nothing else of this folder writes."""
    found = []
    for file in TOOLS.glob("*.py"):
        if file.name in ("terminal.py", "ops.py", "worker.py"):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            text = ast.unparse(node) if isinstance(node, (ast.Call, ast.ImportFrom)) else ""
            if re.match(r"(print|sys\.std(out|err)\.write|click\.echo)\(", text) or re.search(
                r"^from rich\.(console|table) import .*\b(Console|Table)\b", text
            ):
                found.append(f"{file.name}:{node.lineno}: {text[:60]}")
    assert found == []


def test_the_console_cleans_strings_and_cells(capsys):
    table = Table()
    table.add_column("a")
    table.add_row("\x1b[31m")
    out = Console()
    out.print("\x1b[2J", table)
    said = capsys.readouterr().out
    assert said.count(r"\x1b") == 2 and not RAW.search(said)


# -- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shapes",
    [
        "x:" + "9" * 5000,
        "x:-1x4",
        "x[-1,4]",
        "x:1x",
        "x:axb",
        "x",
        "x[",
        "x:٣x4",
        "x:1.5x4",
        "[1]",
        "x:999999999999x4",
        "x:1x4x1",
        "y:1x4",
        "x:1x5",
        "x[N,N]" * 2000,
        "x:0x",
        "\x00",
    ],
)
def test_absurd_shapes(shapes, call, tmp_path):
    onnx.save(named(""), tmp_path / "m.onnx")
    code, said = call("run", tmp_path / "m.onnx", "--shapes", shapes)
    assert code == 2 and "error" in said and "fault in tessel" not in said
    assert max(map(len, said.splitlines())) < 1000


@pytest.mark.parametrize("arguments", [["--random", "-1"], ["--random", "x"], ["--threads", "0"]])
def test_absurd_numbers(arguments, call, tmp_path):
    onnx.save(named(""), tmp_path / "m.onnx")
    assert call("run", tmp_path / "m.onnx", *arguments)[0] == 2


@pytest.mark.parametrize("limit", ["nodes", "nodes=", "nodes=-1", "n=1", "nodes=" + "9" * 99])
def test_absurd_limits(limit, call, tmp_path):
    onnx.save(named(""), tmp_path / "m.onnx")
    code, said = call("--limit", limit, "inspect", tmp_path / "m.onnx")
    assert code == 2 and "limit" in said


def test_limits_reach_the_model(call, tmp_path):
    onnx.save(named(""), tmp_path / "m.onnx")
    assert call("--limit", "nodes=5", "run", tmp_path / "m.onnx")[0] == 0
    assert call("--limit", "folded=0", "--limit", "nodes=5", "inspect", tmp_path / "m.onnx")[0] == 0


def test_what_nobody_foresaw_is_a_line(call, monkeypatch, tmp_path):
    onnx.save(named(""), tmp_path / "m.onnx")

    monkeypatch.setattr("tessel.tools.run.describe", raising(IndexError("boom")))
    code, said = call("run", tmp_path / "m.onnx")
    assert code == 2 and "a fault in tessel" in said and "Traceback" not in said
    assert "Traceback" in call("--debug", "run", tmp_path / "m.onnx")[1]


@pytest.mark.parametrize("masked", [True, [False, True, False, False]])
def test_masked_arrays_are_refused_also_by_the_second_run(masked):
    exe = tessel.compile(named(""), threads=1)
    x = np.ones((1, 4), np.float32)
    exe(x)
    for wrong in (np.ma.array(x, mask=masked), np.ma.array(x)):
        with pytest.raises(InputError, match="masked array"):
            exe.run({"x": wrong})
        with pytest.raises(InputError, match="masked array"):
            exe(wrong)


# -- streams and signals ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("m") / "m.onnx"
    onnx.save(named("é×…"), path)
    return path


def test_streams_that_are_ascii(model):
    done = subprocess.run(
        [*TESSEL, "inspect", model],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii() and rb"\xd7" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["compile", "M", "--emit", "llvm"], ["inspect", "M"], ["explain", "M"], ["cache"]],
)
def test_a_reader_that_has_seen_enough(arguments, model):
    arguments = [str(model) if a == "M" else a for a in arguments]
    command = [*TESSEL, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read().splitlines()
        assert not [line for line in said if not line.startswith((b"note: ", b"  "))], said
        assert process.wait() == 0


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(closed, model, tmp_path):
    """What is printed goes nowhere, and above all into no file that happens to get its number."""
    shell = f'"$@" {closed}'
    output = tmp_path / "out.npz"
    done = subprocess.run(["sh", "-c", shell, "sh", *TESSEL, "run", model, "-o", output])
    assert done.returncode == 0
    with np.load(output) as file:
        assert len(file.files) == 1


STARTED = """
from tessel.tools import cli
prepare = cli._on_interrupt
def told(handler):
    prepare(handler)
    cli.os.write(1, b".")
cli._on_interrupt = told
cli.main()
"""


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.4, 1.2])
def test_an_interrupt_at_any_moment_is_one_line(delay):
    """From the first line of the command on, while it imports and while it works."""
    command = [sys.executable, "-c", STARTED, "bench", "--peak"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.read(1) == b"."
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == cli.INTERRUPTED, err
    assert err.strip().splitlines()[-1:] == [b"interrupted"] and b"Traceback" not in err
