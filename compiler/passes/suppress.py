"""Boxes that overlap are dropped candidate by candidate, where there are many.

    suppress(boxes, scores, overlap)   =>   suppress_lazily(boxes, scores, overlap)

`suppress` looks at all boxes in each step, in parallel: `steps` x boxes. Its other form looks at
the best that are left until enough were picked, one after the other, which is less work and more
waiting. For CPUs.
"""

from typing import ClassVar

from ..classes import dataclass
from ..ir.builder import Builder
from ..ir.graph import Graph, Node, Value
from .base import Pass, Report

MANY = 128  # boxes


@dataclass(frozen=True)
class SuppressLazily(Pass):
    """suppress => suppress_lazily, of many boxes, or where their number is open"""

    name: ClassVar[str] = "suppress_lazily"

    def run(self, graph: Graph, report: Report) -> bool:
        def lazily(b: Builder, node: Node) -> Value | None:
            if not _is_candidate(node):
                return None
            report.apply("suppress => suppress_lazily", node.where)
            return b.emit("suppress_lazily", *node.inputs, **node.attrs).value

        return self.exchange(graph, report, lazily)


def _is_candidate(node: Node) -> bool:
    if node.op.name != "suppress":
        return False
    boxes, steps = node.inputs[0].shape[1], node.attrs["steps"]
    return steps != 0 and (not isinstance(boxes, int) or boxes >= MANY)
