"""The formulas of `vmath`: each takes an `Emitter` and values, and returns a value.

No branches, no calls, no tables in memory. n, k: integers as floats; i: the same as integers;
a = |x|; t = a square. Methods follow Cephes (S. Moshier) and fdlibm (Sun); the coefficients are our
own (`vmath_tables`). The trigonometric ones are in `vmath_trigonometry`.
"""

import math

from . import tables
from .emitter import Emitter, V

INF, NAN = math.inf, math.nan
# Leading and trailing parts of the constants, by bits.
LN2 = {32: (0.6931471824645996, -1.9046542121259336e-09), 64: (math.log(2), 2.3190468138462996e-17)}
LOG2E = {
    32: (1.4426950216293335, 1.925963033500011e-08),
    64: (1.4426950408889634, 2.0355273740931033e-17),
}


# Exponentials -----------------------------------------------------------------------------------


def _reduce_exp(m: Emitter, x: V) -> tuple[V, V, V]:
    """n = rint(x / ln2) as (float, low bits of an integer), r = x - n ln2 (Cody-Waite, exact high
    part)."""
    high, low = LN2[m.bits]
    n, i = m.nearest(x, LOG2E[m.bits][0])
    return n, i, m.fma(n, -low, m.fma(n, -high, x))


def _exp_parts(m: Emitter, x: V) -> tuple[V, V]:
    """(p, i) with e^x = p 2^i."""
    _, i, r = _reduce_exp(m, x)
    return m.fma(m.fma(m.poly(r, tables.EXP[m.bits]), r, 1.0), r, 1.0), i


def _scale(m: Emitter, p: V, i: V) -> V:
    """p 2^i in two exact halves: overflow gives inf, underflow is gradual and rounds once."""
    half = i.halved()
    return p * m.pow2(half) * m.pow2(i - half)


def _exp_shifted(m: Emitter, x: V, shift: int) -> V:
    """e^x 2^shift, without overflow before its time. Where it is 0, as in all masked places of a
    softmax, e^0 is computed: an underflow costs some CPUs a hundred cycles."""
    zero = x < m.pick(-104.0, -746.0)
    x = m.at_most(m.select(zero, 0.0, x), m.pick(90.0, 711.0))
    p, i = _exp_parts(m, x)
    return m.select(zero, 0.0, _scale(m, p, i + shift if shift else i))


def exp(m: Emitter, x: V) -> V:
    """e^x = 2^n e^r, x = n ln2 + r, |r| <= ln2 / 2."""
    return _exp_shifted(m, x, 0)


def exp_flushed(m: Emitter, x: V) -> V:
    """e^x of x <= 0, a weight beside one that is 1: zero from where it leaves the normal range, so
    that 2^n is one number."""
    zero = x < m.pick(-87.0, -708.0)
    p, i = _exp_parts(m, m.select(zero, 0.0, x))
    return m.select(zero, 0.0, p * m.pow2(i))


def exp2(m: Emitter, x: V) -> V:
    """2^x = 2^n 2^r, r = x - n exact."""
    x = m.at_most(m.at_least(x, m.pick(-151.0, -1077.0)), m.pick(129.0, 1025.0))
    n, i = m.nearest(x, 1.0)
    r = x - n
    return _scale(m, m.fma(m.poly(r, tables.EXP2[m.bits]), r, 1.0), i)


def _expm1_in_range(m: Emitter, x: V, shift: int) -> V:
    """(e^x - 1) 2^shift = s p + (s - 2^shift), s = 2^(n + shift), p = e^r - 1; s is normal."""
    _, i, r = _reduce_exp(m, x)
    p = m.fma(m.poly(r, tables.EXP[m.bits]), r * r, r)
    s = m.pow2(i + shift if shift else i)
    return m.fma(s, p, s - 2.0**shift)


def expm1(m: Emitter, x: V) -> V:
    """Half of e^x - 1 first, since 2^n alone overflows at the top of the range."""
    bounded = m.at_most(m.at_least(x, -60.0), m.pick(89.0, 710.0))
    y = _expm1_in_range(m, bounded, -1) * 2.0
    return m.select(m.abs(x) < m.epsilon / 4, x, y)


def sigmoid(m: Emitter, x: V) -> V:
    """1 / (1 + e^-x), e^-x = 2^n e^-s, s = x + n ln2. e^-x needs no gradual underflow, and where
    its 2^n is the bits of infinity, which is where the lower limit is, results are zero."""
    x = m.at_most(m.at_least(x, m.pick(-88.5, -709.6)), m.pick(88.0, 709.0))
    high, low = LN2[m.bits]
    n, i = m.nearest(x, -LOG2E[m.bits][0])
    s = m.fma(n, low, m.fma(n, high, x))
    mirrored = [c * (-1.0) ** k for k, c in enumerate(tables.EXP[m.bits])]
    p = m.fma(m.fma(m.poly(s, mirrored), s, -1.0), s, 1.0)
    return 1.0 / m.fma(p, m.pow2(i), 1.0)


def tanh(m: Emitter, x: V) -> V:
    """M / (M + 2), M = e^(2a) - 1, with the sign of x; 1 to rounding from 10 on
    (of doubles 20).

    M = s q + (s - 1), s = 2^n, q = e^(2u) - 1 = 2u + u^2 P(u), u = a - n ln2 / 2; exact for tiny x.
    n is small, and large arguments count less and less: one constant is enough for ln2. M is not
    negative, so that the sign is put on by its bit.
    """
    a = m.at_most(m.abs(x), m.pick(10.0, 20.0))
    n, i = m.nearest(a, 2 * LOG2E[m.bits][0])
    u = m.fma(n, -sum(LN2[m.bits]) / 2, a)
    doubled = [c * 2.0 ** (k + 2) for k, c in enumerate(tables.EXP[m.bits])]
    q = m.fma(m.poly(u, doubled), u * u, u + u)
    s = m.pow2(i)
    above = m.fma(s, q, s - 1.0)
    sign = m.to_bits(x) & m.bits_of(-0.0)
    return m.from_bits(m.to_bits(above / (above + 2.0)) | sign)


def sinh(m: Emitter, x: V) -> V:
    """x + x^3 P(x^2) up to 1, then h - 1 / (4 h), h = e^|x| / 2."""
    a = m.abs(x)
    t = a * a
    near = m.fma(a * t, m.poly(t, tables.SINH[m.bits]), a)
    h = _exp_shifted(m, a, -1)
    return m.copysign(m.select(a < 1.0, near, h - 0.25 / h), x)


def cosh(m: Emitter, x: V) -> V:
    """h + 1 / (4 h), h = e^|x| / 2."""
    h = _exp_shifted(m, m.abs(x), -1)
    return h + 0.25 / h


# Logarithms -------------------------------------------------------------------------------------


def _reduce_log(m: Emitter, x: V) -> tuple[V, V]:
    """x = 2^k (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2), for finite x > 0; subnormals rescaled."""
    subnormal = x < m.smallest_normal
    up = m.mantissa + 2
    bits = m.to_bits(m.select(subnormal, x * 2.0**up, x))
    root = m.bits_of(m.pick(0.70710678, math.sqrt(0.5)))
    above = bits - root
    f = m.from_bits((above & ((1 << m.mantissa) - 1)) + root) - 1.0
    k = m.to_float(above >> m.mantissa)
    return k - m.select(subnormal, float(up), 0.0), f


def _log_sum(m: Emitter, k: V, f: V, correction: V | None = None) -> V:
    """k ln2 + log(1 + f) + correction; log(1 + f) = f - f^2/2 + s (f^2/2 + R), s = f / (2 + f)."""
    high, low = LN2[m.bits]
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    tail = s * m.fma(z, m.poly(z, tables.LOG[m.bits]), half)
    tail = m.fma(k, low, tail)
    if correction is not None:
        tail = tail + correction
    return m.fma(k, high, f - (half - tail))


def _log_specials(m: Emitter, x: V, y: V) -> V:
    """y for finite x > 0; inf at inf, -inf at zero, NaN below."""
    positive = m.select(x < INF, y, x)
    return m.select(x > 0.0, positive, m.select(x.eq(0.0), -INF, NAN))


def log(m: Emitter, x: V) -> V:
    """fdlibm's log."""
    return _log_specials(m, x, _log_sum(m, *_reduce_log(m, x)))


def log2(m: Emitter, x: V) -> V:
    """k + log(1 + f) / ln2; exact at powers of two."""
    high, low = LOG2E[m.bits]
    k, f = _reduce_log(m, x)
    y = _log_sum(m, m.const(0.0), f)
    return _log_specials(m, x, m.fma(y, high, m.fma(y, low, k)))


def log1p(m: Emitter, x: V) -> V:
    """log(u) + c / u, where u + c = 1 + x exactly (fdlibm)."""
    u = x + 1.0
    c = m.select(x < 1.0, x - (u - 1.0), 1.0 - (u - x))
    y = _log_specials(m, u, _log_sum(m, *_reduce_log(m, u), c / u))
    return m.select(m.abs(x) < m.epsilon / 4, x, y)


def asinh(m: Emitter, x: V) -> V:
    """log1p(a + a^2 / (1 + sqrt(1 + a^2))), and log(a) + ln2 where a^2 might overflow."""
    a = m.abs(x)
    large = a > 2.0 ** m.pick(30, 60)
    t = a * a
    u = a + t / (m.sqrt(t + 1.0) + 1.0)
    y = log1p(m, m.select(large, a, u)) + m.select(large, LN2[m.bits][0], 0.0)
    return m.copysign(y, x)


def acosh(m: Emitter, x: V) -> V:
    """log1p(d + sqrt(d (d + 2))), d = x - 1, and log(x) + ln2 for large x; NaN below 1."""
    large = x > 2.0 ** m.pick(30, 60)
    d = x - 1.0
    u = d + m.sqrt(d * (d + 2.0))
    y = log1p(m, m.select(large, x, u)) + m.select(large, LN2[m.bits][0], 0.0)
    return m.select(x >= 1.0, y, NAN)


def atanh(m: Emitter, x: V) -> V:
    """log1p(2a / (1 - a)) / 2."""
    a = m.abs(x)
    return m.copysign(log1p(m, (a + a) / (1.0 - a)) * 0.5, x)


# Error function ---------------------------------------------------------------------------------


def erf(m: Emitter, x: V) -> V:
    """1 - e^-g, g = -log(erfc(a)) = a + a G(a), as one expm1; 1 to rounding from 4 on."""
    if m.bits == 64:
        return _erf_double(m, x)
    a = m.at_most(m.abs(x), 4.0)
    g = m.fma(a, m.poly(a, tables.ERF_LOG), a)
    return m.copysign(_expm1_in_range(m, -g, 0), x)


def _erf_double(m: Emitter, x: V) -> V:
    """x + x P(x^2) up to 1, then 1 - e^(-x^2) P(x) / Q(x)."""
    a = m.at_most(m.abs(x), 6.0)
    t = a * a
    near = m.fma(a, m.poly(t, tables.ERF_SMALL[64]), a)
    far = 1.0 - exp(m, -t) * (m.poly(a, tables.ERFC_P) / m.poly(a, tables.ERFC_Q))
    return m.copysign(m.select(a < 1.0, near, far), x)


def normal_area(m: Emitter, x: V) -> V:
    """x P(x^2) / Q(x^2), with terms of one sign; 1/2 to rounding from 5.5 on."""
    if m.bits == 64:
        return erf(m, x * 0.5**0.5) * 0.5
    x = m.at_most(m.at_least(x, -tables.NORMAL_END), tables.NORMAL_END)
    t = x * x
    y = x * m.poly(t, tables.NORMAL_P) / m.poly(t, tables.NORMAL_Q)
    return m.at_most(m.at_least(y, -0.5), 0.5)


# Roots and powers -------------------------------------------------------------------------------


def rsqrt(m: Emitter, x: V) -> V:
    """1 / sqrt(x), two correctly rounded steps."""
    return 1.0 / m.sqrt(x)


def _pow_magnitude_double(m: Emitter, a: V, y: V) -> V:
    """a^y for finite a > 0: log2(a) as an unevaluated sum of two doubles, times y, then 2^."""
    k, f = _reduce_log(m, a)
    # s + s_low = f / (2 + f)
    d = f + 2.0
    d_low = f - (d - 2.0)
    inverse = 1.0 / d
    s = f * inverse
    s_low = m.fma(-s, d_low, m.fma(-s, d, f)) * inverse
    # z + z_low = s^2, c + c_low = (atanh(s) / s - 1) / s^2
    z = s * s
    z_low = m.fma(s + s, s_low, m.fma(s, s, -z))
    q = z * m.poly(z, tables.LOG_TAIL[64])
    c = q + 1 / 3
    c_low = (1 / 3 - c) + q + 1.850371707708594e-17
    # atanh(s) = s + s z c
    w, w_low = _product(m, z, z_low, c, c_low)
    v, v_low = _product(m, s, s_low, w, w_low)
    h = s + v
    h_low = (s - h) + v + (v_low + s_low)
    # log2(a) = k + 2 h / ln2
    g, g_low = _product(m, h, h_low, m.const(2 * LOG2E[64][0]), m.const(2 * LOG2E[64][1]))
    e = k + g
    e_low = (k - e) + g + g_low
    # 2^(y log2(a))
    p = y * e
    p_low = m.fma(y, e_low, m.fma(y, e, -p))
    p_low = m.select(m.abs(p) < 1100.0, p_low, 0.0)
    p = m.at_most(m.at_least(p, -1100.0), 1100.0)
    n, i = m.nearest(p, 1.0)
    return _scale(m, _exp2_of_sum(m, p - n, p_low), i)


def _exp2_of_sum(m: Emitter, a: V, b: V) -> V:
    """2^(a + b) for |a| <= 1/2 and a small b, to 2^-63 before it is rounded: by Horner's rule, the
    terms up to the fourth as sums of two doubles."""
    r = a + b
    r_low = (a - r) + b
    sum_, low = m.poly(r, tables.EXP2_TAIL), m.const(0.0)
    for c, c_low in (*reversed(tables.EXP2_TERMS), (1.0, 0.0)):
        product, product_low = _product(m, r, r_low, sum_, low)
        sum_ = product + c
        low = (c - sum_) + product + (product_low + c_low)
    return sum_ + low


def _product(m: Emitter, a: V, a_low: V, b: V, b_low: V) -> tuple[V, V]:
    """(a + a_low) (b + b_low) as an unevaluated sum."""
    p = a * b
    return p, m.fma(a, b_low, m.fma(a_low, b, m.fma(a, b, -p)))


def _pow_magnitude(m: Emitter, a: V, y: V) -> V:
    """a^y for finite a > 0; 32 bits go through plain double precision."""
    if m.bits == 64:
        return _pow_magnitude_double(m, a, y)
    wide = m.wide()
    return m.narrow(exp2(wide, m.widen(y) * log2(wide, m.widen(a))))


def power(m: Emitter, x: V, y: V) -> V:
    """x^y with the special cases of IEEE 754 pow."""
    a = m.abs(x)
    result = _pow_magnitude(m, a, y)
    # |x| = 0, 1, inf: limits of a^y that the logarithm cannot give.
    falls = m.select(y < 0.0, INF, 0.0)
    rises = m.select(y < 0.0, 0.0, INF)
    result = m.select(a.eq(0.0), falls, m.select(a.eq(INF), rises, result))
    result = m.select(a.eq(1.0), 1.0, result)
    # Negative x: the parity of an integral y gives the sign, other y have no real power.
    half = y * 0.5
    integral = m.trunc(y).eq(y)
    odd = integral & m.trunc(half).ne(half)
    signed = m.copysign(result, x)
    result = m.select(odd, signed, result)
    undefined = (x < 0.0) & (a < INF) & m.trunc(y).ne(y)
    result = m.select(undefined, NAN, result)
    result = m.select(m.isnan(x) | m.isnan(y), NAN, result)
    return m.select(x.eq(1.0) | y.eq(0.0), 1.0, result)
