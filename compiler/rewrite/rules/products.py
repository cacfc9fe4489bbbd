"""Matrix products whose constant weights can take over work from elsewhere.

reshape(transpose(x)) @ w => reshape(x) @ w′           w′ has its rows in the order of x
x @ a, x @ b, x @ c       => split(x @ [a b c])        one product for queries, keys, values
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from ...classes import dataclass
from ...ir.builder import Builder, Tensor
from ...ir.editor import GraphEditor
from ...ir.graph import Graph, Node
from ...passes.base import Pass, Report
from ..engine import Rule, rule
from ..pattern import Match, constants, op, variables

(x,) = variables("x")
(w,) = constants("w")

TURNED = op.transpose(x)
FLAT = op.reshape(TURNED)


def _flattens_all_but_the_batch(m: Match) -> bool:
    perm, turned, flat = m[TURNED].attrs["perm"], m[TURNED].output, m[FLAT].output
    return (
        perm[:1] == (0,)
        and flat.rank == m.w.rank == 2
        and flat.shape[0] == turned.shape[0]
        and all(isinstance(d, int) for d in turned.shape[1:])
    )


def _permute_rows(builder, m: Match):
    perm, sizes = m[TURNED].attrs["perm"], m[TURNED].output.shape[1:]
    rows, columns = m.w.shape
    order = [perm.index(axis) - 1 for axis in range(1, len(perm))]
    weights = m.w.constant.reshape(*sizes, columns).transpose(*order, len(sizes))
    weights = np.ascontiguousarray(weights.reshape(rows, columns))
    return m.x.reshape(m.x.shape[0], rows) @ builder.constant(weights)


FLATTENS: tuple[Rule, ...] = (
    rule(
        "reshape(transpose(x)) @ w => reshape(x) @ w′",
        FLAT @ w,
        _permute_rows,
        where=_flattens_all_but_the_batch,
    ),
)


@dataclass(frozen=True)
class CombineProducts(Pass):
    """x @ a, x @ b => split(x @ [a b]): worth it where one product alone is too small to fill
    the machine; it costs a copy of the weights while compiling, and slices of the result."""

    name: ClassVar[str] = "combine_products"
    least: int = 2  # products that read the same x

    def run(self, graph: Graph, report: Report) -> bool:
        families = {f[0]: f for f in _families(graph) if len(f) >= self.least}
        parts: dict[Node, Tensor] = {}
        edit = GraphEditor(graph)
        for node in edit:
            if node in families:
                parts |= _combined(edit.b, families[node])
                where = [n.where for n in families[node]]
                report.apply("x @ a, x @ b => split(x @ [a b])", *where)
            if node in parts:
                edit.replace(node, parts[node])
        inner = [self.run(region, report) for n in graph.nodes for _, region in n.regions()]
        return edit.changed or any(inner)


def _families(graph: Graph) -> Iterator[list[Node]]:
    """Products of one x with constant matrices of as many rows."""
    families: dict[tuple, list[Node]] = {}
    for node in graph.nodes:
        if node.op.name == "matmul":
            a, b = node.inputs
            if a.constant is None and a.rank > 1 and b.constant is not None and b.rank == 2:
                families.setdefault((a, b.dtype), []).append(node)
    yield from families.values()


def _combined(b: Builder, nodes: list[Node]) -> dict[Node, Tensor]:
    """What each product is a part of, where the first one stands: all that it reads is defined."""
    weights = [n.inputs[1].constant for n in nodes]
    y = b.matmul(nodes[0].inputs[0], b.constant(np.concatenate(weights, axis=1)))
    parts = b.split(y, axis=y.rank - 1, sizes=[w.shape[1] for w in weights])
    return dict(zip(nodes, parts, strict=True))
