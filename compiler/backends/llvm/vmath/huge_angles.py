"""Arguments of sin, cos and tan that are too large for subtraction: reduced by the digits of 2/pi.

    |x| = m 2^e, m an integer below 2^53          x 2/pi mod 4 = m (2^e 2/pi mod 4) mod 4

Bits of 2/pi of weight 2^(2-e) or more only add multiples of 4, so that 192 bits from there on, and
the product with m mod 2^192, say everything (Payne and Hanek 1983). What is cut off is below
2^-137; no double is nearer than 2^-62 to a multiple of pi/2, so r + low has 64 good bits or more.

These lanes are rare. A function that is not inlined takes them one by one.
"""

import llvmlite.ir as ir

from ..base.types import intrinsic
from .emitter import Emitter, V, cold_function
from .tables import TWO_OVER_PI

PI_2 = (1.5707963267948966, 6.123233995736766e-17)
I64, I128, F64 = ir.IntType(64), ir.IntType(128), ir.DoubleType()
BIAS, MANTISSA = 1023, 52
REST = 126  # bits of the product that are behind the point; two stand before it


def reduce_huge(m: Emitter, x: V) -> tuple[V, V, V]:
    """x = n pi/2 + r + low as (n mod 4, r, low), for finite doubles |x| >= 2^20; `m` is theirs."""
    function = _vector_function(m)
    found = m.b.call(function, [x.ir])
    return tuple(V(m, m.b.extract_value(found, i)) for i in range(3))


def _vector_function(m: Emitter) -> ir.Function:
    """The lanes of a vector in turn."""
    name, module = f"tessel.reduce_huge.{m.suffix}", m.b.module
    existing = module.globals.get(name)
    if existing is not None:
        return existing
    result = ir.LiteralStructType([m.int_type, m.type, m.type])
    function = cold_function(module, name, ir.FunctionType(result, [m.type]))
    b = ir.IRBuilder(function.append_basic_block("entry"))
    if m.lanes is None:
        parts = _reduce(b, function.args[0])
    else:
        parts = _each_lane(b, m, function.args[0])
    found = ir.Constant(result, ir.Undefined)
    for i, part in enumerate(parts):
        found = b.insert_value(found, part, i)
    b.ret(found)
    return function


def _each_lane(b: ir.IRBuilder, m: Emitter, x: ir.Value) -> list[ir.Value]:
    before, loop = b.block, b.append_basic_block("lane")
    b.branch(loop)
    b.position_at_end(loop)
    lane = b.phi(I64)
    lane.add_incoming(I64(0), before)
    vectors = [b.phi(t) for t in (m.int_type, m.type, m.type)]
    for v in vectors:
        v.add_incoming(ir.Constant(v.type, ir.Undefined), before)
    parts = _reduce(b, b.extract_element(x, lane))
    results = [b.insert_element(v, part, lane) for v, part in zip(vectors, parts)]
    following = b.add(lane, I64(1))
    lane.add_incoming(following, loop)
    for v, result in zip(vectors, results):
        v.add_incoming(result, loop)
    done = b.append_basic_block("done")
    b.cbranch(b.icmp_unsigned("<", following, I64(m.lanes)), loop, done)
    b.position_at_end(done)
    return results


def _digits(module: ir.Module) -> ir.GlobalVariable:
    """2/pi as words of 64 bits, the first bit of weight 1/2."""
    name = "tessel.two_over_pi"
    existing = module.globals.get(name)
    if existing is not None:
        return existing
    table = ir.GlobalVariable(module, ir.ArrayType(I64, len(TWO_OVER_PI)), name)
    table.linkage, table.global_constant = "internal", True
    table.initializer = ir.Constant(table.value_type, [I64(w) for w in TWO_OVER_PI])
    return table


def _reduce(b: ir.IRBuilder, x: ir.Value) -> list[ir.Value]:
    """(n mod 4, r, low) of one double."""
    bits = b.bitcast(x, I64)
    exponent = b.and_(b.lshr(bits, I64(MANTISSA)), I64(2047))
    mantissa = b.or_(b.and_(bits, I64((1 << MANTISSA) - 1)), I64(1 << MANTISSA))
    product = _fraction(b, mantissa, b.sub(exponent, I64(BIAS + MANTISSA)))
    # Rounded to the nearest quadrant; the rest is a signed fraction.
    half = I128(1 << (REST - 1))
    quadrant = b.lshr(b.add(product, half), I128(REST))
    rest = b.sub(product, b.shl(quadrant, I128(REST)))
    n = b.trunc(quadrant, I64)
    r, low = _times_half_pi(b, rest)
    negative = b.icmp_signed("<", bits, I64(0))
    n = b.select(negative, b.neg(n), n)
    r, low = (b.select(negative, b.fneg(v), v) for v in (r, low))
    return [n, r, low]


def _fraction(b: ir.IRBuilder, mantissa: ir.Value, e: ir.Value) -> ir.Value:
    """mantissa 2^e 2/pi mod 4 as an integer of 128 bits, times 2^126."""
    # The first bit that counts has weight 2^(1-e), so it is bit number e - 2 from the point on; for
    # the e of smaller arguments there are zeros in front.
    first = b.add(e, I64(PADDING - 2))
    word, shift = b.lshr(first, I64(6)), b.and_(first, I64(63))
    words = [_word(b, b.add(word, I64(i))) for i in range(4)]
    w0, w1, w2 = (_funnel(b, words[i], words[i + 1], shift) for i in range(3))
    wide = b.zext(mantissa, I128)
    tail = b.lshr(b.mul(wide, w2), I128(64))
    middle = b.add(b.mul(wide, w1), tail)
    top = b.shl(b.mul(wide, w0), I128(64))
    return b.add(top, middle)


PADDING = 64  # zero bits in front of the point, in the table


def _word(b: ir.IRBuilder, index: ir.Value) -> ir.Value:
    table = _digits(b.module)
    address = b.gep(table, [I64(0), index], inbounds=True)
    return b.zext(b.load(address, typ=I64, align=8), I128)


def _funnel(b: ir.IRBuilder, high: ir.Value, low: ir.Value, shift: ir.Value) -> ir.Value:
    """64 bits of high and low, from bit `shift` on, as an integer of 128 bits."""
    both = b.or_(b.shl(high, I128(64)), low)
    return b.lshr(b.shl(both, b.zext(shift, I128)), I128(64))


def _times_half_pi(b: ir.IRBuilder, rest: ir.Value) -> tuple[ir.Value, ir.Value]:
    """rest 2^-126 pi/2 as an unevaluated sum of two doubles."""
    negative = b.icmp_signed("<", rest, I128(0))
    magnitude = b.select(negative, b.sub(I128(0), rest), rest)
    zeros = b.call(
        _leading_zeros(b.module), [b.trunc(b.lshr(magnitude, I128(64)), I64), ir.IntType(1)(0)]
    )
    magnitude = b.shl(magnitude, b.zext(zeros, I128))
    # 53 bits for the first double, 53 more for the second.
    parts = [b.lshr(magnitude, I128(75)), b.lshr(magnitude, I128(22))]
    first, second = (b.and_(b.trunc(p, I64), I64((1 << 53) - 1)) for p in parts)
    f = b.fmul(b.sitofp(first, F64), _power(b, b.sub(I64(75 - REST), zeros)))
    f_low = b.fmul(b.sitofp(second, F64), _power(b, b.sub(I64(22 - REST), zeros)))
    p, p_low = F64(PI_2[0]), F64(PI_2[1])
    fma = _fma(b.module)
    product = b.fmul(f, p)
    error = b.call(fma, [f, p, b.fneg(product)])
    error = b.fadd(error, b.call(fma, [f, p_low, b.fmul(f_low, p)]))
    r = b.fadd(product, error)
    low = b.fadd(b.fsub(product, r), error)
    return tuple(b.select(negative, b.fneg(v), v) for v in (r, low))


def _power(b: ir.IRBuilder, exponent: ir.Value) -> ir.Value:
    """2^exponent, of the normal range."""
    return b.bitcast(b.shl(b.add(exponent, I64(BIAS)), I64(MANTISSA)), F64)


def _fma(module: ir.Module) -> ir.Function:
    return intrinsic(module, "llvm.fma.f64", F64, [F64] * 3)


def _leading_zeros(module: ir.Module) -> ir.Function:
    return intrinsic(module, "llvm.ctlz.i64", I64, [I64, ir.IntType(1)])
