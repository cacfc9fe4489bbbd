"""The least CPU time of a run on one thread, of models by tessel and by ONNX Runtime, in turns.

    python tests/benchmarks/cpu_time.py resnet50.onnx resnet50_qdq.onnx --seconds 20

For machines that are busy with something else: time that a program waits for a core is not counted,
and the least of many runs is hardly disturbed. Absolute times still depend on the clock, so compare
what one call prints.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import tessel
from tessel.tools.common.feeds import random_feeds


def runs_of(path: str) -> dict:
    """{(engine, model): function of no arguments that runs it once}."""
    exe, name = tessel.compile(path, threads=1), Path(path).stem
    feeds = random_feeds(exe.inputs, 0)
    found = {("tessel", name): lambda: exe.run(feeds)}
    try:
        import onnxruntime
    except ImportError:
        return found
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return found | {("onnxruntime", name): lambda: session.run(None, feeds)}


def measured(runs: dict, seconds: float) -> dict:
    """{key: CPU seconds of each run}, runs in turns."""
    times: dict = {key: [] for key in runs}
    for run in runs.values():
        run()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for key, run in runs.items():
            start = time.thread_time()
            run()
            times[key].append(time.thread_time() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    runs = {k: f for path in given.models for k, f in runs_of(path).items()}
    for (engine, name), times in measured(runs, given.seconds).items():
        least, median = min(times) * 1e3, np.median(times) * 1e3
        print(f"{name:24} {engine:12} {least:8.2f} ms, median {median:8.2f}, {len(times)} runs")


if __name__ == "__main__":
    main()
