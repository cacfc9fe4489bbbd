"""Give symbolic dims their sizes: `f32[N,3]` with {"N": 8} becomes `f32[8,3]`.

    %s = dims() {values=[N, 3*N]} : i64[2]   =>   %s = constant() {value=dense(i64[2] [8, 24])}

Symbols in dims attributes and in regions are replaced too, types are inferred again, and where
that contradicts itself (a size that two places want different) the binding is refused.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import InputError, TesselError, TypeMismatch
from . import dims, op
from .graph import Graph, Node, Value
from .types import TensorType, Type, tensor_type_of


def specialize(graph: Graph, binding: Mapping[str, int]) -> Graph:
    """A copy of `graph` with the symbols of `binding` replaced; others stay symbolic.

    Raises InputError if the binding contradicts the graph.
    """
    for name, size in binding.items():
        if not isinstance(size, dims.Sym) and size < 0:
            raise InputError("a size is negative", where=name, expected="≥ 0", received=size)
    return _specialize(graph, binding)


def _specialize(graph: Graph, binding: Mapping[str, int]) -> Graph:
    result = Graph(
        name=graph.name,
        output_names=list(graph.output_names),
        updates=dict(graph.updates),
        metadata=dict(graph.metadata),
    )
    env: dict[Value, Value] = {}
    for v in graph.inputs:
        env[v] = Value(v.name, v.type.substitute(binding))
        result.inputs.append(env[v])
    for node in graph.nodes:
        new = specialize_node(node, [None if v is None else env[v] for v in node.inputs], binding)
        env |= zip(node.outputs, new.outputs)
        result.nodes.append(new)
    result.outputs = [env[v] for v in graph.outputs]
    return result


def specialize_node(node: Node, operands: list[Value | None], binding: Mapping[str, int]) -> Node:
    """A copy of a node that reads `operands`, with sizes put in. Raises InputError if they do not
    fit."""
    attrs = substitute_attrs(node, binding)
    if node.op.name == "dims" and dims.is_static(attrs["values"]):
        value = np.array([_wrapped(v) for v in attrs["values"]], np.int64)
        constant, names = op.get("constant"), [v.name for v in node.outputs]
        return Node(constant, [], {"value": value}, [tensor_type_of(value)], names, node.origin)
    try:
        inferred = node.op.infer([None if v is None else v.type for v in operands], attrs)
        recorded = [v.type.substitute(binding) for v in node.outputs]
    except TypeMismatch as error:
        raise _misfit(binding, node, error) from None
    except ZeroDivisionError:
        raise _division(binding, node) from None
    types = []
    for result, r, i in zip(node.outputs, recorded, inferred):
        merged = merge_types(r, i)
        if merged is None:
            raise InputError(
                f"the sizes {dims.shown(binding)} do not fit the model",
                where=f"{node.where}, %{result.name}: {result.type}",
                expected=r,
                received=i,
            )
        types.append(merged)
    return node.copied(operands, attrs, types)


def _wrapped(v: int) -> int:
    """As a product of int64 comes out where it is too large."""
    return (v + (1 << 63)) % (1 << 64) - (1 << 63)


def substitute_attrs(node: Node, binding: Mapping[str, int]) -> dict[str, Any]:
    """The node's attributes with symbols replaced, also in its regions."""

    def substitute(value: Any) -> Any:
        match value:
            case dims.Sym():
                return dims.substitute(value, binding)
            case tuple() | list():
                return type(value)(substitute(v) for v in value)
            case Graph():
                return _specialize(value, binding)
        return value

    try:
        return {k: substitute(v) for k, v in node.attrs.items()}
    except ZeroDivisionError:
        raise _division(binding, node) from None
    except TypeMismatch as error:
        raise _misfit(binding, node, error) from None
    except TesselError as error:
        error.where = error.where or node.where
        raise


def _misfit(binding: Mapping[str, int], node: Node, error: TypeMismatch) -> InputError:
    return InputError(
        f"the sizes {dims.shown(binding)} do not fit the model: {error.message}",
        where=node.where,
        expected=error.expected,
        received=error.received,
    )


def _division(binding: Mapping[str, int], node: Node) -> InputError:
    return InputError(f"the sizes {dims.shown(binding)} divide by zero", where=node.where)


def merge_types(a: Type, b: Type) -> Type | None:
    """The type that both say, the known dim where one is symbolic; None if they contradict."""
    if a == b:
        return a
    if not (isinstance(a, TensorType) and isinstance(b, TensorType)):
        return None
    if a.dtype != b.dtype or a.rank != b.rank:
        return None
    shape = []
    for x, y in zip(a.shape, b.shape):
        if x != y and not isinstance(x, dims.Sym) and not isinstance(y, dims.Sym):
            return None
        shape.append(y if isinstance(x, dims.Sym) and not isinstance(y, dims.Sym) else x)
    return a.with_shape(shape)
