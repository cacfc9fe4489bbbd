"""How a row of outputs is cut into vectors: those at its ends, whose windows reach beyond the
input, and those between."""

from .....classes import dataclass


@dataclass(frozen=True)
class Segments:
    """`edges` are where vectors at the ends begin; those between begin at `first`, the last one at
    `last`, and have no condition: there are none if `first` is None."""

    edges: tuple[int, ...]
    first: int | None
    last: int
    lanes: int

    @classmethod
    def of(cls, extent: int, lanes: int, low: int, high: int) -> "Segments":
        """A row of `extent` outputs, of which `low` to `high` see nothing but input."""
        edges, first, end = [], 0, extent
        while first < extent and (first < low or first + lanes > high):
            edges.append(min(first, extent - lanes))
            first += lanes
        while end > first and end > high:
            edges.append(end - lanes)
            end -= lanes
        if first >= end:
            return cls(tuple(edges), None, 0, lanes)
        return cls(tuple(edges), first, max(first, end - lanes), lanes)

    @property
    def inner(self) -> int:
        """Outputs of the vectors between."""
        return 0 if self.first is None else self.last + self.lanes - self.first

    @property
    def vectors(self) -> int:
        """Vectors between."""
        return -(-self.inner // self.lanes)
