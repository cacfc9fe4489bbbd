"""The benchmarks of tests/benchmarks run; what they measure is for people to read."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "benchmarks"


def test_the_overhead_of_a_run_is_measured():
    command = [sys.executable, FOLDER / "run_overhead.py", "--batches", "2", "--calls", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.split(" min ")[0].strip() for line in done.stdout.splitlines()]
    assert names == ["compiled run", "compiled call", "loaded run", "loaded call"]
