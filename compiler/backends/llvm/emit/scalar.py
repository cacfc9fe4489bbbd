"""The scalar primitives as LLVM instructions, for a lane or a vector of lanes.

Integer division by zero and overflowing float-to-int conversions are defined (0, saturation) and
never trap: a model's data cannot crash the process.
"""

from collections.abc import Callable

import llvmlite.ir as ir

from ....expr.expr import PRIMITIVES
from ....ir.types import BOOL, DTYPES, F16, F32, F64, I32, DType
from ..base.types import (
    I1,
    I8,
    PTR,
    VOID,
    Splat,
    constant,
    intrinsic,
    register_type,
    suffix,
    vector,
)
from ..vmath import formulas
from .float_to_int import any_lane, float_to_int, float_to_long
from .narrow_floats import is_narrow, narrow, to_odd, widen


def prefetch(b: ir.IRBuilder, place: ir.Value, level: int) -> None:
    """Bring the cache line at `place` into the cache of a level (1 or 2) and those beyond it."""
    word = ir.IntType(32)
    f = intrinsic(b.module, "llvm.prefetch.p0", VOID, [PTR, word, word, word])
    b.call(f, [place, *(ir.Constant(word, x) for x in (0, 4 - level, 1))])


def lanes_of(value: ir.Value) -> int | None:
    return value.type.count if isinstance(value.type, ir.VectorType) else None


def splat(b: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """A scalar in every lane."""
    type = vector(value.type, lanes)
    if isinstance(value, ir.Constant):
        return Splat(type, value)
    undefined = ir.Constant(type, ir.Undefined)
    first = b.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(vector(ir.IntType(32), lanes), None)
    return b.shuffle_vector(first, undefined, zeros)


def multiply_add(b: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    """x * y + z, fused where the machine does that in one instruction (`fma` always is)."""
    name = f"llvm.fmuladd.{suffix(x.type)}"
    return b.call(intrinsic(b.module, name, x.type, [x.type] * 3), [x, y, z])


def _binary(float_op: str | None, signed: str, unsigned: str | None = None) -> Callable:
    def emit(b, dtype, x, y):
        op = float_op if dtype.is_float else signed if dtype.kind == "i" else unsigned or signed
        return getattr(b, op)(x, y)

    return emit


def _compare(sign: str) -> Callable:
    def emit(b, dtype, x, y):
        if dtype.is_float:
            return (b.fcmp_unordered if sign == "!=" else b.fcmp_ordered)(sign, x, y)
        return (b.icmp_signed if dtype.kind == "i" else b.icmp_unsigned)(sign, x, y)

    return emit


def _extremum(sign: str, name: str) -> Callable:
    """min and max; NaN wins. Which of two zeros does is left open."""

    def emit(b, dtype, x, y):
        if dtype.is_float:
            f = intrinsic(b.module, f"llvm.{name}.{suffix(x.type)}", x.type, [x.type, x.type])
            return b.call(f, [x, y], fastmath=("nsz",))
        compare = b.icmp_signed if dtype.kind == "i" else b.icmp_unsigned
        return b.select(compare(sign, x, y), x, y)

    return emit


def _int_division(signed: str, unsigned: str, floor: bool = False, remainder: bool = False):
    """Division of ints with a nonzero divisor put in for zero, and -1 kept from overflowing."""

    def emit(b, dtype, x, y):
        if dtype.is_float:
            if remainder:
                return _float_mod(b, dtype, x, y, floor)
            q = b.fdiv(x, y)
            return formulas.emit(b, "floor" if floor else "trunc", q) if signed != "fdiv" else q
        zero, one = _like(x, dtype, 0), _like(x, dtype, 1)
        y = b.select(b.icmp_signed("==", y, zero), one, y)
        as_floats = _divides_as_floats(dtype, x, y)
        if dtype.kind != "i":
            if not as_floats:
                return getattr(b, unsigned)(x, y)
            q = _quotient(b, dtype, x, y)
            return b.sub(x, b.mul(q, y)) if remainder else q
        minus = b.icmp_signed("==", y, _like(x, dtype, -1))
        safe = b.select(minus, one, y)
        q = _quotient(b, dtype, x, safe) if as_floats else b.sdiv(x, safe)
        r = b.sub(x, b.mul(q, safe)) if as_floats else b.srem(x, safe)
        q, r = b.select(minus, b.sub(zero, x), q), b.select(minus, zero, r)
        if floor:
            wrong = b.and_(
                b.icmp_signed("!=", r, zero),
                b.icmp_signed("<", b.xor(r, y), zero),
            )
            q = b.select(wrong, b.sub(q, one), q)
            r = b.select(wrong, b.add(r, y), r)
        return r if remainder else q

    return emit


def _divides_as_floats(dtype: DType, x: ir.Value, y: ir.Value) -> bool:
    """Whether a vector of ints is divided as one of floats: most machines divide ints one by one.
    What is divided by a constant is multiplied instead, by LLVM."""
    fits = dtype.bits <= 16 or (dtype.bits == 32 and dtype.kind == "i")
    return lanes_of(x) is not None and fits and dtype.bits >= 8 and not isinstance(y, ir.Constant)


def _quotient(b, dtype: DType, x: ir.Value, y: ir.Value) -> ir.Value:
    """x / y without its fraction, by floats of more than half as many bits again: a quotient of
    n-bit ints that is not whole is further than it is rounded from the next whole number."""
    lanes = lanes_of(x)
    float = vector(ir.FloatType() if dtype.bits <= 16 else ir.DoubleType(), lanes)
    convert = b.sitofp if dtype.kind == "i" else b.uitofp
    q = b.fptosi(b.fdiv(convert(x, float), convert(y, float)), vector(ir.IntType(32), lanes))
    return q if dtype.bits == 32 else b.trunc(q, x.type)


def _float_mod(b, dtype, x, y, floor: bool):
    """fmod (sign of x), or mod with the sign of y. Exact for quotients below 2^53 by f64.

    x - trunc(x/y)*y in double precision with fused multiply-add, then one correction step.
    """
    lanes = lanes_of(x)
    wide = vector(ir.DoubleType(), lanes)
    narrow = x.type != wide
    if narrow:
        x, y = b.fpext(x, wide), b.fpext(y, wide)
    zero = Splat(wide, ir.Constant(ir.DoubleType(), 0.0)) if lanes else ir.Constant(wide, 0.0)
    q = formulas.emit(b, "trunc", b.fdiv(x, y))
    r = formulas.emit(b, "fma", b.fneg(q), y, x)
    size = formulas.emit(b, "abs", y)
    wrong = b.and_(b.fcmp_ordered("<", b.fmul(r, x), zero), b.fcmp_ordered("!=", r, zero))
    r = b.select(wrong, b.fadd(r, formulas.emit(b, "copysign", size, x)), r)
    infinite = b.fcmp_ordered("==", size, _infinity(wide, lanes))
    finite = b.fcmp_ordered("<", formulas.emit(b, "abs", x), _infinity(wide, lanes))
    r = b.select(b.and_(infinite, finite), x, r)
    if floor:
        other = b.and_(b.fcmp_ordered("<", b.fmul(r, y), zero), b.fcmp_ordered("!=", r, zero))
        r = b.select(other, b.fadd(r, y), r)
    return b.fptrunc(r, vector(ir.FloatType(), lanes)) if narrow else r


def _infinity(type, lanes):
    scalar = ir.Constant(ir.DoubleType(), float("inf"))
    return Splat(type, scalar) if lanes else scalar


def _like(x: ir.Value, dtype: DType, value) -> ir.Constant:
    return constant(value, dtype, lanes_of(x))


def _math(name: str) -> Callable:
    return lambda b, dtype, *args: formulas.emit(b, name, *args)


def _neg(b, dtype, x):
    return b.fneg(x) if dtype.is_float else b.sub(_like(x, dtype, 0), x)


def _abs(b, dtype, x):
    if dtype.is_float:
        return formulas.emit(b, "abs", x)
    if dtype.kind == "u":
        return x
    zero = _like(x, dtype, 0)
    return b.select(b.icmp_signed("<", x, zero), b.sub(zero, x), x)


def _sign(b, dtype, x):
    zero, one = _like(x, dtype, 0), _like(x, dtype, 1)
    more, less = PRIMITIVE["gt"](b, dtype, x, zero), PRIMITIVE["lt"](b, dtype, x, zero)
    minus = zero if dtype.kind == "u" else _like(x, dtype, -1)
    rest = zero
    if dtype.is_float:
        rest = b.select(b.fcmp_unordered("uno", x, x), x, zero)
    return b.select(more, one, b.select(less, minus, rest))


def _isnan(b, dtype, x):
    return b.fcmp_unordered("uno", x, x) if dtype.is_float else _like(x, BOOL, False)


def _isinf(b, dtype, x):
    if not dtype.is_float:
        return _like(x, BOOL, False)
    return b.fcmp_ordered("==", formulas.emit(b, "abs", x), _like(x, dtype, float("inf")))


def _shift(op_signed: str, op_unsigned: str) -> Callable:
    def emit(b, dtype, x, y):
        """Shifts by the width or more give 0 (or the sign)."""
        op = op_signed if dtype.kind == "i" else op_unsigned
        width = _like(x, dtype, dtype.bits - 1)
        over = b.icmp_unsigned(">", y, width)
        shifted = getattr(b, op)(x, b.select(over, width, y))
        return b.select(over, shifted if op == "ashr" else _like(x, dtype, 0), shifted)

    return emit


def _integer_pow(b, dtype, x, y):
    """x**y of ints by squaring: 6 rounds, and a loop for exponents from 64 on (of 0, 1 and -1, and
    of what overflows, modulo 2^bits)."""
    one, zero = _like(x, dtype, 1), _like(x, dtype, 0)

    def rounds(result, base, rest):
        odd = b.icmp_signed("!=", b.and_(rest, one), zero)
        product = b.select(odd, b.mul(result, base), result)
        return product, b.mul(base, base), b.lshr(rest, one)

    state = (one, x, b.select(b.icmp_signed("<", y, zero), zero, y) if dtype.kind == "i" else y)
    for _ in range(6):
        state = rounds(*state)
    before = b.block
    head, turn, done = (b.append_basic_block(f"pow.{n}") for n in ("head", "turn", "done"))
    b.branch(head)
    b.position_at_end(head)
    phis = [b.phi(v.type) for v in state]
    for phi, v in zip(phis, state):
        phi.add_incoming(v, before)
    b.cbranch(any_lane(b, b.icmp_signed("!=", phis[2], zero)), turn, done)
    b.position_at_end(turn)
    for phi, v in zip(phis, rounds(*phis)):
        phi.add_incoming(v, b.block)
    b.branch(head)
    b.position_at_end(done)
    result = phis[0]
    if dtype.kind == "u":
        return result
    # A negative exponent: 1/x truncated, which is nonzero for x = 1 and -1 only.
    odd = b.icmp_signed("!=", b.and_(y, one), zero)
    minus = _like(x, dtype, -1)
    inverse = b.select(
        b.icmp_signed("==", x, one), one,
        b.select(b.icmp_signed("==", x, minus), b.select(odd, minus, one), zero),
    )  # fmt: skip
    return b.select(b.icmp_signed("<", y, zero), inverse, result)


def _pow(b, dtype, x, y):
    return formulas.emit(b, "pow", x, y) if dtype.is_float else _integer_pow(b, dtype, x, y)


def _atan2(b, dtype, y, x):
    """atan(y/x) moved into the right quadrant."""
    zero = _like(x, dtype, 0.0)
    pi = _like(x, dtype, 3.141592653589793)
    a = formulas.emit(b, "atan", b.fdiv(y, x))
    turn = formulas.emit(b, "copysign", pi, y)
    return b.select(b.fcmp_ordered("<", x, zero), b.fadd(a, turn), a)


PRIMITIVE: dict[str, Callable] = {
    "add": _binary("fadd", "add"), "sub": _binary("fsub", "sub"), "mul": _binary("fmul", "mul"),
    "div": _int_division("fdiv", "udiv"),
    "truncdiv": _int_division("sdiv", "udiv"),
    "floordiv": _int_division("sdiv", "udiv", floor=True),
    "mod": _int_division("srem", "urem", floor=True, remainder=True),
    "rem": _int_division("srem", "urem", remainder=True),
    "min": _extremum("<", "minimum"), "max": _extremum(">", "maximum"),
    "pow": _pow, "atan2": _atan2,
    "copysign": _math("copysign"), "fma": _math("fma"),
    "shl": _shift("shl", "shl"), "shr": _shift("ashr", "lshr"),
    "bitand": _binary(None, "and_"), "bitor": _binary(None, "or_"),
    "bitxor": _binary(None, "xor"),
    "bitnot": lambda b, dtype, x: b.xor(x, _like(x, dtype, -1)),
    "lt": _compare("<"), "le": _compare("<="), "gt": _compare(">"), "ge": _compare(">="),
    "eq": _compare("=="), "ne": _compare("!="),
    "and": _binary(None, "and_"), "or": _binary(None, "or_"), "xor": _binary(None, "xor"),
    "not": lambda b, dtype, x: b.xor(x, _like(x, BOOL, True)),
    "neg": _neg, "abs": _abs, "sign": _sign, "isnan": _isnan, "isinf": _isinf,
    "select": lambda b, dtype, c, x, y: b.select(c, x, y),
    "round": _math("round_even"),
} | {
    name: _math(name)
    for name in ["exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "rsqrt", "sin", "cos",
                 "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
                 "erf", "normal_area", "sigmoid", "floor", "ceil", "trunc"]
}  # fmt: skip
assert set(PRIMITIVE) == set(PRIMITIVES) - {"cast", "bitcast"}


def emit_cast(b: ir.IRBuilder, x: ir.Value, source: DType, target: DType) -> ir.Value:
    """Convert a value. Float to int truncates and saturates, NaN becomes 0."""
    if source == target:
        return x
    lanes = lanes_of(x)
    if target == BOOL:
        if source.is_float and source.bits < 32:
            x, source = emit_cast(b, x, source, F32), F32
        return PRIMITIVE["ne"](b, source, x, _like(x, source, 0))
    if source.is_float and source.bits < 32 and target != F32:
        return emit_cast(b, emit_cast(b, x, source, F32), F32, target)
    if target.is_float and target.bits < 32 and source != F32:
        # f64 to f16 is rounded once, as numpy does; to narrower types by way of f32, as ml_dtypes.
        wide = to_odd(b, x) if (source, target) == (F64, F16) else emit_cast(b, x, source, F32)
        return emit_cast(b, wide, F32, target)
    if is_narrow(source, b.module):
        return widen(b, x, source)
    if is_narrow(target, b.module):
        return narrow(b, x, target)
    type = vector(register_type(target), lanes)
    if source.is_float and target.is_float:
        return (b.fpext if target.bits > source.bits else b.fptrunc)(x, type)
    if source.is_float and (target.bits < 32 or target == I32):
        return float_to_int(b, x, source, target)
    if source.is_float:
        return float_to_long(b, x, source, target)
    if target.is_float:
        return (b.sitofp if source.kind == "i" else b.uitofp)(x, type)
    if target.bits > source.bits:
        return (b.sext if source.kind == "i" else b.zext)(x, type)
    return x if target.bits == source.bits else b.trunc(x, type)


def emit_bitcast(b: ir.IRBuilder, x: ir.Value, source: DType, target: DType) -> ir.Value:
    """The same bits as another type of as many; a bool is a byte."""
    lanes = lanes_of(x)
    if source == BOOL:
        x, source = b.zext(x, vector(I8, lanes)), DTYPES["u8"]
    if target == BOOL:
        return b.icmp_unsigned("!=", b.bitcast(x, vector(I8, lanes)), _like(x, DTYPES["u8"], 0))
    soft = is_narrow(target, b.module)
    return b.bitcast(x, vector(register_type(target, soft), lanes))


__all__ = [
    "I1",
    "PRIMITIVE",
    "emit_bitcast",
    "emit_cast",
    "intrinsic",
    "lanes_of",
    "multiply_add",
    "splat",
]
