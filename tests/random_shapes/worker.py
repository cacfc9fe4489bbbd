"""Runs cases (`cpu 17`) that come line by line; answers a line of JSON for each."""

import json
import sys

from .check import outcomes
from .draw import draw


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever else prints
    for line in sys.stdin:
        engine, seed = line.split()
        found = [vars(o) for o in outcomes(draw(int(seed)), engine)]
        print(json.dumps({"outcomes": found}), file=answers, flush=True)


if __name__ == "__main__":
    main()
