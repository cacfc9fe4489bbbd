"""Operators missing in what the reader never reached: the bodies of a node that cannot be read.

Their operands' types are unknown, so only the operators are looked at.
"""

from collections.abc import Iterator, Mapping

from onnx import AttributeProto

from ....compiler.errors import TesselError


def report_unsupported(reader, node, where: str, opsets: Mapping[str, int]) -> None:
    """Add to the reader's findings what it lacks for the bodies of `node`."""
    for body, versions in _bodies(reader, node, opsets):
        for i, inner in enumerate(body.node):
            if id(inner) in reader.seen:
                continue
            reader.seen[id(inner)] = inner
            place = f"{where}/{inner.name or f'{inner.op_type}#{i}'}"
            domain = "" if inner.domain == "ai.onnx" else inner.domain
            version = versions.get(domain)
            try:
                reader._entry(inner, domain, version, place)
            except TesselError as error:
                unknown = [object() if name else None for name in inner.input]
                reader.findings.add(error, (inner.op_type, domain, version), unknown, place)
            report_unsupported(reader, inner, place, versions)


def _bodies(reader, node, opsets) -> Iterator[tuple]:
    """Graphs in attributes, and the function that the node calls, with their opsets."""
    for a in node.attribute:
        if a.type == AttributeProto.GRAPH:
            yield a.g, opsets
        elif a.type == AttributeProto.GRAPHS:
            yield from ((g, opsets) for g in a.graphs)
    for function in reader.model.functions:
        if (function.domain, function.name) == (node.domain, node.op_type):
            imports = {o.domain: o.version for o in function.opset_import}
            yield function, opsets | {"" if d == "ai.onnx" else d: v for d, v in imports.items()}
