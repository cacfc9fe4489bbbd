"""Triton functions that generated kernels call, for what the language itself lacks.

Triton's own math is exp, exp2, log, log2, sin, cos, erf, sqrt, floor, ceil and fma; vendor
libraries are left out so that one text means the same on every GPU and in the interpreter. All
functions take tensors (also of rank 0) of f32 or f64. NaN in gives NaN out unless the name's
definition says otherwise (pow(NaN, 0) = 1).

`with_helpers(names)` gives the text of functions and of what they call, in a fixed order.
"""

import re

FUNCTIONS = {
    # -- combiners of reductions: unlike tl.max and tl.min they keep NaN ----------------------
    "_max": """
def _max(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
""",
    "_min": """
def _min(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
""",
    "_mul": """
def _mul(a, b):
    return a * b
""",
    # -- conversions: truncate, saturate, NaN becomes 0 ----------------------------------------
    "_to_int": """
def _to_int(x, LOW: tl.constexpr, HIGH: tl.constexpr, EDGE: tl.constexpr, TYPE: tl.constexpr):
    inside = tl.where((x >= LOW) & (x < EDGE), x, 0.0).to(TYPE)
    high = tl.full(inside.shape, HIGH, TYPE)
    low = tl.full(inside.shape, LOW, TYPE)
    return tl.where(x >= EDGE, high, tl.where(x < LOW, low, inside))
""",
    # -- integers: Triton's // and % truncate --------------------------------------------------
    "_nonzero": """
def _nonzero(b):
    return tl.where(b == 0, 1, b)
""",
    "_floordiv": """
def _floordiv(a, b):
    b = _nonzero(b)
    q = a // b
    r = a - q * b
    return tl.where((r != 0) & ((r < 0) != (b < 0)), q - 1, q)
""",
    "_mod": """
def _mod(a, b):
    b = _nonzero(b)
    r = a % b
    return tl.where((r != 0) & ((r < 0) != (b < 0)), r + b, r)
""",
    "_ipow": """
def _ipow(x, y):
    # By squaring; of negative exponents only 1 and -1 give anything but 0.
    result = tl.where(y < 0, tl.where((x == 1) | (x == -1), x, 0), 1)
    odd = (y & 1) != 0
    minus = tl.where(odd, x, x * x)
    left = tl.where(y < 0, 0, y)
    base = x
    for _ in range(63):
        result = tl.where((left & 1) != 0, result * base, result)
        base = base * base
        left = left >> 1
    return tl.where((y < 0) & (x == -1), minus, result)
""",
    "_upow": """
def _upow(x, y):
    result = tl.where(y == 0, 1, tl.where((y & 1) != 0, x, 1))
    base = x
    left = y >> 1
    for _ in range(63):
        base = base * base
        result = tl.where((left & 1) != 0, result * base, result)
        left = left >> 1
    return result
""",
    # -- floats: sign, remainder, rounding -----------------------------------------------------
    "_sign": """
def _sign(x):
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, x))
""",
    "_isign": """
def _isign(x):
    return tl.where(x > 0, 1, tl.where(x < 0, -1, x))
""",
    "_copysign": """
def _copysign(a, b):
    negative = (b < 0) | ((b == 0) & (1.0 / b < 0))
    return tl.where(negative, -tl.abs(a), tl.abs(a))
""",
    "_fmod": """
def _fmod(a, b):
    r = a % b
    return tl.where((r != 0) & ((r < 0) != (b < 0)), r + b, r)
""",
    "_trunc": """
def _trunc(x):
    return tl.where(x < 0, tl.ceil(x), tl.floor(x))
""",
    "_round": """
def _round(x):
    # To nearest, ties to even; x - floor(x) is exact.
    f = tl.floor(x)
    d = x - f
    odd = f - 2.0 * tl.floor(f * 0.5) != 0.0
    up = tl.where((d > 0.5) | ((d == 0.5) & odd), f + 1.0, f)
    return tl.where((up == 0.0) & (x < 0.0), -0.0 * tl.abs(f), up)
""",
    # -- exponentials --------------------------------------------------------------------------
    "_sigmoid": """
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))
""",
    "_tanh": """
def _tanh(x):
    # Near 0 the quotient cancels: a Taylor series to x^15 is exact to 1e-17 below 0.1.
    a = tl.abs(x)
    t = tl.exp(-2.0 * a)
    large = (1.0 - t) / (1.0 + t)
    z = x * x
    p = 929569.0 / 638512875.0 * z - 21844.0 / 6081075.0
    p = p * z + 1382.0 / 155925.0
    p = p * z - 62.0 / 2835.0
    p = p * z + 17.0 / 315.0
    p = p * z - 2.0 / 15.0
    p = p * z + 1.0 / 3.0
    small = x - x * z * p
    return tl.where(a < 0.1, small, tl.where(x < 0, -large, large))
""",
    "_expm1": """
def _expm1(x):
    e = tl.exp(x)
    small = _tanh(0.5 * x) * (e + 1.0)
    return tl.where(tl.abs(x) < 0.5, small, e - 1.0)
""",
    "_log1p": """
def _log1p(x):
    # x * log(u) / (u - 1) undoes the rounding of u = 1 + x (Higham, Accuracy and Stability, 1.14).
    u = 1.0 + x
    d = u - 1.0
    exact = (d == 0.0) | (u == float("inf"))
    y = tl.log(u) * (x / tl.where(exact, 1.0, d))
    return tl.where(d == 0.0, x, tl.where(u == float("inf"), u, y))
""",
    "_sinh": """
def _sinh(x):
    a = tl.abs(x)
    e = _expm1(tl.where(a > 80.0, 1.0, a))
    half = tl.exp(0.5 * a)
    y = tl.where(a > 80.0, 0.5 * half * half, 0.5 * (e + e / (e + 1.0)))
    y = tl.where(x < 0, -y, y)
    return tl.where(x == 0.0, x, y)
""",
    "_cosh": """
def _cosh(x):
    a = tl.abs(x)
    e = tl.exp(tl.where(a > 80.0, 1.0, a))
    half = tl.exp(0.5 * a)
    return tl.where(a > 80.0, 0.5 * half * half, 0.5 * (e + 1.0 / e))
""",
    "_asinh": """
def _asinh(x):
    a = tl.abs(x)
    b = tl.where(a > 1e9, 1.0, a)
    small = _log1p(b + b * b / (1.0 + tl.sqrt(1.0 + b * b)))
    y = tl.where(a > 1e9, tl.log(a) + 0.6931471805599453, small)
    return tl.where(x < 0, -y, tl.where(x == 0.0, x, y))
""",
    "_acosh": """
def _acosh(x):
    t = tl.where(x > 1e9, 1.0, x - 1.0)
    small = _log1p(t + tl.sqrt(2.0 * t + t * t))
    return tl.where(x > 1e9, tl.log(x) + 0.6931471805599453, small)
""",
    "_atanh": """
def _atanh(x):
    a = tl.abs(x)
    y = 0.5 * _log1p(2.0 * a / (1.0 - a))
    return tl.where(x < 0, -y, tl.where(x == 0.0, x, y))
""",
    # -- trigonometry: atan after Cephes (Moshier), rational on |x| < 0.66 ----------------------
    "_tan": """
def _tan(x):
    return tl.sin(x) / tl.cos(x)
""",
    "_atan": """
def _atan(x):
    a = tl.abs(x)
    big = a > 2.414213562373095
    middle = (a > 0.66) & (a <= 2.414213562373095)
    offset = tl.where(big, 1.5707963267948966, tl.where(middle, 0.7853981633974483, 0.0 * a))
    t = tl.where(big, -1.0 / tl.where(big, a, 1.0), tl.where(middle, (a - 1.0) / (a + 1.0), a))
    z = t * t
    p = -8.750608600031904122785e-1 * z - 1.615753718733365076637e1
    p = p * z - 7.500855792314704667340e1
    p = p * z - 1.228866684490136173410e2
    p = p * z - 6.485021904942025371773e1
    q = z + 2.485846490142306297962e1
    q = q * z + 1.650270098316988542046e2
    q = q * z + 4.328810604912902668951e2
    q = q * z + 4.853903996359136964868e2
    q = q * z + 1.945506571482613964425e2
    y = offset + (t + t * z * (p / q))
    return tl.where(x < 0, -y, tl.where(x == 0.0, x, y))
""",
    "_asin": """
def _asin(x):
    return 2.0 * _atan(x / (1.0 + tl.sqrt((1.0 - x) * (1.0 + x))))
""",
    "_acos": """
def _acos(x):
    return 2.0 * _atan(tl.sqrt(1.0 - x) / tl.sqrt(1.0 + x))
""",
    "_atan2": """
def _atan2(y, x):
    ax = tl.abs(x)
    ay = tl.abs(y)
    both = (ax == float("inf")) & (ay == float("inf"))
    q = tl.where(both, 1.0, ay / tl.where((ax == 0.0) & (ay == 0.0), 1.0, ax))
    t = _atan(q)
    west = (x < 0) | ((x == 0.0) & (1.0 / x < 0))
    south = (y < 0) | ((y == 0.0) & (1.0 / y < 0))
    t = tl.where(west, 3.141592653589793 - t, t)
    t = tl.where(south, -t, t)
    return tl.where((x != x) | (y != y), x + y, t)
""",
    # -- powers: in f64, since an error of log2(x) is multiplied by y ----------------------------
    "_pow": """
def _pow(x, y):
    a = tl.abs(x).to(tl.float64)
    e = y.to(tl.float64)
    unit = (a == 1.0) | (y == 0.0)
    r = tl.exp2(tl.where(unit, 0.0, e) * tl.log2(tl.where(unit, 1.0, a)))
    whole = tl.floor(e) == e
    odd = whole & (tl.abs(e) != float("inf")) & (e - 2.0 * tl.floor(e * 0.5) != 0.0)
    negative = (x < 0) | ((x == 0.0) & (1.0 / x < 0))
    r = tl.where(negative & odd, -r, r)
    finite = (a != float("inf")) & (a != 0.0) & (tl.abs(e) != float("inf"))
    r = tl.where((x < 0) & finite & (tl.floor(e) != e), float("nan"), r)
    keeps = (y == 0.0) | (x == 1.0)
    return tl.where(keeps, 1.0, tl.where((x != x) | (y != y), float("nan"), r)).to(x.dtype)
""",
}


def with_helpers(names) -> str:
    """Text of the named functions and of those that they call."""
    needed, stack = set(), list(names)
    while stack:
        name = stack.pop()
        if name not in needed:
            needed.add(name)
            stack += [n for n in re.findall(r"\b_[a-z0-9_]+\b", FUNCTIONS[name]) if n in FUNCTIONS]
    return "".join(f"\n@triton.jit{FUNCTIONS[n]}\n" for n in FUNCTIONS if n in needed)
