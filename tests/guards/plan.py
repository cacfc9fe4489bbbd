"""Which cases a seed stands for, in which order, and the table of what came of them."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..support import damage
from .attempt import GOOD

# Of so many cases in a row, how many are of each room.
SHARES = {"ops": 4, "onnx": 3, "schedules": 3}


def is_failure(kind: str) -> bool:
    return kind not in GOOD


def plan(seed: int, only: str = "") -> Iterator[str]:
    """Names of cases without end: rooms in turn by their shares, models of a room in an order that
    the seed shuffles anew in each round."""
    from .worker import ROOMS

    names = {room: [n for n in ROOMS[room].names() if n.startswith(only)] for room in SHARES}
    streams = {room: _room(names[room], room, seed) for room in SHARES if names[room]}
    while streams:
        for room, stream in streams.items():
            yield from itertools.islice(stream, SHARES[room])


def _room(names: list[str], room: str, seed: int) -> Iterator[str]:
    for number in itertools.count():
        # By a number of each name's own: another name more changes nothing about the others.
        for name in sorted(names, key=lambda n: damage.seed(seed, room, number, n).random()):
            yield f"{name}/{seed}.{number}"


class Tally:
    """Counts of outcomes, kept in a file of one line per case: a run can be gone on with."""

    def __init__(self, path: Path | None = None):
        self.path, self.seen = path, set()
        self.counts: dict[str, Counter] = {room: Counter() for room in SHARES}
        self.failures: list[str] = []

    @property
    def cases(self) -> int:
        return sum(c.total() for c in self.counts.values())

    @property
    def failed(self) -> int:
        return sum(n for c in self.counts.values() for kind, n in c.items() if is_failure(kind))

    def load(self) -> None:
        if self.path is None or not self.path.is_file():
            return
        for line in self.path.read_text().splitlines():
            entry = json.loads(line)
            self._count(entry["case"], entry["outcomes"])

    def add(self, case: str, outcomes: list[dict]) -> list[str]:
        """Count and keep; a line for each failure, with the command that shows it again."""
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps({"case": case, "outcomes": outcomes}) + "\n")
        return self._count(case, outcomes)

    def _count(self, case: str, outcomes: list[dict]) -> list[str]:
        self.seen.add(case)
        self.counts[case.partition("/")[0]].update(o["kind"] for o in outcomes)
        lines = [
            f"{o['kind']}: {o['message']}\n    python -m tests.guards {case}"
            for o in outcomes
            if is_failure(o["kind"])
        ]
        self.failures += lines
        return lines

    def table(self) -> str:
        kinds = [*GOOD, *sorted({k for c in self.counts.values() for k in c} - set(GOOD))]
        rows = [["", *kinds, "cases"]]
        for room, count in self.counts.items():
            rows.append([room, *(str(count[k]) for k in kinds), str(count.total())])
        total = sum(self.counts.values(), Counter())
        rows.append(["all", *(str(total[k]) for k in kinds), str(total.total())])
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join(
            "  ".join(x.rjust(w) if i else x.ljust(w) for i, (x, w) in enumerate(zip(r, widths)))
            for r in rows
        )
