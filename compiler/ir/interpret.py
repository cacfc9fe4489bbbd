"""Run a Graph with numpy: the definition of what a graph means.

`env` holds the arrays of values; each node reads its operands, calls its op's `ref` and writes
its results. Everything else in tessel is compared with this. Tensors are arrays, sequences
lists, maps dicts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from .graph import Graph, Node, Value
from .hosted import HOSTED, bound_symbols
from .limits import check_operands
from .types import TensorType, tensor_type_of

Observer = Callable[[Node, list[Any]], None]


def interpret(graph: Graph, inputs: Sequence, *, observer: Observer | None = None) -> list[Any]:
    """The graph's outputs for `inputs`, in order. `observer(node, results)` sees every node.

    Symbolic dims are bound by the inputs' shapes. Raises InputError for inputs that do not fit.
    """
    if len(inputs) != len(graph.inputs):
        raise InputError("wrong number of inputs", expected=len(graph.inputs), received=len(inputs))
    arrays = [_received(v, x) for v, x in zip(graph.inputs, inputs)]
    binding = bind_shapes(graph, arrays)
    if binding:
        from .specialize import specialize

        graph = specialize(graph, binding)
    env: dict[Value, Any] = dict(zip(graph.inputs, arrays))

    def read(v: Value | None) -> Any:
        return None if v is None else env[v]

    sizes: dict[str, int] = {}  # what the graph itself finds out (`bind_dims`)
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            operands = [read(v) for v in node.inputs]
            known = _with_sizes(node, operands, sizes) if sizes else node
            results = evaluate(known, operands)
            if node.op.name == "bind_dims":
                sizes |= zip(map(str, node.attrs["symbols"]), map(int, results[0]))
            elif node.op.name in HOSTED:
                sizes |= bound_symbols(node, results)
            if observer is not None:
                observer(node, results)
            env |= zip(node.outputs, results)
    return [read(v) for v in graph.outputs]


def evaluate(node: Node, operands: Sequence) -> list[Any]:
    """The results of one node for arrays (None where absent), by its op's `ref`.

    Raises InputError for operands that the op does not allow.
    """
    op = node.op
    operands = list(operands)
    if not (op.inputs and op.inputs[-1].variadic):
        operands += [None] * (len(op.inputs) - len(operands))
    if op.limits is not None:
        types = [None if x is None else tensor_type_of(np.asarray(x)) for x in operands]
        check_operands(op.limits, operands, types, node.attrs, node.where)
    try:
        results = op.ref(*operands, **node.attrs)
    except InputError as error:
        raise _placed(error, node) from error
    results = list(results) if isinstance(results, tuple) else [results]
    assert len(results) == len(node.outputs), f"{node}: ref returned {len(results)} results"
    return [_result(node, v, x) for v, x in zip(node.outputs, results)]


def _placed(error: InputError, node: Node) -> InputError:
    """The error with the node's address, unless it has one."""
    if error.where is not None:
        return error
    return InputError(
        error.message,
        where=node.where,
        expected=error.expected,
        received=error.received,
        fix=error.fix,
        findings=error.findings,
    )


def _with_sizes(node: Node, arrays: Sequence, sizes: Mapping[str, int]) -> Node:
    """The node with the sizes that are known by now in its attributes and types. Raises InputError
    where they do not fit its operands."""
    from .specialize import specialize_node, substitute_attrs

    if not any(node.regions()):
        return specialize_node(node, [_found(v, x) for v, x in zip(node.inputs, arrays)], sizes)
    types = [v.type.substitute(sizes) for v in node.outputs]
    return node.copied(node.inputs, substitute_attrs(node, sizes), types)


def _found(v: Value | None, x: Any) -> Value | None:
    """A value of the type that an array has."""
    if v is None or not isinstance(v.type, TensorType):
        return v
    return Value(v.name, tensor_type_of(np.asarray(x)))


def bind_shapes(graph: Graph, arrays: Sequence) -> dict[str, int]:
    """What the inputs' shapes say about the symbols: {"N": 8}. Raises InputError if they differ.

    A dim that is one symbol binds it; every other dim is checked once all symbols are known.
    """
    from . import dims

    binding: dict[str, int] = {}
    pairs = [
        (v, i, d, x.shape[i])
        for v, x in zip(graph.inputs, arrays)
        if isinstance(v.type, TensorType)
        for i, d in enumerate(v.type.shape)
    ]
    for _, _, d, size in pairs:
        if isinstance(d, dims.Sym) and str(d) in d.symbols():
            binding.setdefault(str(d), size)
    for v, axis, d, size in pairs:
        expected = dims.substitute(d, binding)
        if not isinstance(expected, dims.Sym) and expected != size:
            raise InputError(
                "an input has the wrong shape",
                where=f"%{v.name}, axis {axis}",
                expected=str(d) if expected == d else f"{d} = {expected}",
                received=size,
            )
    return binding


def _received(v: Value, x: Any) -> Any:
    if not isinstance(v.type, TensorType):
        return x
    x = np.asarray(x)
    got = tensor_type_of(x)
    if got.dtype != v.type.dtype or got.rank != v.type.rank:
        raise InputError("an input does not fit", where=f"%{v.name}", expected=v.type, received=got)
    return x


def _result(node: Node, v: Value, x: Any) -> Any:
    if not isinstance(v.type, TensorType):
        return x
    x = np.asarray(x)
    assert _fits(v.type, x), f"{node}: ref returned {tensor_type_of(x)}, not {v.type}"
    return x


def _fits(type: TensorType, x: np.ndarray) -> bool:
    return (
        tensor_type_of(x).dtype == type.dtype
        and len(x.shape) == type.rank
        and all(not isinstance(d, int) or d == size for d, size in zip(type.shape, x.shape))
    )
