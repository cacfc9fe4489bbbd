"""What a user's type checker says of files that use tessel, as it is installed: by its wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tessel.tools import wheels

pytest.importorskip("mypy", reason="checking types needs mypy, which is in the extra dev")
ROOT = Path(__file__).resolve().parents[2]

RIGHT = """\
import numpy as np
import tessel

F = tessel.native.functional
exe = tessel.compile("m.onnx")
x = np.zeros((1, 3), np.float32)
y: np.ndarray = exe(x)
outputs: dict[str, np.ndarray] = exe.run({"x": x})
exe.save("m.tsl")
first: str = exe.inputs[0].name
other: tessel.Executable = tessel.load("m.tsl", threads=2)
graph: tessel.Graph = tessel.from_onnx("m.onnx", shapes={"x": (1, None)})


def f(x: tessel.native.Array, w: tessel.native.Array) -> tessel.native.Array:
    return F.softmax(F.relu(x @ w + 1), axis=-1) * 2


best, places = F.top_k(f(F.stack([]), F.zeros_like(F.stack([]))), k=3)
size: int = best.rank
"""

# A line each, with the code of the error that it is.
WRONG = {
    'tessel.compile("m.onnx", threads="two")': "arg-type",
    'tessel.compile("m.onnx", level=3)': "call-arg",
    "tessel.load()": "call-arg",
    'n: int = tessel.compile("m.onnx").inputs': "assignment",
    "tessel.compiel": "attr-defined",
    "F.softmax(x, axes=-1)": "call-arg",
    'F.concat(x, x, axis="rows")': "arg-type",
    "x.rank.y": "attr-defined",
}


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """What mypy says of a text, beside the files of the wheel."""
    folder = tmp_path_factory.mktemp("types")
    with zipfile.ZipFile(wheels.build(ROOT, folder)) as wheel:
        wheel.extractall(folder / "site")

    def check(text: str) -> list[str]:
        (folder / "user.py").write_text(text)
        command = [
            sys.executable,
            "-m",
            "mypy",
            "--config-file=",
            "--ignore-missing-imports",
            "--follow-imports=silent",
            "--cache-dir=cache",
            "user.py",
        ]
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"MYPYPATH": "site"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert not done.stderr, done.stderr
        return done.stdout.splitlines()[:-1]

    return check


@pytest.mark.slow
def test_a_user_s_file_type_checks(check):
    assert check(RIGHT) == []


@pytest.mark.slow
def test_mistakes_are_found(check):
    head = "import tessel\n\nF = tessel.native.functional\nx: tessel.native.Array\n"
    said = check(head + "\n".join(WRONG) + "\n")
    first = head.count("\n") + 1
    found = {int(line.split(":")[1]): line for line in said if ": error: " in line}
    for i, (line, code) in enumerate(WRONG.items()):
        assert f"[{code}]" in found.get(first + i, "no error"), line
