"""sin, cos and tan of arguments up to the largest, against reductions in whole numbers."""

import math
from fractions import Fraction

import numpy as np
from tessel.compiler.backends.llvm.vmath import formulas

from ..llvm.test_vector_math import both_precisions, evaluate, ulp_error


def half_pi(bits: int) -> int:
    """pi/2 times 2^bits, by Machin's formula."""

    def arctan_of_inverse(n: int) -> int:
        term = total = (1 << (bits + 64)) // n
        for k in range(1, 2 * bits):
            term //= -n * n
            total += term // (2 * k + 1)
        return total

    return (8 * arctan_of_inverse(5) - 2 * arctan_of_inverse(239)) >> 64


def reduced(x: float) -> tuple[int, float]:
    """x = n pi/2 + r as (n mod 4, r), in whole numbers of 1400 bits."""
    unit = half_pi(1400)
    quarters, rest = divmod(int(Fraction(x) * 2**1400), unit)
    if rest > unit // 2:
        quarters, rest = quarters + 1, rest - unit
    return quarters % 4, float(Fraction(rest, 2**1400))


# The second is the double that is nearest to a multiple of pi/2.
HUGE = [2.0**40, 6381956970095103.0 * 2.0**797, 1e22, 2.0**100, 1.7e308, 3e38, 1.2345e16, 1e10]


@both_precisions
def test_huge_angles_are_reduced_by_all_digits_of_pi(dtype):
    with np.errstate(over="ignore"):
        x = np.array(HUGE, dtype)
    x = np.concatenate([x[np.isfinite(x)], -x[np.isfinite(x)]])
    want = []
    for v in x.tolist():
        n, r = reduced(v)
        s, c = math.sin(r), math.cos(r)
        s, c = [(s, c), (c, -s), (-s, -c), (-c, s)][n]
        want.append((s, c, s / c))
    for name, values in zip(("sin", "cos", "tan"), np.array(want).T):
        # The reference is in double precision: half an ulp off itself.
        error = ulp_error(evaluate(name, x), values)
        bound = formulas.FUNCTIONS[name]
        assert error.max() <= (bound.ulp_f32 if dtype is np.float32 else bound.ulp_f64 + 1), name
