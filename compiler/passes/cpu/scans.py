"""Running sums and products are taken in order, where a core is to do them.

    cumsum(x)   =>   accumulate(x)

Blocks, of which the sums come first, are for those who take all elements at once. One core adds
each element to the sum so far, which it has in a register, and reads x only once.
"""

from typing import ClassVar

from ...classes import dataclass
from ...ir.builder import Builder
from ...ir.graph import Graph, Node, Value
from ..base import Pass, Report

COMBINERS = {"cumsum": "sum", "cumprod": "prod"}


@dataclass(frozen=True)
class ScanInOrder(Pass):
    """cumsum => accumulate, cumprod likewise, along axes of at least so many elements"""

    name: ClassVar[str] = "scan_in_order"

    least: int = 9

    def run(self, graph: Graph, report: Report) -> bool:
        def in_order(b: Builder, node: Node) -> Value | None:
            if not self._is_candidate(node):
                return None
            report.apply(f"{node.op.name} => accumulate", node.where)
            (x,) = node.inputs
            wide, combiner = b.tensor(x).cast(x.dtype.compute), COMBINERS[node.op.name]
            sums = b.emit("accumulate", wide, combiner=combiner, **node.attrs)
            return sums.cast(x.dtype).value

        return self.exchange(graph, report, in_order)

    def _is_candidate(self, node: Node) -> bool:
        if node.op.name not in COMBINERS:
            return False
        (x,) = node.inputs
        size = x.shape[node.attrs["axis"]]
        return not isinstance(size, int) or size >= self.least
