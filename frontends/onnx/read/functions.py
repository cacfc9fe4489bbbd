"""Functions: those of the model, and operators that the ONNX standard defines by others."""

import onnx

from ....compiler.errors import ModelError, UnsupportedError
from ....compiler.ir.dims import Sym
from ..file.proto import ELEMENT_TYPE_OF, attribute
from .call import Call
from .region import read_into
from .scope import Scope


def inline_function(c: Call, function: onnx.FunctionProto) -> list:
    """A model-local function's body, appended where the node stands."""
    key = (c.domain, c.op_type, c.proto.overload)
    if key in c.reader.inlining:
        raise ModelError("a function calls itself", where=c.where)
    attributes = {a.name: _default(c, a) for a in function.attribute_proto}
    attributes |= {name: c.attr(name) for name in c.attrs}
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in function.opset_import}
    if len(c.inputs) > len(function.input):
        raise ModelError(
            "too many operands of a function",
            where=c.where,
            expected=len(function.input),
            received=len(c.inputs),
        )
    return _inline(c, function, opsets, attributes)


def _default(c: Call, a):
    return attribute(a, c.reader.folder, c.where, c.reader.budget)


def _inline(c: Call, function, opsets, attributes) -> list:
    opsets = {"": c.scope.opsets.get("", onnx.defs.onnx_opset_version())} | opsets
    scope = Scope(c.b, opsets, attributes=attributes, prefix=f"{c.where}/")
    for i, name in enumerate(function.input):
        scope.values[name] = c[i]
    c.reader.inlining.append((c.domain, c.op_type, c.proto.overload))
    try:
        return read_into(c, _Body(function), scope, c.wants)
    finally:
        c.reader.inlining.pop()


class _Body:
    """A FunctionProto seen as a graph."""

    def __init__(self, function):
        self.node, self.output = function.node, function.output
        self.initializer = self.sparse_initializer = ()


def inline_standard(c: Call, schema) -> list:
    """An operator that the ONNX standard defines by other operators."""
    attributes = {
        name: onnx.helper.get_attribute_value(a.default_value)
        for name, a in schema.attributes.items()
        if a.default_value.name
    }
    attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
    attributes |= {name: c.attr(name) for name in c.attrs}
    function = _standard_body(c, schema)
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in function.opset_import}
    return _inline(c, function, opsets, attributes)


def _standard_body(c: Call, schema) -> onnx.FunctionProto:
    if schema.has_function:
        version = _nearest(schema.function_opset_versions, c.version)
        text = schema.get_function_with_opset_version(version)
    else:
        types = []
        for v in c.inputs:
            info = onnx.TypeProto()
            if v is not None:
                dims = [None if isinstance(d, Sym) else d for d in v.shape]
                info = onnx.helper.make_tensor_type_proto(ELEMENT_TYPE_OF[v.dtype], dims)
            types.append(info.SerializeToString())
        version = _nearest(schema.context_dependent_function_opset_versions, c.version)
        text = schema.get_context_dependent_function_with_opset_version(
            version, _resolved(c).SerializeToString(), types
        )
    if not text:
        raise UnsupportedError("unsupported operator", where=c.where)
    function = onnx.FunctionProto()
    function.ParseFromString(text)
    return function


def _resolved(c: Call) -> onnx.NodeProto:
    """The node with references to attributes of a function replaced by their values."""
    node = onnx.NodeProto()
    node.CopyFrom(c.proto)
    for a in node.attribute:
        if a.ref_attr_name and a.name in c.attrs:
            a.CopyFrom(onnx.helper.make_attribute(a.name, c.attrs[a.name]))
    kept = [a for a in node.attribute if not a.ref_attr_name]
    del node.attribute[:]
    node.attribute.extend(kept)
    return node


def _nearest(versions, wanted: int) -> int:
    """The newest body that is not newer than the model, else the oldest."""
    return max((v for v in versions if v <= wanted), default=min(versions))
