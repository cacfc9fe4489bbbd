"""What dynamic dims cost: a model's code for all sizes beside code for one, in turns.

    python tests/benchmarks/dynamic_dims.py MODEL --sizes 1,128 4,61 [--threads 1] [--rounds 30]

`--sizes` are values of the model's symbols, in the order of its inputs. Ratios are the time of the
code for all sizes divided by that of the code for these: the median of pairs, and of the minima.
Inputs are random (ints below 100).
"""

import argparse
import time

import tessel
from pairs import compare
from tessel.tools.common.feeds import random_feeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--sizes", nargs="+", required=True, metavar="N,M,…")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    start = time.perf_counter()
    exe = tessel.compile(options.model, threads=options.threads)
    seconds = time.perf_counter() - start
    if exe.for_all_sizes is None:
        raise SystemExit("\n".join(exe.notes) or "no size of this model is open")
    print(f"compiled for all sizes in {seconds:.1f} s")
    for text in options.sizes:
        sizes = dict(zip(exe.signature.symbols, map(int, text.split(","))))
        shapes = dict(zip(exe.signature.names, exe.signature.shapes(sizes)))
        feeds = random_feeds(exe.inputs, 0, shapes)
        fixed = tessel.compile(options.model, threads=options.threads, shapes=shapes)
        named = ", ".join(f"{k}={v}" for k, v in sizes.items())
        print(f"{named:28s} {compare(exe, fixed, feeds, options.rounds)}")


if __name__ == "__main__":
    main()
