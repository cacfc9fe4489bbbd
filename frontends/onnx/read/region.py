"""Graph attributes: read where the node stands, or into closed graphs."""

from ....compiler.ir.types import TensorType
from .call import Call
from .folded import FoldingBuilder
from .scope import FAILED, Scope, Skip


class Region:
    """A graph attribute read into a closed graph."""

    def __init__(
        self,
        c: Call,
        proto,
        name: str,
        inputs=(),
        impossible: list[TensorType] = (),
        reason: str = "",
    ):
        """`inputs` are (name, type). With types of what is `impossible` the nodes are not read: a
        run that comes to the region fails for this `reason`."""
        self.c, self.proto = c, proto
        self.builder = FoldingBuilder(name=proto.name or name)
        self.scope = c.scope.child(self.builder, f"{c.where}/")
        self.own = []
        for input_name, type in inputs:
            tensor = self.builder.input(input_name or "input", type)
            self.own.append(tensor)
            self.scope.values[input_name] = tensor
        if impossible:
            self.builder.origin = f"{c.where}, {name}"
            self.results = [
                self.builder.emit("impossible", shape=t.shape, dtype=t.dtype, reason=reason)
                for t in impossible
            ]
            return
        self.results = read_into(c, proto, self.scope)

    def close(self, captured: list, results: list | None = None):
        """The region's graph: its own inputs, then one input for each captured value."""
        inputs = [t.value for t in self.own]
        for outer in captured:
            if outer not in self.scope.captured:
                self.scope.captured[outer] = self.builder.input(outer.name, outer.type)
            inputs.append(self.scope.captured[outer].value)
        self.builder.graph.inputs[:] = inputs
        names = [o.name for o in self.proto.output]
        for i, value in enumerate(self.results if results is None else results):
            self.builder.output(names[i] if i < len(names) else f"output_{i}", value)
        return self.builder.graph


def read_into(c: Call, proto, scope: Scope, wants=lambda i: True) -> list:
    """The outputs of a graph read into `scope`; those not wanted may be missing."""
    origin = c.b.origin
    c.reader.body(proto, scope)
    c.b.origin = origin
    results = c.reader.outputs(proto, scope, wants)
    if any(v is FAILED for v in results):
        raise Skip
    return results


def inline_graph(c: Call, proto, name: str, values: dict | None = None) -> list:
    """A graph attribute's nodes, appended where the node stands."""
    scope = c.scope.child(c.b, f"{c.where}/")
    scope.values |= values or {}
    return read_into(c, proto, scope)
