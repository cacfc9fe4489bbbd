"""The child process of test_fuzz: opens damaged files, one a line on stdin, and says what came.

Answers `ok`, the kind of a TesselError, or `BUG` and a traceback. A crash ends the process, and so
does what needs more than `MEMORY` and is not told so.
"""

import resource
import sys
import time
import traceback
import warnings

import numpy as np
import tessel
from tessel.tools.feeds import random_feeds

LIMIT = 1 << 22  # elements of an input that are worth running
SECONDS = 10.0  # of CPU time, for one file
MEMORY = 4 << 30


def attempt(path: str, native: bool) -> str:
    try:
        if path.endswith(".tsl"):
            exe = tessel.load(path, threads=1, native=native, cache=False)
        else:
            exe = tessel.compile(path, threads=1)
        sizes = [np.prod([d for d in p.shape if isinstance(d, int)], dtype=float)
                 for p in exe.inputs]  # fmt: skip
        if sum(sizes) < LIMIT:
            exe.run(random_feeds(exe.inputs))
    except tessel.TesselError as error:
        return type(error).__name__ if str(error) else "BUG an error without a message"
    except BaseException:
        return "BUG " + traceback.format_exc().replace("\n", "\\n")
    return "ok"


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")  # numpy's, about what damaged weights hold
    for line in sys.stdin:
        path, native = line.rstrip("\n").split("\t")
        start = time.process_time()
        answer = attempt(path, native == "native")
        seconds = time.process_time() - start
        print(answer if seconds < SECONDS else f"BUG {seconds:.1f} s: {answer}", flush=True)


if __name__ == "__main__":
    main()
