"""Elementwise operators: unary, binary (with the broadcasting of opset < 7), n-ary, choices."""

import numpy as np

from .....compiler.ir.builder import Tensor
from .....compiler.ir.types import DTYPES, F32, F64, DType
from ...file.proto import dtype_of_element
from ...read.call import Call
from ...read.folded import FoldedValue


def unary(op: str, **defaults):
    """`op(x)` with its attributes (name = ONNX default)."""

    def entry(c: Call):
        attrs = {name: c.attr(name, value) for name, value in defaults.items()}
        return c.b.emit(op, c.x(0), **attrs)

    return entry


def binary(op: str):
    def entry(c: Call):
        return c.b.emit(op, *legacy_broadcast(c))

    return entry


def legacy_broadcast(c: Call) -> tuple[Tensor, Tensor]:
    """Both operands; before opset 7, y's axes are matched with x's from `axis` on."""
    x, y = c.x(0), c.x(1)
    if c.version >= 7:
        return x, y
    broadcast = c.attr("broadcast", 0)
    axis = c.attr("axis", None)
    if broadcast and axis is not None and y.rank > 0:
        axis = axis % x.rank if x.rank else 0
        y = c.b.emit("reshape", y, shape=y.shape + (1,) * (x.rank - axis - y.rank))
    return x, y


def nary(op: str):
    """A left fold: max(max(a, b), c)."""

    def entry(c: Call):
        result, *rest = c.tensors
        for x in rest:
            result = c.b.emit(op, result, x)
        return result

    return entry


def mean(c: Call):
    total = nary("add")(c)
    return c.b.emit("div", total, c.scalar(len(c.inputs), total.dtype))


def pow_(c: Call):
    """x^y in the type of x. Where y has another one, neither loses digits before the power."""
    x, y = legacy_broadcast(c)
    if x.dtype == y.dtype:
        return c.b.emit("pow", x, y)
    if x.dtype.is_float:
        wide = _exponent_type(x, y)
        return c.b.emit("pow", x.cast(wide), y.cast(wide)).cast(x.dtype)
    if y.dtype.is_float:
        return _integer_to_float_power(c, x, y)
    return c.b.emit("pow", x.cast("i64"), y.cast("i64")).cast(x.dtype)


def _exponent_type(x, y):
    """The float type in which x^y is computed: that of x where it holds y exactly (x^2), else a
    wider one: the last bit of an exponent can decide the sign."""
    if isinstance(y, FoldedValue) and not y.symbolic:
        with np.errstate(all="ignore"):
            narrow = y.array.astype(x.dtype.numpy)
            if np.array_equal(narrow.astype(y.array.dtype), y.array):
                return x.dtype
    small = y.dtype.is_float and max(y.dtype.bits, 2 * x.dtype.bits) <= 32
    return F32 if small else F64


def _integer_to_float_power(c: Call, x, y):
    """An integer to a float power: computed in f64 and rounded towards zero, as in ONNX Runtime.

    A power in f64 may be a last place below the right one, which must not make 124 of 5^3. So whole
    exponents are powers of integers, rounded to f64, and 9^1.5 is 3^3. The one exponent 2 or 3 is a
    product of integers. What does not fit the type is undefined in ONNX.
    """
    b = c.b
    if isinstance(y, FoldedValue) and y.array.size == 1 and y.array.reshape(()) in (2, 3):
        power = b.emit("mul", x, x)
        power = power if y.array.reshape(()) == 2 else b.emit("mul", power, x)
        return power if y.rank <= x.rank else power.reshape((1,) * (y.rank - x.rank) + x.shape)
    number = lambda v: c.scalar(v, F64)
    base, exponent = x.cast(F64), y.cast(F64)
    for _ in range(2):
        root, there = b.emit("sqrt", base), b.emit("equal", b.emit("floor", exponent), exponent)
        square = b.emit("equal", b.emit("mul", b.emit("round", root), root), base)
        take = b.emit("and", square, b.emit("not", there))
        base = b.emit("where", take, root, base)
        exponent = b.emit("where", take, b.emit("mul", exponent, number(2)), exponent)
    power = b.emit("pow", base, exponent)
    times = b.emit("floor", b.emit("minimum", b.emit("maximum", exponent, number(0)), number(63)))
    exact = b.emit("pow", base.cast("i64"), times.cast("i64")).cast(F64)
    fits = b.emit("less", b.emit("abs", power), number(2.0**63 - 2.0**14))
    whole = b.emit("and", b.emit("equal", exponent, times), fits)
    return b.emit("where", whole, exact, power).cast(x.dtype)


def mod(c: Call):
    return c.b.emit("mod", c.x(0), c.x(1), fmod=bool(c.attr("fmod", 0)))


def clip(c: Call):
    x = c.x(0)
    if c.version < 11:
        low, high = c.attr("min", None), c.attr("max", None)
        bounds = [None if v is None else c.scalar(v, x.dtype) for v in (low, high)]
    else:
        bounds = [None if v is None else v.reshape(()) for v in (c[1], c[2])]
    if bounds == [None, None]:
        return x
    return c.b.emit("clip", x, *bounds)


def cast(c: Call):
    x = c.x(0)
    to = c.attr("to")
    dtype = DTYPES[_OLD_NAMES[to]] if isinstance(to, str) else dtype_of_element(to, c.where)
    return _cast(c, x, dtype)


_OLD_NAMES = {
    "FLOAT": "f32",
    "DOUBLE": "f64",
    "FLOAT16": "f16",
    "INT64": "i64",
    "INT32": "i32",
    "INT16": "i16",
    "INT8": "i8",
    "UINT64": "u64",
    "UINT32": "u32",
    "UINT16": "u16",
    "UINT8": "u8",
    "BOOL": "bool",
    "STRING": "str",
}


def _cast(c: Call, x: Tensor, dtype: DType):
    """`saturate` and `round_mode` say something about 8-bit floats only."""
    saturate, mode = bool(c.attr("saturate", 1)), c.attr("round_mode", "up")
    if not (dtype.is_float and dtype.bits == 8):
        return x.cast(dtype)
    return x.cast(dtype, saturate=saturate, round_mode=mode if dtype.name == "f8e8m0" else "up")


def cast_like(c: Call):
    return _cast(c, c.x(0), c.x(1).dtype)


def bit_cast(c: Call):
    dtype = dtype_of_element(c.attr("to"), c.where)
    return c.b.emit("bit_cast", c.x(0), dtype=dtype)


def isinf(c: Call):
    x = c.x(0)
    negative, positive = c.attr("detect_negative", 1), c.attr("detect_positive", 1)
    infinite = c.b.emit("isinf", x)
    if negative and positive:
        return infinite
    zero = c.scalar(0, x.dtype)
    if not (negative or positive):
        return c.b.emit("isnan", c.b.emit("sub", zero, zero).expand(x.shape))
    sign = c.b.emit("greater" if positive else "less", x, zero)
    return c.b.emit("and", infinite, sign)


def bit_shift(c: Call):
    left = c.attr("direction") == "LEFT"
    return c.b.emit("shift_left" if left else "shift_right", c.x(0), c.x(1))


def swish(c: Call):
    x, alpha = c.x(0), c.attr("alpha", 1.0)
    if alpha == 1.0:
        return c.b.emit("silu", x)
    return x * c.b.emit("sigmoid", x * alpha)


def prelu(c: Call):
    """Before opset 7 the slope belongs to axis 1; later it broadcasts from the right."""
    x, slope = c.x(0), c.x(1)
    if c.version < 7 and slope.rank == 1 and x.rank > 2:
        slope = slope.reshape(slope.shape + (1,) * (x.rank - 2))
    return c.b.emit("prelu", x, slope)


def shrink(c: Call):
    """x + bias below -lambd, x - bias above lambd, else 0. Of ints in f64, truncated."""
    x, bias, lambd = c.x(0), c.attr("bias", 0.0), c.attr("lambd", 0.5)
    h = x if x.dtype.is_float else x.cast(F64)
    above = c.b.emit("where", h > lambd, h - bias, c.scalar(0, h.dtype))
    return c.b.emit("where", h < -lambd, h + bias, above).cast(x.dtype)


def gelu(c: Call):
    return c.b.emit("gelu", c.x(0), approximate=c.attr("approximate", "none"))


def where(c: Call):
    """A decided condition picks an operand, so that dims stay known."""
    condition, x, y = c.x(0), c.x(1), c.x(2)
    if isinstance(condition, FoldedValue) and condition.array.size == 1 and not condition.symbolic:
        chosen = x if bool(condition.array.reshape(())) else y
        if condition.rank == 0 and x.shape == y.shape:
            return chosen
    return c.b.emit("where", condition, x, y)


_UNARY = (
    "Exp Log Sqrt Reciprocal Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh Erf "
    "Sigmoid Softplus Softsign Floor Ceil Round Neg Abs Sign Relu Not Mish"
)
TABLE = {name: unary(name.lower()) for name in _UNARY.split()} | {
    "BitwiseNot": unary("bitwise_not"),
    "IsNaN": unary("isnan"),
    "IsInf": isinf,
    "Elu": unary("elu", alpha=1.0),
    "Selu": unary("selu", alpha=1.6732631921768188, gamma=1.0507010221481323),
    "Celu": unary("celu", alpha=1.0),
    "LeakyRelu": unary("leaky_relu", alpha=0.01),
    "ThresholdedRelu": unary("thresholded_relu", alpha=1.0),
    "HardSigmoid": unary("hard_sigmoid", alpha=0.2, beta=0.5),
    "HardSwish": unary("hard_swish"),
    "Gelu": gelu,
    "Swish": swish,
    "Add": binary("add"),
    "Sub": binary("sub"),
    "Mul": binary("mul"),
    "Div": binary("div"),
    "Pow": pow_,
    "Mod": mod,
    "PRelu": prelu,
    "And": binary("and"),
    "Or": binary("or"),
    "Xor": binary("xor"),
    "Equal": binary("equal"),
    "Less": binary("less"),
    "Greater": binary("greater"),
    "LessOrEqual": binary("less_equal"),
    "GreaterOrEqual": binary("greater_equal"),
    "BitwiseAnd": binary("bitwise_and"),
    "BitwiseOr": binary("bitwise_or"),
    "BitwiseXor": binary("bitwise_xor"),
    "BitShift": bit_shift,
    "Shrink": shrink,
    "Where": where,
    "Max": nary("maximum"),
    "Min": nary("minimum"),
    "Sum": nary("add"),
    "Mean": mean,
    "Clip": clip,
    "Cast": cast,
    "CastLike": cast_like,
    "BitCast": bit_cast,
}
