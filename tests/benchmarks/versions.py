"""Two checkouts of tessel on the same models, in turns: what a change costs or saves at run time.

    python tests/benchmarks/versions.py BEFORE AFTER MODEL.onnx … [--threads 1] [--rounds 60]

BEFORE and AFTER are folders of checkouts. Each has a process of its own, pinned to the same cores,
which compiles the model and then runs it for a slice of time whenever it is asked; the slices of
the two alternate, so that whatever else the machine does meets both. With one thread a run's time
is that of the thread, which others disturb less. Printed are AFTER / BEFORE: the median of the
pairs of slices, the ratio of the two shortest ones, and the same for BEFORE against a second
process of itself, which shows what the machine leaves undecided; and the largest difference of the
outputs.

Inputs come from `inputs.npz` beside the model, or are random; dynamic dims are `--dim` wide.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

WORKER = """
import json, os, sys, time
import numpy as np
path, feeds, threads, kept, dim = sys.argv[1:]
threads, dim = int(threads), int(dim)
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
import tessel
exe = tessel.compile(path, threads=threads)
known = dict(np.load(feeds)) if feeds else {}
rng = np.random.default_rng(0)
def value(p):
    shape = [d if isinstance(d, int) else dim for d in p.shape]
    if np.dtype(p.dtype).kind == "f":
        return rng.standard_normal(shape).astype(p.dtype)
    return rng.integers(0, 2, shape).astype(p.dtype)
ports = [p for p in exe.inputs if p.name in known or not getattr(p, "optional", False)]
x = {p.name: known[p.name] if p.name in known else value(p) for p in ports}
outputs = exe.run(x)
np.savez(kept, *(outputs.values() if isinstance(outputs, dict) else outputs))
clock = time.thread_time if threads == 1 else time.perf_counter
print("ready", flush=True)
for line in sys.stdin:
    times, end = [], time.perf_counter() + float(line)
    while not times or time.perf_counter() < end:
        start = clock()
        exe.run(x)
        times.append(clock() - start)
    print(json.dumps(sorted(times)[len(times) // 2]), flush=True)
"""


class Side:
    """A process that runs the model with the tessel of one checkout."""

    def __init__(self, tree: Path, model: Path, folder: Path, threads: int, dim: int):
        folder.mkdir()
        (folder / "tessel").symlink_to(tree.resolve())
        feeds, self.kept = model.parent / "inputs.npz", folder / "outputs.npz"
        arguments = [model, feeds if feeds.exists() else "", threads, self.kept, dim]
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(folder / "cache")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"{tree} does not compile or run {model}")

    def slice(self, seconds: float) -> float:
        """The median of the runs in so many seconds, at least one."""
        print(seconds, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(before: Path, after: Path, model: Path, options) -> str:
    with tempfile.TemporaryDirectory() as folder:
        trees = {"before": before, "after": after, "again": before}
        sides = {
            name: Side(tree, model, Path(folder) / name, options.threads, options.dim)
            for name, tree in trees.items()
        }
        for side in sides.values():
            side.slice(0.2)
        rounds = []
        for number in range(options.rounds):
            order = list(sides) if number % 2 else list(sides)[::-1]
            taken = {name: sides[name].slice(options.slice) for name in order}
            rounds.append([taken[name] for name in sides])
        for side in sides.values():
            side.close()
        apart = _apart(sides["before"].kept, sides["after"].kept)
    first, second, again = zip(*rounds)
    columns = [f"{1e3 * min(first):9.3f} ms"]
    for other in (second, again):
        columns += [f"{statistics.median(y / x for x, y in zip(first, other)):7.3f}"]
        columns += [f"{min(other) / min(first):7.3f}"]
    name = model.parent.name if model.stem == "model" else model.stem
    return f"{name:20} " + " ".join(columns) + f"   {apart:.1e}"


def _apart(first: Path, second: Path) -> float:
    """The largest difference of two files of outputs, relative to each output's largest value."""
    import numpy as np

    a, b = dict(np.load(first)), dict(np.load(second))
    return max(
        (
            float(np.abs(a[k].astype(float) - b[k].astype(float)).max() / (np.abs(a[k]).max() or 1))
            for k in a
            if a[k].size and a[k].dtype.kind in "fiub"
        ),
        default=0.0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--slice", type=float, default=0.1, help="seconds")
    parser.add_argument("--dim", type=int, default=1, help="of dynamic dims without inputs.npz")
    options = parser.parse_args()
    print(f"{'':20}       before   after  minima   again  minima   outputs apart")
    for model in options.models:
        print(compare(options.before, options.after, model, options), flush=True)


if __name__ == "__main__":
    main()
