"""What expressions are made of: axes, buffers, primitives, and the interned `Expr` itself."""

import sys
from collections.abc import Sequence
from weakref import WeakValueDictionary

from ..ir.dims import Sym
from ..ir.types import BOOL, I64, DType, TensorType, dtype_of
from ..system.concurrency import give_lock


class Axis:
    """A loop variable from 0 to extent - 1 (an int or a `Sym`); identity is equality."""

    __slots__ = ("__weakref__", "extent", "name")

    def __init__(self, name: str, extent):
        self.name, self.extent = name, extent

    def __repr__(self):
        return f"{self.name}<{self.extent}"


class Buffer:
    """A dense row-major array that a kernel reads or writes; identity is equality."""

    __slots__ = ("__weakref__", "name", "type")

    def __init__(self, name: str, type: TensorType):
        self.name, self.type = name, type

    shape = property(lambda self: self.type.shape)
    dtype = property(lambda self: self.type.dtype)

    def __repr__(self):
        return f"{self.name}: {self.type}"

    def __getitem__(self, index) -> "Expr":
        return load(self, index if isinstance(index, tuple) else (index,))


# name -> (number of arguments, result dtype: "same" as the first argument, "bool", or "second")
PRIMITIVES: dict[str, tuple[int, str]] = (
    dict.fromkeys(
        [
            "add",
            "sub",
            "mul",
            "div",
            "truncdiv",
            "floordiv",
            "mod",
            "rem",
            "min",
            "max",
            "pow",
            "atan2",
            "copysign",
            "shl",
            "shr",
            "bitand",
            "bitor",
            "bitxor",
        ],
        (2, "same"),
    )
    | dict.fromkeys(["lt", "le", "gt", "ge", "eq", "ne"], (2, "bool"))
    | dict.fromkeys(["and", "or", "xor"], (2, "bool"))
    | dict.fromkeys(
        [
            "neg",
            "abs",
            "sign",
            "exp",
            "exp2",
            "expm1",
            "log",
            "log2",
            "log1p",
            "sqrt",
            "rsqrt",
            "sin",
            "cos",
            "tan",
            "asin",
            "acos",
            "atan",
            "sinh",
            "cosh",
            "tanh",
            "asinh",
            "acosh",
            "atanh",
            "erf",
            "normal_area",
            "sigmoid",
            "floor",
            "ceil",
            "trunc",
            "round",
            "bitnot",
        ],
        (1, "same"),
    )
    | dict.fromkeys(["not", "isnan", "isinf"], (1, "bool"))
    | {"select": (3, "second"), "cast": (1, "given"), "bitcast": (1, "given"), "fma": (3, "same")}
)

COMBINERS = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "or": "or", "and": "and"}


class Expr:
    """A node of an expression DAG. `data` is the Axis, the constant, the Sym (op "size"), the
    Buffer, or (combiner, axes) of a reduction."""

    __slots__ = ("__weakref__", "_free", "args", "data", "dtype", "op", "serial")

    def __repr__(self):
        from .show import show

        return show(self)

    def __bool__(self):
        raise TypeError(f"a scalar expression has no truth value: {self!r}")

    @property
    def free(self) -> frozenset:
        """The axes that the value depends on."""
        if self._free is None:
            found = frozenset().union(*(a.free for a in self.args))
            if self.op == "axis":
                found = frozenset([self.data])
            elif self.op == "reduce":
                found -= frozenset(self.data[1])
            self._free = found
        return self._free


_interned: WeakValueDictionary = WeakValueDictionary()
_serial = 0
_making = give_lock(sys.modules[__name__], "_making")


def make(op: str, args: tuple, data, dtype: DType) -> Expr:
    """The one Expr with these parts (no simplification)."""
    global _serial
    if op == "const":
        # -0.0 == 0.0 and True == 1 in Python: keep them apart.
        key = (op, repr(data), dtype.name)
    else:
        key = (op, tuple(map(id, args)), data, dtype.name)
    found = _interned.get(key)
    if found is not None:
        return found
    with _making:
        found = _interned.get(key)  # another thread may have made it
        if found is not None:
            return found
        e = Expr.__new__(Expr)
        _serial += 1
        e.op, e.args, e.data, e.dtype, e._free, e.serial = op, args, data, dtype, None, _serial
        _interned[key] = e
        return e


def const(value, dtype=I64) -> Expr:
    """A number, or a dynamic dim: a number that the code is given when it runs."""
    if dtype is I64 and type(value) is int and 0 <= value < len(_small):
        return _small[value]
    dtype = dtype_of(dtype)
    if isinstance(value, Sym):
        size = make("size", (), value, I64)
        return size if dtype == I64 else make("cast", (size,), None, dtype)
    if dtype.is_float:
        value = float(value)
    elif dtype == BOOL:
        value = bool(value)
    else:
        value = int(value)
    return make("const", (), value, dtype)


_small: list[Expr] = []  # 0, 1, 2, …: what most index arithmetic is made of
_small += [const(n) for n in range(64)]


def axis(a: Axis) -> Expr:
    """The index of an axis; an axis of extent 1 is the constant 0."""
    return const(0) if a.extent == 1 else make("axis", (), a, I64)


def lift(x, like: Expr) -> Expr:
    return x if isinstance(x, Expr) else const(x, like.dtype)


def load(buffer: Buffer, index: Sequence) -> Expr:
    index = tuple(i if isinstance(i, Expr) else const(i) for i in index)
    assert len(index) == len(buffer.shape), (buffer, index)
    index = tuple(const(0) if d == 1 else i for i, d in zip(index, buffer.shape))
    return make("load", index, buffer, buffer.dtype)
