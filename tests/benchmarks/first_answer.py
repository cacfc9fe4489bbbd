"""How long a process takes to its first result: with an empty cache, and once it was compiled.

    python tests/benchmarks/first_answer.py MODEL.onnx … [--rounds 3]

Each run is a process of its own with one thread; the first one has an empty cache. Printed are CPU
seconds of that process and of those that it starts, and wall seconds, from the start of Python to
the first outputs, and how much of the wall time is there before the model is touched. The last line
is what Python takes that imports numpy and does nothing. Modules are there as bytecode, as in an
installation. Inputs come from `inputs.npz` beside the model, or are zeros. Another checkout is
measured where PYTHONPATH names a folder in which `tessel` is a link to it.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHILD = """
import json, sys, time
start = time.time()
import numpy as np
import tessel
ready = time.time()
path, feeds = sys.argv[1], sys.argv[2]
exe = tessel.compile(path, threads=1)
known = dict(np.load(feeds)) if feeds else {}
required = [p for p in exe.inputs if not getattr(p, "optional", False)]
shape = lambda p: [d if isinstance(d, int) else 1 for d in p.shape]
x = {p.name: known[p.name] if p.name in known else np.zeros(shape(p), p.dtype) for p in required}
exe.run(x)
print(json.dumps({"imports": ready - start}))
"""


def first_answer(path: Path, folder: str) -> tuple[float, float, float]:
    """CPU and wall seconds of a process that compiles and runs; those of its imports. What earlier
    ones left in `folder` is used: the cache, and modules as bytecode."""
    feeds = path.parent / "inputs.npz"
    cpu, wall, said = _run(folder, CHILD, str(path), str(feeds) if feeds.exists() else "")
    return cpu, wall, json.loads(said)["imports"]


def _run(folder: str, *arguments: str) -> tuple[float, float, bytes]:
    """CPU and wall seconds of a Python, and what it printed."""
    env = os.environ | {
        "XDG_CACHE_HOME": f"{folder}/cache",
        "TESSEL_REUSE": "1",
        "PYTHONPYCACHEPREFIX": f"{folder}/bytecode",
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    before, start = _children(), time.time()
    done = subprocess.run(
        [sys.executable, "-c", *arguments], env=env, stdout=subprocess.PIPE, check=True
    )
    return _children() - before, time.time() - start, done.stdout


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=3, help="of the second process; the best")
    options = parser.parse_args()
    print(
        f"{'model':28} {'cold: CPU s':>11} {'wall s':>7}   {'again: CPU s':>12} {'wall s':>7} "
        f"{'imports':>8}"
    )
    with tempfile.TemporaryDirectory() as folder:
        first_answer(options.models[0], folder)  # from here on there is bytecode
        for path in options.models:
            shutil.rmtree(f"{folder}/cache")
            cold = first_answer(path, folder)
            again = [first_answer(path, folder) for _ in range(options.rounds)]
            best = [min(column) for column in zip(*again)]
            name = path.parent.name if path.name == "model.onnx" else path.stem
            print(
                f"{name:28} {cold[0]:11.2f} {cold[1]:7.2f}   {best[0]:12.2f} {best[1]:7.2f} "
                f"{best[2]:8.2f}",
                flush=True,
            )
        numpy = [_run(folder, "import numpy")[:2] for _ in range(3 * options.rounds)]
    cpu, wall = (min(column) for column in zip(*numpy))
    print(f"{'import numpy':49} {cpu:12.2f} {wall:7.2f}")


if __name__ == "__main__":
    main()
