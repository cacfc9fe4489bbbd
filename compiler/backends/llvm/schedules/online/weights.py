"""The weights of a block of scores: each row's greatest score so far, powers, and their sum.

most'  = max(most, scores)
p      = exp(scores - most')
total' = total * exp(most - most') + sum of p
"""

from collections.abc import Callable

import llvmlite.ir as ir

from ...base.types import I32, constant, i64, vector
from ...emit.scalar import splat
from ...vmath import formulas
from .scratch import Scratch

SIDE = 4  # vectors whose weights are computed by turns


class Weights:
    """Code for rows of scores in `scratch`. Until a row's scores are all there, the region
    `partial` has the greatest one of each lane."""

    def __init__(self, scratch: Scratch, guarded: bool):
        self.e, self.plan, self.s, self.guarded = scratch.e, scratch.plan, scratch, guarded

    def begin(self) -> None:
        """No scores yet."""
        e, plan = self.e, self.plan
        with e.loop(i64(0), i64(plan.groups * plan.lanes), name="row") as r:
            self.s.store(self.s.low, "partial", e.b.mul(r, i64(plan.lanes)))

    def greater(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """y where x is NaN: weights are then NaN in any case."""
        return self.e.b.select(self.e.b.fcmp_ordered(">", x, y), x, y)

    def _exp(self, x: ir.Value) -> ir.Value:
        return formulas.emit(self.e.b, "exp_flushed", x)

    def greatest(self, row: ir.Value, first: ir.Value) -> None:
        """The greatest score of each row so far, where it is finite, else zero: exp(-inf - 0) is
        the weight of a hidden key also in a row that sees none."""
        e, plan = self.e, self.plan
        most = self._across("partial", row, self.greater)
        if not plan.is_single:
            before = e.b.select(first, self.s.low, self.s.load("most", row))
            most = self.greater(most, before)
            self.s.store(most, "most", row)
        is_low = e.b.fcmp_ordered("==", most, self.s.low)
        most = e.b.select(is_low, self.s.zero, most)
        self.s.store(most, "inverse", row)
        if not plan.is_single:
            self.s.store(self._exp(e.b.fsub(before, most)), "shrunk", row)

    def weigh(self, row: ir.Value, panels: ir.Value) -> None:
        """p of a row, in place of its scores, and its sum in each lane. Several vectors are one
        that LLVM takes apart: their chains of instructions come by turns."""
        e, plan = self.e, self.plan
        most = e.b.load(self.s.at("inverse", row), typ=self.s.type)
        start = e.b.mul(row, i64(plan.score_pitch))
        totals = [e.variable(self.s.vector, "total") for _ in range(SIDE)]
        for total in totals:
            e.b.store(self.s.zero, total)

        def weigh(count: int, begin: ir.Value, end: ir.Value) -> None:
            """Columns from `begin` to `end`, so many vectors at a time."""
            lanes = count * plan.lanes
            with e.loop(begin, end, lanes, name="key") as k:
                place = self.s.at("scores", e.b.add(start, k))
                score = e.b.load(place, typ=vector(self.s.type, lanes), align=plan.size)
                weight = self._exp(e.b.fsub(score, splat(e.b, most, lanes)))
                e.b.store(weight, place, align=plan.size)
                parts = self._parts(weight, lanes) if count > 1 else [weight]
                for part, total in zip(parts, totals):
                    e.b.store(e.b.fadd(e.b.load(total), part), total)

        columns = e.b.mul(panels, i64(plan.width))
        whole = e.b.sub(columns, e.b.urem(columns, i64(SIDE * plan.lanes)))
        weigh(SIDE, i64(0), whole)
        if plan.tile.vectors % SIDE:
            weigh(1, whole, columns)
        sums = [e.b.load(total) for total in totals]
        while len(sums) > 1:
            sums = [e.b.fadd(x, y) for x, y in zip(sums[::2], sums[1::2])]
        self.s.store(sums[0], "partial", e.b.mul(row, i64(plan.lanes)))

    def _parts(self, value: ir.Value, lanes: int) -> list[ir.Value]:
        """A vector in pieces of a register."""
        undefined = ir.Constant(value.type, ir.Undefined)
        places = [range(i, i + self.plan.lanes) for i in range(0, lanes, self.plan.lanes)]
        masks = [ir.Constant(vector(I32, self.plan.lanes), list(x)) for x in places]
        return [self.e.b.shuffle_vector(value, undefined, m) for m in masks]

    def totals(self, row: ir.Value, first: ir.Value) -> None:
        """The sum of the weights of each row so far, and its inverse."""
        e, plan = self.e, self.plan
        total = self._across("partial", row, e.b.fadd)
        if not plan.is_single:
            before = e.b.fmul(self.s.load("total", row), self.s.load("shrunk", row))
            total = e.b.select(first, total, e.b.fadd(before, total))
            self.s.store(total, "total", row)
        inverse = e.b.fdiv(constant(1.0, self.s.dtype, plan.lanes), total)
        if self.guarded:  # of a row of NaN; no other inverse is zero
            inverse = e.b.select(e.b.fcmp_ordered(">", total, self.s.zero), inverse, self.s.zero)
        self.s.store(inverse, "inverse", row)

    def _across(self, region: str, row: ir.Value, join: Callable) -> ir.Value:
        """Vectors of as many rows as there are lanes, each folded into its lane of one vector."""
        e, lanes = self.e, self.plan.lanes
        start = e.b.mul(row, i64(lanes))
        parts = [self.s.load(region, e.plus(start, n * lanes)) for n in range(lanes)]
        half = lanes // 2
        while half:
            low = [i if not i & half else lanes + i - half for i in range(lanes)]
            high = [i + half if not i & half else lanes + i for i in range(lanes)]
            masks = [ir.Constant(vector(I32, lanes), x) for x in (low, high)]
            pairs = list(zip(parts[:half], parts[half:]))
            parts = [join(*(e.b.shuffle_vector(x, y, m) for m in masks)) for x, y in pairs]
            half //= 2
        return parts[0]
