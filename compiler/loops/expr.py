"""Scalar expressions: the body of a kernel, with index arithmetic that simplifies itself.

    expr ::= axis | const | buffer[expr, …] | OP(expr, …) | COMBINER over axes of expr

An `Expr` is immutable and interned: two equal expressions are the same object, so memo tables and
common subexpressions cost nothing. `i64` expressions over axes are index arithmetic: sums are kept
in linear normal form and `//`, `%` and comparisons are resolved from the axes' extents where they
can be, which is what turns a chain of reshapes and transposes into plain strides.

The functions of this module are the vocabulary in which op records say what they mean; the three
backends (numpy, LLVM, Triton) each give the names in `PRIMITIVES` their meaning once.
"""

import math
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

from ..types import BOOL, F32, I64, DType, TensorType, dtype_of


class Axis:
    """A loop variable from 0 to extent - 1; identity is equality."""

    __slots__ = ("__weakref__", "extent", "name")

    def __init__(self, name: str, extent: int):
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
        ["add", "sub", "mul", "div", "truncdiv", "floordiv", "mod", "rem", "min", "max", "pow",
         "atan2", "copysign", "shl", "shr", "bitand", "bitor", "bitxor"],
        (2, "same"),
    )
    | dict.fromkeys(["lt", "le", "gt", "ge", "eq", "ne"], (2, "bool"))
    | dict.fromkeys(["and", "or", "xor"], (2, "bool"))
    | dict.fromkeys(
        ["neg", "abs", "sign", "exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "rsqrt",
         "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh",
         "atanh", "erf", "sigmoid", "floor", "ceil", "trunc", "round", "bitnot"],
        (1, "same"),
    )
    | dict.fromkeys(["not", "isnan", "isinf"], (1, "bool"))
    | {"select": (3, "second"), "cast": (1, "given"), "fma": (3, "same")}
)  # fmt: skip

COMBINERS = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "or": "or", "and": "and"}


class Expr:
    """A node of an expression DAG. `data` is the Axis, the constant, the Buffer, or
    (combiner, axes) of a reduction."""

    __slots__ = ("__weakref__", "_free", "args", "data", "dtype", "op", "serial")

    def __repr__(self):
        return show(self)

    __add__ = lambda self, o: add(self, o)
    __radd__ = lambda self, o: add(lift(o, self), self)
    __sub__ = lambda self, o: sub(self, o)
    __rsub__ = lambda self, o: sub(lift(o, self), self)
    __mul__ = lambda self, o: mul(self, o)
    __rmul__ = lambda self, o: mul(lift(o, self), self)
    __truediv__ = lambda self, o: apply("div", self, o)
    __rtruediv__ = lambda self, o: apply("div", lift(o, self), self)
    __floordiv__ = lambda self, o: floordiv(self, o)
    __mod__ = lambda self, o: mod(self, o)
    __neg__ = lambda self: apply("neg", self) if self.dtype.is_float else mul(self, -1)
    __lt__ = lambda self, o: compare("lt", self, o)
    __le__ = lambda self, o: compare("le", self, o)
    __gt__ = lambda self, o: compare("gt", self, o)
    __ge__ = lambda self, o: compare("ge", self, o)
    __and__ = lambda self, o: logical_and(self, o)
    __or__ = lambda self, o: logical_or(self, o)
    __invert__ = lambda self: logical_not(self)

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
    e = Expr.__new__(Expr)
    _serial += 1
    e.op, e.args, e.data, e.dtype, e._free, e.serial = op, args, data, dtype, None, _serial
    _interned[key] = e
    return e


# -- leaves --------------------------------------------------------------------------------


def const(value, dtype=I64) -> Expr:
    dtype = dtype_of(dtype)
    if dtype.is_float:
        value = float(value)
    elif dtype == BOOL:
        value = bool(value)
    else:
        value = int(value)
    return make("const", (), value, dtype)


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


# -- scalar functions ----------------------------------------------------------------------


def apply(op: str, *args) -> Expr:
    """A primitive on expressions and Python numbers; folds what is known."""
    first = next((a for a in args if isinstance(a, Expr) and (op != "select" or a is not args[0])),
                 args[0])  # fmt: skip
    args = tuple(a if isinstance(a, Expr) else const(a, first.dtype) for a in args)
    arity, rule = PRIMITIVES[op]
    assert len(args) == arity, (op, args)
    dtypes = {a.dtype for a in (args[1:] if op == "select" else args)}
    assert len(dtypes) == 1, f"{op} of mixed dtypes {[a.dtype for a in args]}: {args}"
    dtype = {"same": args[0].dtype, "bool": BOOL, "second": args[-1].dtype}[rule]
    if op in _IDENTITY and args[1].op == "const" and args[1].data == _IDENTITY[op]:
        return args[0]
    if op in ("min", "max") and dtype == I64:
        return _min_max(op, *args)
    return make(op, args, None, dtype)


# x - 0 and x * 1 are exact for floats too; x + 0 is not (-0.0 + 0.0 is 0.0).
_IDENTITY = {"sub": 0, "mul": 1, "div": 1, "truncdiv": 1, "floordiv": 1}


def _unary(name: str) -> Callable:
    return lambda x: apply(name, x)


neg, exp, log, sqrt, rsqrt = map(_unary, ["neg", "exp", "log", "sqrt", "rsqrt"])
tanh, erf, sigmoid, floor, ceil = map(_unary, ["tanh", "erf", "sigmoid", "floor", "ceil"])
isnan, isinf, sign, sin, cos = map(_unary, ["isnan", "isinf", "sign", "sin", "cos"])
round, abs = _unary("round"), _unary("abs")


def maximum(a, b) -> Expr:
    return apply("max", a, b)


def minimum(a, b) -> Expr:
    return apply("min", a, b)


def power(a, b) -> Expr:
    return apply("pow", a, b)


def select(condition: Expr, a, b) -> Expr:
    """`a` where the condition holds, else `b`."""
    if condition.op == "const":
        chosen, other = (a, b) if condition.data else (b, a)
        return chosen if isinstance(chosen, Expr) else const(chosen, other.dtype)
    if a is b:
        return a
    return apply("select", condition, a, b)


def cast(x: Expr, dtype) -> Expr:
    """Convert: float to int truncates; to bool is `!= 0`.

    Narrowing to a half type and widening again inside one kernel is dropped: the value stays in
    the wider type, which is more precise than the graph asks for.
    """
    dtype = dtype_of(dtype)
    if x.dtype == dtype:
        return x
    if x.op == "const":
        return (
            const(x.data, dtype)
            if _const_cast_is_exact(x.data, dtype)
            else make("cast", (x,), None, dtype)
        )
    inner = x.args[0] if x.op == "cast" else None
    if inner is not None and inner.dtype == dtype == F32 == x.dtype.compute:
        return inner
    if dtype == BOOL:
        return compare("ne", x, 0)
    return make("cast", (x,), None, dtype)


def _const_cast_is_exact(value, dtype) -> bool:
    if dtype.is_float:
        return dtype.bits >= 32
    if dtype == BOOL:
        return True
    low, high = (-(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1) if dtype.kind == "i" else (
        0, 2**dtype.bits - 1)  # fmt: skip
    return math.isfinite(value) and low <= int(value) <= high


def reduce(combiner: str, axes: Sequence, body: Callable | Expr, dtype=None) -> Expr:
    """`combiner` over axes of `body`.

    `axes` are Axis objects with `body` an Expr, or extents with `body` a function of the new
    axes' indices. `dtype` is the accumulator's (default: the body's own compute type).
    """
    axes = [a if isinstance(a, Axis) else Axis("k", int(a)) for a in axes]
    if callable(body) and not isinstance(body, Expr):
        body = body(*[axis(a) for a in axes])
    dtype = dtype_of(dtype) if dtype is not None else body.dtype.compute
    body = cast(body, dtype)
    axes = tuple(a for a in axes if a.extent != 1)
    return make("reduce", (body,), (combiner, axes), dtype) if axes else body


def reduce_sum(axes, body, dtype=None) -> Expr:
    return reduce("sum", axes, body, dtype)


def compare(op: str, a: Expr, b) -> Expr:
    """lt, le, gt, ge, eq, ne; resolved where the ranges of the indices allow."""
    b = lift(b, a)
    if a.op == b.op == "const":
        return const(_COMPARE[op](a.data, b.data), BOOL)
    if a.dtype == I64:
        (alo, ahi), (blo, bhi) = bounds(a), bounds(b)
        known = {
            "lt": (ahi < blo, alo >= bhi), "le": (ahi <= blo, alo > bhi),
            "gt": (alo > bhi, ahi <= blo), "ge": (alo >= bhi, ahi < blo),
            "eq": (alo == ahi == blo == bhi, ahi < blo or alo > bhi),
            "ne": (ahi < blo or alo > bhi, alo == ahi == blo == bhi),
        }[op]  # fmt: skip
        if known[0] or known[1]:
            return const(known[0], BOOL)
    return apply(op, a, b)


_COMPARE = {
    "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b, "eq": lambda a, b: a == b, "ne": lambda a, b: a != b,
}  # fmt: skip


def eq(a, b) -> Expr:
    return compare("eq", a, b)


def ne(a, b) -> Expr:
    return compare("ne", a, b)


def logical_and(a: Expr, b: Expr) -> Expr:
    for x, y in ((a, b), (b, a)):
        if x.op == "const":
            return y if x.data else x
    return a if a is b else apply("and", a, b)


def logical_or(a: Expr, b: Expr) -> Expr:
    for x, y in ((a, b), (b, a)):
        if x.op == "const":
            return x if x.data else y
    return a if a is b else apply("or", a, b)


def logical_not(a: Expr) -> Expr:
    return const(not a.data, BOOL) if a.op == "const" else apply("not", a)


# -- index arithmetic ----------------------------------------------------------------------


def linear(e: Expr) -> tuple[dict[Expr, int], int]:
    """`e` as {term: coefficient} and a constant, terms being axes or opaque expressions."""
    if e.op == "const":
        return {}, e.data
    if e.op == "add":
        (a, ca), (b, cb) = map(linear, e.args)
        total = dict(a)
        for term, c in b.items():
            total[term] = total.get(term, 0) + c
        return {t: c for t, c in total.items() if c}, ca + cb
    if e.op == "mul" and e.args[1].op == "const":
        terms, c = linear(e.args[0])
        factor = e.args[1].data
        return {t: k * factor for t, k in terms.items()}, c * factor
    return {e: 1}, 0


def from_linear(terms: dict[Expr, int], constant: int) -> Expr:
    """The canonical sum: terms by age, the constant last."""
    total = None
    for term, c in sorted(terms.items(), key=lambda t: t[0].serial):
        if c:
            product = term if c == 1 else make("mul", (term, const(c)), None, I64)
            total = product if total is None else make("add", (total, product), None, I64)
    if total is None:
        return const(constant)
    return total if constant == 0 else make("add", (total, const(constant)), None, I64)


def add(a: Expr, b) -> Expr:
    b = lift(b, a)
    if a.dtype != I64:
        return apply("add", a, b)
    (ta, ca), (tb, cb) = linear(a), linear(b)
    for term, c in tb.items():
        ta[term] = ta.get(term, 0) + c
    return from_linear({t: c for t, c in ta.items() if c}, ca + cb)


def sub(a: Expr, b) -> Expr:
    b = lift(b, a)
    return add(a, mul(b, -1)) if a.dtype == I64 else apply("sub", a, b)


def mul(a: Expr, b) -> Expr:
    b = lift(b, a)
    if a.dtype != I64:
        return apply("mul", a, b)
    if a.op == "const":
        a, b = b, a
    if b.op != "const":
        return make("mul", (a, b), None, I64)
    terms, c = linear(a)
    return from_linear({t: k * b.data for t, k in terms.items() if b.data}, c * b.data)


def floordiv(a: Expr, b) -> Expr:
    b = lift(b, a)
    if a.dtype != I64 or b.op != "const" or b.data <= 0:
        return apply("floordiv", a, b)
    quotient, rest = _split(a, b.data)
    low, high = bounds(rest)
    if low // b.data == high // b.data:
        return add(quotient, int(low // b.data))
    if rest.op == "floordiv" and rest.args[1].op == "const":
        rest, b = rest.args[0], const(rest.args[1].data * b.data)
    return add(quotient, make("floordiv", (rest, b), None, I64))


def mod(a: Expr, b) -> Expr:
    b = lift(b, a)
    if a.dtype != I64 or b.op != "const" or b.data <= 0:
        return apply("mod", a, b)
    _, rest = _split(a, b.data)
    low, high = bounds(rest)
    if low // b.data == high // b.data:
        return sub(rest, int(low // b.data) * b.data)
    return make("mod", (rest, b), None, I64)


def _split(a: Expr, divisor: int) -> tuple[Expr, Expr]:
    """a = divisor * quotient + rest, taking whole multiples out of the linear form."""
    terms, c = linear(a)
    quotient = {t: k // divisor for t, k in terms.items() if k % divisor == 0}
    rest = {t: k for t, k in terms.items() if k % divisor}
    return from_linear(quotient, c // divisor), from_linear(rest, c % divisor)


def _min_max(op: str, a: Expr, b: Expr) -> Expr:
    (alo, ahi), (blo, bhi) = bounds(a), bounds(b)
    if a is b or (ahi <= blo if op == "min" else alo >= bhi):
        return a
    if bhi <= alo if op == "min" else blo >= ahi:
        return b
    return make(op, (a, b), None, I64)


def bounds(e: Expr) -> tuple[float, float]:
    """Smallest and largest value that an index expression can take (infinite if unknown)."""
    match e.op:
        case "const":
            return e.data, e.data
        case "axis":
            return 0, e.data.extent - 1
        case "add":
            (a, b), (c, d) = bounds(e.args[0]), bounds(e.args[1])
            return a + c, b + d
        case "mul" if e.args[1].op == "const":
            a, b = bounds(e.args[0])
            f = e.args[1].data
            return (a * f, b * f) if f >= 0 else (b * f, a * f)
        case "floordiv" if e.args[1].op == "const" and e.args[1].data > 0:
            f = e.args[1].data
            return tuple(v if math.isinf(v) else v // f for v in bounds(e.args[0]))
        case "mod" if e.args[1].op == "const" and e.args[1].data > 0:
            return 0, e.args[1].data - 1
        case "min" | "max":
            f = min if e.op == "min" else max
            (a, b), (c, d) = bounds(e.args[0]), bounds(e.args[1])
            return f(a, c), f(b, d)
        case "select":
            (a, b), (c, d) = bounds(e.args[1]), bounds(e.args[2])
            return min(a, c), max(b, d)
    return -math.inf, math.inf


def strides_of(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    result, step = [], 1
    for d in reversed(shape):
        result.append(step)
        step *= d
    return tuple(reversed(result))


def flatten(index: Sequence[Expr], shape: Sequence[int]) -> Expr:
    """The offset of a multi-index in a dense row-major array, in elements."""
    total = const(0)
    for i, stride in zip(index, strides_of(shape)):
        total = add(total, mul(i, stride))
    return total


def unflatten(offset: Expr, shape: Sequence[int]) -> tuple[Expr, ...]:
    """The multi-index of an offset."""
    result = []
    for position, stride in enumerate(strides_of(shape)):
        i = floordiv(offset, stride) if stride else const(0)
        result.append(i if position == 0 else mod(i, shape[position]))
    return tuple(result)


# -- walking -------------------------------------------------------------------------------


def rebuild(e: Expr, args: Sequence[Expr]) -> Expr:
    """`e` with other arguments, simplified again."""
    if all(a is b for a, b in zip(e.args, args)):
        return e
    match e.op:
        case "load":
            return load(e.data, args)
        case "reduce":
            return reduce(e.data[0], e.data[1], args[0], e.dtype)
        case "cast":
            return cast(args[0], e.dtype)
        case "select":
            return select(*args)
    return _REBUILD[e.op](*args) if e.op in _REBUILD else apply(e.op, *args)


_REBUILD = {
    "add": add, "sub": sub, "mul": mul, "floordiv": floordiv, "mod": mod,
    "and": logical_and, "or": logical_or, "not": logical_not,
} | {op: (lambda a, b, op=op: compare(op, a, b)) for op in _COMPARE}  # fmt: skip


def transform(e: Expr, visit: Callable[[Expr], Expr | None], memo: dict | None = None) -> Expr:
    """Bottom-up rewrite. `visit(original)` may return a replacement (not descended into)."""
    memo = {} if memo is None else memo
    if e not in memo:
        replacement = visit(e)
        if replacement is None:
            replacement = rebuild(e, [transform(a, visit, memo) for a in e.args])
        memo[e] = replacement
    return memo[e]


def substitute(e: Expr, binding: dict[Axis, Expr], memo: dict | None = None) -> Expr:
    """Replace axes by expressions."""
    return transform(e, lambda x: binding.get(x.data) if x.op == "axis" else None, memo)


def walk(*roots: Expr):
    """Every distinct expression below the roots, arguments first."""
    seen: set[Expr] = set()
    stack = [(r, False) for r in reversed(roots)]
    while stack:
        e, done = stack.pop()
        if done:
            yield e
        elif e not in seen:
            seen.add(e)
            stack.append((e, True))
            stack += [(a, False) for a in reversed(e.args) if a not in seen]


_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "mod": "%",
          "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
          "and": "&", "or": "|"}  # fmt: skip


def show(e: Expr, names: dict | None = None) -> str:
    """Text of an expression; `names` renames axes and buffers."""

    def name(x):
        return names.get(x, x.name) if names else x.name

    if names and e in names:
        return names[e]
    match e.op:
        case "axis":
            return name(e.data)
        case "const":
            return repr(e.data) if e.dtype in (I64, BOOL) else f"{e.data!r}:{e.dtype}"
        case "load":
            return f"{name(e.data)}[{', '.join(show(a, names) for a in e.args)}]"
        case "reduce":
            axes = ", ".join(f"{name(a)}<{a.extent}" for a in e.data[1])
            return f"{e.data[0]}:{e.dtype}({axes}; {show(e.args[0], names)})"
        case "cast":
            return f"{e.dtype}({show(e.args[0], names)})"
        case op if op in _INFIX:
            return f"({f' {_INFIX[op]} '.join(show(a, names) for a in e.args)})"
    return f"{e.op}({', '.join(show(a, names) for a in e.args)})"
