"""What is known while reading: shape arithmetic dissolves here.

A `Known` is a tensor whose elements the reader knows: numbers, or dims of the graph (then its
array has dtype object: `[Sym(N), 12, 64]`). `KnownBuilder.emit` evaluates an op whose operands
are all known and small instead of appending it, so that

    Shape(x) -> Gather(1) -> Mul(2) -> Concat -> Reshape

leaves one `reshape` with dims in its attribute. A Known becomes a node (`constant`, or `dims` for
symbolic elements) only when another node reads it as data: `KnownBuilder.value` appends it then.
"""

from collections.abc import Callable

import numpy as np

from ...compiler import dims, sizes
from ...compiler.budgets import Budget, Limits
from ...compiler.builder import Builder, Tensor
from ...compiler.dims import Sym
from ...compiler.errors import InputError, TypeMismatch
from ...compiler.ir import Value
from ...compiler.nonempty import take_at_least, take_nonempty, take_positive
from ...compiler.ops import registry
from ...compiler.types import I64, DType, TensorType, dtype_of

SMALL = 4096  # elements in and out of an op that is evaluated while reading
SHAPES = 256  # the same where some are symbols: more decide no shape, and are data


class Undecided(Exception):
    """The answer depends on a symbol."""


class Known(Tensor):
    """A tensor with known elements. It has no value in the graph until `append` makes it one."""

    __slots__ = ("_node", "array", "known_type", "name")

    def __init__(self, b: "KnownBuilder", array, dtype: DType | None = None, name=None):
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
        return f"Known({self.known_type})"


class KnownBuilder(Builder):
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

    def constant(self, array, dtype=None, name=None) -> Known:
        if dtype is not None:
            array = np.asarray(array, dtype_of(dtype).numpy)
        return Known(self, array, name=name)

    def dims(self, values) -> Known:
        """A vector of dims as i64 data."""
        array = np.empty(len(values), object)
        array[:] = values
        return Known(self, array, I64)

    def value(self, x) -> Value | None:
        """The value of a tensor in the graph; of a `Known`, that of the node that it becomes."""
        return super().value(x.append() if isinstance(x, Known) else x)

    def materialise(self, x: Known) -> Tensor:
        """Append the node of a `Known` (`Known.append` sees to it that there is one)."""
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
        if present and all(isinstance(x, Known) for x in present):
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


def evaluate(b: KnownBuilder, name: str, inputs, attrs) -> tuple[Known, ...] | None:
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
    sizes = [x.array.size for x in inputs if x is not None] + [t.size for t in types]
    symbolic = any(x is not None and x.symbolic for x in inputs)
    if sum(sizes) > SMALL or (symbolic and max(t.size for t in types) > SHAPES):
        return None
    arrays = [None if x is None else x.array for x in inputs]
    if symbolic:
        try:
            floating = any(x is not None and x.dtype.is_float for x in inputs)
            results = _symbolic(name, arrays, bound, floating)
        except (Undecided, InputError, dims.TooLarge):
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


def _result(b, array, type: TensorType) -> Known:
    array = np.asarray(array)
    if array.dtype != object and type.dtype.kind != "s":
        array = array.astype(type.dtype.numpy, copy=False)
    return Known(b, array.reshape(type.shape), type.dtype)


# -- arithmetic on dims -------------------------------------------------------------------


def lower_bound(d):
    """A number that `d` cannot be below, symbols being at least 1 (those of sizes that data
    decides 0); None if there is none."""
    return sizes.lower_bound(sizes.from_zero(d))


def at_least(a, b) -> bool:
    """Whether a >= b surely holds."""
    surely = sizes.at_least(sizes.from_zero(a), sizes.from_zero(b))
    if surely and not isinstance(a, float) and not isinstance(b, float):
        take_at_least(a - b, 0)
    return surely


def larger(a, b):
    """max of two dims, without `max(…)` where symbols decide it."""
    return sizes.larger(a, b, at_least)


def smaller(a, b):
    """min of two dims, without `min(…)` where symbols decide it."""
    return sizes.smaller(a, b, at_least)


def compare(a, b) -> int:
    """-1, 0 or 1 as a is below, equal to or above b. Raises Undecided."""
    difference = a - b
    if not isinstance(difference, Sym):
        return (difference > 0) - (difference < 0)
    low, high = lower_bound(difference), lower_bound(0 - difference)
    if low is not None and low > 0:
        take_at_least(difference, 1)
        return 1
    if high is not None and high > 0:
        take_at_least(0 - difference, 1)
        return -1
    raise Undecided


def _whole(x):
    """x as an exact int or Sym; numpy and Python floats only if integral."""
    if isinstance(x, Sym):
        return x
    if int(x) != x:
        raise Undecided
    return int(x)


def _divide(a, b):
    a, b = _whole(a), _whole(b)
    if isinstance(b, Sym):
        take_nonempty(b)
        if a == b:
            return 1
        if not isinstance(a, Sym) or b not in _factors(a, b):
            raise Undecided
        return a // b
    if b == 0:
        raise Undecided
    if not isinstance(a, Sym):
        return -(abs(a) // abs(b)) if (a < 0) != (b < 0) else abs(a) // abs(b)
    if b < 0 or not at_least(a, 0):
        exact = a // b
        rounds = lower_bound(a % b) != 0 or isinstance(a % b, Sym)
        if rounds and (b < 0 or not _grows(a)):
            raise Undecided
        if rounds:
            take_positive(a + 1)
        return exact
    return a // b


def _grows(a: Sym) -> bool:
    """Whether only small sizes make it negative, as (h - 8) // 4 + 1 of a window that has to fit.
    Division there is towards 0, and is that of dims for all others."""
    return not any(map(dims.may_be_zero, a.symbols())) and all(
        c > 0 for monomial, c in a.terms.items() if monomial
    )


def _divide_exactly(a, b):
    a, b = _whole(a), _whole(b)
    if (not isinstance(b, Sym) and b == 0) or isinstance(a % b, Sym) or a % b != 0:
        raise Undecided
    take_nonempty(b)
    return a // b


def _factors(a: Sym, b: Sym):
    return (b,) if not isinstance(a % b, Sym) else ()


def _mod(a, b):
    a, b = _whole(a), _whole(b)
    if isinstance(b, Sym) or b <= 0:
        raise Undecided
    return a % b


def _decided(test: Callable) -> Callable:
    return lambda a, b: test(compare(_whole(a), _whole(b)))


def _arithmetic(f: Callable) -> Callable:
    return lambda a, b: f(_whole(a), _whole(b))


_SCALAR = {
    "add": _arithmetic(lambda a, b: a + b),
    "sub": _arithmetic(lambda a, b: a - b),
    "mul": _arithmetic(lambda a, b: a * b),
    "div": _divide,
    "mod": _mod,
    "minimum": _arithmetic(smaller),
    "maximum": _arithmetic(larger),
    "equal": _decided(lambda c: c == 0),
    "not_equal": _decided(lambda c: c != 0),
    "less": _decided(lambda c: c < 0),
    "less_equal": _decided(lambda c: c <= 0),
    "greater": _decided(lambda c: c > 0),
    "greater_equal": _decided(lambda c: c >= 0),
    "neg": lambda a: 0 - _whole(a),
    "identity": lambda a: a,
    "relu": lambda a: larger(_whole(a), 0),
    "abs": lambda a: a if at_least(_whole(a), 0) else _undecided(),
    "floor": _whole,
    "ceil": _whole,
    "round": _whole,
}
_MOVES = {
    "reshape", "transpose", "expand", "slice", "concat", "split", "gather", "gather_elements",
    "gather_nd", "tile", "reverse", "pad",
}  # fmt: skip
_REDUCE = {"reduce_sum": "add", "reduce_prod": "mul", "reduce_max": "maximum",
           "reduce_min": "minimum"}  # fmt: skip


def _undecided():
    raise Undecided


def _symbolic(name: str, arrays: list, attrs, floating: bool):
    """`name` on arrays of dims. Raises Undecided where it cannot be said."""
    if name == "div" and floating:
        return np.frompyfunc(_divide_exactly, 2, 1)(*arrays)
    if name in _SCALAR:
        return np.frompyfunc(_SCALAR[name], len(arrays), 1)(*arrays)
    if name in _MOVES:
        return registry.get(name).ref(*[_objects(name, i, a) for i, a in enumerate(arrays)],
                                      **attrs)  # fmt: skip
    if name in _REDUCE:
        f = np.frompyfunc(_SCALAR[_REDUCE[name]], 2, 1)
        x = arrays[0]
        axes = tuple(a % x.ndim for a in attrs["axes"]) if x.ndim else ()
        for axis in axes:
            x = f.reduce(x, axis=axis, keepdims=True)
        keep = [s for i, s in enumerate(x.shape) if attrs["keepdims"] or i not in axes]
        return np.asarray(x, object).reshape(keep)
    if name == "cast" and attrs["dtype"].kind in "iuf":
        if attrs["dtype"].kind != "f" and attrs["dtype"].bits < 32:
            raise Undecided
        return arrays[0]
    if name == "where" and arrays[0].dtype == np.bool_:
        condition, x, y = np.broadcast_arrays(*arrays)
        return np.where(condition, x.astype(object), y.astype(object))
    raise Undecided


def _objects(name: str, position: int, array):
    """Data operands as objects; index operands stay numbers."""
    if array is None or (name.startswith("gather") and position == 1):
        if array is not None and array.dtype == object:
            raise Undecided
        return array
    return array.astype(object)


def as_symbols(array: np.ndarray) -> list:
    """Elements as Python ints and Syms."""
    return [e if isinstance(e, Sym) else int(e) for e in array.reshape(-1)]
