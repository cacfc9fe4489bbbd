"""The scripts of examples/ run; training and ops of one's own are tested with what they show."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tessel
from click.testing import CliRunner

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def run(name: str, *arguments) -> str:
    """What a script prints; it has to end well and say nothing on stderr."""
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def module(name: str):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), EXAMPLES / name)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_from_pytorch(tmp_path):
    pytest.importorskip("torch", reason="PyTorch makes the model")
    pytest.importorskip("onnxscript", reason="PyTorch exports with it")
    out = run("from_pytorch.py", "--out", tmp_path / "m.tsl")
    assert "compiled: image: f32[N,3,32,32] -> logits: f32[N,10]" in out
    x = np.zeros((3, 3, 32, 32), np.float32)
    assert tessel.load(tmp_path / "m.tsl")(x).shape == (3, 10)


def test_from_sklearn(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn makes the model")
    pytest.importorskip("skl2onnx", reason="skl2onnx converts it")
    out = run("from_sklearn.py", "--out", tmp_path / "m.tsl")
    assert "same label as scikit-learn: 100.0%" in out
    labels, _ = tessel.load(tmp_path / "m.tsl")(np.zeros((2, 64), np.float32))
    assert labels.shape == (2,)


def test_quantize_digits(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn has the images")
    out = run("quantize_digits.py", "--out", tmp_path / "q.onnx")
    # How many, depends on what this CPU gains by each.
    (count,) = re.findall(r"int8: ([0-4]) of 4 products quantized", out)
    before, after = (EXAMPLES / "models/digits.onnx").stat(), (tmp_path / "q.onnx").stat()
    assert after.st_size < (0.4 if int(count) >= 3 else 1) * before.st_size
    assert tessel.Recipe.load(tmp_path / "q.toml").scales


def test_iris_keras():
    if importlib.util.find_spec("keras") is None:
        pytest.skip("the script is of Keras")
    pytest.importorskip("sklearn", reason="scikit-learn has the flowers")
    out = run("iris_keras.py")
    assert float(re.search(r"held out: ([\d.]+)%", out).group(1)) >= 93


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("iris_keras.py", "not run: keras and scikit-learn not installed"),
        ("from_pytorch.py", "not run: torch and onnxscript not installed"),
        ("from_sklearn.py", "not run: scikit-learn and skl2onnx not installed"),
        ("quantize_digits.py", "not run: scikit-learn is not installed"),
    ],
)
def test_what_is_missing_is_said(name, said, monkeypatch):
    script = module(name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(script.main, [])
    assert result.exit_code == 0 and result.output.startswith(said)


def test_read_explain(capsys):
    module("read_explain.py").main()
    lines = capsys.readouterr().out.splitlines()
    rule = "(x @ w) * s => x @ (w·s)"
    assert f"  rewritten   {rule}" in lines[: lines.index("two outputs: 2 output(s)")]
    assert any(line.startswith(f"  declined    {rule}: matmul") for line in lines)
    assert lines[-1] == "the probabilities are the same: True"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_examples_import_public_names_only(script):
    inside = ("tessel.compiler", "tessel.runtime", "tessel.frontends", "tessel.tools")
    for node in ast.walk(ast.parse(script.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [n for n in names if n.startswith(inside)]


def test_every_example_says_how_it_is_run():
    lacking = [s.name for s in SCRIPTS if f"python examples/{s.name}" not in s.read_text()]
    assert lacking == []
