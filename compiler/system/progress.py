"""How far a compilation is: a function that its caller gave hears of each step.

    tessel.compile(model, progress=lambda p: print(p.stage, p.done, "of", p.total))

    read      the model's file becomes a graph        0 or 1 of 1
    passes    the graph is rewritten                  one by one; again for each specialization
    kernels   machine code is made                    those that the cache has come first

What the function raises ends the compilation, and leaves it as it is.
"""

import itertools
from collections.abc import Callable
from typing import Any

from ..classes import dataclass
from ..errors import from_caller
from .concurrency import give_lock


@dataclass(frozen=True)
class Progress:
    """`done` of `total` steps of a stage."""

    stage: str
    done: int
    total: int


Listener = Callable[[Progress], object]


def tell(listener: Listener | None, stage: str, done: int, total: int) -> None:
    """Let the listener hear it. Raises what it raises."""
    if listener is None:
        return
    try:
        listener(Progress(stage, done, total))
    except Exception as error:
        from_caller(error)
        raise


class Steps:
    """Tells of the steps of one stage, from any thread: one call at a time, in order."""

    def __init__(self, listener: Listener | None, stage: str):
        self.listener, self.stage, self.last = listener, stage, -1
        self._telling = give_lock(self, "_telling")

    def __call__(self, done: int, total: int) -> None:
        if self.listener is None:
            return
        with self._telling:
            if done > self.last:
                self.last = done
                tell(self.listener, self.stage, done, total)


def counting(listener: Listener | None, total: int, observer: Callable | None) -> Callable | None:
    """An observer of passes that tells the listener how many there were."""
    if listener is None:
        return observer
    steps, count = Steps(listener, "passes"), itertools.count(1)
    steps(0, total)

    def observe(action: Any, graph: Any, changed: bool) -> None:
        if observer is not None:
            observer(action, graph, changed)
        steps(next(count), total)

    return observe
