"""Narrow floats as LLVM IR: bf16, float8, float6 and float4 are bits in a register, converted to
and from f32.
So is f16 on machines that do not convert it themselves, where LLVM would call a library.

A `Format` says how the bits are read. Widening is exact: the magnitude's bits are moved to where
f32 has its own, and one multiplication puts the exponent right, also for subnormals. Narrowing
rounds to nearest even as ml_dtypes does: normal results by an integer addition that carries into
the exponent, subnormal ones by adding a power of two whose last place is theirs. Values that round
past the largest become infinity where the format has one, else NaN (ONNX's Cast saturates first),
else the largest. f8e8m0 is an exponent and nothing else: `POWER`.
"""

import llvmlite.ir as ir

from ....classes import dataclass
from ....ir.types import DType
from ....kernels.machine import Machine
from ..base.types import I32, Splat, vector


@dataclass(frozen=True)
class Format:
    """`exponent` and `mantissa` bits; `bias` of the exponent.

    `largest` is the code of the largest finite magnitude, `beyond` what larger ones become.
    `nan` is NaN's code, and `signed` whether NaN and zero come in two signs (the fnuz formats have
    one of each). float6 and float4 have no NaN: it becomes a zero of the other sign, as in
    ml_dtypes.
    """

    bits: int
    mantissa: int
    bias: int
    largest: int
    beyond: int
    nan: int
    signed: bool = True


FORMATS = {
    "f16": Format(16, 10, 15, 0x7BFF, 0x7C00, 0x7E00),
    "bf16": Format(16, 7, 127, 0x7F7F, 0x7F80, 0x7FC0),
    "f8e4m3fn": Format(8, 3, 7, 0x7E, 0x7F, 0x7F),
    "f8e4m3fnuz": Format(8, 3, 8, 0x7F, 0x80, 0x80, signed=False),
    "f8e5m2": Format(8, 2, 15, 0x7B, 0x7C, 0x7E),
    "f8e5m2fnuz": Format(8, 2, 16, 0x7F, 0x80, 0x80, signed=False),
    "f6e2m3": Format(6, 3, 1, 0x1F, 0x1F, 0x20),
    "f6e3m2": Format(6, 2, 3, 0x1F, 0x1F, 0x20),
    "f4e2m1": Format(4, 1, 1, 0x7, 0x7, 0x8),
}
POWER = "f8e8m0"  # 2 ** (code - 127); 255 is NaN


SOFT_HALF = "tessel.soft_half"  # marks modules for machines without conversions of f16


def mark(module: ir.Module, target: Machine) -> None:
    """Note in a module what its target cannot do."""
    if not target.converts_half:
        module.add_named_metadata(SOFT_HALF)


def is_narrow(dtype: DType, module: ir.Module) -> bool:
    """Whether values of the type are converted here, by arithmetic on their bits."""
    if dtype.name == "f16":
        return SOFT_HALF in module.namedmetadata
    return dtype.name in FORMATS or dtype.name == POWER


class _Words:
    """32-bit words, one or a vector of them: constants of the right shape."""

    def __init__(self, x: ir.Value):
        lanes = x.type.count if isinstance(x.type, ir.VectorType) else None
        self.float, self.word = vector(ir.FloatType(), lanes), vector(I32, lanes)
        self.lanes = lanes

    def __call__(self, value: int) -> ir.Constant:
        return self._constant(self.word, value)

    def number(self, value: float) -> ir.Constant:
        return self._constant(self.float, value)

    def _constant(self, type: ir.Type, value) -> ir.Constant:
        if self.lanes is None:
            return ir.Constant(type, value)
        return Splat(type, ir.Constant(type.element, value))


def widen(b: ir.IRBuilder, x: ir.Value, source: DType) -> ir.Value:
    """The f32 value of a code. Exact."""
    if source.name == POWER:
        return _widen_power(b, x)
    form, w = FORMATS[source.name], _Words(x)
    code = b.zext(x, w.word)
    if form.bias == 127:
        return b.bitcast(b.shl(code, w(16)), w.float)
    top = 1 << (form.bits - 1)
    size = b.and_(code, w(top - 1))
    sign = b.shl(b.and_(code, w(top)), w(32 - form.bits))
    moved = b.bitcast(b.shl(size, w(23 - form.mantissa)), w.float)
    value = b.bitcast(b.fmul(moved, w.number(2.0 ** (127 - form.bias))), w.word)
    value = b.or_(value, sign)
    if not form.signed:
        is_nan = b.icmp_unsigned("==", code, w(form.nan))
    else:
        is_nan = b.icmp_unsigned(">", size, w(max(form.largest, form.nan - 1)))
    if form.largest < form.beyond != form.nan:
        infinite = b.icmp_unsigned("==", size, w(form.beyond))
        value = b.select(infinite, b.or_(sign, w(0x7F800000)), value)
        is_nan = b.icmp_unsigned(">", size, w(form.beyond))
    return b.bitcast(b.select(is_nan, w(0x7FC00000), value), w.float)


def narrow(b: ir.IRBuilder, x: ir.Value, target: DType) -> ir.Value:
    """The code of an f32 value."""
    if target.name == POWER:
        return _narrow_power(b, x)
    form, w = FORMATS[target.name], _Words(x)
    raw = b.bitcast(x, w.word)
    size = b.and_(raw, w(0x7FFFFFFF))
    drop = 23 - form.mantissa
    odd = b.and_(b.lshr(size, w(drop)), w(1))
    rounded = b.lshr(b.add(b.add(size, odd), w((1 << (drop - 1)) - 1)), w(drop))
    code = b.sub(rounded, w((127 - form.bias) << form.mantissa))
    if form.bias != 127:
        step = w.number(2.0 ** (24 - form.bias - form.mantissa))
        count = b.bitcast(b.fadd(b.bitcast(size, w.float), step), w.word)
        count = b.sub(count, b.bitcast(step, w.word))
        least_normal = w((128 - form.bias) << 23)
        code = b.select(b.icmp_unsigned("<", size, least_normal), count, code)
    code = b.select(b.icmp_signed(">", code, w(form.largest)), w(form.beyond), code)
    code = b.select(b.icmp_unsigned(">", size, w(0x7F800000)), w(form.nan), code)
    sign = b.and_(b.lshr(raw, w(32 - form.bits)), w(1 << (form.bits - 1)))
    if not form.signed:
        sign = b.select(b.icmp_unsigned("==", code, w(0)), w(0), sign)
    no_nan = form.signed and form.nan == 1 << (form.bits - 1)
    signed = (b.xor if no_nan else b.or_)(code, sign)
    return b.trunc(signed, vector(ir.IntType(form.bits), w.lanes))


def _widen_power(b: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Its bits are f32's exponent, but for the least, which is subnormal there, and NaN."""
    w = _Words(x)
    code = b.zext(x, w.word)
    value = b.shl(code, w(23))
    value = b.select(b.icmp_unsigned("==", code, w(0)), w(1 << 22), value)
    value = b.select(b.icmp_unsigned("==", code, w(255)), w(0x7FC00000), value)
    return b.bitcast(value, w.float)


def _narrow_power(b: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """The nearest power of two, the larger of two equally near; what is not above 0 is NaN."""
    w = _Words(x)
    raw = b.bitcast(x, w.word)
    code = b.lshr(b.add(raw, w(1 << 22)), w(23))
    code = b.select(b.icmp_unsigned("<", raw, w(0x00600000)), w(0), code)  # below 0.75 * 2^-126
    bad = b.or_(b.icmp_signed("<=", raw, w(0)), b.icmp_unsigned(">", code, w(255)))
    return b.trunc(b.select(bad, w(255), code), vector(ir.IntType(8), w.lanes))


def to_odd(b: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """f64 to f32 with an odd last bit where it is inexact: rounding that to a type of 11 bits or
    fewer then equals rounding x once (Boldo & Melquiond, "When double rounding is odd", 2005)."""
    lanes = x.type.count if isinstance(x.type, ir.VectorType) else None
    near = b.fptrunc(x, vector(ir.FloatType(), lanes))
    w = _Words(near)
    back, bits = b.fpext(near, x.type), b.bitcast(near, w.word)
    positive = b.icmp_signed(">=", bits, w(0))
    # Away from zero: the f32 before it. (NaN and infinity compare as exact or keep their bits.)
    away = b.select(positive, b.fcmp_ordered(">", back, x), b.fcmp_ordered("<", back, x))
    finite = b.icmp_unsigned("<", b.and_(bits, w(0x7FFFFFFF)), w(0x7F800000))
    down = b.select(away, b.sub(bits, w(1)), bits)
    odd = b.select(b.and_(finite, b.fcmp_ordered("!=", back, x)), b.or_(down, w(1)), bits)
    return b.bitcast(odd, w.float)
