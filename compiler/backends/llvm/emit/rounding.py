"""Floats that are cut to an integer type's limits and rounded: what quantizing ends with.

    cast(min(max(round(x) + z, low), high)) => z + low bits of (max(min(x, high - z), low - z) + M)

M = 1.5 · 2²³: a sum with it has steps of 1, so that adding rounds to the nearest integer, halves to
the even one, and leaves it in the low bits. No conversion and no second cut is needed, and the
bits are the same on every CPU. z, low and high are whole numbers; NaN becomes 0, as in any cast.
"""

from typing import NamedTuple

import llvmlite.ir as ir

from ....expr.expr import Expr
from ....ir.types import F32, I32
from ..base.types import constant, register_type, vector

MAGIC = 1.5 * 2.0**23
BITS = 16  # of integers that are far below it


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


def emit_rounded(b: ir.IRBuilder, e: Expr, found: Rounded, x: ir.Value) -> ir.Value:
    """The value of the cast `e` of what `found` rounds, whose value is `x`."""
    lanes = x.type.count if isinstance(x.type, ir.VectorType) else None
    number = lambda value: constant(float(value), F32, lanes)
    # A quarter below is rounded to the limit, and is not 0, of which LLVM makes no maximum.
    low, high = number(found.low - found.zero - 0.25), number(found.high - found.zero)
    if found.low:
        x = b.select(b.fcmp_unordered("uno", x, x), number(-found.zero), x)
    x = b.select(b.fcmp_ordered(">", x, low), x, low)
    x = b.select(b.fcmp_ordered("<", x, high), x, high)
    bits = b.bitcast(b.fadd(x, number(MAGIC)), vector(register_type(I32), lanes))
    short = b.trunc(bits, vector(register_type(e.dtype), lanes))
    return b.add(short, constant(_wrapped(found.zero, e), e.dtype, lanes)) if found.zero else short


def _wrapped(number: int, e: Expr) -> int:
    """A number as what the integer type keeps of it."""
    bits = e.dtype.bits
    number &= (1 << bits) - 1
    return number - (1 << bits) if e.dtype.kind == "i" and number >> bits - 1 else number
