"""The trigonometric formulas of `vmath` and their inverses, in the terms of `vmath_functions`.

Methods follow fdlibm (Sun), Cephes (S. Moshier), and the fused Cody-Waite reduction of SLEEF
(N. Shibata); arguments beyond it are reduced as by Payne and Hanek. The coefficients are our own
(`vmath_tables`). Bounds hold for all finite arguments.
"""

import math
from collections.abc import Callable

from . import tables
from .emitter import Emitter, V
from .huge_angles import reduce_huge

PI_2 = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
HUGE = 2.0**40
PI_2_LOW = {32: -4.371138828673793e-08, 64: PI_2[1]}


def _reduce_half_pi(m: Emitter, x: V) -> tuple[V, V, V]:
    """x = n pi/2 + r + low, as (n mod 2^bits, r, low), for |x| up to `HUGE`.

    Cody-Waite with fma, where x - n P1 is exact. Single precision reduces in double precision.
    """
    wide = m.wide()
    X = m.widen(x) if m.bits == 32 else x
    n, i = wide.nearest(X, 0.6366197723675814)
    r = wide.fma(n, -PI_2[0], X)
    if m.bits == 32:
        return m.narrow(i), m.narrow(wide.fma(n, -PI_2[1], r)), m.const(0.0)
    r, low = _subtract_product(m, r, n, PI_2[1])
    return i, r, m.fma(n, -PI_2[2], low)


def _reduce_huge(m: Emitter, x: V) -> tuple[V, V, V]:
    """The same for |x| from `HUGE` on."""
    i, r, low = reduce_huge(m.wide(), m.widen(x) if m.bits == 32 else x)
    return (m.narrow(i), m.narrow(r), m.const(0.0)) if m.bits == 32 else (i, r, low)


def _for_all(formula: Callable[..., V]) -> Callable[[Emitter, V], V]:
    """`formula(m, x, i, r, low)` for all x: behind a branch where a lane holds a huge one.

    What the branch leads to is a function, so that the usual way keeps its registers.
    """

    def build(m: Emitter, x: V) -> V:
        usual = formula(m, x, *_reduce_half_pi(m, x))
        size = m.abs(x)
        huge = (size >= HUGE) & (size < math.inf)

        def compute(m: Emitter, x: V, usual: V) -> V:
            size = m.abs(x)
            huge = (size >= HUGE) & (size < math.inf)
            x = m.select(huge, x, HUGE)
            return m.select(huge, formula(m, x, *_reduce_huge(m, x)), usual)

        return m.rarely(
            huge, usual, lambda: m.outlined(f"{formula.__name__}_huge", compute, x, usual)
        )

    return build


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


@_for_all
def sin(m: Emitter, x: V, i: V, r: V, low: V) -> V:
    s, c = _sin_cos(m, r, low)
    y = _flip(m, m.select((i & 1).eq(0), s, c), i)
    return m.select(m.abs(x) < m.epsilon / 4, x, y)


@_for_all
def cos(m: Emitter, x: V, i: V, r: V, low: V) -> V:
    s, c = _sin_cos(m, r, low)
    return _flip(m, m.select((i & 1).eq(0), c, s), i + 1)


@_for_all
def tan(m: Emitter, x: V, i: V, r: V, low: V) -> V:
    """s / c, or -c / s in odd quadrants."""
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
