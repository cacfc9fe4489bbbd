"""Two executables in turns, in one process: the only ratios that a shared machine leaves alone."""

import statistics
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Pairs:
    """ratio and of_minima are the time of the first divided by that of the second: the median of
    pairs of runs, and of the shortest ones; seconds is the shortest run of the second."""

    ratio: float
    of_minima: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.ratio:.3f}  minima {self.of_minima:.3f}  ({1e3 * self.seconds:.2f} ms)"


def compare(first, second, feeds, rounds: int) -> Pairs:
    """The first pair of runs, in which caches and the code's pages are filled, does not count."""
    pairs = [(spent(first, feeds), spent(second, feeds)) for _ in range(rounds + 1)][1:]
    a, b = (min(side) for side in zip(*pairs))
    return Pairs(statistics.median(x / y for x, y in pairs), a / b, b)


def spent(exe, feeds) -> float:
    """Seconds of a run: this thread's own if it is the only one, which others disturb less."""
    clock = time.thread_time if exe.threads == 1 else time.perf_counter
    start = clock()
    exe.run(feeds)
    return clock() - start
