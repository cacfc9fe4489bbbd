"""The child process of test_fuzz: opens damaged files, one a line on stdin, and says what came.

Answers `ok`, the kind of a TesselError, or `BUG` and a traceback. A crash ends the process, and so
does what needs more than `MEMORY` and is not told so.
"""

import resource
import sys
import time
import traceback
import warnings
from pathlib import Path

import damage
import numpy as np
import tessel
from tessel.tools.common.given import Given
from tessel.tools.common.interface import of_executable

LIMIT = 1 << 22  # elements of an input that are worth running
SECONDS = 10.0  # of CPU time, for one file
MEMORY = 4 << 30


def attempt(path: str, mode: str) -> str:
    """`mode`: native; graph (ignore the machine code of a package); extreme (inputs are)."""
    try:
        if path.endswith(".tsl"):
            exe = tessel.load(path, threads=1, native=mode == "native", cache=False)
        else:
            exe = tessel.compile(path, threads=1)
        sizes = [
            np.prod([d for d in p.shape or () if isinstance(d, int)], dtype=float)
            for p in exe.signature.inputs
        ]
        small = sum(sizes) < LIMIT
        feeds = of_executable(exe).feeds(Given(), None, {}) if small else None
        if mode == "extreme":
            rng = damage.seed(Path(path).name)
            feeds = {name: damage.extreme(x, rng) for name, x in feeds.items()}
        if feeds is not None:
            exe.run(feeds)
    except tessel.TesselError as error:
        return type(error).__name__ if str(error) else "BUG an error without a message"
    except BaseException:
        return "BUG " + traceback.format_exc().replace("\n", "\\n")
    return "ok"


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")  # numpy's, about what damaged weights hold
    for line in sys.stdin:
        path, mode = line.rstrip("\n").split("\t")
        start = time.process_time()
        answer = attempt(path, mode)
        seconds = time.process_time() - start
        print(answer if seconds < SECONDS else f"BUG {seconds:.1f} s: {answer}", flush=True)


if __name__ == "__main__":
    main()
