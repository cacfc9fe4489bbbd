"""Python's search for cycles of garbage while something compiles.

    with seldom_collected: …

A compilation makes a million objects that stay until it ends, and few cycles. Python would look at
the young ones after every 700, which takes a tenth of the time of all Python code; and after ten
such searches anew at what they left, so that they are to be few.
"""

import gc

from .concurrency import give_lock

EVERY = 100_000  # objects, from one search among the young ones to the next


class SeldomCollected:
    """Sets the first of Python's thresholds, which are those of all threads, when the first of
    several compilations enters, and what it was when the last one leaves."""

    def __init__(self) -> None:
        self.inside, self.before = 0, gc.get_threshold()
        self._changing = give_lock(self, "_changing")

    def __enter__(self) -> None:
        with self._changing:
            if not self.inside:
                self.before = gc.get_threshold()
                if 0 < self.before[0] < EVERY:  # 0: nobody searches
                    gc.set_threshold(EVERY, *self.before[1:])
            self.inside += 1

    def __exit__(self, *error: object) -> None:
        with self._changing:
            self.inside -= 1
            if not self.inside and gc.get_threshold()[0] == EVERY:
                gc.set_threshold(*self.before)


seldom_collected = SeldomCollected()
