"""What has been assumed of sizes while a program is lowered, by the symbols that it is about.

    known.about({"N"})       what follows from all assumptions about N, through others as well

A program of many kernels notes hundreds of assumptions, of which a kernel needs few. Those that
share symbols stand together in a part, and what was proved by the same ones stays proved.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

from ..classes import dataclass
from ..expr.dim_proof import Dims
from ..ir import dims
from ..ir.bounds import conditions, context


@dataclass(eq=False)
class _Part:
    """Symbols that assumptions link, and the places of those, pairs a > b and equations."""

    symbols: frozenset[str]
    above: tuple[int, ...] = ()
    equal: tuple[int, ...] = ()


class Assumptions:
    """Those of the context (`ir/bounds.py`), which only become more while a program is lowered."""

    def __init__(self) -> None:
        self._above: list[tuple] = []
        self._equal: list[tuple] = []
        self._parts: dict[str, _Part] = {}
        self._known: dict[tuple, Dims] = {}

    def about(self, symbols: Iterable[str], extents: Sequence[tuple] = ()) -> Dims:
        """What follows from the assumptions about `symbols`, and from `extents`, pairs a > b whose
        symbols are among them."""
        self._take()
        linked = dict.fromkeys(self._parts[n] for n in symbols if n in self._parts)
        above = sorted(i for part in linked for i in part.above)
        equal = sorted(i for part in linked for i in part.equal)
        pairs = conditions((self._above[i] for i in above), (self._equal[i] for i in equal))
        given = tuple(dict.fromkeys((*pairs, *extents)))
        if given not in self._known:
            self._known[given] = Dims(given)
        return self._known[given]

    def _take(self) -> None:
        """Take in what has been noted since."""
        noted = context().assumed
        if noted is None:
            return
        for pair in islice(noted.above, len(self._above), None):
            self._link(pair, above=(len(self._above),))
            self._above.append(pair)
        for pair in islice(noted.equal, len(self._equal), None):
            self._link(pair, equal=(len(self._equal),))
            self._equal.append(pair)

    def _link(self, pair: tuple, above: tuple = (), equal: tuple = ()) -> None:
        names = dims.symbols(pair[0]) | dims.symbols(pair[1])
        old = dict.fromkeys(self._parts[n] for n in names if n in self._parts)
        part = _Part(
            names.union(*(p.symbols for p in old)),
            (*(i for p in old for i in p.above), *above),
            (*(i for p in old for i in p.equal), *equal),
        )
        self._parts.update(dict.fromkeys(part.symbols, part))
