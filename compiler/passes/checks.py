"""Put `within` before every operand whose values an op limits, unless they surely fit.

    gather(x, i)      =>      %c = within(i) {low=-4, high=4};  gather(x, c)

A record says what it allows (`Op.limits`), `analysis/ranges.py` what values can be. A `within`
that is proven, or says what an earlier one has said of the same numbers, goes: a gradient's
scatter, which has the indices of its gather, is looked at once. Reshaping indices or widening them
makes no other numbers of them.

A graph that this was done to says so in its metadata, and gets no more of them from then on: its
stages know less than the whole.
"""

from typing import ClassVar

import numpy as np

from ..analysis.input_limits import handed, limits_of
from ..analysis.ranges import Ranges, at_least, keeps_values
from ..classes import dataclass
from ..ir.builder import Builder, Tensor
from ..ir.editor import GraphEditor
from ..ir.graph import Graph, Node, Value
from ..ir.limits import Limit
from .base import Pass, Report

KEY = "tessel.checks"


def with_checks(graph: Graph, checked: bool = True) -> Graph:
    """The graph as it is to be compiled; the given one is left as it is. Where it is not to be
    `checked`, no run looks at anything."""
    return Checks(checked)(graph)[0]


@dataclass(frozen=True)
class Checks(Pass):
    """gather(x, i) => gather(x, within(i))"""

    name: ClassVar[str] = "checks"
    checked: bool = True

    def run(self, graph: Graph, report: Report) -> bool:
        insert = self.checked and KEY not in graph.metadata
        graph.metadata[KEY] = "done"
        return _Writer(insert=insert, drop_all=not self.checked).graph(graph, Ranges())


class _Writer:
    """Edits one graph and its regions."""

    def __init__(self, *, insert: bool, drop_all: bool):
        self.insert, self.drop_all = insert, drop_all

    def graph(self, graph: Graph, ranges: Ranges) -> bool:
        said: dict[tuple, Value] = {}
        changed, edit = False, GraphEditor(graph)
        for node in edit:
            if node.op.name == "within":
                value, (limit,) = node.inputs[0], limits_of(node)
                if self.drop_all or _fits(ranges, value, limit) or _key(value, limit) in said:
                    edit.replace(node, value)
                else:
                    said[_key(value, limit)] = node.output
            elif self.insert and node.op.limits is not None:
                for limit in limits_of(node):
                    value = node.inputs[limit.operand]
                    key = _key(value, limit)
                    if not _fits(ranges, value, limit) and key not in said:
                        said[key] = _within(edit.b, value, limit, node).value
                        node.inputs[limit.operand] = said[key]
            elif self.drop_all and node.op.name == "impossible":
                edit.replace(node, _nothing(edit.b, node))
            for _, region in node.regions():
                changed |= self.graph(region, Ranges(_given(node, region, ranges)))
        return changed or edit.changed


def _within(b: Builder, value: Value, limit: Limit, reader: Node) -> Tensor:
    attrs = {"low": limit.low, "high": limit.high, "what": limit.what, "column": limit.column}
    b.origin = reader.where
    return b.emit("within", value, outputs=[f"{value.name}_checked"], **attrs)


def _nothing(b: Builder, impossible: Node) -> Tensor:
    """What stands for a value that there is not: NaN, or zeros."""
    out = impossible.output
    number = np.asarray(np.nan if out.dtype.is_float else 0).astype(out.dtype.numpy)
    return b.constant(number, name=f"{out.name}_nothing").expand(out.shape)


def _fits(ranges: Ranges, value: Value, limit: Limit) -> bool:
    """Whether all values surely meet the limit."""
    k = limit.column
    low, high = ranges.of(value) if k is None else ranges.place(value, value.rank - 1, k)
    return (limit.low is None or at_least(low, limit.low)) and (
        limit.high is None or at_least(limit.high - 1, high)
    )


def _key(value: Value, limit: Limit) -> tuple:
    """What is the same for numbers that are the same, and the limit."""
    return _source(value, limit.column), limit.low, limit.high, limit.what


def _source(value: Value, column: int | None) -> tuple:
    """Where the elements come from, and which column of them, if it is one of several."""
    while value.node is not None:
        node = value.node
        if node.op.name == "within" or keeps_values(node):
            value = node.inputs[0]
        elif node.op.name == "reshape" and column is None:
            value = node.inputs[0]
        elif node.op.name == "concat" and column is not None and _last(node):
            part = _part(node, column)
            if part is None:
                break
            value, column = part
            column = None if value.shape[-1] == 1 else column
        else:
            break
    return value, column


def _last(concat: Node) -> bool:
    return concat.attrs["axis"] in (-1, len(concat.output.shape) - 1)


def _part(concat: Node, column: int) -> tuple[Value, int] | None:
    for part in concat.inputs:
        width = part.shape[-1]
        if not isinstance(width, int):
            return None
        if column < width:
            return part, column
        column -= width
    return None


def _given(node: Node, region: Graph, ranges: Ranges) -> dict:
    """The ranges of what a region is handed: what it captures, and slices of what it walks."""
    return {inner: ranges.of(outer) for inner, outer in handed(node, region)}
