"""Arithmetic identities.

`EXACT` rules keep every bit for every input but two kinds: the sign of a zero (-0.0 + 0 is 0.0),
and powers, where x² by a product may differ from `pow` in the last bit.
`FAST` rules (from -O2 on) also reorder constants and turn a division into a product: each changes
a result by at most a few units in the last place.
"""

import math

import numpy as np

from ...ir.types import DType, broadcast
from ..engine import Rule, rule
from ..pattern import Match, Number, constants, op, splat, variables

x, y, z = variables("x y z")
c, d = constants("c d")

# -- checks ------------------------------------------------------------------------------


def is_int(m: Match) -> bool:
    """inf - inf is not 0, so floats are left out."""
    return m.x.dtype.is_int


def is_float(m: Match) -> bool:
    return m.x.dtype.is_float


def has_exact_reciprocal(m: Match) -> bool:
    """1/c is exact for powers of two (and not for subnormal results)."""
    if not m.x.dtype.is_float:
        return False
    return bool(np.all(np.abs(np.frexp(m.c.constant.astype(np.float64))[0]) == 0.5)) and _normal(m)


def has_reciprocal(m: Match) -> str | None:
    return None if _normal(m) else "the reciprocal is not a normal number"


def _normal(m: Match) -> bool:
    with np.errstate(all="ignore"):
        r = np.abs(1.0 / m.c.constant.astype(np.float64)).astype(m.x.dtype.numpy)
    tiny = {"f64": 2.3e-308, "f32": 1.2e-38, "bf16": 1.2e-38, "f16": 6.2e-5}
    low = tiny.get(m.x.dtype.name, math.inf)
    return bool(np.all(np.isfinite(r)) and np.all(r.astype(np.float64) >= low))


def holds_all(narrow: DType, wide: DType) -> bool:
    """Does every value of `narrow` survive in `wide`?"""
    if narrow == wide or narrow.kind == "b":
        return narrow == wide or (wide.kind in "fiu" and wide.name != "f8e8m0")
    mantissa = {"f64": 53, "f32": 24, "f16": 11, "bf16": 8}
    if narrow.is_float:
        pairs = {"f16": ("f32", "f64"), "bf16": ("f32", "f64"), "f32": ("f64",)}
        return wide.name in pairs.get(narrow.name, ())
    if wide.is_float:
        return mantissa.get(wide.name, 0) >= narrow.bits
    if narrow.kind == wide.kind:
        return wide.is_int and wide.bits >= narrow.bits
    return narrow.kind == "u" and wide.kind == "i" and wide.bits > narrow.bits


def first_cast_is_lossless(m: Match) -> str | None:
    middle = m[INNER_CAST].attrs["dtype"]
    return None if holds_all(m.x.dtype, middle) else f"{middle} does not hold all of {m.x.dtype}"


def stays_small(m: Match) -> str | None:
    size = math.prod(broadcast(m.c.shape, m.d.shape))
    if size <= max(m.c.constant.size, m.d.constant.size):
        return None
    return "the constants together are larger than each of them"


def truth(m: Match):
    """The one value of a constant condition, or None."""
    return splat(m.c.value)


# -- rewrites ----------------------------------------------------------------------------


def zeros(b, m: Match):
    zero = b.scalar(0, m.x.dtype)
    return b.emit("expand", zero, shape=m.x.shape) if m.x.shape else zero


def reciprocal(b, m: Match):
    c = m.c.constant
    r = (1.0 / c.astype(np.float64)).astype(c.dtype)
    return m.x * b.constant(r)


def choose(b, m: Match):
    """where(constant, x, y): the chosen one, broadcast to the result's shape."""
    chosen = m.x if truth(m) else m.y
    return chosen.expand(m.root.outputs[0].shape)


def swap(b, m: Match):
    return b.where(m.z, m.y, m.x)


INNER_CAST = op.cast(x)
NEGATED = -x

EXACT: tuple[Rule, ...] = (
    rule("x + 0 => x", x + 0, lambda b, m: m.x),
    rule("x - 0 => x", x - 0, lambda b, m: m.x),
    rule("x * 1 => x", x * 1, lambda b, m: m.x),
    rule("x / 1 => x", x / 1, lambda b, m: m.x),
    rule("x - x => 0 for ints", x - x, zeros, where=is_int),
    rule("pow(x, 1) => x", x**1, lambda b, m: m.x),
    rule("pow(x, 2) => x * x", x**2, lambda b, m: m.x * m.x),
    rule("pow(x, 3) => x * x * x", x**3, lambda b, m: m.x * m.x * m.x, where=is_float),
    rule("pow(x, -1) => 1 / x", x**-1, lambda b, m: b.reciprocal(m.x), where=is_float),
    rule("pow(x, 1/2) => sqrt(x)", x**0.5, lambda b, m: b.sqrt(m.x), where=is_float),
    rule("x / 2ⁿ => x * 2⁻ⁿ", x / c, reciprocal, where=has_exact_reciprocal),
    rule("1 / x => reciprocal(x)", Number(1.0) / x, lambda b, m: b.reciprocal(m.x), where=is_float),
    rule("-(-x) => x", -NEGATED, lambda b, m: m.x, shared=True),
    rule("x + -y => x - y", x + -y, lambda b, m: m.x - m.y),
    rule("x - -y => x + y", x - -y, lambda b, m: m.x + m.y),
    rule("not(not(x)) => x", ~~x, lambda b, m: m.x, shared=True),
    rule(
        "cast(cast(x, a), b) => cast(x, b) where a holds all of x",
        op.cast(INNER_CAST),
        lambda b, m: m.x.cast(**m.root.attrs),
        first_cast_is_lossless,
        shared=True,
    ),
    rule(
        "where(constant, x, y) => x or y",
        op.where(c, x, y),
        choose,
        where=lambda m: truth(m) is not None,
    ),
    rule("where(not(z), x, y) => where(z, y, x)", op.where(~z, x, y), swap, shared=True),
    rule("relu(relu(x)) => relu(x)", op.relu(op.relu(x)), lambda b, m: b.relu(m.x)),
    rule("maximum(x, 0) => relu(x)", op.maximum(x, 0), lambda b, m: b.relu(m.x)),
)

FAST: tuple[Rule, ...] = (
    rule("x / c => x * (1/c)", x / c, reciprocal, has_reciprocal, where=is_float),
    rule("x - c => x + -c", x - c, lambda b, m: m.x + -m.c, where=is_float),
    rule("(x + c) + d => x + (c + d)", (x + c) + d, lambda b, m: m.x + (m.c + m.d), stays_small),
    rule("(x * c) * d => x * (c * d)", (x * c) * d, lambda b, m: m.x * (m.c * m.d), stays_small),
    rule("-x * c => x * -c", -x * c, lambda b, m: m.x * -m.c),
    rule("1 / sqrt(x) => rsqrt(x)", op.reciprocal(op.sqrt(x)), lambda b, m: b.rsqrt(m.x)),
)
