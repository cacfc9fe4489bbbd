"""Composites as the ops that they stand for, where they cannot be one kernel.

%y = attention(%q, %k, %v)   =>   %a = transpose(%k)
                                  %b = matmul(%q, %a)
                                  …
"""

from typing import ClassVar

from ..classes import dataclass
from ..ir.graph import Graph
from ..lowering.expand import expand_composites
from .base import Pass, Report


@dataclass(frozen=True)
class ExpandComposites(Pass):
    """attention, lstm, … => their expansion"""

    name: ClassVar[str] = "expand_composites"

    def run(self, graph: Graph, report: Report) -> bool:
        expanded = expand_composites(graph)
        if expanded is graph:
            return False
        graph.inputs, graph.outputs = expanded.inputs, expanded.outputs
        graph.nodes = expanded.nodes
        return True
