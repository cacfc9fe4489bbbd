"""Scales around a quantization become one multiply-add per operand.

    q(x·c + d, s, z)                      => q(x·(c/s) + d/s, 1, z)
    q(x·c, s, z)                          => q(x·(c/s), 1, z)
    q(dq(x, s, z) + dq(y, t, u), r, v)    => q(x·(s/r) + (y·(t/r) - (z·s + u·t)/r), 1, v)

q(x, s, z) = saturate(round(x / s) + z), dq(x, s, z) = (x - z)·s, as in `quantized.py`. A quotient
costs as much as a dozen products. Each rule moves what is rounded by a few units in the last place,
so that only numbers as near to the middle between two steps are rounded to the other one.
"""

from math import prod

import numpy as np

from ...ir.builder import Builder, Tensor
from ...ir.graph import Value
from ...ir.types import F32
from ..engine import Rule, rule
from ..pattern import Match, constants, op, optional, variables

x, y = variables("x y")
c, d, s, t, r = constants("c d s t r")
z, u, v = (optional(constants(name)[0]) for name in "zuv")

SCALED = op.quantize_linear(x * c, s, z)
SHIFTED = op.quantize_linear(x * c + d, s, z)
DX, DY = op.dequantize_linear(x, s, z), op.dequantize_linear(y, t, u)
ADDED = op.quantize_linear(DX + DY, r, v)


def _number(value: Tensor | Value | None) -> float | None:
    """The one number of a scale or a zero point (0 where there is none); None for several."""
    if value is None:
        return 0.0
    known = value.constant is not None and prod(value.shape) == 1
    return float(value.constant.reshape(())) if known else None


def _in_f32(m: Match, scale: Tensor) -> str | None:
    """Why the quotient is not one of f32 by one number, if it isn't."""
    attrs = m.root.attrs
    if not attrs["dtype"].is_int or attrs["precision"] is not None or scale.dtype != F32:
        return "it is not quantized to integers in f32"
    if m.root.inputs[0].dtype != F32:
        return "it is not quantized to integers in f32"
    divisor = _number(scale)
    if divisor is None:
        return "there is a scale per channel"
    return None if np.isfinite(divisor) and divisor > 0 else "its scale is no positive number"


def _divides(m: Match) -> bool:
    """Whether there is a quotient to take out."""
    return _number(m.root.inputs[1]) != 1


def _unscaled(b: Builder, m: Match, value: Tensor, zero: Tensor | None) -> Tensor:
    if _number(zero) == 0:
        zero = None
    return b.quantize_linear(value, b.scalar(1.0, F32), zero, **m.root.attrs)


def _divided(b: Builder, m: Match, constant: Tensor) -> Tensor:
    quotient = constant.constant.astype(np.float64) / _number(m.s)
    return b.constant(quotient.astype(np.float32))


def _is_scaled(m: Match) -> str | None:
    return _in_f32(m, m.s)


def _scaled(b: Builder, m: Match) -> Tensor:
    return _unscaled(b, m, m.x * _divided(b, m, m.c), m.z)


def _shifted(b: Builder, m: Match) -> Tensor:
    return _unscaled(b, m, m.x * _divided(b, m, m.c) + _divided(b, m, m.d), m.z)


def _adds_numbers(m: Match) -> str | None:
    reason = _in_f32(m, m.r)
    if reason is not None:
        return reason
    if any(n.attrs["dtype"] != F32 for n in (m[DX], m[DY])):
        return "it is not added in f32"
    if any(_number(n) is None for n in (m.s, m.z, m.t, m.u)):
        return "there is a scale per channel"
    return None


def _added(b: Builder, m: Match) -> Tensor:
    first, second = _number(m.s) / _number(m.r), _number(m.t) / _number(m.r)
    zero = b.scalar(-(_number(m.z) * first + _number(m.u) * second), F32)
    right = m.y.cast(F32) * b.scalar(second, F32) + zero
    return _unscaled(b, m, m.x.cast(F32) * b.scalar(first, F32) + right, m.v)


REQUANTIZE: tuple[Rule, ...] = (
    rule(
        "q(x * c + d, s, z) => q(x * (c/s) + d/s, 1, z)",
        SHIFTED,
        _shifted,
        _is_scaled,
        where=_divides,
    ),
    rule("q(x * c, s, z) => q(x * (c/s), 1, z)", SCALED, _scaled, _is_scaled, where=_divides),
    rule(
        "q(dq(x, s, z) + dq(y, t, u), r, v) => q(x * (s/r) + (y * (t/r) - …), 1, v)",
        ADDED,
        _added,
        _adds_numbers,
        where=_divides,
        shared=True,
    ),
)
