"""Append nodes to a Graph: `Builder` infers types, `Tensor` gives values Python operators.

Everything that makes graphs writes through it: the frontends, expansions of composite ops,
gradient rules and rewrites.

    b = Builder()
    x = b.input("x", "f32[N,3]")
    b.output("y", b.softmax(x * 2 + 1, axis=-1))
    graph = b.graph
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, overload

import numpy as np

from ..errors import TesselError, TypeMismatch
from . import op as registry
from .dims import Dim
from .graph import Graph, Node, Value
from .nonempty import resolve_shape
from .types import (
    DType,
    DTypeLike,
    Shape,
    Type,
    as_tensor_type,
    dtype_of,
    normalize_axis,
    tensor_type_of,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .op import Op
    from .op_methods import OpMethods
else:
    OpMethods = object  # only its stub is there: `__getattr__` makes the methods

Operand: TypeAlias = "Tensor | Value | ArrayLike"
Axes: TypeAlias = int | Iterable[int] | None
T = TypeVar("T", bound="Tensor")


def _operator(op: str, *, reverse: bool = False) -> Callable[[T, Operand], T]:
    """A method of `Tensor` that appends `op`."""
    return lambda self, other: self._binary(op, other, reverse)


class Tensor:
    """A value and the builder it belongs to; operators append nodes.

    Python numbers and arrays become constants of the other operand's dtype.
    """

    __array_priority__ = 1000  # numpy arrays leave operators to us
    __slots__ = ("b", "value")

    def __init__(self, b: Builder, value: Value):
        self.b, self.value = b, value

    @property
    def type(self) -> Any:
        """The TensorType, in most graphs; else the type of a sequence or a map."""
        return self.value.type

    @property
    def shape(self) -> Shape:
        return self.value.type.shape  # type: ignore[union-attr]

    @property
    def dtype(self) -> DType:
        return self.value.type.dtype  # type: ignore[union-attr]

    @property
    def rank(self) -> int:
        return self.value.type.rank  # type: ignore[union-attr]

    @property
    def constant(self) -> np.ndarray | None:
        """The array, if this is a constant of the graph."""
        return self.value.constant

    def __repr__(self) -> str:
        return f"Tensor({self.value!r})"

    def __bool__(self) -> bool:
        raise TypeMismatch(
            "a traced tensor has no truth value",
            received=repr(self.value),
            fix="use where(condition, a, b) or cond() instead of a Python if",
        )

    def __iter__(self) -> Iterator[Self]:
        if self.rank == 0:
            raise TypeMismatch("a scalar tensor cannot be iterated", received=repr(self.value))
        return (self[i] for i in range(len(self)))

    def __len__(self) -> int:
        return self.shape[0]  # type: ignore[return-value]  # a symbol is a TypeError

    def _binary(self, name: str, other: Operand, reverse: bool = False) -> Self:
        other = self.b.like(other, self)
        return self.b.emit(name, *((other, self) if reverse else (self, other)))

    __add__, __radd__ = _operator("add"), _operator("add", reverse=True)
    __sub__, __rsub__ = _operator("sub"), _operator("sub", reverse=True)
    __mul__, __rmul__ = _operator("mul"), _operator("mul", reverse=True)
    __truediv__, __rtruediv__ = _operator("div"), _operator("div", reverse=True)
    __pow__, __rpow__ = _operator("pow"), _operator("pow", reverse=True)
    __mod__, __rmod__ = _operator("mod"), _operator("mod", reverse=True)
    __and__, __rand__ = _operator("and"), _operator("and", reverse=True)
    __or__, __ror__ = _operator("or"), _operator("or", reverse=True)
    __xor__, __rxor__ = _operator("xor"), _operator("xor", reverse=True)
    __lt__, __le__ = _operator("less"), _operator("less_equal")
    __gt__, __ge__ = _operator("greater"), _operator("greater_equal")

    def __neg__(self) -> Self:
        return self.b.emit("neg", self)

    def __invert__(self) -> Self:
        return self.b.emit("not", self)

    def __matmul__(self, other: Operand) -> Self:
        return self._binary("matmul", other)

    def __getitem__(self, key: Any) -> Self:
        return _index(self, key)

    def cast(self, dtype: DTypeLike, **rounding: Any) -> Self:
        """Converted; `rounding` are the op's other attributes (saturate, round_mode)."""
        dtype = dtype_of(dtype)
        if dtype == self.dtype:
            return self
        return self.b.emit("cast", self, dtype=dtype, **rounding)

    def reshape(self, *shape: Dim | Sequence[Dim]) -> Self:
        new: Any = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        new = resolve_shape(self.shape, new)
        return self if new == self.shape else self.b.emit("reshape", self, shape=new)

    def transpose(self, *perm: int | Sequence[int]) -> Self:
        given: Any = perm[0] if len(perm) == 1 and isinstance(perm[0], (tuple, list)) else perm
        axes = tuple(normalize_axis(p, self.rank) for p in given or range(self.rank)[::-1])
        kept = axes == tuple(range(self.rank))
        return self if kept else self.b.emit("transpose", self, perm=axes)

    def expand(self, shape: Iterable[Dim]) -> Self:
        return self if tuple(shape) == self.shape else self.b.emit("expand", self, shape=shape)

    def sum(self, axes: Axes = None, keepdims: bool = False) -> Self:
        return self._reduce("reduce_sum", axes, keepdims)

    def mean(self, axes: Axes = None, keepdims: bool = False) -> Self:
        return self._reduce("reduce_mean", axes, keepdims)

    def max(self, axes: Axes = None, keepdims: bool = False) -> Self:
        return self._reduce("reduce_max", axes, keepdims)

    def _reduce(self, name: str, axes: Axes, keepdims: bool) -> Self:
        if axes is None:
            axes = range(self.rank)
        axes = (axes,) if isinstance(axes, int) else tuple(axes)
        return self.b.emit(name, self, axes=axes, keepdims=keepdims)


class Builder(OpMethods):
    """Appends to `graph`. `origin` is stamped on each node until it is changed."""

    def __init__(self, graph: Graph | None = None, *, name: str = "main"):
        self.graph = graph if graph is not None else Graph(name)
        self.origin: str | None = None
        self._names = {v.name for v in self.graph.values()}
        self._constants: dict[Any, Tensor] = {}
        self._counter = 0

    # -- values ---------------------------------------------------------------------------

    def input(self, name: str, type: Type | str) -> Tensor:
        if isinstance(type, str):
            from .text import parse_type

            type = parse_type(type)
        value = Value(self._unique(name), type)
        self.graph.inputs.append(value)
        return Tensor(self, value)

    def output(self, name: str, value: Tensor | Value) -> None:
        self.graph.outputs.append(self.value(value))
        self.graph.output_names.append(name)

    def constant(
        self, array: ArrayLike, dtype: DTypeLike | None = None, name: str | None = None
    ) -> Tensor:
        """A constant; small equal ones are made once."""
        if dtype is not None:
            array = np.asarray(array, dtype_of(dtype).numpy)
        array = np.asarray(array)
        if array.dtype.kind in "US":
            array = array.astype(object)
        key = None
        if array.size <= 16 and array.dtype != object and name is None:
            key = (array.dtype.name, array.shape, array.tobytes())
            if key in self._constants:
                return self._constants[key]
        tensor = self._append("constant", [], {"value": array}, [tensor_type_of(array)], [name])[0]
        if key is not None:
            self._constants[key] = tensor
        return tensor

    def scalar(self, value: ArrayLike, dtype: DTypeLike) -> Tensor:
        return self.constant(np.asarray(value, dtype_of(dtype).numpy))

    def like(self, x: Operand, other: Tensor) -> Tensor:
        """`x` as a Tensor; numbers and arrays take `other`'s dtype."""
        if isinstance(x, Tensor):
            return x
        if isinstance(x, Value):
            return Tensor(self, x)
        return self.constant(np.asarray(x).astype(other.dtype.numpy))

    def tensor(self, x: Tensor | Value) -> Tensor:
        return x if isinstance(x, Tensor) else Tensor(self, x)

    @overload
    def value(self, x: Tensor | Value) -> Value: ...
    @overload
    def value(self, x: Tensor | Value | None) -> Value | None: ...
    def value(self, x: Tensor | Value | None) -> Value | None:
        """The value of a tensor in the graph; a Value is itself."""
        return x.value if isinstance(x, Tensor) else x

    # -- nodes ----------------------------------------------------------------------------

    def emit(
        self,
        name: str,
        *inputs: Operand | None,
        outputs: Sequence[str | None] | None = None,
        **attrs: Any,
    ) -> Any:
        """Append `name(*inputs, **attrs)`; returns a Tensor, or a tuple of them.

        `outputs` names the results. Raises TypeMismatch, naming the node's origin.
        """
        op = registry.get(name)
        operands = [self._operand(x) for x in inputs]
        while operands and operands[-1] is None:
            operands.pop()
        where = self.origin or name
        try:
            bound = op.bind(attrs, where)
            types = op.infer([None if v is None else v.type for v in operands], bound)
        except TypeMismatch as error:
            if error.where is None:
                shown = ", ".join("none" if v is None else str(v.type) for v in operands)
                raise type(error)(
                    error.message,
                    where=f"{where} ({name} of {shown})",
                    expected=error.expected,
                    received=error.received,
                    fix=error.fix,
                ) from None
            raise
        results = self._append(op, operands, bound, types, outputs or [])
        return results[0] if len(results) == 1 else results

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        registry.get(name)
        return lambda *inputs, **attrs: self.emit(name, *inputs, **attrs)

    def inline(self, graph: Graph, inputs: Sequence[Tensor | Value]) -> list[Tensor]:
        """Append a copy of `graph`'s nodes, its inputs replaced; returns its outputs."""
        table: dict[Value, Value] = {
            v: self.value(x) for v, x in zip(graph.inputs, inputs, strict=True)
        }
        for node in graph.nodes:
            operands = [None if v is None else table[v] for v in node.inputs]
            results = self._append(
                node.op,
                operands,
                node.attrs,
                [o.type for o in node.outputs],
                [o.name for o in node.outputs],
                origin=node.origin,
            )
            table |= {o: r.value for o, r in zip(node.outputs, results)}
        return [Tensor(self, table[v]) for v in graph.outputs]

    @contextlib.contextmanager
    def aside(self) -> Iterator[list[Node]]:
        """Within it, nodes are appended to the list that it gives, not to the graph; also constants
        that the graph has. Names are unique in both."""
        nodes, constants, origin = self.graph.nodes, self._constants, self.origin
        self.graph.nodes, self._constants = [], {}
        try:
            yield self.graph.nodes
        finally:
            self.graph.nodes, self._constants, self.origin = nodes, constants, origin

    def _operand(self, x: Operand | None) -> Value | None:
        if x is None or isinstance(x, Value):
            return x
        if isinstance(x, Tensor):
            if x.b is not self:
                raise TesselError(
                    "a tensor of another graph is used",
                    received=repr(x.b.value(x)),
                    fix="pass it in as an argument",
                )
            return self.value(x)
        return self.value(self.constant(x))

    def _append(
        self,
        op: Op | str,
        operands: Sequence[Value | None],
        attrs: Mapping[str, Any],
        types: Sequence[Type],
        names: Sequence[str | None],
        origin: str | None = None,
    ) -> tuple[Tensor, ...]:
        if isinstance(op, str):
            op = registry.get(op)
        names = list(names) + [None] * (len(types) - len(names))
        unique = [self._unique(n) for n in names]
        node = Node(op, operands, attrs, types, unique, origin or self.origin)
        self.graph.nodes.append(node)
        return tuple(Tensor(self, v) for v in node.outputs)

    def _unique(self, name: str | None) -> str:
        if name is not None and name not in self._names:
            self._names.add(name)
            return name
        stem = "" if name is None else f"{name}_"
        while True:
            candidate = f"{stem}{self._counter}"
            self._counter += 1
            if candidate not in self._names:
                self._names.add(candidate)
                return candidate


def _index(x: T, key: Any) -> T:
    """Basic indexing: ints, slices, None, Ellipsis; a tensor of ints gathers on axis 0."""
    if isinstance(key, Tensor):
        return x.b.emit("gather", x, key, axis=0)
    key = key if isinstance(key, tuple) else (key,)
    count = sum(k is not None and k is not Ellipsis for k in key)
    if Ellipsis in key:
        at = key.index(Ellipsis)
        key = key[:at] + (slice(None),) * (x.rank - count) + key[at + 1 :]
    taken: list[tuple[int, Dim, int, Dim]] = []  # axis, start, step, size
    shape: list[Dim] = []
    axis = 0
    for k in key:
        if k is None:
            shape.append(1)
            continue
        if axis >= x.rank:
            raise TypeMismatch("too many indices", expected=x.rank, received=len(key))
        size: Any = x.shape[axis]
        if isinstance(k, slice):
            if k != slice(None):
                start, stop, step = k.indices(size)
                length = len(range(start, stop, step))
                taken.append((axis, start, step, length))
                size = length
            shape.append(size)
        else:
            start = normalize_axis(int(k), size)
            taken.append((axis, start, 1, 1))
        axis += 1
    shape += x.shape[axis:]
    if taken:
        axes, starts, steps, sizes = zip(*taken)
        x = x.b.emit("slice", x, axes=axes, starts=starts, steps=steps, sizes=sizes)
    return x.reshape(tuple(shape))


__all__ = ["Builder", "DType", "Tensor", "as_tensor_type", "resolve_shape"]
