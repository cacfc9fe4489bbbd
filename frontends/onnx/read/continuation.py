"""An If whose branches give results of different ranks: what follows it becomes part of both.

    y = If(c) {then: f(x), else: g(x)}          z = If(c) {then: y = f(x)  z = h(y),
    z = h(y)                              =>               else: y = g(x)  z = h(y)}

A value has one rank. Within each branch `y` has one, and mostly the results of the graph have the
same one in both. Only conditions that follow from data make this necessary.
"""

from collections.abc import Iterable

import onnx
from onnx import helper

from ....compiler.errors import UnsupportedError
from ....compiler.ir.dims import may_be_zero, symbols
from ....compiler.ir.graph import Value


class BranchesDiffer(UnsupportedError):
    """The branches of an If differ in more than sizes, and data decides which is taken."""


def follows_from_data(value: Value, outer: dict[Value, Value]) -> bool:
    """Whether a value depends on more than the sizes of the inputs; `outer` says which value of an
    enclosing graph a region's input is."""
    seen: set[Value] = set()
    stack = [value]
    while stack:
        v = stack.pop()
        while v in outer:
            v = outer[v]
        if v in seen:
            continue
        seen.add(v)
        if v.node is None:
            return True
        if v.node.op.name == "dims" and any(_is_found(d) for d in v.node.attrs["values"]):
            return True
        stack += [x for x in v.node.inputs if x is not None]
    return False


def _is_found(d) -> bool:
    """Whether a dim has a symbol whose size data decides."""
    return any(may_be_zero(name) for name in symbols(d))


def continued(node, rest: Iterable, outputs: Iterable) -> onnx.NodeProto:
    """The If `node` with the nodes that follow it in both branches; its results are those of
    `outputs` (names, or what has a name) that are made there."""
    rest = list(rest)
    made = {name for n in (node, *rest) for name in n.output if name}
    names = [o if isinstance(o, str) else o.name for o in outputs]
    names = [n for n in dict.fromkeys(names) if n in made]
    result = onnx.NodeProto()
    result.CopyFrom(node)
    result.output[:] = names
    for attribute in result.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            _extend(attribute.g, node.output, rest, names)
    return result


def _extend(branch, given: Iterable[str], rest: list, names: list[str]) -> None:
    """The branch's results under the names that the If gives them, then the nodes that follow."""
    for own, name in zip(branch.output, given):
        if name and own.name != name:
            branch.node.append(helper.make_node("Identity", [own.name], [name]))
    for n in rest:
        branch.node.add().CopyFrom(n)
    del branch.output[:]
    for name in names:
        branch.output.add().name = name
