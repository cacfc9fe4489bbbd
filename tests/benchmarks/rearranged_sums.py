"""What Winograd's and Strassen's sums gain and cost: code with them beside `strict` code, in turns.

    python tests/benchmarks/rearranged_sums.py MODEL … [--threads 1] [--rounds 30]

The ratio is the time with rearranged sums divided by that with plain ones: the median of pairs, and
of the minima. Behind it, for each output, the largest difference between the two, divided by the
largest value of the output. Inputs are random (ints below 100).
"""

import argparse

import numpy as np
import tessel
from pairs import compare
from tessel.tools.common.feeds import random_feeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    for model in options.models:
        fast, plain = (
            tessel.compile(model, threads=options.threads, strict=strict)
            for strict in (False, True)
        )
        feeds = random_feeds(fast.inputs, 0)
        outputs, expected = fast.run(feeds), plain.run(feeds)
        differences = "  ".join(
            f"{name} {difference(outputs[name], expected[name]):.1e}" for name in outputs
        )
        pairs = compare(fast, plain, feeds, options.rounds)
        print(f"{model:28s} {pairs}  differences: {differences}", flush=True)


def difference(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference in units of the largest expected value."""
    scale = np.abs(expected).max(initial=0.0) or 1.0
    return float(np.abs(got - expected).max(initial=0.0) / scale)


if __name__ == "__main__":
    main()
