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

from ..ir.bounds import above, at_least
from ..ir.dims import Sym
from ..ir.types import BF16, BOOL, F16, F32, F64, I32, I64, DType, dtype_of
from .core import COMBINERS, PRIMITIVES, Axis, Buffer, Expr, axis, const, lift, load, make
from .index import (
    add,
    apply,
    bounds,
    flatten,
    floordiv,
    from_linear,
    linear,
    mod,
    mul,
    strides_of,
    sub,
    unflatten,
)
from .show import show

HALVES = (F16, BF16)


def _unary(name: str) -> Callable:
    return lambda x: apply(name, x)


neg, exp, log, sqrt, rsqrt = map(_unary, ["neg", "exp", "log", "sqrt", "rsqrt"])
tanh, erf, sigmoid, floor, ceil = map(_unary, ["tanh", "erf", "sigmoid", "floor", "ceil"])
normal_area = _unary("normal_area")  # norm_cdf(x) - 1/2 = erf(x / sqrt(2)) / 2; in tuning keys
isnan, isinf, sign, sin, cos = map(_unary, ["isnan", "isinf", "sign", "sin", "cos"])
round, abs = _unary("round"), _unary("abs")


def maximum(a, b) -> Expr:
    return apply("max", a, b)


def minimum(a, b) -> Expr:
    return apply("min", a, b)


def inside(i, size) -> Expr:
    """An index that is data, held within 0 … size - 1: generated code reads nowhere else."""
    return minimum(maximum(i, 0), size - 1)


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
    the wider type, which is more precise than the graph asks for. (Narrower types than halves are
    meant to round.) A whole float within an int's limits stays a float on the way there and back,
    which is what quantizing and dequantizing inside of a kernel is.
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
    if inner is not None and inner.dtype == dtype == F32 and x.dtype in HALVES:
        return inner
    if dtype == BOOL:
        return compare("ne", cast(x, x.dtype.compute), 0)
    there = _whole(x, dtype) if dtype in (F32, F64) and x.dtype.is_int else None
    return make("cast", (x,), None, dtype) if there is None else there


def _whole(x: Expr, dtype: DType) -> Expr | None:
    """An int that was made of a float of `dtype`, as that float, where this loses nothing:

    f32(u8(min(max(round(y), 0), 255)))  =>  min(max(round(y), 0), 255), where NaN becomes 0
    f32(i32(y))                          =>  y, a sum of a few products of short ints
    """
    if x.op in ("add", "sub") and x.args[1].op == "const" and x.dtype == I32:
        back, number = _whole(x.args[0], dtype), x.args[1].data
        if back is None or not -_EXACT < number < _EXACT:
            return None
        return apply(x.op, back, const(number, dtype))
    if x.op == "cast" and x.dtype == I32 and x.args[0].dtype == dtype:
        return x.args[0] if _is_exact_sum(x.args[0]) else None
    if x.op == "cast" and x.dtype == I32 and x.args[0].op == "cast" and _is_short(x.args[0]):
        (x,) = x.args
    if x.op != "cast" or not _is_short(x) or x.args[0].dtype != dtype:
        return None
    parts, bounds_of = x.args[0], {}
    while parts.op in ("min", "max") and parts.args[1].op == "const" and parts.op not in bounds_of:
        bounds_of[parts.op], parts = parts.args[1].data, parts.args[0]
    low, high = bounds_of.get("max", -math.inf), bounds_of.get("min", math.inf)
    least, most = limits(x.dtype)
    if not least <= low <= 0 <= high <= most or low % 1 or high % 1 or not _is_whole(parts):
        return None
    zero = const(0.0, dtype)
    if low == 0:
        clipped = select(parts > 0.0, parts, zero)
    else:  # + 0, since an int has no -0
        number = select(isnan(parts), zero, parts) + zero
        clipped = select(number > low, number, const(low, dtype))
    return select(clipped < high, clipped, const(high, dtype))


_EXACT = 1 << 22  # ints up to here are floats, and so are their sums with ints of 16 bits


def _is_exact_sum(x: Expr) -> bool:
    """Whether a float is a sum of integers of which every part is one that floats hold."""
    if x.op != "reduce" or x.data[0] != "sum" or any(isinstance(a.extent, Sym) for a in x.data[1]):
        return False
    most = _largest_int(x.args[0])
    return most is not None and most * math.prod(a.extent for a in x.data[1]) <= 1 << 24


def _largest_int(x: Expr) -> int | None:
    """How large a float is at most that sums, differences and products make of short ints."""
    if x.op == "const":
        return int(math.fabs(x.data)) if float(x.data).is_integer() else None
    if x.op == "cast":
        low, high = limits(x.args[0].dtype)
        return (-low if -low > high else high) if _is_short(x.args[0]) else None
    if x.op not in ("add", "sub", "mul"):
        return None
    left, right = map(_largest_int, x.args)
    if left is None or right is None:
        return None
    return left * right if x.op == "mul" else left + right


def _is_short(x: Expr) -> bool:
    return x.dtype.is_int and x.dtype.bits in (8, 16)


def _is_whole(x: Expr) -> bool:
    """Whether a float is an integer, infinite or NaN."""
    if x.op in ("add", "sub") and x.args[1].op == "const":
        return x.args[1].data % 1 == 0 and _is_whole(x.args[0])
    return x.op in ("round", "floor", "ceil", "trunc")


def bitcast(x: Expr, dtype) -> Expr:
    """The same bits, read as another dtype of as many; a bool is a byte, true if not zero."""
    dtype = dtype_of(dtype)
    return x if x.dtype == dtype else make("bitcast", (x,), None, dtype)


def _const_cast_is_exact(value, dtype) -> bool:
    if dtype.is_float:
        return dtype.bits >= 32
    if dtype == BOOL:
        return True
    low, high = limits(dtype)
    return math.isfinite(value) and low <= int(value) <= high


def limits(dtype: DType) -> tuple[int, int]:
    """The smallest and the largest number of a type of ints."""
    if dtype.kind == "i":
        return -(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1
    return 0, 2**dtype.bits - 1


def reduce(combiner: str, axes: Sequence, body: Callable | Expr, dtype=None) -> Expr:
    """`combiner` over axes of `body`.

    `axes` are Axis objects with `body` an Expr, or extents with `body` a function of the new
    axes' indices. `dtype` is the accumulator's (default: the body's own compute type). Over
    nothing, it is the combiner's identity: no schedule meets a loop that has no rounds.
    """
    axes = [a if isinstance(a, Axis) else Axis("k", a) for a in axes]
    if callable(body) and not isinstance(body, Expr):
        body = body(*[axis(a) for a in axes])
    dtype = dtype_of(dtype) if dtype is not None else body.dtype.compute
    body = cast(body, dtype)
    if any(a.extent == 0 for a in axes):
        return const(identity(combiner, dtype), dtype)
    axes = tuple(a for a in axes if a.extent != 1)
    return make("reduce", (body,), (combiner, axes), dtype) if axes else body


def identity(combiner: str, dtype: DType) -> int | float:
    """The neutral element: what a reduction over nothing is."""
    match combiner:
        case "sum" | "or":
            value = 0
        case "prod" | "and":
            value = 1
        case "max" | "min":
            low = combiner == "max"
            if dtype.is_float:
                value = -math.inf if low else math.inf
            elif dtype == BOOL:
                value = 0 if low else 1
            elif dtype.kind == "i":
                value = -(2 ** (dtype.bits - 1)) if low else 2 ** (dtype.bits - 1) - 1
            else:
                value = 0 if low else 2**dtype.bits - 1
    return float(value) if dtype.is_float else value


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
            "lt": (above(blo, ahi), at_least(alo, bhi)),
            "le": (at_least(blo, ahi), above(alo, bhi)),
            "gt": (above(alo, bhi), at_least(blo, ahi)),
            "ge": (at_least(alo, bhi), above(blo, ahi)),
            "eq": (alo == ahi == blo == bhi, above(blo, ahi) or above(alo, bhi)),
            "ne": (above(blo, ahi) or above(alo, bhi), alo == ahi == blo == bhi),
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
        case "bitcast":
            return bitcast(args[0], e.dtype)
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
    stack: list[Expr | None] = list(reversed(roots))
    while stack:
        e = stack.pop()
        if e is None:  # what lies below it has been there
            yield stack.pop()
        elif e not in seen:
            seen.add(e)
            if e.args:
                stack += [e, None]
                stack += [a for a in reversed(e.args) if a not in seen]
            else:
                yield e


# -- operators -----------------------------------------------------------------------------

Expr.__add__ = lambda self, o: add(self, o)
Expr.__radd__ = lambda self, o: add(lift(o, self), self)
Expr.__sub__ = lambda self, o: sub(self, o)
Expr.__rsub__ = lambda self, o: sub(lift(o, self), self)
Expr.__mul__ = lambda self, o: mul(self, o)
Expr.__rmul__ = lambda self, o: mul(lift(o, self), self)
Expr.__truediv__ = lambda self, o: apply("div", self, o)
Expr.__rtruediv__ = lambda self, o: apply("div", lift(o, self), self)
Expr.__floordiv__ = lambda self, o: floordiv(self, o)
Expr.__mod__ = lambda self, o: mod(self, o)
Expr.__neg__ = lambda self: apply("neg", self) if self.dtype.is_float else mul(self, -1)
Expr.__lt__ = lambda self, o: compare("lt", self, o)
Expr.__le__ = lambda self, o: compare("le", self, o)
Expr.__gt__ = lambda self, o: compare("gt", self, o)
Expr.__ge__ = lambda self, o: compare("ge", self, o)
Expr.__and__ = lambda self, o: logical_and(self, o)
Expr.__or__ = lambda self, o: logical_or(self, o)
Expr.__invert__ = lambda self: logical_not(self)

__all__ = [
    "BOOL", "COMBINERS", "F32", "I64", "PRIMITIVES", "Axis", "Buffer", "Expr", "abs", "add",
    "apply", "axis", "bitcast", "bounds", "cast", "ceil", "compare", "const", "cos", "eq", "erf",
    "exp", "flatten", "floor", "floordiv", "from_linear", "identity", "inside", "isinf", "isnan",
    "lift", "linear", "load", "log", "logical_and", "logical_not", "logical_or", "make", "maximum",
    "minimum", "mod", "mul", "ne", "neg", "normal_area", "power", "rebuild", "reduce",
    "reduce_sum", "round", "rsqrt", "select", "show", "sigmoid", "sign", "sin", "sqrt",
    "strides_of", "sub", "substitute", "tanh", "transform", "unflatten", "walk",
]  # fmt: skip
