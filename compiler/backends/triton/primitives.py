"""What each primitive of `loops.expr` is called in Triton, once.

`TABLE[op]` maps a type, or the kind of a type, to a template over its arguments: first an exact
name ("float32"), then the kind (f, i, u, b), then "*". Infix templates take Python literals beside
a tensor; all others need tensors (Triton reads a bare literal as f32 or i32).
"""

from ...classes import dataclass
from ...errors import UnsupportedError
from ...ir.types import DType

# dtype name -> (type of values in registers, type of the pointer's elements, its signature)
TYPES = {
    "f64": ("float64", "float64", "fp64"),
    "f32": ("float32", "float32", "fp32"),
    "f16": ("float16", "float16", "fp16"),
    "bf16": ("bfloat16", "bfloat16", "bf16"),
    "f8e4m3fn": ("float8e4nv", "float8e4nv", "fp8e4nv"),
    "f8e4m3fnuz": ("float8e4b8", "float8e4b8", "fp8e4b8"),
    "f8e5m2": ("float8e5", "float8e5", "fp8e5"),
    "f8e5m2fnuz": ("float8e5b16", "float8e5b16", "fp8e5b16"),
    "i64": ("int64", "int64", "i64"),
    "i32": ("int32", "int32", "i32"),
    "i16": ("int16", "int16", "i16"),
    "i8": ("int8", "int8", "i8"),
    "i4": ("int8", "int8", "i8"),
    "i2": ("int8", "int8", "i8"),
    "u64": ("uint64", "uint64", "u64"),
    "u32": ("uint32", "uint32", "u32"),
    "u16": ("uint16", "uint16", "u16"),
    "u8": ("uint8", "uint8", "u8"),
    "u4": ("uint8", "uint8", "u8"),
    "u2": ("uint8", "uint8", "u8"),
    "bool": ("int1", "int8", "i8"),
}


def type_name(dtype: DType) -> str:
    """The Triton type of a value. Raises UnsupportedError for strings."""
    if dtype.name not in TYPES:
        raise UnsupportedError(
            f"the GPU has no {dtype}",
            received=dtype,
            fix="run this model, or the part that uses it, on the CPU (target='cpu')",
        )
    return TYPES[dtype.name][0]


def kind_of(type: str) -> str:
    """f, i, u or b."""
    return "b" if type == "int1" else {"f": "f", "b": "f", "i": "i", "u": "u"}[type[0]]


@dataclass(frozen=True)
class Val:
    """A value in the text: a name or a literal, the tile's dims that it varies over, its type."""

    text: str
    dims: frozenset
    type: str
    literal: bool = False


_INT = lambda text: {"i": text, "u": text}
_ROUND = {"f": "_round({0})", "i": "{0}", "u": "{0}"}

TABLE: dict[str, dict[str, str]] = {
    "add": {"*": "{0} + {1}", "b": "{0} | {1}"},
    "sub": {"*": "{0} - {1}", "b": "{0} ^ {1}"},
    "mul": {"*": "{0} * {1}", "b": "{0} & {1}"},
    "div": {"float32": "tl.div_rn({0}, {1})", "f": "{0} / {1}", **_INT("{0} // _nonzero({1})")},
    "truncdiv": _INT("{0} // _nonzero({1})"),
    "floordiv": {"i": "_floordiv({0}, {1})", "u": "{0} // _nonzero({1})"},
    "mod": {"f": "_fmod({0}, {1})", "i": "_mod({0}, {1})", "u": "{0} % _nonzero({1})"},
    "rem": {"f": "{0} % {1}", **_INT("{0} % _nonzero({1})")},
    "min": {"f": "_min({0}, {1})", "b": "{0} & {1}", "*": "tl.minimum({0}, {1})"},
    "max": {"f": "_max({0}, {1})", "b": "{0} | {1}", "*": "tl.maximum({0}, {1})"},
    "pow": {"f": "_pow({0}, {1})", "i": "_ipow({0}, {1})", "u": "_upow({0}, {1})"},
    "atan2": {"f": "_atan2({0}, {1})"},
    "copysign": {"f": "_copysign({0}, {1})"},
    "shl": _INT("{0} << {1}"),
    "shr": _INT("{0} >> {1}"),
    "bitand": {"*": "{0} & {1}"},
    "bitor": {"*": "{0} | {1}"},
    "bitxor": {"*": "{0} ^ {1}"},
    "lt": {"*": "{0} < {1}"},
    "le": {"*": "{0} <= {1}"},
    "gt": {"*": "{0} > {1}"},
    "ge": {"*": "{0} >= {1}"},
    "eq": {"*": "{0} == {1}"},
    "ne": {"*": "{0} != {1}"},
    "and": {"b": "{0} & {1}"},
    "or": {"b": "{0} | {1}"},
    "xor": {"b": "{0} ^ {1}"},
    "not": {"b": "~{0}"},
    "bitnot": _INT("~{0}"),
    "neg": {"*": "-{0}"},
    "abs": {"f": "tl.abs({0})", "i": "tl.abs({0})", "u": "{0}"},
    "sign": {"f": "_sign({0})", "i": "_isign({0})", "u": "tl.minimum({0}, 1)"},
    "exp": {"f": "tl.exp({0})"},
    "exp2": {"f": "tl.exp2({0})"},
    "expm1": {"f": "_expm1({0})"},
    "log": {"f": "tl.log({0})"},
    "log2": {"f": "tl.log2({0})"},
    "log1p": {"f": "_log1p({0})"},
    "sqrt": {"float32": "tl.sqrt_rn({0})", "f": "tl.sqrt({0})"},
    "rsqrt": {"f": "tl.rsqrt({0})"},
    "sin": {"f": "tl.sin({0})"},
    "cos": {"f": "tl.cos({0})"},
    "tan": {"f": "_tan({0})"},
    "asin": {"f": "_asin({0})"},
    "acos": {"f": "_acos({0})"},
    "atan": {"f": "_atan({0})"},
    "sinh": {"f": "_sinh({0})"},
    "cosh": {"f": "_cosh({0})"},
    "tanh": {"f": "_tanh({0})"},
    "asinh": {"f": "_asinh({0})"},
    "acosh": {"f": "_acosh({0})"},
    "atanh": {"f": "_atanh({0})"},
    "erf": {"f": "tl.erf({0})"},
    "normal_area": {"f": "0.5 * tl.erf({0} * 0.7071067811865476)"},
    "sigmoid": {"f": "_sigmoid({0})"},
    "floor": {"f": "tl.floor({0})", **_INT("{0}")},
    "ceil": {"f": "tl.ceil({0})", **_INT("{0}")},
    "trunc": {"f": "_trunc({0})", **_INT("{0}")},
    "round": _ROUND,
    "isnan": {"f": "{0} != {0}"},
    "isinf": {"f": 'tl.abs({0}) == float("inf")'},
    "select": {"*": "tl.where({0}, {1}, {2})"},
    "fma": {"f": "tl.fma({0}, {1}, {2})", "*": "{0} * {1} + {2}"},
}

# combiner -> (the primitive that joins two values, the reduction of a tile along axis 1)
COMBINE = {
    "sum": ("add", "tl.sum({0}, axis=1, keep_dims=True)"),
    "prod": ("mul", "tl.reduce({0}, 1, _mul, keep_dims=True)"),
    "max": ("max", "tl.reduce({0}, 1, _max, keep_dims=True)"),
    "min": ("min", "tl.reduce({0}, 1, _min, keep_dims=True)"),
    "or": ("or", "tl.max({0}.to(tl.int32), axis=1, keep_dims=True) != 0"),
    "and": ("and", "tl.min({0}.to(tl.int32), axis=1, keep_dims=True) != 0"),
}


def template_of(op: str, type: str) -> str:
    """The template of a primitive on arguments of a type. Raises UnsupportedError."""
    rows = TABLE[op]
    for key in (type, kind_of(type), "*"):
        if key in rows:
            return rows[key]
    raise UnsupportedError(f"the GPU backend has no {op} of {type}", received=f"{op}({type})")


def is_infix(template: str) -> bool:
    return "(" not in template


def tile_reduction(combiner: str, type: str) -> str:
    """The template that reduces a tile along axis 1."""
    if type[0] in "iu" and type != "int1" and combiner in ("max", "min"):
        return f"tl.{combiner}({{0}}, axis=1, keep_dims=True)"
    return COMBINE[combiner][1]


def identity_of(combiner: str, type: str) -> object:
    """What a combiner starts from."""
    kind = kind_of(type)
    match combiner:
        case "sum":
            return {"f": 0.0, "b": False}.get(kind, 0)
        case "prod":
            return {"f": 1.0, "b": True}.get(kind, 1)
        case "or" | "and":
            return combiner == "and"
    if kind == "b":
        return combiner == "min"
    if kind == "f":
        return float("inf") if combiner == "min" else float("-inf")
    low, high = int_range(type)
    return high if combiner == "min" else low


def int_range(type: str) -> tuple[int, int]:
    bits = int(type.lstrip("uint"))
    return (0, 2**bits - 1) if type[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def literal(value, type: str) -> str:
    """Python text of a constant."""
    if kind_of(type) == "f":
        value = float(value)
        if value != value or value in (float("inf"), float("-inf")):
            return f'float("{value}")'
        return repr(value)
    return repr(bool(value) if type == "int1" else int(value))


def cast_text(x: str, source: str, target: str) -> str:
    """Convert a tensor between Triton types: truncating, saturating, NaN to 0; bool is != 0."""
    if source == target:
        return x
    if target == "int1":
        return f"{x} != 0"
    if kind_of(source) == "f" and kind_of(target) in "iu":
        if source in ("float16", "bfloat16") or source.startswith("float8"):
            x = f"{x}.to(tl.float32)"
        low, high = int_range(target)
        return f"_to_int({x}, {low}, {high}, {float(high + 1)!r}, tl.{target})"
    if source.startswith("float8") and target in ("float64", "bfloat16"):
        x = f"{x}.to(tl.float32)"
    return f"{x}.to(tl.{target})"
