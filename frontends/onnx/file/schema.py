"""What ONNX's own record of an operator says of a node: operands, outputs, attributes."""

from functools import cache

import onnx

from ....compiler.errors import ModelError


class Schema:
    """What is checked of a node, taken from ONNX's own record once per operator."""

    def __init__(self, record):
        self.record = record
        self.attributes = {k: a.type for k, a in record.attributes.items()}
        self.required = [k for k, a in record.attributes.items() if a.required]
        self.inputs = (record.min_input, record.max_input)
        single = onnx.defs.OpSchema.FormalParameterOption.Single
        self.operands = [(i, p.name) for i, p in enumerate(record.inputs) if p.option == single]
        self.outputs = (record.min_output, record.max_output)
        self.functional = record.has_function or record.has_context_dependent_function


def find_schema(domain: str, op_type: str, version: int) -> Schema | None:
    """ONNX's record of an operator as of an opset; None if there is none."""
    if not onnx.defs.has(op_type, domain):
        return None
    try:
        record = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None
    return _schema(record.domain, record.name, record.since_version)


@cache
def _schema(domain: str, op_type: str, since: int) -> Schema:
    """Made once for each operator that ONNX has: names in models do not count."""
    return Schema(onnx.defs.get_schema(op_type, since, domain))


def check_node(node, schema: Schema, where: str) -> None:
    """Raise ModelError for a node that is not as its operator's record has it."""
    for label, names, (low, high) in [
        ("operands", node.input, schema.inputs),
        ("outputs", node.output, schema.outputs),
    ]:
        if not low <= len(names) <= high:
            expected = f"{low}" if low == high else f"{low} to {high}"
            raise ModelError(
                f"wrong number of {label}", where=where, expected=expected, received=len(names)
            )
    for i, name in schema.operands:
        if i < len(node.input) and not node.input[i]:
            raise ModelError(f"operand {name} is missing", where=where)
    present = {a.name: a for a in node.attribute}
    for name in schema.required:
        if name not in present:
            raise ModelError(f"attribute {name} is missing", where=where)
    for name, a in present.items():
        kind = schema.attributes.get(name)
        if kind is not None and a.type != kind.value and not a.ref_attr_name:
            raise ModelError(
                f"attribute {name} has the wrong type",
                where=where,
                expected=kind.name,
                received=onnx.AttributeProto.AttributeType.Name(a.type),
            )
