"""What is known while reading: shape arithmetic dissolves here.

A `FoldedValue` is a tensor whose elements the reader knows: numbers, or dims of the graph (then its
array has dtype object: `[Sym(N), 12, 64]`). `FoldingBuilder.emit` evaluates an op whose operands
are all known and small instead of appending it, so that

    Shape(x) -> Gather(1) -> Mul(2) -> Concat -> Reshape

leaves one `reshape` with dims in its attribute. A FoldedValue becomes a node (`constant`, or `dims`
for symbolic elements) only when another node reads it as data: `FoldingBuilder.value` appends it
then.
"""

import numpy as np

from ....compiler.errors import InputError, TypeMismatch
from ....compiler.ir import dim_arrays, dims
from ....compiler.ir import op as registry
from ....compiler.ir.builder import Builder, Tensor
from ....compiler.ir.dims import Sym
from ....compiler.ir.graph import Value, widens
from ....compiler.ir.types import I64, DType, TensorType, dtype_of
from ....compiler.system.budgets import Budget, Limits

SMALL = 4096  # elements in and out of an op that is evaluated while reading
SHAPES = 256  # the same where some are symbols: more decide no shape, and are data


class FoldedValue(Tensor):
    """A tensor with known elements. It has no value in the graph until `append` makes it one."""

    __slots__ = ("_node", "array", "known_type", "name")

    def __init__(self, b: "FoldingBuilder", array, dtype: DType | None = None, name=None):
        array = np.asarray(array)
        if array.dtype.kind in "US":
            array = array.astype(object)
        if dtype is None:
            dtype = dtype_of(array)
        dims_inside = array.dtype == object and dtype.kind != "s"
        if dims_inside and not any(isinstance(e, Sym) for e in array.flat):
            array = array.astype(dtype.numpy)
        self.b, self.array, self.name = b, array, name
        self.known_type = TensorType(dtype, array.shape)
        self._node = None

    def append(self) -> Tensor:
        """The node's result that its elements are: appended the first time, then the same one."""
        if self._node is None:
            self._node = self.b.materialise(self)
        return self._node

    type = property(lambda self: self.known_type)
    shape = property(lambda self: self.known_type.shape)
    dtype = property(lambda self: self.known_type.dtype)
    rank = property(lambda self: self.known_type.rank)

    @property
    def symbolic(self) -> bool:
        return self.array.dtype == object and self.dtype.kind != "s"

    @property
    def constant(self):
        return None if self.symbolic else self.array

    def __repr__(self):
        return f"FoldedValue({self.known_type})"


class FoldingBuilder(Builder):
    """A Builder that evaluates small ops on known operands.

    `outer` says which value of an enclosing graph a region's input stands for, for all regions;
    `found` the symbols of sizes that data decides, by what they follow from (`sizes.py`); every
    op costs a node of the `budget`.
    """

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.outer: dict[Value, Value] = {}
        self.found: dict[tuple, tuple] = {}
        self.budget = Budget(Limits())

    def constant(self, array, dtype=None, name=None) -> FoldedValue:
        if dtype is not None:
            array = np.asarray(array, dtype_of(dtype).numpy)
        return FoldedValue(self, array, name=name)

    def dims(self, values) -> FoldedValue:
        """A vector of dims as i64 data."""
        array = np.empty(len(values), object)
        array[:] = values
        return FoldedValue(self, array, I64)

    def value(self, x):
        """The value of a tensor in the graph; of a `FoldedValue`, that of the node that it
        becomes."""
        return super().value(x.append() if isinstance(x, FoldedValue) else x)

    def materialise(self, x: FoldedValue) -> Tensor:
        """Append the node of a `FoldedValue` (`FoldedValue.append` sees to it that there is
        one)."""
        origin, self.origin = self.origin, None  # shared by its readers
        if x.symbolic:
            flat = Builder.emit(self, "dims", values=tuple(_as_dim(e) for e in x.array.flat))
            result = flat.reshape(x.shape).cast(x.dtype)
        else:
            result = Builder.constant(self, x.array, name=x.name)
        self.origin = origin
        return result

    def emit(self, name, *inputs, outputs=None, **attrs):
        self.budget.node()
        present = [x for x in inputs if x is not None]
        if present and all(isinstance(x, FoldedValue) for x in present):
            results = evaluate(self, name, inputs, attrs)
            if results is not None:
                return results[0] if len(results) == 1 else results
        made = super().emit(name, *inputs, outputs=outputs, **attrs)
        self.budget.node(len(made) if isinstance(made, tuple) else 0)
        return made


def _as_dim(e):
    if isinstance(e, Sym):
        return e
    if int(e) != e:
        raise TypeMismatch("a dim must be an integer", received=e)
    return int(e)


def evaluate(b: FoldingBuilder, name: str, inputs, attrs) -> tuple[FoldedValue, ...] | None:
    """The results of an op on known operands; None if they are large or undecided."""
    op = registry.get(name)
    if isinstance(op.loops, (registry.Control, registry.Extern)):
        return None
    try:
        bound = op.bind(attrs, name)
        types = op.infer([None if x is None else x.type for x in inputs], bound)
    except TypeMismatch:
        return None  # appending it raises the error, with its address
    if not all(isinstance(t, TensorType) and t.is_static for t in types):
        return None
    if inputs[0] is not None and widens(name, inputs[0].type, types[0]):
        return None
    sizes = [x.array.size for x in inputs if x is not None] + [t.size for t in types]
    symbolic = any(x is not None and x.symbolic for x in inputs)
    if sum(sizes) > SMALL or (symbolic and max(t.size for t in types) > SHAPES):
        return None
    arrays = [None if x is None else x.array for x in inputs]
    if symbolic:
        try:
            floating = any(x is not None and x.dtype.is_float for x in inputs)
            results = dim_arrays.evaluate(name, arrays, bound, floating)
        except (dim_arrays.Undecided, InputError, dims.TooLarge):
            return None
        if not all(_fits(r) for r in (results if isinstance(results, tuple) else (results,))):
            return None
    else:
        try:
            with np.errstate(all="ignore"):
                results = op.ref(*arrays, **bound)
        except InputError:
            return None  # a run that comes to it fails
    if not isinstance(results, (tuple, list)):
        results = (results,)
    return tuple(_result(b, r, t) for r, t in zip(results, types, strict=True))


def _fits(array) -> bool:
    """Whether numbers among dims are those of an int64; the run wraps others around."""
    return all(isinstance(e, Sym) or -(1 << 63) <= int(e) < 1 << 63 for e in np.asarray(array).flat)


def _result(b, array, type: TensorType) -> FoldedValue:
    array = np.asarray(array)
    if array.dtype != object and type.dtype.kind != "s":
        array = array.astype(type.dtype.numpy, copy=False)
    return FoldedValue(b, array.reshape(type.shape), type.dtype)


def as_symbols(array: np.ndarray) -> list:
    """Elements as Python ints and Syms."""
    return [e if isinstance(e, Sym) else int(e) for e in array.reshape(-1)]
