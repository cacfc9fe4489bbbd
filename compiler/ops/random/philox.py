"""Philox 4x32-10: four random words from a counter and a key, without any state.

Source: Salmon, Moraes, Dror, Shaw, Parallel Random Numbers: As Easy as 1, 2, 3 (2011), and its
known answers. Ten rounds turn the counter c (four words of 32 bits) under the key k (two):

    h0, l0 = M0 c0      c = (h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0)
    h1, l1 = M1 c2      k = (k0 + W0, k1 + W1) before each round but the first

The same text works on numpy arrays of uint64 and on scalar expressions of u64 (`words`), whose
values stay below 2^32.
"""

import numpy as np

from ...expr import expr as s

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF


class Numpy:
    """The operations on uint64 arrays."""

    xor, both = staticmethod(np.bitwise_xor), staticmethod(np.bitwise_and)

    @staticmethod
    def high(x):
        return x >> np.uint64(32)

    @staticmethod
    def number(v):
        return np.uint64(v)


class Scalar:
    """The operations on u64 expressions."""

    @staticmethod
    def xor(a, b):
        return s.apply("bitxor", a, b)

    @staticmethod
    def both(a, b):
        return s.apply("bitand", a, b)

    @staticmethod
    def high(x):
        return s.apply("shr", x, s.const(32, "u64"))

    @staticmethod
    def number(v):
        return s.const(v, "u64")


def words(h, counter, key) -> tuple:
    """The four words of a counter (four words) under a key (two words)."""
    mask, c, k = h.number(MASK), tuple(counter), tuple(key)
    for turn in range(10):
        if turn:
            k = tuple(h.both(x + h.number(w), mask) for x, w in zip(k, WEYL))
        p0, p1 = c[0] * h.number(MULTIPLIERS[0]), c[2] * h.number(MULTIPLIERS[1])
        c = (
            h.xor(h.xor(h.high(p1), c[1]), k[0]),
            h.both(p1, mask),
            h.xor(h.xor(h.high(p0), c[3]), k[1]),
            h.both(p0, mask),
        )
    return c
