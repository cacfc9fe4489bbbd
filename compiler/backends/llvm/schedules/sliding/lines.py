"""What the taps of a window see of one line of its input, as vectors.

At the ends of a line, where some lanes lie in the padding, vectors are loaded under a mask that is
known while compiling, or read further inside and their lanes moved, where that is less work.
"""

import llvmlite.ir as ir

from .....expr import expr as s
from .....expr.expr import Expr
from ...base.types import I1, I32, i64, vector
from ...emit.emitter import Emitter
from .apart import lines_apart
from .form import Form


class Lines:
    """Reads lines: the axes that lead to one have their values, the vector axis its first."""

    def __init__(self, e: Emitter, form: Form, lanes: int):
        self.e, self.form, self.lanes = e, form, lanes

    def apart_loads(self) -> list[Expr]:
        """The loads whose lanes are not next to each other."""
        e, form = self.e, self.form
        loads = [x for x in s.walk(form.value) if x.op == "load"]
        with e.vectorised(form.vector_axis, self.lanes):
            return [x for x in loads if (e.lane_stride(x.args[0]) or 0) > 1]

    def __call__(self, edge: int | None, taps: list[int]) -> list[ir.Value]:
        """What the taps see of the present line, as vectors."""
        e, form, lanes = self.e, self.form, self.lanes
        columns = form.columns
        if columns is None:
            with e.scope(), e.vectorised(form.vector_axis, lanes):
                return [self._seen(e.vector(form.value))]
        valid = {j: self._valid(edge, j) for j in taps}
        if edge is not None and self._shifts():
            return [self._shifted(edge, j, valid[j]) for j in taps]
        return self._masked(taps, valid)

    def _shifts(self) -> bool:
        """Whether vectors at the ends had better be read further inside than under a mask."""
        load = min((x.dtype.bits for x in s.walk(self.form.value) if x.op == "load"), default=32)
        return load < 32 or self.e.target.vector_bytes < 32

    def _masked(self, taps: list[int], valid: dict[int, list[bool]]) -> list[ir.Value]:
        e, form, lanes = self.e, self.form, self.lanes
        columns, taken = form.columns, {}
        with e.vectorised(form.vector_axis, lanes):
            for x in self.apart_loads():
                taken[x] = lines_apart(e, x, columns.tap, valid)
        result = []
        for j in taps:
            mask = None if all(valid[j]) else ir.Constant(vector(I1, lanes), valid[j])
            with (
                e.scope(),
                e.at(columns.tap, i64(j)),
                e.vectorised(form.vector_axis, lanes, mask),
            ):
                for x, vectors in taken.items():
                    e.remember(x, vectors[j])
                result.append(self._seen(self._guarded(valid[j], mask)))
        return result

    def _shifted(self, edge: int, tap: int, valid: list[bool]) -> ir.Value:
        """A vector that is read where all of it lies in the input, and its lanes moved."""
        e, form, lanes = self.e, self.form, self.lanes
        holds = form.columns.holds
        by = next(
            (
                d
                for n in range(lanes)
                for d in (n, -n)
                if all(holds(edge + d + m, tap) for m in range(lanes))
            ),
            None,
        )
        if by is None or not any(valid):
            return self._masked([tap], {tap: valid})[0]
        if by == 0:
            return self._masked([tap], {tap: [True] * lanes})[0]
        with e.scope(), e.vectorised(form.vector_axis, lanes):
            with e.at(form.vector_axis, e.plus(e.where[form.vector_axis], by)):
                value = self._plain(tap)
            other = e.vector(form.guard.args[2])
            places = [n - by if ok else lanes + n for n, ok in enumerate(valid)]
            value = e.b.shuffle_vector(value, other, ir.Constant(vector(I32, lanes), places))
            with e.at(form.columns.tap, i64(tap)):
                return self._seen(value)

    def _plain(self, tap: int) -> ir.Value:
        """The value that a tap sees of a vector that lies in the input."""
        e, form = self.e, self.form
        whole = {tap: [True] * self.lanes}
        taken = {x: lines_apart(e, x, form.columns.tap, whole) for x in self.apart_loads()}
        with e.scope(), e.at(form.columns.tap, i64(tap)):
            for x, vectors in taken.items():
                e.remember(x, vectors[tap])
            return e.vector(form.value)

    def _valid(self, edge: int | None, tap: int) -> list[bool]:
        """The lanes of a tap that lie in the input."""
        if edge is None:
            return [True] * self.lanes
        return [self.form.columns.holds(edge + n, tap) for n in range(self.lanes)]

    def _guarded(self, valid: list[bool], mask: ir.Constant | None) -> ir.Value:
        """The value, and what stands for it where the mask hides it."""
        e, form = self.e, self.form
        if mask is None:
            return e.vector(form.value)
        other = form.guard.args[2]
        if not any(valid):
            return e.vector(other)
        value = e.vector(form.value)
        if form.value.op == "load" and other.op == "const" and other.data == 0:
            return value  # masked lanes are zero
        return e.b.select(mask, value, e.vector(other))

    def _seen(self, value: ir.Value) -> ir.Value:
        form = self.form
        if form.guard is None:
            return value
        self.e.remember(form.guard, value)
        return self.e.vector(form.seen)
