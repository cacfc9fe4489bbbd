"""Inputs with a default, which a run may feed.

    exe.run({"x": x})                         # the default is a weight: folded, packed
    exe.run({"x": x, "scale": scale})         # another executable, in which it is an input

For each set of names that runs feed there is an executable, compiled when it is first met; the last
ones are kept.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...compiler.system.concurrency import give_lock
from ..base.signature import Port

KEPT = 16  # executables


class Overrides:
    """`ports` are the inputs that may be fed; `compile(names)` makes the executable that takes
    those `names` beside the required inputs."""

    def __init__(self, ports: Iterable[Port], compile: Callable[[frozenset[str]], Any]):
        self.ports, self._compile = tuple(ports), compile
        self._names = {p.name for p in self.ports}
        self._made: OrderedDict[frozenset[str], Any] = OrderedDict()
        self._making = give_lock(self, "_making")

    def fed(self, feeds: Mapping) -> frozenset[str]:
        """The names in `feeds` that replace a default."""
        return frozenset(self._names.intersection(feeds)) if isinstance(feeds, Mapping) else _NONE

    def executable(self, names: frozenset[str]) -> Any:
        with self._making:
            if names not in self._made:
                self._made[names] = self._compile(names)
            self._made.move_to_end(names)
            while len(self._made) > KEPT:
                self._made.popitem(last=False)
            return self._made[names]


_NONE: frozenset[str] = frozenset()
