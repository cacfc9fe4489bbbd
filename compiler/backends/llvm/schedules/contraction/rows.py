"""The rows of A that tiles read: in place, or evaluated or turned into scratch memory."""

import llvmlite.ir as ir

from .....expr import expr as s
from .....expr.expr import Axis, Buffer, Expr
from .....ir.bounds import size_hint
from .....ir.dims import Sym
from .....ir.types import I16, TensorType
from .....kernels.tiling import linear_load
from ...base.types import constant, i64, memory_type, register_type
from ...emit.emitter import UNROLL, Emitter
from ...emit.lanes import lanes_below, minimum
from .choose import paired, paired_load
from .quads import bytes_factor
from .tiling import Tiling, merged, row_places
from .transpose import TransposePack

ROW = 16  # vectors of a row that is packed from which a loop over rows is not written out


class Rows:
    """A's tiles. `first` is the row that a flat tile begins with, counted through all lines."""

    def __init__(self, e: Emitter, plan: Tiling, scratch: ir.Value):
        self.e, self.plan, self.scratch = e, plan, scratch
        self.dtype = plan.dtype
        self.type = register_type(self.dtype)
        self.first: ir.Value | None = None

    def place(self, row: ir.Value) -> dict[Axis, ir.Value]:
        """Where a row lies, counted through all lines."""
        plan, width = self.plan, i64(self.plan.m.extent)
        return {plan.line: self.e.b.udiv(row, width), plan.m: self.e.b.urem(row, width)}

    def loops(self) -> list[tuple]:
        """(extent, stride in A) of the loops over k; with the stride in B, if that is read in
        place."""
        plan, c = self.plan, self.plan.contraction
        if plan.pairs:
            if plan.a == "pack":
                return [(plan.steps, 1)]
            strides, _ = paired_load(c)
            axes = paired(c.k)
            return merged(axes, {new: strides.get(a, 0) for a, new in zip(c.k, axes)})
        strides = linear_load(c.a)[0] if plan.a == "direct" else self.k_strides()
        if plan.b == "slide":
            return merged(c.k, strides, linear_load(c.b)[0])
        return merged(c.k, strides)

    def packed(self, slot: ir.Value) -> ir.Value:
        """Where a tile of A is packed."""
        plan = self.plan
        e = self.e
        offset = e.b.add(e.b.mul(slot, e.size(plan.packed_tile)), e.size(plan.front))
        return self.e.b.gep(self.scratch, [offset], source_etype=self.type)

    def k_strides(self) -> dict:
        """Strides of k in packed A, in elements (not pairs)."""
        k = self.plan.contraction.k
        step = self.plan.tile.rows if self.plan.a == "turn" else 1
        return {a: n * step for a, n in zip(k, s.strides_of([a.extent for a in k]))}

    def direct(self) -> tuple[ir.Value, dict]:
        """Where the present tile begins in A itself, and the strides of all axes there."""
        e, c = self.e, self.plan.contraction
        pairs = self.plan.pairs
        if self.plan.quads is not None:
            load, _ = bytes_factor(c)
            (strides, base), type = linear_load(load), memory_type(load.dtype)
        else:
            strides, base = paired_load(c) if pairs else linear_load(c.a)
            (load,) = (x for x in s.walk(c.a) if x.op == "load")
            type = self.type if pairs else memory_type(c.a.dtype)
        terms = {s.axis(a): k for a, k in strides.items() if a not in c.k and a.extent != 1}
        start = e.b.gep(e.pointers[load.data], [e.offset(terms, base)], source_etype=type)
        return start, strides

    def pack(self, slot: ir.Value) -> None:
        """A's tile is evaluated into scratch, then walked like a plain matrix."""
        e, plan, c = self.e, self.plan, self.plan.contraction
        if plan.a == "turn":
            start, strides = self.direct()
            places = self.places(strides)
            turn = TransposePack(e, self.dtype, plan.tile.rows, places)
            turn.run(c.k, strides, start, self.packed(slot))
            return
        strides = self.k_strides()
        row = Axis("r", plan.tile.rows)
        pitch, dtype = (2 * plan.pitch, I16) if plan.pairs else (plan.pitch, self.dtype)
        start = s.mul(s.axis(row), pitch)
        index = s.add(start, _sum(strides))
        out = Buffer("tile", TensorType(dtype, (pitch * plan.tile.rows,)))
        e.pointers[out] = self.packed(slot)
        value = s.cast(c.a, dtype)
        if plan.m is not None and plan.tile.rows > 1:
            value = s.substitute(value, self._row_axes(row))
        vector_axis = max(c.k, key=lambda a: (strides[a] == 1, size_hint(a.extent)), default=None)
        axes = [a for a in (row, *c.k) if a is not vector_axis and a.extent != 1]

        def put():
            if (
                vector_axis is None
                or strides[vector_axis] != 1
                or size_hint(vector_axis.extent) < 4
            ):
                one = lambda: e.store(out, index, e.emit(value), None)
                e.loops([] if vector_axis is None else [vector_axis], one)
                return
            lanes = 2 * plan.lanes if plan.pairs else plan.lanes
            while lanes > size_hint(vector_axis.extent):
                lanes //= 2
            if isinstance(vector_axis.extent, Sym):
                self._pack_dynamic(
                    vector_axis, lanes, lambda: e.store(out, index, e.vector(value), None)
                )
                return
            with e.loop(i64(0), i64(vector_axis.extent), lanes, name="k") as k:
                base = (
                    minimum(e, k, i64(vector_axis.extent - lanes))
                    if vector_axis.extent % lanes
                    else k
                )
                with e.at(vector_axis, base), e.vectorised(vector_axis, lanes):
                    e.store(out, index, e.vector(value), None)

        long = vector_axis is not None and size_hint(vector_axis.extent) > ROW * plan.lanes
        with e.scope():
            e.loops(axes, put, unroll=1 if long else UNROLL)
        if plan.pairs and plan.depth % 2:
            last = s.add(start, s.const(plan.depth))
            with e.scope():
                zero = constant(0, I16)
                e.loops([row], lambda: e.store(out, last, zero, None))

    def _pack_dynamic(self, vector_axis: Axis, lanes: int, put) -> None:
        """`put` for all of k, of which the last vector is masked."""
        e = self.e
        with e.loop(i64(0), e.size(vector_axis.extent), lanes, name="k") as k:
            mask = lanes_below(e, k, e.size(vector_axis.extent), lanes)
            with e.at(vector_axis, k), e.vectorised(vector_axis, lanes, mask):
                put()

    def places(self, strides: dict) -> list:
        """Where the rows of a tile begin in A, in elements from its first one."""
        e, plan = self.e, self.plan
        if plan.tile.flat:
            step = strides.get(plan.m, 0)
            if strides.get(plan.line, 0) == step * plan.m.extent:
                return [r * step for r in range(plan.tile.rows)]
            return self._flat_places(strides)
        if not plan.short:
            return row_places(plan, strides)
        first, step = e.where[plan.m], e.size(strides.get(plan.m, 0))
        rows = [e.b.add(first, i64(r)) for r in range(plan.tile.rows)]
        last = e.size(plan.m.extent - 1)
        return [e.b.mul(e.b.sub(minimum(e, row, last), first), step) for row in rows]

    def _flat_places(self, strides: dict[Axis, int]) -> list[ir.Value]:
        """Where the rows of a flat tile begin in A, from its first one."""
        e, plan = self.e, self.plan

        def offset(place: dict[Axis, ir.Value]) -> ir.Value:
            return e.b.add(*(e.b.mul(x, e.size(strides.get(a, 0))) for a, x in place.items()))

        start = offset({a: e.where[a] for a in (plan.line, plan.m)})
        rows = [e.b.add(self.first, i64(r)) for r in range(plan.tile.rows)]
        return [e.b.sub(offset(self.place(row)), start) for row in rows]

    def _row_axes(self, row: Axis) -> dict[Axis, Expr]:
        """The m axes of a tile's row, from those of its first one."""
        e, plan = self.e, self.plan

        def moved(axis: Axis, by: Expr) -> Expr:
            first = Axis("m", axis.extent)
            e.where[first] = e.where[axis]
            return s.add(s.make("axis", (), first, s.I64), by)

        if plan.short:
            here = moved(plan.m, s.axis(row))
            last = s.const(plan.m.extent - 1)
            return {plan.m: s.make("min", (here, last), None, s.I64)}
        if plan.line is None:
            return {plan.m: moved(plan.m, s.axis(row))}
        width = s.const(plan.m.extent)
        return {
            plan.line: moved(plan.line, s.axis(row) // width),
            plan.m: s.axis(row) % width,
        }


def _sum(strides: dict) -> Expr:
    total = s.const(0)
    for a, k in strides.items():
        total = s.add(total, s.mul(s.axis(a), k))
    return total
