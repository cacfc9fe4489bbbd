"""Masks of lanes, and the smaller and the larger of two indices."""

from typing import TYPE_CHECKING

import llvmlite.ir as ir

from ..base.types import I1, vector
from ..base.types import I64 as WORD
from .scalar import splat

if TYPE_CHECKING:
    from .emitter import Emitter


def first_lanes(lanes: int, count: int) -> ir.Constant:
    """The mask of the first `count` lanes."""
    return ir.Constant(vector(I1, lanes), [i < count for i in range(lanes)])


def known_lanes(mask: ir.Value) -> list[bool] | None:
    """The lanes of a mask that is a constant, else None."""
    lanes = getattr(mask, "constant", None)
    if not isinstance(lanes, list):
        return None
    return [bool(getattr(x, "constant", x)) for x in lanes]


def minimum(e: "Emitter", x: ir.Value, y: ir.Value) -> ir.Value:
    return e.b.select(e.b.icmp_signed("<", x, y), x, y)


def maximum(e: "Emitter", x: ir.Value, y: ir.Value) -> ir.Value:
    return e.b.select(e.b.icmp_signed(">", x, y), x, y)


def lanes_below(e: "Emitter", base: ir.Value, end: ir.Value, lanes: int) -> ir.Value:
    """The mask of lanes whose index base + lane is below `end`."""
    steps = ir.Constant(vector(WORD, lanes), list(range(lanes)))
    index = e.b.add(splat(e.b, base, lanes), steps)
    return e.b.icmp_signed("<", index, splat(e.b, end, lanes))
