"""numpy's functions of single elements. Those that an op of tessel means are a table."""

from typing import Any

import ml_dtypes
import numpy as np

from .movement import where
from .traced import OPERATORS, TracedArray, binary, cast, emit, find, joined, lift

# numpy's name: the op, of floats (ints become f32 first).
OF_FLOATS = {
    "exp": "exp",
    "log": "log",
    "sqrt": "sqrt",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "sinh": "sinh",
    "cosh": "cosh",
    "tanh": "tanh",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
    "reciprocal": "reciprocal",
    "isnan": "isnan",
    "isinf": "isinf",
}
# numpy's name: the op, of numbers of any kind; those that ints keep.
OF_NUMBERS = {"negative": "neg", "sign": "sign"}
ROUNDING = {"floor": "floor", "ceil": "ceil", "rint": "round"}


def as_float(x: TracedArray) -> TracedArray:
    return x if _floats(x) else cast(x, "float32")


def _floats(x: TracedArray) -> bool:
    return x.array.dtype.is_float


def _of_floats(op: str) -> Any:
    return lambda x: emit(op, as_float(x))


def _of_numbers(op: str) -> Any:
    return lambda x: emit(op, x)


def _rounding(op: str) -> Any:
    return lambda x: emit(op, x) if _floats(x) else x


def in_f64(f: Any) -> Any:
    """A function whose plain formula loses digits near 0, computed in f64."""
    return lambda x: cast(f(cast(x, "float64")), as_float(x).dtype)


def square(x: TracedArray) -> TracedArray:
    return x * x


def absolute(x: TracedArray) -> TracedArray:
    return abs(x)


def round_(x: TracedArray, decimals: int = 0) -> TracedArray:
    if not _floats(x) or decimals == 0:
        return x if not _floats(x) else emit("round", x)
    scale = 10.0**decimals
    return emit("round", x * scale) / scale


def trunc(x: TracedArray) -> TracedArray:
    return where(x < 0, emit("ceil", x), emit("floor", x)) if _floats(x) else x


def clip(x: Any, a_min: Any = None, a_max: Any = None, **_: Any) -> TracedArray:
    x = lift(find(x, a_min, a_max), x)
    if a_min is not None:
        x = OPERATIONS["maximum"](x, a_min)
    return x if a_max is None else OPERATIONS["minimum"](x, a_max)


def logical_not(x: TracedArray) -> TracedArray:
    return emit("not", truth(x))


def truth(x: TracedArray) -> TracedArray:
    return x if x.dtype == bool else x != 0


def _logical(op: str) -> Any:
    def apply(x: Any, y: Any) -> TracedArray:
        like = find(x, y)
        return emit(op, truth(lift(like, x)), truth(lift(like, y)))

    return apply


def expm1(x: TracedArray) -> TracedArray:
    return emit("exp", x) - 1.0


def log1p(x: TracedArray) -> TracedArray:
    return emit("log", x + 1.0)


def logaddexp(x: Any, y: Any) -> TracedArray:
    x, y = joined(x, y, floating=True)
    return OPERATIONS["maximum"](x, y) + emit("softplus", -abs(x - y))


def logaddexp2(x: Any, y: Any) -> TracedArray:
    x, y = joined(x, y, floating=True)
    ln2 = float(np.log(2))
    return logaddexp(x * ln2, y * ln2) / ln2


def fmod(x: Any, y: Any) -> TracedArray:
    return emit("mod", *joined(x, y), fmod=True)


def isfinite(x: TracedArray) -> TracedArray:
    if not _floats(x):
        return lift(x, np.ones(x.shape, bool))
    return emit("not", emit("or", emit("isnan", x), emit("isinf", x)))


def isclose(x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    x, y = joined(x, y, floating=True)
    close = emit("and", abs(x - y) <= abs(y) * rtol + atol, isfinite(y))
    close = emit("or", close, x == y)
    both = emit("and", emit("isnan", x), emit("isnan", y))
    return emit("or", close, both) if equal_nan else close


def nan_to_num(
    x: TracedArray, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> TracedArray:
    if not _floats(x):
        return x
    info = ml_dtypes.finfo(x.dtype)
    high = float(info.max) if posinf is None else posinf
    low = float(info.min) if neginf is None else neginf
    infinite = emit("isinf", x)
    x = where(emit("and", infinite, x > 0), high, where(emit("and", infinite, x < 0), low, x))
    return where(emit("isnan", x), nan, x)


def hypot(x: Any, y: Any) -> TracedArray:
    x, y = joined(x, y, floating=True)
    return emit("sqrt", x * x + y * y)


def heaviside(x: Any, y: Any) -> TracedArray:
    x, y = joined(x, y, floating=True)
    return where(x < 0, 0.0, where(x > 0, 1.0, y)).astype(x.dtype)


def sinc(x: TracedArray) -> TracedArray:
    x = as_float(x) * float(np.pi)
    safe = where(x == 0, np.array(1, x.dtype), x)
    return where(x == 0, np.array(1, x.dtype), emit("sin", safe) / safe)


def cbrt(x: TracedArray) -> TracedArray:
    x = as_float(x)
    return emit("sign", x) * emit("pow", abs(x), lift(x, 1 / 3, x.dtype))


def fabs(x: TracedArray) -> TracedArray:
    return abs(as_float(x))


OPERATIONS: dict[str, Any] = {
    **{name: _of_floats(op) for name, op in OF_FLOATS.items()},
    **{name: _of_numbers(op) for name, op in OF_NUMBERS.items()},
    **{name: _rounding(op) for name, op in ROUNDING.items()},
    "add": OPERATORS["add"],
    "subtract": OPERATORS["sub"],
    "multiply": OPERATORS["mul"],
    "divide": OPERATORS["truediv"],
    "true_divide": OPERATORS["truediv"],
    "floor_divide": OPERATORS["floordiv"],
    "power": OPERATORS["pow"],
    "mod": OPERATORS["mod"],
    "remainder": OPERATORS["mod"],
    "fmod": fmod,
    "matmul": OPERATORS["matmul"],
    "maximum": binary("maximum"),
    "minimum": binary("minimum"),
    "equal": OPERATORS["eq"],
    "not_equal": OPERATORS["ne"],
    "less": OPERATORS["lt"],
    "less_equal": OPERATORS["le"],
    "greater": OPERATORS["gt"],
    "greater_equal": OPERATORS["ge"],
    "bitwise_and": OPERATORS["and"],
    "bitwise_or": OPERATORS["or"],
    "bitwise_xor": OPERATORS["xor"],
    "bitwise_not": lambda x: ~x,
    "invert": lambda x: ~x,
    "left_shift": OPERATORS["lshift"],
    "right_shift": OPERATORS["rshift"],
    "bitwise_left_shift": OPERATORS["lshift"],
    "bitwise_right_shift": OPERATORS["rshift"],
    "logical_and": _logical("and"),
    "logical_or": _logical("or"),
    "logical_xor": _logical("xor"),
    "logical_not": logical_not,
    "abs": absolute,
    "absolute": absolute,
    "fabs": fabs,
    "square": square,
    "round": round_,
    "around": round_,
    "trunc": trunc,
    "clip": clip,
    "expm1": in_f64(expm1),
    "log1p": in_f64(log1p),
    "exp2": lambda x: emit("exp", as_float(x) * float(np.log(2))),
    "log2": lambda x: emit("log", as_float(x)) * float(1 / np.log(2)),
    "log10": lambda x: emit("log", as_float(x)) * float(1 / np.log(10)),
    "logaddexp": logaddexp,
    "logaddexp2": logaddexp2,
    "isfinite": isfinite,
    "isposinf": lambda x: emit("and", emit("isinf", as_float(x)), x > 0),
    "isneginf": lambda x: emit("and", emit("isinf", as_float(x)), x < 0),
    "isclose": isclose,
    "nan_to_num": nan_to_num,
    "hypot": hypot,
    "heaviside": heaviside,
    "sinc": sinc,
    "cbrt": cbrt,
    "deg2rad": lambda x: as_float(x) * float(np.pi / 180),
    "rad2deg": lambda x: as_float(x) * float(180 / np.pi),
    "ldexp": lambda x, e: as_float(x) * emit("exp", cast(e, "float32") * float(np.log(2))),
    "real": lambda x: x,
    "conj": lambda x: x,
    "conjugate": lambda x: x,
    "isreal": lambda x: lift(x, np.ones(x.shape, bool)),
    "imag": lambda x: np.zeros(x.shape, x.dtype),
}
