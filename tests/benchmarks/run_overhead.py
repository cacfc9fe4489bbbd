"""What a run costs beside the machine code: µs per call of a model of one op.

    python tests/benchmarks/run_overhead.py [--batches 60] [--calls 500]

y = relu(x), x: f32[4], so nearly all of the time is Python's. The ways of calling take turns; the
minimum says what the code takes, the median what this machine made of it.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import tessel
from tessel.compiler.ir.builder import Builder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=60, help="measurements of each way")
    parser.add_argument("--calls", type=int, default=500, help="calls per measurement")
    options = parser.parse_args()
    spent: dict[str, list[float]] = {}
    ways = calls()
    for _ in range(options.batches):
        for name, call in ways.items():
            start = time.perf_counter_ns()
            for _ in range(options.calls):
                call()
            nanoseconds = time.perf_counter_ns() - start
            spent.setdefault(name, []).append(nanoseconds / options.calls / 1000)
    for name, values in spent.items():
        print(f"{name:14s} min {min(values):6.2f}  median {statistics.median(values):6.2f} µs")


def calls() -> dict:
    """The ways of running it, by name."""
    b = Builder()
    b.output("y", b.relu(b.input("x", "f32[4]")))
    compiled = tessel.compile(b.graph, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        compiled.save(Path(folder) / "relu.tsl")
        loaded = tessel.load(Path(folder) / "relu.tsl", threads=1)
    x = np.ones(4, np.float32)
    feeds = {"x": x}
    return {
        "compiled run": lambda: compiled.run(feeds),
        "compiled call": lambda: compiled(x),
        "loaded run": lambda: loaded.run(feeds),
        "loaded call": lambda: loaded(x),
    }


if __name__ == "__main__":
    main()
