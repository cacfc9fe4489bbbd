"""The fuzz test by hand and by night: see `tests/guards/__init__.py`."""

import argparse
import sys
import time

from ..conformance.cases import ROOT
from .plan import Tally, is_failure, plan
from .pool import run_cases

FOLDER = ROOT / "build" / "guards"
EVERY = 20.0  # seconds between two lines of progress


def main() -> int:
    options = _options()
    if options.cases:
        return _by_hand(options.cases)
    path = FOLDER / f"seed-{options.seed}.jsonl"
    tally = Tally(path)
    if options.fresh:
        path.unlink(missing_ok=True)
    tally.load()
    print(f"seed {options.seed}, {options.count} cases, {options.jobs} processes; kept in {path}")
    if tally.cases:
        print(f"going on after {tally.cases} cases (FRESH=1 or --fresh begins anew)")
    begin = latest = time.monotonic()

    def report(case: str, outcomes: list[dict]) -> None:
        nonlocal latest
        for line in tally.add(case, outcomes):
            print(line, flush=True)
        if time.monotonic() - latest > EVERY:
            latest = time.monotonic()
            print(
                f"{tally.cases} of {options.count} cases, {tally.failed} failures, "
                f"{latest - begin:.0f} s",
                flush=True,
            )

    cases = (c for c in plan(options.seed, options.only) if c not in tally.seen)
    run_cases(cases, options.jobs, report, lambda: tally.cases >= options.count)
    print("\n".join([*tally.failures, tally.table()]))
    return 1 if tally.failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.guards", description=__doc__)
    parser.add_argument("cases", nargs="*", help="names of cases to run in this process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20_000, help="cases: inputs that are run")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="names that begin so: ops/conv, schedules/")
    parser.add_argument("--fresh", action="store_true", help="forget what was run before")
    return parser.parse_args()


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _by_hand(cases: list[str]) -> int:
    """Cases in this process, so that a debugger finds them."""
    import faulthandler

    from ..support import damage
    from .attempt import attempt
    from .worker import make, targets

    faulthandler.enable()
    failed = False
    for case in cases:
        made = []

        def remember(case=case, made=made):
            made.append(make(case, targets()))
            print(case, made[0].about, made[0].options, *made[0].feeds, sep="\n    ", flush=True)
            return made[0]

        outcomes = attempt(remember, damage.seed(case, "order"), _say)
        for outcome in outcomes:
            print(f"    {outcome.kind}: {outcome.message}")
            failed |= is_failure(outcome.kind)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
