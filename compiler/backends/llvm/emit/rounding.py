"""Floats that are cut to an integer type's limits and rounded: what quantizing ends with.

    cast(min(max(round(x) + z, low), high)) => z + low bits of (max(min(x, high - z), low - z) + M)

M = 1.5 · 2²³: a sum with it has steps of 1, so that adding rounds to the nearest integer, halves to
the even one, and leaves it in the low bits. No conversion and no second cut is needed, and the
bits are the same on every CPU. z, low and high are whole numbers; NaN becomes 0, as in any cast.

Vectors of bytes are narrowed by AVX2's packs, which cut at what the narrower type holds, so that a
conversion and one cut are enough (vcvtps2dq, which gives the least integer for NaN and all that is
too small):

    cut to i8 or u8 (cut to i16 (round(min(x, high - z))) + z)
"""

from typing import NamedTuple

import llvmlite.ir as ir

from ....expr.expr import Expr
from ....ir.types import F32, I16, I32, DType
from ....kernels.machine import Machine
from ..base.types import constant, register_type, vector
from .scalar import intrinsic

MAGIC = 1.5 * 2.0**23
BITS = 16  # of integers that are far below it
PACKED = 8  # lanes from which bytes are packed


class Rounded(NamedTuple):
    """A cast to a short integer of round(x) + zero, within [low, high]."""

    x: Expr
    zero: int
    low: int
    high: int


def rounded(e: Expr) -> Rounded | None:
    """What a cast rounds, if it is such a one."""
    if e.op != "cast" or not e.dtype.is_int or not 8 <= e.dtype.bits <= BITS:
        return None
    inner, ends = e.args[0], {}
    while inner.op in ("min", "max") and inner.op not in ends and inner.args[1].op == "const":
        ends[inner.op], inner = inner.args[1].data, inner.args[0]
    if inner.dtype != F32 or len(ends) < 2:
        return None
    low, high, zero = ends["max"], ends["min"], 0.0
    if inner.op == "add" and inner.args[1].op == "const":
        zero, inner = inner.args[1].data, inner.args[0]
    bits, signed = e.dtype.bits, e.dtype.kind == "i"
    least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    whole = all(float(n).is_integer() for n in (low, high, zero)) and abs(zero) < 1 << BITS
    if inner.op != "round" or not whole or not least <= low <= 0 <= high <= most:
        return None
    return Rounded(inner.args[0], int(zero), int(low), int(high))


def emit_rounded(
    b: ir.IRBuilder, e: Expr, found: Rounded, x: ir.Value, target: Machine
) -> ir.Value:
    """The value of the cast `e` of what `found` rounds, whose value is `x`."""
    lanes = x.type.count if isinstance(x.type, ir.VectorType) else None
    number = lambda value: constant(float(value), F32, lanes)
    # A quarter below is rounded to the limit, and is not 0, of which LLVM makes no maximum.
    low, high = number(found.low - found.zero - 0.25), number(found.high - found.zero)
    if found.low:
        x = b.select(b.fcmp_unordered("uno", x, x), number(-found.zero), x)
    if _packs(target, lanes) and e.dtype.bits == 8 and abs(found.zero) < 1 << 8:
        return _packed(b, e, found, b.select(b.fcmp_ordered(">", x, high), high, x))
    x = b.select(b.fcmp_ordered(">", x, low), x, low)
    x = b.select(b.fcmp_ordered("<", x, high), x, high)
    bits = b.bitcast(b.fadd(x, number(MAGIC)), vector(register_type(I32), lanes))
    short = b.trunc(bits, vector(register_type(e.dtype), lanes))
    return b.add(short, constant(_wrapped(found.zero, e), e.dtype, lanes)) if found.zero else short


def _packs(target: Machine, lanes: int | None) -> bool:
    """Whether vectors of so many lanes are narrowed by packs (AVX2; AVX-512 narrows by others)."""
    x86 = target.triple.startswith("x86_64")
    return x86 and target.vector_bytes == 32 and lanes is not None and lanes >= PACKED


def _packed(b: ir.IRBuilder, e: Expr, found: Rounded, x: ir.Value) -> ir.Value:
    """Of x, which is cut above, as bytes."""
    lanes = x.type.count
    words = vector(register_type(I32), lanes)
    f = intrinsic(b.module, f"llvm.lrint.v{lanes}i32.v{lanes}f32", words, [x.type])
    value = _cut(b, b.call(f, [x]), I32, I16, -(1 << 15))
    if found.zero:
        zero = constant(found.zero, I16, lanes)
        value = _call(b, "sadd.sat", value, zero)
    return _cut(b, value, I16, e.dtype, found.low)


def _cut(b: ir.IRBuilder, x: ir.Value, wide: DType, narrow: DType, low: int) -> ir.Value:
    """x within [low, the most that `narrow` holds], as such numbers."""
    lanes, bits = x.type.count, narrow.bits
    most = (1 << bits - 1) - 1 if narrow.kind == "i" else (1 << bits) - 1
    for name, end in (("smax", low), ("smin", most)):
        x = _call(b, name, x, constant(end, wide, lanes))
    return b.trunc(x, vector(register_type(narrow), lanes))


def _call(b: ir.IRBuilder, name: str, x: ir.Value, y: ir.Value) -> ir.Value:
    """An operation on two vectors of integers."""
    full = f"llvm.{name}.v{x.type.count}i{x.type.element.width}"
    return b.call(intrinsic(b.module, full, x.type, [x.type, x.type]), [x, y])


def _wrapped(number: int, e: Expr) -> int:
    """A number as what the integer type keeps of it."""
    bits = e.dtype.bits
    number &= (1 << bits) - 1
    return number - (1 << bits) if e.dtype.kind == "i" and number >> bits - 1 else number
