"""`tessel verify`, other sizes: the executable at sizes that tell dynamic dims apart.

    sizes N=1 M=7        the model read anew for these sizes, by numpy, against the executable

Reading with numbers decides what reading with symbols leaves open (which of two axes is broadcast),
so that the reference does not share what the code for all sizes takes to be equal. Sizes that the
model refuses have to be refused by the executable, too.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..compiler.analysis.input_limits import input_limits
from ..compiler.classes import dataclass
from ..compiler.errors import CheckFailed, TesselError
from ..compiler.ir.graph import Graph
from ..compiler.ir.interpret import interpret
from ..compiler.ir.types import TensorType
from ..runtime.execution.executable import Executable
from .common.feeds import random_feeds
from .common.time_limit import OutOfTime, time_limit

SHORT = 1.0  # seconds that an assignment always has
USUAL, PRIMES = 7, (5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43)


def assignments(symbols: Sequence[str]) -> Iterator[dict[str, int]]:
    """Sizes to try, what finds most first: all equal, all different, each 1 among others, all 1,
    each another size than the others, two equal to 1 among others, rising and falling."""
    names = list(dict.fromkeys(symbols))
    seen = set()

    def candidates():
        yield dict.fromkeys(names, USUAL)
        yield dict(zip(names, itertools.cycle(PRIMES)))
        for n in names:
            yield dict.fromkeys(names, USUAL) | {n: 1}
        yield dict.fromkeys(names, 1)
        for n in names:
            yield dict.fromkeys(names, 1) | {n: USUAL}
        for n in names:
            yield dict.fromkeys(names, USUAL) | {n: 2 * USUAL - 1}
        yield dict(zip(names, itertools.cycle(reversed(PRIMES))))
        for a, b in itertools.combinations(names, 2):
            yield dict.fromkeys(names, USUAL) | {a: 1, b: 1}

    for sizes in candidates():
        key = tuple(sizes.values())
        if key not in seen:
            seen.add(key)
            yield sizes


def _named(sizes: dict[str, int]) -> str:
    return "sizes " + " ".join(f"{k}={v}" for k, v in sizes.items())


@dataclass
class OtherSizes:
    """Runs `exe` at other sizes than those of the first check.

    `read` gives the graph for concrete shapes of the inputs by name, `compare` the largest error of
    outputs and what is wrong (`Verification.compare`), `line` prints one line.
    """

    exe: Executable
    read: Callable[[dict[str, tuple]], Graph]
    compare: Callable[[list, list], tuple[float, str | None]]
    line: Callable
    seed: int = 0

    def run(self, seconds: float) -> str:
        """How many assignments were tried in so many seconds, and how many came to no end: each has
        a quarter of what is left. Raises CheckFailed where the executable differs."""
        symbols = self.exe.signature.symbols
        planned = list(assignments(symbols)) if symbols and seconds > 0 else []
        start, tried, refused, unfinished = time.perf_counter(), 0, 0, 0
        for sizes in planned:
            left = seconds - (time.perf_counter() - start)
            if left < 0:
                break
            try:
                with time_limit(max(left / 4, min(left, SHORT))):
                    refused += not self._agrees(sizes)
                tried += 1
            except OutOfTime:
                unfinished += 1
                self.line(
                    _named(sizes), None, time.perf_counter() - start - (seconds - left), "no end"
                )
        text = f"other sizes: {tried} of {len(planned)} assignments"
        text += f", of which the model refuses {refused}" if refused else ""
        return text + (f"; {unfinished} took too long" if unfinished else "")

    def _agrees(self, sizes: dict[str, int]) -> bool:
        """Whether the model takes these sizes; the executable then gives what numpy does."""
        start = time.perf_counter()
        name = _named(sizes)
        feeds = self._feeds(sizes)
        try:
            graph = self.read({n: x.shape for n, x in feeds.items()})
        except TesselError as error:
            self._must_refuse(name, feeds, error)
            self.line(name, None, time.perf_counter() - start, "refused")
            return False
        right = interpret(graph, [feeds[v.name].copy() for v in graph.inputs])
        try:
            given = self._run(feeds)
        except TesselError as error:
            raise CheckFailed(
                f"{name} are refused",
                where=error.where,
                received=error.message,
                expected="the outputs that numpy computes",
            ) from error
        error, wrong = self.compare(right, given)
        self.line(name, error, time.perf_counter() - start, wrong)
        if wrong is not None:
            raise CheckFailed(
                f"{name}: the outputs differ",
                received=wrong,
                fix=f"tessel verify --shapes {self._shapes(feeds)} looks for the stage",
            )
        return True

    def _feeds(self, sizes: dict[str, int]) -> dict[str, np.ndarray]:
        types = [p.type.substitute(sizes) for p in self.exe.inputs]
        shapes = {
            p.name: t.shape for p, t in zip(self.exe.inputs, types) if isinstance(t, TensorType)
        }
        limits = input_limits(self.exe.graph)
        return random_feeds(self.exe.inputs, self.seed, shapes, limits=limits)

    def _run(self, feeds: dict[str, np.ndarray]) -> list:
        return list(self.exe.run({n: x.copy() for n, x in feeds.items()}).values())

    def _must_refuse(self, name: str, feeds: dict[str, np.ndarray], reason: TesselError) -> None:
        try:
            given = self._run(feeds)
        except TesselError:
            return
        reason = reason.findings[0] if reason.findings else reason
        raise CheckFailed(
            f"{name} are taken",
            expected=f"what reading the model for them says: {reason.message}",
            received="outputs of " + ", ".join(str(list(np.shape(y))) for y in given),
        )

    @staticmethod
    def _shapes(feeds: dict[str, np.ndarray]) -> str:
        return ",".join(f"{n}[{','.join(map(str, x.shape))}]" for n, x in feeds.items())
