"""The command line of the conformance suite: `python -m tests.conformance --help`."""

import argparse
import re
import sys
import time
from collections import Counter

from .engines import ENGINES, VARIANTS, cases_of, version_of
from .page import PAGE, page
from .pool import TIMEOUT, run_cases
from .reasons import first_finding
from .record import changes, load_record, make_record, save_record


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    add = parser.add_argument
    add("--engine", choices=[*ENGINES, *VARIANTS], default="tessel")
    add("--filter", metavar="REGEX", help="only cases whose id matches")
    add("--jobs", type=int, help="worker processes; as many as cores")
    add("--timeout", type=float, default=TIMEOUT, help="seconds of CPU time for one case")
    add("--write", action="store_true", help="rewrite the engine's list, and docs/conformance.md")
    add("--page", action="store_true", help="rewrite docs/conformance.md only; run nothing")
    options = parser.parse_args()
    if options.page:
        return write_page()
    if options.write and options.filter:
        parser.error("--write needs all cases")
    version_of(options.engine)

    cases = [c for c in cases_of(options.engine) if re.search(options.filter or "", c.id)]
    start = time.monotonic()
    done = Counter()

    def report(case, result):
        done[result["status"]] += 1
        if options.filter or result["status"] in ("crash", "timeout"):
            text = first_finding(result["message"])
            print(f"{result['status']:12s}{case.id}  {text}".rstrip(), flush=True)

    results = run_cases(cases, options.engine, options.jobs, options.timeout, report)
    print(f"{done['pass']} of {len(cases)} pass in {time.monotonic() - start:.0f} s:", dict(done))
    if options.write:
        save_record(make_record(options.engine, cases, results))
        return 0 if options.engine in VARIANTS else write_page()
    record = load_record(options.engine)
    worse, better = changes(record, results) if record is not None else ([], [])
    for title, names in [("worse than the list", worse), ("better than the list", better)]:
        if names:
            print(f"\n{title}: {len(names)}", *names, sep="\n  ")
    return 1 if worse else 0


def write_page() -> int:
    """Engines whose list was made with another onnx package are left out."""
    records = [r for r in map(load_record, ENGINES) if r is not None]
    PAGE.write_text(page([r for r in records if r["onnx"] == records[0]["onnx"]]))
    print(f"wrote {PAGE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
