"""Is a graph well formed? `verify(graph)` raises one GraphError that lists every finding.

Every value is defined once, before its uses; operands, attributes and types are what the op's
record infers (`if`, `scan` and `while` compare their regions' types there); regions are well
formed; outputs are named; `updates` point from outputs to inputs of one type.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ..errors import GraphError, TesselError
from .graph import Graph, Node, Value
from .specialize import merge_types
from .text import print_name, print_node
from .types import tensor_type_of


class Finding(NamedTuple):
    message: str
    where: str
    expected: object = None
    received: object = None


def verify(graph: Graph) -> None:
    """Raises GraphError with all findings; returns if there are none."""
    findings = [
        GraphError(f.message, where=f.where, expected=f.expected, received=f.received)
        for f in check(graph)
    ]
    if findings:
        raise GraphError(f"the graph {graph.name} is not well formed", findings=findings)


def check(graph: Graph) -> Iterator[Finding]:
    """Everything that is wrong with `graph`, in order."""
    names: set[str] = set()
    defined: set[Value] = set()
    for v in graph.inputs:
        yield from _definition(v, names, defined, f"the inputs of {graph.name}")
        if v.node is not None:
            yield Finding("an input has a node", print_name(v), "none", print_node(v.node))
    for node in graph.nodes:
        where = print_node(node)
        for operand in node.inputs:
            if operand is not None and operand not in defined:
                message = "an operand is not defined before its use"
                yield Finding(message, where, received=print_name(operand))
        yield from _node(node, where)
        for i, v in enumerate(node.outputs):
            yield from _definition(v, names, defined, where)
            if v.node is not node or v.index != i:
                yield Finding("a result does not point to its node", where, i, v.index)
    yield from _outputs(graph, defined)


def _definition(v: Value, names: set[str], defined: set[Value], where: str) -> Iterator[Finding]:
    if v in defined or v.name in names:
        yield Finding("a value is defined twice", where, received=print_name(v))
    names.add(v.name)
    defined.add(v)


def _node(node: Node, where: str) -> Iterator[Finding]:
    try:
        bound = node.op.bind(node.attrs, node.op.name)
        types = node.op.infer([None if v is None else v.type for v in node.inputs], bound)
    except TesselError as error:
        yield Finding(error.message, where, error.expected, error.received)
        return
    missing = sorted(set(bound) - set(node.attrs))
    if missing:
        yield Finding("attributes are missing", where, expected=", ".join(missing))
    if len(types) != len(node.outputs):
        yield Finding("wrong number of results", where, len(types), len(node.outputs))
    for v, inferred in zip(node.outputs, types):
        if merge_types(v.type, inferred) is None:
            message = f"{print_name(v)} has a type that its op does not give"
            yield Finding(message, where, inferred, v.type)
    if node.op.name == "constant":
        yield from _constant(node, where)
    for name, region in node.regions():
        for f in check(region):
            yield f._replace(where=f"{name} of {node.where}: {f.where}")


def _constant(node: Node, where: str) -> Iterator[Finding]:
    actual = tensor_type_of(node.attrs["value"])
    if len(node.outputs) == 1 and actual != node.output.type:
        yield Finding("a constant's type is not its array's", where, actual, node.output.type)


def _outputs(graph: Graph, defined: set[Value]) -> Iterator[Finding]:
    where = f"the outputs of {graph.name}"
    for v in graph.outputs:
        if v not in defined:
            yield Finding("an output is not defined", where, received=print_name(v))
    names = graph.output_names
    if len(names) != len(graph.outputs):
        yield Finding("wrong number of output names", where, len(graph.outputs), len(names))
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield Finding("two outputs have one name", where, received=name)
    taken: set[int] = set()
    for out, into in graph.updates.items():
        where = f"updates {{{out}: {into}}}"
        if not (0 <= out < len(graph.outputs) and 0 <= into < len(graph.inputs)):
            sizes = f"an output < {len(graph.outputs)}, an input < {len(graph.inputs)}"
            yield Finding("an update points nowhere", where, sizes)
            continue
        if into in taken:
            yield Finding("an input is updated twice", where)
        taken.add(into)
        old, new = graph.inputs[into].type, graph.outputs[out].type
        if old != new:
            yield Finding("an update changes the type", where, old, new)
