"""The benchmarks of tests/benchmarks run; what they measure is for people to read."""

import subprocess
import sys
from pathlib import Path

from tessel import to_onnx
from tessel.compiler.ir.builder import Builder

FOLDER = Path(__file__).parents[1] / "benchmarks"


def test_the_overhead_of_a_run_is_measured():
    command = [sys.executable, FOLDER / "run_overhead.py", "--batches", "2", "--calls", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.split(" min ")[0].strip() for line in done.stdout.splitlines()]
    assert names == ["compiled run", "compiled call", "loaded run", "loaded call"]


def test_dynamic_dims_are_compared_with_fixed_ones(tmp_path):
    b = Builder()
    b.output("y", b.softmax(b.input("x", "f32[N,S]"), axis=1))
    to_onnx(b.graph, tmp_path / "m.onnx")
    command = [sys.executable, FOLDER / "dynamic_dims.py", tmp_path / "m.onnx", "--rounds", "2"]
    done = subprocess.run(
        [*command, "--sizes", "1,5", "2,40"], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    _, *lines = done.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["N=1, S=5", "N=2, S=40"]


def test_rearranged_sums_are_compared_with_plain_ones(tmp_path):
    b = Builder()
    b.output("y", b.softmax(b.input("x", "f32[4,5]"), axis=1))
    to_onnx(b.graph, tmp_path / "m.onnx")
    command = [sys.executable, FOLDER / "rearranged_sums.py", tmp_path / "m.onnx", "--rounds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(str(tmp_path / "m.onnx"))
    assert done.stdout.endswith("differences: y 0.0e+00\n")


def test_long_axes_are_compared_with_numpy():
    command = [sys.executable, FOLDER / "long_axes.py", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(" of ")[0] for line in done.stdout.splitlines()] == [
        "arg_max",
        "arg_max",
        "top_k 10",
        "top_k 300",
        "top_k 50",
        "top_k 2000",
        "argsort",
        "sort_rows",
        "cumsum",
    ]
