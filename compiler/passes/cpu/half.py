"""Half precision widened: f16 and bf16 tensors are computed as f32, for CPUs without half units.

    graph g(%x: f16[3]) -> (%y) {          graph g(%x: f16[3]) -> (%y) {
      %y = exp(%x) : f16[3]                  %a = cast(%x) {dtype=f32} : f32[3]
    }                                  =>    %b = exp(%a) : f32[3]
                                             %y = cast(%b) {dtype=f16} : f16[3]
                                           }

Inputs and outputs keep their types, with a cast each; constants are converted, but for those of
which a kernel widens what it reads where it is used (`OUT_OF`): tables, scales of blocks. What an
op writes into an input stays half (`INTO`): all of a cache would be widened for the sake of a row.
Otherwise nothing is rounded to half any more, so results are closer to the exact ones than half
arithmetic gives, and what would overflow to inf in the middle does not. Casts to half inside of the
model become casts to f32, for the same reason.
"""

from typing import Any, ClassVar

import numpy as np

from ...classes import dataclass
from ...ir.builder import Builder
from ...ir.graph import Graph, Node, Value
from ...ir.types import BF16, F16, F32, DType, MapType, SequenceType, TensorType, Type, dtype_of
from ..base import Pass, Report

INTO = ("cache_update", "scatter_elements", "scatter_nd")  # operand 0, some of it replaced

OUT_OF = ("gather", "matmul_blocks", "sum_blocks")  # constants are read as they are stored


@dataclass(frozen=True)
class PromoteHalf(Pass):
    """f16 and bf16 => f32, inside of the graph"""

    name: ClassVar[str] = "promote_half"
    dtypes: tuple[DType, ...] = (F16, BF16)

    def run(self, graph: Graph, report: Report) -> bool:
        if not any(_wide_type(v.type, self.dtypes) != v.type for v in _all_values(graph)):
            return False
        _widen(graph, self.dtypes, keep_types=True)
        return True


def promote_half(graph: Graph) -> Graph:
    """A copy of `graph` that computes halves as f32."""
    return PromoteHalf()(graph)[0]


def _all_values(graph: Graph):
    yield from graph.values()
    for node in graph.nodes:
        for _, region in node.regions():
            yield from _all_values(region)


def _widen(graph: Graph, dtypes: tuple[DType, ...], *, keep_types: bool) -> None:
    """In place; `keep_types` casts at the inputs and outputs, which regions do not need."""
    b = Builder(Graph(graph.name, list(graph.inputs)))
    env: dict[Value, Value] = {}
    stored: dict[Value, Value] = {}  # constants that stay halves
    outputs = [v.type for v in graph.outputs]
    for v in graph.inputs:
        wide = _wide_type(v.type, dtypes)
        if keep_types and wide != v.type and isinstance(v.type, TensorType):
            env[v] = b.cast(v, dtype=wide.dtype).value
        else:
            env[v], v.type = v, wide
    for node in graph.nodes:
        env |= zip(node.outputs, _node(b, node, env, stored, dtypes))
    results = [env[v] for v in graph.outputs]
    if keep_types:
        b.origin = None
        results = [v if v.type == t else _half(b, v, t.dtype) for v, t in zip(results, outputs)]
    graph.nodes, graph.outputs = b.graph.nodes, results


def _node(
    b: Builder, node: Node, env: dict[Value, Value], stored: dict[Value, Value], dtypes
) -> list[Value]:
    b.origin = node.origin
    operands = [None if v is None else env[v] for v in node.inputs]
    if _writes_into_half(node, operands):
        half = node.inputs[0].dtype
        operands = [
            _half(b, x, half) if v is not None and v.dtype == half else x
            for v, x in zip(node.inputs, operands)
        ]
        return [b.cast(b.emit(node.op.name, *operands, **node.attrs), dtype=F32).value]
    if node.op.name in OUT_OF:
        operands = [_as_stored(b, v, x, stored) for v, x in zip(node.inputs, operands)]
    attrs = {k: _wide_attr(a, dtypes) for k, a in node.attrs.items()}
    names = [v.name for v in node.outputs]
    results = b.emit(node.op.name, *operands, outputs=names, **attrs)
    values = [t.value for t in (results if isinstance(results, tuple) else (results,))]
    return [b.cast(v, dtype=F32).value if v.dtype in dtypes else v for v in values]


def _as_stored(
    b: Builder, v: Value | None, wide: Value | None, stored: dict[Value, Value]
) -> Value | None:
    """A constant as it was, where it is one of halves."""
    if v is None or wide is None or v.constant is None or v.type == wide.type:
        return wide
    if v not in stored:
        stored[v] = b.constant(v.constant, name=v.name).value
    return stored[v]


def _writes_into_half(node: Node, operands: list[Value | None]) -> bool:
    """Whether a half array that is there already is written into, without arithmetic."""
    return (
        node.op.name in INTO
        and node.attrs.get("reduction", "none") == "none"
        and _source(operands[0]).type == node.inputs[0].type != operands[0].type
    )


def _source(v: Value) -> Value:
    """The half array that a value is, widened; else the value."""
    is_cast = v.node is not None and v.node.op.name == "cast"
    return v.node.inputs[0] if is_cast else v


def _half(b: Builder, v: Value, dtype: DType) -> Value:
    source = _source(v)
    return source if source.dtype == dtype else b.cast(v, dtype=dtype).value


def _wide_attr(value: Any, dtypes) -> Any:
    match value:
        case DType():
            return F32 if value in dtypes else value
        case np.ndarray() if dtype_of(value) in dtypes:
            return value.astype(F32.numpy)
        case Graph():
            _widen(value, dtypes, keep_types=False)
    return value


def _wide_type(type: Type, dtypes) -> Type:
    match type:
        case TensorType():
            return type.with_dtype(F32) if type.dtype in dtypes else type
        case SequenceType(element):
            return SequenceType(_wide_type(element, dtypes))
        case MapType(key, value):
            return MapType(key, _wide_type(value, dtypes))
    return type
