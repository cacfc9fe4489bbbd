"""A traced tensor with numpy's manners: what stands for an array while Keras code is traced.

Keras' numpy backend works on arrays: operators promote dtypes, Python numbers take the dtype of the
array beside them, indices are numpy's. `TracedArray` does the same with nodes of a graph.
"""

from typing import Any, NoReturn

import numpy as np

from ....compiler.errors import TypeMismatch, UnsupportedError
from ....compiler.ir.builder import Tensor
from ....compiler.ir.types import dtype_of
from ...native.tracing import Array, Tracer, user_line

SCALARS = (bool, int, float)


class TracedArray:
    """`array`, a tensor of the trace. Keras may hang attributes (masks) on it."""

    __array_ufunc__ = None  # numpy arrays leave operators to us

    def __init__(self, array: Array):
        self.array = array

    @property
    def b(self) -> Tracer:
        return self.array.b

    @property
    def shape(self) -> tuple:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype.numpy

    @property
    def ndim(self) -> int:
        return self.array.rank

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def T(self) -> "TracedArray":
        return TracedArray(self.array.transpose())

    def __repr__(self) -> str:
        return f"TracedArray({self.array.value!r})"

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def astype(self, dtype: Any, copy: bool = True) -> "TracedArray":
        return cast(self, dtype)

    def reshape(self, *shape: Any) -> "TracedArray":
        new = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        sizes = tuple(int(n) if isinstance(n, np.integer) else n for n in new)
        return TracedArray(self.array.reshape(sizes))

    def __getitem__(self, key: Any) -> "TracedArray":
        from .indexing import get

        return get(self, key)

    def __neg__(self) -> "TracedArray":
        return TracedArray(-self.array)

    def __pos__(self) -> "TracedArray":
        return self

    def __abs__(self) -> "TracedArray":
        return self if self.dtype.kind in "ub" else emit("abs", self)

    def __invert__(self) -> "TracedArray":
        return emit("not" if self.dtype == bool else "bitwise_not", self)

    def __getattr__(self, name: str) -> Any:
        from .table import METHODS

        if name.startswith("_") or name not in METHODS:
            raise AttributeError(f"a traced array has no attribute {name!r}")
        return lambda *args, **kwargs: METHODS[name](self, *args, **kwargs)

    __hash__ = object.__hash__

    def _no_value(self, what: str, fix: str) -> TypeMismatch:
        return TypeMismatch(
            f"a traced tensor {what}: its numbers are known when the compiled step runs",
            where=user_line(),
            received=repr(self.array.value),
            fix=fix,
        )

    def __bool__(self) -> NoReturn:
        raise self._no_value("has no truth value", "use keras.ops.where or keras.ops.cond")

    def _number(self, *_: Any, **__: Any) -> NoReturn:
        raise self._no_value(
            "has no number", "compute with keras.ops, or compile(run_eagerly=True)"
        )

    __float__ = __int__ = __index__ = _number

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise self._no_value("is not a numpy array", "use the functions of keras.ops, not numpy's")


def find(*values: Any) -> TracedArray | None:
    """The first traced array among `values` and what lies in their lists, tuples and dicts."""
    for x in values:
        if isinstance(x, TracedArray):
            return x
        if isinstance(x, (list, tuple)):
            found = find(*x)
        elif isinstance(x, dict):
            found = find(*x.values())
        elif hasattr(x, "assign_add"):  # a Keras Variable: what it stands for at present
            found = find(x.value)
        else:
            continue
        if found is not None:
            return found
    return None


def values(x: Any) -> Any:
    """`x` with Keras Variables, also those in lists, tuples and dicts, replaced by their values."""
    if isinstance(x, TracedArray):
        return x
    if type(x) in (list, tuple):
        return type(x)(values(e) for e in x)
    if type(x) is dict:
        return {k: values(e) for k, e in x.items()}
    return x.value if hasattr(x, "assign_add") else x


def emit(op: str, *inputs: Any, **attrs: Any) -> Any:
    """The op `op` of traced arrays (or arrays of the right dtype); absent operands are None."""
    b = find(*inputs).b
    operands = [x.array if isinstance(x, TracedArray) else x for x in inputs]
    result = b.emit(
        op, *(b.array(x) if isinstance(x, np.generic) else x for x in operands), **attrs
    )
    if isinstance(result, Tensor):
        return TracedArray(result)
    return tuple(TracedArray(r) for r in result)


def lift(like: TracedArray, x: Any, dtype: Any = None) -> TracedArray:
    """`x` (traced, an array, a number, a Variable, or lists of these) in the trace of `like`."""
    if hasattr(x, "assign_add"):
        x = x.value
    if isinstance(x, (list, tuple)) and find(x) is not None:
        from .movement import stack

        x = stack([lift(like, e) for e in x])
    if not isinstance(x, TracedArray):
        if isinstance(x, SCALARS) and dtype is None:
            dtype = scalar_dtype(x)
        array = np.asarray(x) if dtype is None else np.asarray(x).astype(np_dtype(dtype))
        x = TracedArray(like.b.array(array))
    return x if dtype is None else cast(x, dtype)


def scalar_dtype(x: Any) -> str:
    return {bool: "bool", int: "int32", float: "float32"}[type(x)]


def np_dtype(dtype: Any) -> np.dtype:
    return dtype_of(dtype).numpy


def cast(x: TracedArray, dtype: Any) -> TracedArray:
    """`x` converted as numpy does it."""
    dtype = dtype_of(dtype)
    if dtype == x.array.dtype:
        return x
    if np.dtype(dtype.numpy).kind == "c":
        raise UnsupportedError("complex numbers are not traced", where=user_line())
    return TracedArray(x.array.cast(dtype))


def promoted(*xs: Any, floating: bool = False) -> np.dtype:
    """The dtype of a result: numbers take that of the arrays; ints become f32 where floats are
    asked for, or where a float number meets them, as in Keras."""
    arrays = [x.dtype for x in xs if not isinstance(x, SCALARS)]
    if not arrays:
        arrays = [np_dtype(scalar_dtype(x)) for x in xs]
    dtype = arrays[0]
    for other in arrays[1:]:
        dtype = _joined(dtype, other)
    numbers = [type(x) for x in xs if isinstance(x, SCALARS)]
    if _is_float(dtype):
        return dtype
    if floating or float in numbers:
        return np.dtype(np.float32)
    return np.dtype(np.int32) if dtype.kind == "b" and int in numbers else dtype


def _is_float(dtype: np.dtype) -> bool:
    return dtype_of(dtype).is_float


def _joined(x: np.dtype, y: np.dtype) -> np.dtype:
    if x == y:
        return x
    if _is_float(x) != _is_float(y):
        return x if _is_float(x) else y
    halves = {x.name, y.name} == {"bfloat16", "float16"}  # neither holds the other
    return np.dtype(np.float32) if halves else np.result_type(x, y)


def joined(*xs: Any, floating: bool = False) -> list[TracedArray]:
    """Operands lifted into the trace in the dtype that they have together."""
    like = find(*xs)
    xs = tuple(x.value if hasattr(x, "assign_add") else x for x in xs)
    xs = tuple(x if isinstance(x, (TracedArray, *SCALARS)) else _array(like, x) for x in xs)
    dtype = promoted(*xs, floating=floating)
    return [lift(like, x, dtype) for x in xs]


def _array(like: TracedArray, x: Any) -> Any:
    return lift(like, x) if isinstance(x, (list, tuple)) else np.asarray(x)


def binary(op: str, *, floating: bool = False) -> Any:
    return lambda x, y: emit(op, *joined(x, y, floating=floating))


def compared(op: str) -> Any:
    return lambda x, y: emit(op, *_comparable(x, y))


def _comparable(x: Any, y: Any) -> list[TracedArray]:
    x, y = joined(x, y)
    return [cast(x, "int32"), cast(y, "int32")] if x.dtype == bool else [x, y]


def floor_divide(x: Any, y: Any) -> TracedArray:
    x, y = joined(x, y)
    if _is_float(x.dtype):
        return emit("floor", emit("div", x, y))
    return emit("div", emit("sub", x, emit("mod", x, y)), y)


def logical(op: str) -> Any:
    """and, or, xor: of truth values, or bit by bit where both are ints."""

    def apply(x: Any, y: Any) -> TracedArray:
        x, y = joined(x, y)
        return emit(op if x.dtype == bool else f"bitwise_{op}", x, y)

    return apply


OPERATORS = {
    "add": binary("add"),
    "sub": binary("sub"),
    "mul": binary("mul"),
    "truediv": binary("div", floating=True),
    "floordiv": floor_divide,
    "pow": binary("pow"),
    "mod": binary("mod"),
    "matmul": binary("matmul"),
    "and": logical("and"),
    "or": logical("or"),
    "xor": logical("xor"),
    "lshift": binary("shift_left"),
    "rshift": binary("shift_right"),
    "lt": compared("less"),
    "le": compared("less_equal"),
    "gt": compared("greater"),
    "ge": compared("greater_equal"),
    "eq": compared("equal"),
    "ne": compared("not_equal"),
}
for _name, _f in OPERATORS.items():
    setattr(TracedArray, f"__{_name}__", lambda self, other, f=_f: f(self, other))
    if _name not in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(TracedArray, f"__r{_name}__", lambda self, other, f=_f: f(other, self))
