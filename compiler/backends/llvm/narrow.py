"""Narrow floats as LLVM IR: float8 and bf16 are bits in a register, converted to and from f32.

A `Format` says how the bits are read. Widening is exact: the magnitude's bits are moved to where
f32 has its own, and one multiplication puts the exponent right, also for subnormals. Narrowing
rounds to nearest even as ml_dtypes does: normal results by an integer addition that carries into
the exponent, subnormal ones by adding a power of two whose last place is theirs. Values that round
past the largest become infinity where the format has one, else NaN (ONNX's Cast saturates first).
"""

from dataclasses import dataclass

import llvmlite.ir as ir

from ...types import DType
from .types import Splat, vector

_WIDE = {32: (ir.FloatType(), 8, 23), 64: (ir.DoubleType(), 11, 52)}  # type, exponent, mantissa


@dataclass(frozen=True)
class Format:
    """`exponent` and `mantissa` bits; `bias` of the exponent.

    `largest` is the code of the largest finite magnitude, `beyond` what larger ones become.
    `nan` is NaN's code, and `signed` whether NaN and zero come in two signs (the fnuz formats have
    one of each).
    """

    bits: int
    mantissa: int
    bias: int
    largest: int
    beyond: int
    nan: int
    signed: bool = True


FORMATS = {
    "bf16": Format(16, 7, 127, 0x7F7F, 0x7F80, 0x7FC0),
    "f8e4m3fn": Format(8, 3, 7, 0x7E, 0x7F, 0x7F),
    "f8e4m3fnuz": Format(8, 3, 8, 0x7F, 0x80, 0x80, signed=False),
    "f8e5m2": Format(8, 2, 15, 0x7B, 0x7C, 0x7E),
    "f8e5m2fnuz": Format(8, 2, 16, 0x7F, 0x80, 0x80, signed=False),
}


def is_narrow(dtype: DType) -> bool:
    """Whether values of the type are bits that are only loaded, stored and converted."""
    return dtype.name in FORMATS


class _Words:
    """Integer arithmetic on `bits`-bit words, one or a vector of them."""

    def __init__(self, b: ir.IRBuilder, bits: int, lanes: int | None):
        self.b, self.lanes = b, lanes
        self.float = vector(_WIDE[bits][0], lanes)
        self.word = vector(ir.IntType(bits), lanes)

    def __call__(self, value: int) -> ir.Constant:
        return self._constant(self.word, value)

    def number(self, value: float) -> ir.Constant:
        return self._constant(self.float, value)

    def _constant(self, type, value) -> ir.Constant:
        if self.lanes is None:
            return ir.Constant(type, value)
        return Splat(type, ir.Constant(type.element, value))

    def select(self, condition, x, y) -> ir.Value:
        return self.b.select(condition, x, y)


def widen(b: ir.IRBuilder, x: ir.Value, source: DType) -> ir.Value:
    """The f32 value of a code. Exact."""
    form = FORMATS[source.name]
    w = _Words(b, 32, x.type.count if isinstance(x.type, ir.VectorType) else None)
    code = b.zext(x, w.word)
    if source.name == "bf16":
        return b.bitcast(b.shl(code, w(16)), w.float)
    sign = b.shl(b.and_(code, w(0x80)), w(24))
    size = b.and_(code, w(0x7F))
    moved = b.bitcast(b.shl(size, w(23 - form.mantissa)), w.float)
    value = b.fmul(moved, w.number(2.0 ** (127 - form.bias)))
    bits = b.bitcast(value, w.word)
    if not form.signed:
        bits = w.select(b.icmp_unsigned("==", code, w(form.nan)), w(0x7FC00000), bits)
        sign = w.select(b.icmp_unsigned("==", code, w(form.nan)), w(0), sign)
    elif form.beyond == form.nan:
        bits = w.select(b.icmp_unsigned("==", size, w(form.nan)), w(0x7FC00000), bits)
    else:
        high = w.select(b.icmp_unsigned(">", size, w(form.beyond)), w(0x7FC00000), w(0x7F800000))
        bits = w.select(b.icmp_unsigned(">", size, w(form.largest)), high, bits)
    return b.bitcast(b.or_(bits, sign), w.float)


def narrow(b: ir.IRBuilder, x: ir.Value, target: DType) -> ir.Value:
    """The code of an f32 or f64 value, rounded to nearest even once."""
    form = FORMATS[target.name]
    lanes = x.type.count if isinstance(x.type, ir.VectorType) else None
    scalar = x.type.element if lanes is not None else x.type
    bits = 64 if isinstance(scalar, ir.DoubleType) else 32
    _, exponent, mantissa = _WIDE[bits]
    w = _Words(b, bits, lanes)
    raw = b.bitcast(x, w.word)
    size = b.and_(raw, w((1 << (bits - 1)) - 1))
    drop, bias = mantissa - form.mantissa, (1 << (exponent - 1)) - 1
    odd = b.and_(b.lshr(size, w(drop)), w(1))
    rounded = b.lshr(b.add(b.add(size, odd), w((1 << (drop - 1)) - 1)), w(drop))
    code = b.sub(rounded, w((bias - form.bias) << form.mantissa))
    if bias != form.bias:
        smallest = w((1 - form.bias + bias) << mantissa)  # the bits of the least normal number
        step = w.number(2.0 ** (mantissa + 1 - form.bias - form.mantissa))
        count = b.bitcast(b.fadd(b.bitcast(size, w.float), step), w.word)
        count = b.sub(count, b.bitcast(step, w.word))
        code = w.select(b.icmp_unsigned("<", size, smallest), count, code)
    infinity = w(((1 << exponent) - 1) << mantissa)
    too_large = b.or_(
        b.icmp_signed(">", code, w(form.largest)), b.icmp_unsigned("==", size, infinity)
    )
    code = w.select(too_large, w(form.beyond), code)
    code = w.select(b.icmp_unsigned(">", size, infinity), w(form.nan), code)
    sign = b.and_(b.lshr(raw, w(bits - form.bits)), w(1 << (form.bits - 1)))
    if not form.signed:
        sign = w.select(b.icmp_unsigned("==", code, w(0)), w(0), sign)
    return b.trunc(b.or_(code, sign), vector(ir.IntType(form.bits), lanes))
