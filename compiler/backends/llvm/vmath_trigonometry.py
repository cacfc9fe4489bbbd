"""The trigonometric formulas of `vmath` and their inverses, in the terms of `vmath_functions`.

Methods follow fdlibm (Sun), Cephes (S. Moshier), and the fused Cody-Waite reduction of SLEEF
(N. Shibata); the coefficients are our own (`vmath_tables`).
"""

import math

from . import vmath_tables as tables
from .vmath_emitter import Emitter, V

PI_2 = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
PI_2_LOW = {32: -4.371138828673793e-08, 64: PI_2[1]}


def _reduce_half_pi(m: Emitter, x: V) -> tuple[V, V, V]:
    """x = n pi/2 + r + low, as (n mod 2^bits, r, low).

    Cody-Waite with fma, where x - n P1 is exact. Single precision reduces in double precision.
    Accurate up to `Bound.domain`. Far beyond, n no longer fits, and r and low are merely bounded,
    so that sin and cos stay within [-1, 1].
    """
    wide = m.wide()
    X = m.widen(x) if m.bits == 32 else x
    n, i = wide.nearest(X, 0.6366197723675814)
    r1 = wide.fma(n, -PI_2[0], X)
    if m.bits == 32:
        i, r, low = m.narrow(i), m.narrow(wide.fma(n, -PI_2[1], r1)), m.const(0.0)
    else:
        r, low = _subtract_product(m, r1, n, PI_2[1])
        low = m.select(m.abs(x) < 2.0**50, m.fma(n, -PI_2[2], low), 0.0)
    return i, m.at_most(m.at_least(r, -0.7855), 0.7855), low


def _subtract_product(m: Emitter, a: V, n: V, c: float) -> tuple[V, V]:
    """a - n c as an unevaluated sum: Dekker's product, Knuth's difference."""
    w = n * c
    w_low = m.fma(n, c, -w)
    r = a - w
    back = r - a
    return r, (a - (r - back)) - (w + back) - w_low


def _sin_cos(m: Emitter, r: V, low: V) -> tuple[V, V]:
    """sin and cos of r + low, |r| <= pi/4 (fdlibm's k_sin and k_cos)."""
    t = r * r
    half = t * 0.5
    sin_tail = m.fma(-low, half, low) if m.bits == 64 else low
    sin = r + m.fma(r * t, m.poly(t, tables.SIN[m.bits]), sin_tail)
    w = 1.0 - half
    cos_tail = m.fma(t * t, m.poly(t, tables.COS[m.bits]), -(r * low))
    return sin, w + ((1.0 - w) - half + cos_tail)


def _flip(m: Emitter, x: V, quadrant: V) -> V:
    """-x where the quadrant has bit 1."""
    return m.from_bits(m.to_bits(x) ^ ((quadrant & 2) << (m.bits - 2)))


def sin(m: Emitter, x: V) -> V:
    i, r, low = _reduce_half_pi(m, x)
    s, c = _sin_cos(m, r, low)
    y = _flip(m, m.select((i & 1).eq(0), s, c), i)
    return m.select(m.abs(x) < m.epsilon / 4, x, y)


def cos(m: Emitter, x: V) -> V:
    i, r, low = _reduce_half_pi(m, x)
    s, c = _sin_cos(m, r, low)
    return _flip(m, m.select((i & 1).eq(0), c, s), i + 1)


def tan(m: Emitter, x: V) -> V:
    """s / c, or -c / s in odd quadrants."""
    i, r, low = _reduce_half_pi(m, x)
    s, c = _sin_cos(m, r, low)
    even = (i & 1).eq(0)
    y = m.select(even, s, -c) / m.select(even, c, s)
    return m.select(m.abs(x) < m.epsilon / 4, x, y)


def _asin_parts(m: Emitter, x: V) -> tuple[V, V]:
    """(a < 1/2, p): p = asin(a) there, else p = asin(sqrt((1 - a) / 2)), so asin(a) = pi/2 - 2p."""
    a = m.abs(x)
    near = a < 0.5
    t = m.select(near, a * a, m.fma(a, -0.5, 0.5))
    y = m.select(near, a, m.sqrt(t))
    return near, m.fma(y * t, m.poly(t, tables.ASIN[m.bits]), y)


def asin(m: Emitter, x: V) -> V:
    near, p = _asin_parts(m, x)
    far = m.fma(p, -2.0, PI_2[0]) + PI_2_LOW[m.bits]
    return m.copysign(m.select(near, p, far), x)


def acos(m: Emitter, x: V) -> V:
    """pi/2 - asin(x) within 1/2; beyond, 2p for positive and pi - 2p for negative x."""
    near, p = _asin_parts(m, x)
    low = PI_2_LOW[m.bits]
    middle = PI_2[0] - (m.copysign(p, x) - low)
    twice = p + p
    far = m.select(x < 0.0, 2 * PI_2[0] - (twice - 2 * low), twice)
    return m.select(near, middle, far)


def atan(m: Emitter, x: V) -> V:
    """atan(a) = y + atan(v): v = a, (a - 1) / (a + 1), -1 / a with y = 0, pi/4, pi/2 (Cephes)."""
    a = m.abs(x)
    middle, large = a > math.sqrt(2) - 1, a > math.sqrt(2) + 1
    over = m.select(large, -1.0, m.select(middle, a - 1.0, a))
    under = m.select(large, a, m.select(middle, a + 1.0, 1.0))
    low = PI_2_LOW[m.bits]
    y = m.select(large, PI_2[0], m.select(middle, PI_2[0] / 2, 0.0))
    y_low = m.select(large, low, m.select(middle, low / 2, 0.0))
    v = over / under
    t = v * v
    tail = m.fma(v * t, m.poly(t, tables.ATAN[m.bits]), y_low)
    return m.copysign(y + (v + tail), x)
