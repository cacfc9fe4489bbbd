"""The rows of a group, as tiles read them: evaluated once into scratch memory.

    [row]: a[block][step], a multiple of chunks each · corrections [block] · factors [block]

Where codes are multiplied as floats, each step's a is divided by the power of two by which its
field of the packed word is too large (`fields.py`). The correction of a block is what its zero
point adds: - zero · sum of a, or - sum of a where zero points differ from column to column.
"""

import llvmlite.ir as ir

from .....classes import dataclass
from .....expr import expr as s
from .....expr.expr import Axis, Expr
from .....ir.types import F32, I32, I64, DType
from .....kernels.machine import LINE
from ...base.types import I8, constant, i64, register_type, vector
from ...emit.emitter import Emitter
from ...emit.lanes import lanes_below
from ...emit.scalar import intrinsic, splat, suffix
from .fields import exponent
from .planes import Layout


@dataclass(frozen=True)
class RowPlan:
    """How a row lies in scratch memory, in bytes."""

    layout: Layout

    @property
    def dtype(self) -> DType:
        """Of the sums, corrections and products."""
        return I32 if self.layout.form.is_integer else F32

    @property
    def each(self) -> int:
        """Bytes of a step."""
        return 1 if self.layout.form.is_integer else 4

    @property
    def block_steps(self) -> int:
        return self.layout.chunks * self.layout.chunk

    @property
    def constant_zero(self) -> int | None:
        """The zero point of all codes, if it is one."""
        form = self.layout.form
        if form.table is not None or (form.zero is not None and form.zero.op != "const"):
            return None
        zero = 0 if form.zero is None else form.zero.data
        return zero - form.least

    @property
    def corrects(self) -> bool:
        form = self.layout.form
        if form.table is not None:
            return form.zero is not None
        return self.constant_zero != 0

    @property
    def corrections_at(self) -> int:
        filled = self.layout.form.number * self.block_steps + self.layout.lanes
        return -(-filled * self.each // LINE) * LINE

    @property
    def factors_at(self) -> int:
        return self.corrections_at + (4 * self.layout.form.number if self.corrects else 0)

    @property
    def pitch(self) -> int:
        """From a row to the next: an odd number of cache lines."""
        end = self.factors_at + (4 * self.layout.form.number if self.layout.form.rows else 0)
        return (-(-end // LINE) | 1) * LINE


def merged(e: Expr, k: tuple[Axis, ...], step: Axis) -> Expr:
    """`e` with one axis in place of those along a block."""
    weights = dict(zip(k, s.strides_of([a.extent for a in k])))

    def visit(x: Expr) -> Expr | None:
        if x.op == "axis" and x.data in weights:
            return s.mod(s.floordiv(s.axis(step), weights[x.data]), x.data.extent)
        if x.dtype != I64 or not x.free & set(k) or x.op not in ("add", "mul"):
            return None
        terms, base = s.linear(x)
        own = {t.data: c for t, c in terms.items() if t.op == "axis" and t.data in weights}
        rest = {t: c for t, c in terms.items() if not (t.op == "axis" and t.data in weights)}
        if any(t.free & set(k) for t in rest):
            return None
        scale = own.get(k[-1], 0)
        if not all(own.get(a, 0) == scale * weights[a] for a in k):
            return None
        return s.add(s.from_linear(rest, base), s.mul(s.axis(step), scale))

    return s.transform(e, visit)


class RowEmitter:
    """Writes the loops that fill scratch memory."""

    def __init__(self, e: Emitter, plan: RowPlan, scratch: ir.Value):
        self.e, self.plan, self.scratch = e, plan, scratch
        self.layout, self.form = plan.layout, plan.layout.form
        self.lanes = plan.layout.lanes
        self.step = Axis("step", self.form.block)
        product = s.cast(self.form.a[0], plan.dtype)
        for factor in self.form.a[1:]:
            product = s.apply("mul", product, s.cast(factor, plan.dtype))
        self.value = merged(product, self.form.k, self.step)

    def place(self, slot: ir.Value, at: int, index: ir.Value, each: int) -> ir.Value:
        """Where number `index` of what begins `at` bytes into a row lies."""
        b = self.e.b
        row = b.gep(self.scratch, [b.mul(slot, i64(self.plan.pitch))], source_etype=I8)
        return b.gep(row, [b.add(b.mul(index, i64(each)), i64(at))], source_etype=I8)

    def fill(self, slot: ir.Value) -> None:
        """The row at which the axes of m stand."""
        e, form, plan = self.e, self.form, self.plan
        with e.loop(i64(0), i64(form.number), name="block") as block, self.at_block(block):
            total = self._steps(slot, block)
            if plan.corrects:
                place = self.place(slot, plan.corrections_at, block, 4)
                e.b.store(self._correction(total), place, align=4)
            if form.rows:
                factor = s.cast(form.rows[0], F32)
                for more in form.rows[1:]:
                    factor = s.apply("mul", factor, s.cast(more, F32))
                place = self.place(slot, plan.factors_at, block, 4)
                e.b.store(e.emit(factor), place, align=4)

    def at_block(self, block: ir.Value):
        return at_places(self.e, self.form.blocks, block)

    def _steps(self, slot: ir.Value, block: ir.Value) -> ir.Value | None:
        """The steps of a block, and their sum."""
        e, plan, lanes = self.e, self.plan, self.lanes
        type = vector(register_type(plan.dtype), lanes)
        total = None
        if plan.corrects:
            total = e.variable(type, "sum")
            e.b.store(constant(0, plan.dtype, lanes), total)
        stride = max(lanes, self.layout.chunk)
        first = e.b.mul(block, i64(plan.block_steps))
        with e.loop(i64(0), i64(plan.block_steps), stride, name="step") as start:
            for u in range(0, stride, lanes):
                at = e.plus(start, u)
                with e.scope():
                    value = self._vector(at)
                    if total is not None:
                        add = e.b.fadd if plan.dtype.is_float else e.b.add
                        e.b.store(add(e.b.load(total), value), total)
                    place = self.place(slot, 0, e.b.add(first, at), plan.each)
                    e.b.store(self._stored(value, u), place, align=1)
        return None if total is None else e.b.load(total)

    def _vector(self, at: ir.Value) -> ir.Value:
        """Steps from `at` on, zero past the end of the block."""
        e, lanes, block = self.e, self.lanes, self.form.block
        mask = None if block % lanes == 0 else lanes_below(e, at, i64(block), lanes)
        if block % lanes == 0 and self.plan.block_steps != block:
            inside = e.b.icmp_signed("<", at, i64(block))
            mask = splat(e.b, inside, lanes)
        with e.at(self.step, at), e.vectorised(self.step, lanes, mask):
            value = e.vector(self.value)
        return value if mask is None else e.b.select(mask, value, ir.Constant(value.type, None))

    def _stored(self, value: ir.Value, first: int) -> ir.Value:
        e, lanes = self.e, self.lanes
        if self.form.is_integer:
            return e.b.trunc(value, vector(I8, lanes))
        powers = [2.0 ** -exponent(self.layout, first + i) for i in range(lanes)]
        if all(p == 1 for p in powers):
            return value
        return e.b.fmul(value, ir.Constant(value.type, powers))

    def _correction(self, total: ir.Value) -> ir.Value:
        """- zero · sum, or - sum, over the lanes."""
        b, plan = self.e.b, self.plan
        zero = plan.constant_zero
        if plan.dtype.is_float:
            name = f"llvm.vector.reduce.fadd.{suffix(total.type)}"
            element = total.type.element
            f = intrinsic(b.module, name, element, [element, total.type])
            whole = b.call(f, [ir.Constant(element, -0.0), total], fastmath=("reassoc",))
            return b.fmul(whole, ir.Constant(element, float(-1 if zero is None else -zero)))
        name = f"llvm.vector.reduce.add.{suffix(total.type)}"
        f = intrinsic(b.module, name, total.type.element, [total.type])
        return b.mul(
            b.call(f, [total]), ir.Constant(total.type.element, -1 if zero is None else -zero)
        )


class at_places:
    """Axes at the places that one number counts through."""

    def __init__(self, e: Emitter, axes: tuple[Axis, ...], number: ir.Value):
        self.e, self.axes, self.number = e, axes, number

    def __enter__(self) -> None:
        e, rest = self.e, self.number
        for i, axis in enumerate(reversed(self.axes)):
            if i == len(self.axes) - 1:
                e.where[axis] = rest
                break
            size = e.size(axis.extent)
            e.where[axis] = e.b.urem(rest, size)
            rest = e.b.udiv(rest, size)

    def __exit__(self, *_) -> None:
        for axis in self.axes:
            del self.e.where[axis]
