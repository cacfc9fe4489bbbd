"""The test by hand and by night: see `tests/random_shapes/__init__.py`."""

import argparse
import math
import sys
import time
from collections import Counter

from ..guards.pool import run_cases
from .check import GOOD, is_failure, outcomes, smallest
from .draw import draw


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.random_shapes", description=__doc__)
    add = parser.add_argument
    add("seeds", nargs="*", type=int, help="seeds to run in this process")
    add("--seed", type=int, default=0, help="the first of the seeds")
    add("--count", type=int, default=500, help="how many")
    add("--jobs", type=int, default=2)
    add("--engine", choices=["cpu", "interpreter"], default="cpu", help="what runs the graphs")
    add("--seconds", type=float, help="no new graphs after so many")
    options = parser.parse_args()
    if options.seeds:
        failed = [_by_hand(seed, options.engine) for seed in options.seeds]  # all of them are shown
        return int(any(failed))
    counts, failed, done = Counter(), [], 0

    def report(case: str, found: list[dict]) -> None:
        nonlocal done
        done += 1
        for o in found:
            counts[o["kind"]] += 1
        wrong = next((o for o in found if o["kind"] not in GOOD), None)
        if wrong is not None:
            failed.append(case)
            print(f"{case}: {wrong['kind']}: {wrong['message'][:300]}", flush=True)

    seeds = range(options.seed, options.seed + options.count)
    cases = (f"{options.engine} {seed}" for seed in seeds)
    end = time.monotonic() + (options.seconds or math.inf)
    run_cases(
        cases,
        options.jobs,
        report,
        lambda: time.monotonic() > end,
        worker="tests.random_shapes.worker",
    )
    print(f"{len(failed)} of {done} graphs fail:", dict(counts))
    return 1 if failed else 0


def _by_hand(seed: int, engine: str) -> bool:
    """A graph in this process, and the smallest part of it that fails."""
    import onnx

    drawn = draw(seed)
    found = outcomes(drawn, engine)
    failed = any(map(is_failure, found))
    shown = smallest(drawn, engine) if failed else drawn
    print(onnx.printer.to_text(shown.model))
    for feeds, outcome in zip(shown.feeds, outcomes(shown, engine) if failed else found):
        shapes = ", ".join(f"{k}{list(v.shape)}" for k, v in feeds.items())
        print(f"    {shapes}: {outcome.kind} {outcome.message}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
