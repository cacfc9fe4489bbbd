"""Append nodes to a Graph: `Builder` infers types, `Tensor` gives values Python operators.

Everything that makes graphs writes through it: the frontends, expansions of composite ops,
gradient rules and rewrites.

    b = Builder()
    x = b.input("x", "f32[N,3]")
    b.output("y", b.softmax(x * 2 + 1, axis=-1))
    graph = b.graph
"""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from ..errors import TesselError, TypeMismatch
from . import dims
from . import op as registry
from .graph import Graph, Node, Value
from .nonempty import take_positive
from .types import DType, TensorType, Type, dtype_of, normalize_axis, tensor_type_of


class Tensor:
    """A value and the builder it belongs to; operators append nodes.

    Python numbers and arrays become constants of the other operand's dtype.
    """

    __array_priority__ = 1000  # numpy arrays leave operators to us
    __slots__ = ("b", "value")

    def __init__(self, b: "Builder", value: Value):
        self.b, self.value = b, value

    type = property(lambda self: self.value.type)
    shape = property(lambda self: self.value.type.shape)
    dtype = property(lambda self: self.value.type.dtype)
    rank = property(lambda self: self.value.type.rank)
    constant = property(lambda self: self.value.constant)

    def __repr__(self):
        return f"Tensor({self.value!r})"

    def __bool__(self):
        raise TypeMismatch(
            "a traced tensor has no truth value",
            received=repr(self.value),
            fix="use where(condition, a, b) or cond() instead of a Python if",
        )

    def __iter__(self):
        if self.rank == 0:
            raise TypeMismatch("a scalar tensor cannot be iterated", received=repr(self.value))
        return (self[i] for i in range(self.shape[0]))

    def __len__(self):
        return self.shape[0]

    def _binary(self, name, other, reverse=False):
        other = self.b.like(other, self)
        return self.b.emit(name, *((other, self) if reverse else (self, other)))

    def __neg__(self):
        return self.b.emit("neg", self)

    def __invert__(self):
        return self.b.emit("not", self)

    def __matmul__(self, other):
        return self._binary("matmul", other)

    def __getitem__(self, key):
        return _index(self, key)

    def cast(self, dtype, **rounding) -> "Tensor":
        """Converted; `rounding` are the op's other attributes (saturate, round_mode)."""
        dtype = dtype_of(dtype)
        if dtype == self.dtype:
            return self
        return self.b.emit("cast", self, dtype=dtype, **rounding)

    def reshape(self, *shape) -> "Tensor":
        shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        shape = resolve_shape(self.shape, shape)
        return self if shape == self.shape else self.b.emit("reshape", self, shape=shape)

    def transpose(self, *perm) -> "Tensor":
        perm = perm[0] if len(perm) == 1 and isinstance(perm[0], (tuple, list)) else perm
        perm = tuple(normalize_axis(p, self.rank) for p in perm or range(self.rank)[::-1])
        return (
            self if perm == tuple(range(self.rank)) else self.b.emit("transpose", self, perm=perm)
        )

    def expand(self, shape) -> "Tensor":
        return self if tuple(shape) == self.shape else self.b.emit("expand", self, shape=shape)

    def sum(self, axes=None, keepdims=False) -> "Tensor":
        return self._reduce("reduce_sum", axes, keepdims)

    def mean(self, axes=None, keepdims=False) -> "Tensor":
        return self._reduce("reduce_mean", axes, keepdims)

    def max(self, axes=None, keepdims=False) -> "Tensor":
        return self._reduce("reduce_max", axes, keepdims)

    def _reduce(self, name, axes, keepdims):
        if axes is None:
            axes = range(self.rank)
        axes = (axes,) if isinstance(axes, int) else tuple(axes)
        return self.b.emit(name, self, axes=axes, keepdims=keepdims)


def _operators():
    names = {
        "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "pow": "pow", "mod": "mod",
        "and": "and", "or": "or", "xor": "xor",
    }  # fmt: skip
    for python, op in names.items():
        setattr(Tensor, f"__{python}__", lambda self, o, op=op: self._binary(op, o))
        setattr(Tensor, f"__r{python}__", lambda self, o, op=op: self._binary(op, o, True))
    for python, op in {
        "lt": "less",
        "le": "less_equal",
        "gt": "greater",
        "ge": "greater_equal",
    }.items():
        setattr(Tensor, f"__{python}__", lambda self, o, op=op: self._binary(op, o))


_operators()


class Builder:
    """Appends to `graph`. `origin` is stamped on each node until it is changed."""

    def __init__(self, graph: Graph | None = None, *, name: str = "main"):
        self.graph = graph if graph is not None else Graph(name)
        self.origin: str | None = None
        self._names = {v.name for v in self.graph.values()}
        self._constants: dict[tuple, Tensor] = {}
        self._counter = 0

    # -- values ---------------------------------------------------------------------------

    def input(self, name: str, type: Type | str) -> Tensor:
        if isinstance(type, str):
            from .text import parse_type

            type = parse_type(type)
        value = Value(self._unique(name), type)
        self.graph.inputs.append(value)
        return Tensor(self, value)

    def output(self, name: str, value: "Tensor | Value") -> None:
        self.graph.outputs.append(self.value(value))
        self.graph.output_names.append(name)

    def constant(self, array, dtype=None, name: str | None = None) -> Tensor:
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

    def scalar(self, value, dtype) -> Tensor:
        return self.constant(np.asarray(value, dtype_of(dtype).numpy))

    def like(self, x, other: Tensor) -> Tensor:
        """`x` as a Tensor; numbers and arrays take `other`'s dtype."""
        if isinstance(x, Tensor):
            return x
        if isinstance(x, Value):
            return Tensor(self, x)
        return self.constant(np.asarray(x).astype(other.dtype.numpy))

    def tensor(self, x) -> Tensor:
        return x if isinstance(x, Tensor) else Tensor(self, x)

    def value(self, x: "Tensor | Value | None") -> Value | None:
        """The value of a tensor in the graph; a Value is itself."""
        return x.value if isinstance(x, Tensor) else x

    # -- nodes ----------------------------------------------------------------------------

    def emit(self, name: str, *inputs, outputs: Sequence[str | None] | None = None, **attrs):
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

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        registry.get(name)
        return lambda *inputs, **attrs: self.emit(name, *inputs, **attrs)

    def inline(self, graph: Graph, inputs: Sequence) -> list[Tensor]:
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

    def _operand(self, x) -> Value | None:
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

    def _append(self, op, operands, attrs, types, names, origin=None) -> tuple[Tensor, ...]:
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


def resolve_shape(old: Sequence, new: Sequence) -> tuple:
    """`new` with one -1 replaced by what is left of `old`'s size.

    Raises TypeMismatch if the sizes differ or cannot be divided.
    """
    new = tuple(new)
    total = dims.prod(old)
    if any(map(_is_rest, new)):
        # Dims that stay where they are say nothing of what is left, also where they are 0.
        stays = [i < len(old) and d == old[i] for i, d in enumerate(new)]
        others = dims.prod(d for i, d in enumerate(old) if i >= len(new) or not stays[i])
        known = dims.prod(d for d, s in zip(new, stays) if not s and not _is_rest(d))
        take_positive(known)
        if isinstance(known, int) and known == 0:
            rest = 0
        else:
            rest = others // known
        if isinstance(others, int) and isinstance(known, int) and rest * known != others:
            raise _size_mismatch(old, new)
        new = tuple(rest if _is_rest(d) else d for d in new)
    size = dims.prod(new)
    if isinstance(size, int) and isinstance(total, int) and size != total:
        raise _size_mismatch(old, new)
    return new


def _is_rest(d) -> bool:
    return isinstance(d, int) and d == -1


def _size_mismatch(old, new) -> TypeMismatch:
    return TypeMismatch(
        "a reshape must keep the number of elements",
        expected=f"{dims.prod(old)} elements, as in [{','.join(map(str, old))}]",
        received=f"[{','.join(map(str, new))}]",
    )


def _index(x: Tensor, key) -> Tensor:
    """Basic indexing: ints, slices, None, Ellipsis; a tensor of ints gathers on axis 0."""
    if isinstance(key, Tensor):
        return x.b.emit("gather", x, key, axis=0)
    key = key if isinstance(key, tuple) else (key,)
    count = sum(k is not None and k is not Ellipsis for k in key)
    if Ellipsis in key:
        at = key.index(Ellipsis)
        key = key[:at] + (slice(None),) * (x.rank - count) + key[at + 1 :]
    axes, starts, steps, sizes, shape = [], [], [], [], []
    axis = 0
    for k in key:
        if k is None:
            shape.append(1)
            continue
        if axis >= x.rank:
            raise TypeMismatch("too many indices", expected=x.rank, received=len(key))
        size = x.shape[axis]
        if isinstance(k, slice):
            if k != slice(None):
                start, stop, step = k.indices(size)
                length = len(range(start, stop, step))
                axes.append(axis), starts.append(start), steps.append(step), sizes.append(length)
                size = length
            shape.append(size)
        else:
            start = normalize_axis(int(k), size)
            axes.append(axis), starts.append(start), steps.append(1), sizes.append(1)
        axis += 1
    shape += x.shape[axis:]
    if axes:
        x = x.b.emit("slice", x, axes=axes, starts=starts, steps=steps, sizes=sizes)
    return x.reshape(tuple(shape))


def as_tensor_type(x) -> TensorType:
    """TensorType of a TensorType, its text, or an array."""
    if isinstance(x, TensorType):
        return x
    if isinstance(x, str):
        from .text import parse_type

        return parse_type(x)
    return tensor_type_of(np.asarray(x))


__all__ = ["Builder", "DType", "Tensor", "as_tensor_type", "resolve_shape"]
