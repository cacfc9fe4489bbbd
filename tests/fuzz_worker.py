"""The child process of test_fuzz: opens damaged files, one a line on stdin, and says what came.

Answers `ok`, the kind of a TesselError, or `BUG` and a traceback. A crash ends the process.
"""

import resource
import sys
import traceback
import warnings

import numpy as np
import tessel
from tessel.tools.feeds import random_feeds

LIMIT = 1 << 22  # elements of an input that are worth running


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
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    warnings.simplefilter("ignore")  # numpy's, about what damaged weights hold
    for line in sys.stdin:
        path, native = line.rstrip("\n").split("\t")
        print(attempt(path, native == "native"), flush=True)


if __name__ == "__main__":
    main()
