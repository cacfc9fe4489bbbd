"""Floats to integers: truncated, saturated, NaN to 0; without leaving vectors where that can be.

LLVM writes out `fptosi.sat` lane by lane on machines that do not saturate by themselves, or have no
conversion to 64 bits. Most numbers are small, so that those are converted by way of 32 bits, or of
a sum whose low bits are the integer; others behind a branch.
"""

import llvmlite.ir as ir

from ....ir.types import F32, F64, I32, U32, DType
from ..base.types import I1, constant, intrinsic, register_type, suffix, vector
from ..vmath import formulas
from ..vmath.emitter import cold_function

MAGIC = 1.5 * 2.0**52  # the low bits of a sum with it are an integer


def any_lane(b: ir.IRBuilder, flags: ir.Value) -> ir.Value:
    """Whether one of the lanes holds."""
    if _lanes_of(flags) is None:
        return flags
    name = f"llvm.vector.reduce.or.{suffix(flags.type)}"
    return b.call(intrinsic(b.module, name, I1, [flags.type]), [flags])


def float_to_long(b: ir.IRBuilder, x: ir.Value, source: DType, target: DType) -> ir.Value:
    """To 64 bits, or to 32 without a sign."""
    lanes = _lanes_of(x)
    saturates = b.module.triple.startswith(SATURATES)
    if lanes is None or saturates or source not in (F32, F64):
        return _saturating(b, x, target)
    if target == U32:
        return _to_u32(b, x, source)
    number = lambda value: constant(value, source, lanes)
    if target.kind == "u":
        x = b.select(b.fcmp_ordered(">", x, number(0.0)), x, number(0.0))  # NaN becomes 0
    far = b.fcmp_unordered(">=", formulas.emit(b, "abs", x), number(_NEAR[source]))
    small = b.select(far, number(0.0), x)
    if source == F32:
        usual = b.sext(b.fptosi(small, vector(register_type(I32), lanes)), _type(target, lanes))
    else:
        whole, magic = formulas.emit(b, "trunc", small), number(MAGIC)
        sums = [b.bitcast(v, _type(target, lanes)) for v in (b.fadd(whole, magic), magic)]
        usual = b.sub(*sums)
    before = b.block
    with b.if_then(any_lane(b, far), likely=False):
        found, after = b.call(_outlined(b.module, x.type, target), [x]), b.block
    result = b.phi(usual.type)
    result.add_incoming(usual, before)
    result.add_incoming(found, after)
    return result


def _to_u32(b: ir.IRBuilder, x: ir.Value, source: DType) -> ir.Value:
    """As a signed number of 32 bits, from whose middle upper halves are counted."""
    high, half = 2**32 - 1, 2**31
    top = 2**32 - 256 if source == F32 else high  # the last float not beyond
    number, whole = lambda value: _like(x, source, value), lambda value: _like(x, U32, value)
    y = b.select(b.fcmp_ordered(">", x, number(0)), x, number(0))  # NaN becomes 0
    y = b.select(b.fcmp_ordered("<", y, number(top)), y, number(top))
    upper = b.fcmp_ordered(">=", y, number(half))
    y = b.fptosi(b.select(upper, b.fsub(y, number(half)), y), _type(I32, _lanes_of(x)))
    result = b.xor(y, b.select(upper, whole(half), whole(0)))
    return b.select(b.fcmp_ordered(">", x, number(top)), whole(high), result)


_NEAR = {F32: 2.0**31, F64: 2.0**51}


def _outlined(module: ir.Module, type: ir.Type, target: DType) -> ir.Function:
    """The conversion as a function that is rarely called."""
    symbol = f"tessel.to_{target}.{suffix(type)}"
    if symbol in module.globals:
        return module.globals[symbol]
    signature = ir.FunctionType(_type(target, type.count), [type])
    function = cold_function(module, symbol, signature)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    b.ret(_saturating(b, function.args[0], target))
    return function


def _saturating(b: ir.IRBuilder, x: ir.Value, target: DType) -> ir.Value:
    type = _type(target, _lanes_of(x))
    sign = "fptosi" if target.kind == "i" else "fptoui"
    name = f"llvm.{sign}.sat.{suffix(type)}.{suffix(x.type)}"
    return b.call(intrinsic(b.module, name, type, [x.type]), [x])


def _type(dtype: DType, lanes: int | None) -> ir.Type:
    return vector(register_type(dtype), lanes)


def _lanes_of(value: ir.Value) -> int | None:
    return value.type.count if isinstance(value.type, ir.VectorType) else None


def _like(x: ir.Value, dtype: DType, value) -> ir.Constant:
    return constant(value, dtype, _lanes_of(x))


# Machines whose instructions saturate where they convert floats to ints.
SATURATES = ("aarch64", "arm64", "riscv64")


def float_to_int(b: ir.IRBuilder, x: ir.Value, source: DType, target: DType) -> ir.Value:
    """Truncate and saturate, NaN to 0: as LLVM's fptosi.sat, which it writes out lane by lane on
    machines that do not saturate by themselves."""
    lanes = _lanes_of(x)
    low, high = (-(1 << target.bits - 1), (1 << target.bits - 1) - 1) if target.kind == "i" else (
        0, (1 << target.bits) - 1)  # fmt: skip
    if b.module.triple.startswith(SATURATES):
        return _saturated(b, x, target, low, high)
    top = 2147483520 if source == F32 and target == I32 else high  # the last float not beyond
    number = lambda value: _like(x, source, value)
    y = b.select(b.fcmp_ordered(">", x, number(low)), x, number(low))  # NaN becomes low
    y = b.select(b.fcmp_ordered("<", y, number(top)), y, number(top))
    result = b.fptosi(y, vector(register_type(I32), lanes))
    if top < high:
        result = b.select(b.fcmp_ordered(">", x, number(top)), _like(result, I32, high), result)
    if low < 0:
        result = b.select(b.fcmp_unordered("uno", x, x), _like(result, I32, 0), result)
    return result if target == I32 else b.trunc(result, vector(register_type(target), lanes))


def _saturated(b: ir.IRBuilder, x: ir.Value, target: DType, low: int, high: int) -> ir.Value:
    """To i32 at once, then within the target's limits. (Limits of floats would not do: LLVM makes
    them AArch64's fmaxnm, which hands on signalling NaN.)"""
    type = vector(register_type(I32), _lanes_of(x))
    name = f"llvm.fptosi.sat.{suffix(type)}.{suffix(x.type)}"
    y = b.call(intrinsic(b.module, name, type, [x.type]), [x])
    if target == I32:
        return y
    for sign, limit in (("<", low), (">", high)):
        end = _like(y, I32, limit)
        y = b.select(b.icmp_signed(sign, y, end), end, y)
    return b.trunc(y, vector(register_type(target), _lanes_of(x)))
