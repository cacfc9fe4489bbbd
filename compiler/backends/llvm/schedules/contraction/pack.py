"""Weights packed while compiling, in the order in which a contraction reads them."""

from collections.abc import Iterator
from itertools import product
from math import prod

import numpy as np

from .....expr import expr as s
from .....expr.expr import Axis, Buffer, Expr
from .....ir.types import I16
from .....kernels.machine import aligned_empty
from .....kernels.restore import Panels, Place, Recipe
from .....kernels.tiling import linear_load
from ....numpy import evaluate
from .tiling import Tiling

PIECE = 16 << 20  # bytes of weights that are packed at a time


def pack_constant(plan: Tiling, arrays: dict[Buffer, np.ndarray]) -> np.ndarray:
    """B, of each sum, as panels [n outer…, batch…, panel, k, column], zero past the end; of
    `pairs`, [n outer…, batch…, panel, pair of k, column, 2] in i16. The last panel overlaps the one
    before it. Of sums, only the stored ones are packed."""
    factors, outer = plan.factors, [a for a in plan.outer if a in plan.contraction.b.free]
    if plan.stored:
        (axis,) = outer
        outer = [Axis(axis.name, plan.stored)]
        factors = tuple(s.substitute(b, {axis: s.axis(outer[0])}) for b in factors)
    each = 2 if plan.pairs else 1
    dtype = np.dtype(np.int16) if plan.pairs else plan.dtype.numpy
    shape = (*[a.extent for a in outer], plan.panels, plan.steps, plan.width, each)
    packed = aligned_empty(prod(shape) * dtype.itemsize).view(dtype).reshape(shape)
    firsts = plan.first_columns()
    some = max(1, PIECE * plan.panels // max(1, packed.nbytes))
    for number, start in product(range(len(factors)), range(0, plan.panels, some)):
        here, own = firsts[start : start + some], slice(number * plan.columns, None)
        columns = min(plan.n.extent, here[-1] + plan.columns) - here[0]
        value = columns_of(plan, factors[number], outer, here[0], columns, arrays)
        missing, more = plan.columns - columns, plan.steps * each - plan.depth
        if missing > 0 or more:
            pads = [(0, 0)] * len(outer)
            value = np.pad(value, [*pads, (0, max(0, missing)), (0, more)])
        value = value.reshape(*value.shape[:-1], plan.steps, each)
        for p, first in enumerate(here, start):
            panel = value[..., first - here[0] :, :, :][..., : plan.columns, :, :]
            packed[..., p, :, own, :][..., : plan.columns, :] = np.moveaxis(panel, -2, -3)
    return packed if plan.pairs else packed[..., 0]


def source_of(
    plan: Tiling, factor: Expr | None = None
) -> tuple[Buffer, tuple[int, ...], Place] | None:
    """(the array that B, or another `factor`, is read from, the extents of what is outside of
    panels, where B's elements [outer…, column, k…] lie in it), where B is a plain load."""
    b = plan.contraction.b if factor is None else factor
    while b.op == "cast":
        (b,) = b.args
    outer = [a for a in plan.outer if a in plan.contraction.b.free]
    found, axes = linear_load(b), [*outer, plan.n, *plan.contraction.k]
    if found is None or plan.stored or not set(found[0]) <= set(axes):
        return None
    strides, offset = found
    place = Place(tuple(a.extent for a in axes), tuple(strides.get(a, 0) for a in axes), offset)
    return b.data, tuple(a.extent for a in outer), place


def recipes(plan: Tiling) -> Iterator[tuple[Buffer, Recipe]]:
    """How the array that B, of each sum, is read from is found in its panels, where B is a plain
    load."""
    each, dtype = (2, I16) if plan.pairs else (1, plan.dtype)
    count = len(plan.factors)
    for number, factor in enumerate(plan.factors):
        source = source_of(plan, factor)
        if source is None:
            return
        buffer, lead, place = source
        size = (plan.columns, each, plan.n.extent, plan.depth)
        yield buffer, Panels(dtype.name, lead, *size, place, count, number)


def columns_of(
    plan: Tiling, b: Expr, outer: list[Axis], first: int, count: int, arrays
) -> np.ndarray:
    """Columns of B from `first` on: [outer…, column, k]."""
    c = plan.contraction
    column = Axis("n", count)
    b = s.substitute(b, {plan.n: s.add(s.axis(column), s.const(first))})
    axes = [*outer, column, *c.k]
    shape = [a.extent for a in axes]
    value = evaluate(b, axes, arrays)
    value = value.reshape([1] * (len(axes) - value.ndim) + list(value.shape))
    return np.broadcast_to(value, shape).reshape(*[a.extent for a in outer], count, plan.depth)
