"""The window schedule: sums over a small window in which neighbouring outputs share their inputs.

    y[p, c] = f(sum over taps (i, j) of x[p·stride + (i, j), c] * w[i, j, c])       depthwise

    for line of outputs:
      for tile of `points` along it, for vector of channels:
        for i:  the line's w[i, j] in registers
          for x of the line: every point and tap that it belongs to: acc[p] += x * w[i, j]
        epilogue: y[p] = f(acc[p])

Each input is loaded once per line of taps instead of once per tap. Weights that have to be widened
(bytes, less their zero points) are packed as what is multiplied, [i, j, c]: a tile has few outputs
that could share the work. The place among the channels is
hidden from LLVM's strength reduction, which would take longer for a tile's hundred addresses than
everything else that LLVM does, and leaves them as they are.
"""

from collections import defaultdict
from math import ceil, prod
from typing import ClassVar

import llvmlite.ir as ir
import numpy as np

from ....classes import dataclass
from ....expr import expr as s
from ....expr.expr import Axis, Buffer, Expr
from ....expr.index import divides
from ....ir.bounds import DynamicSize, maybe_below, size_hint
from ....ir.dims import Sym
from ....kernels.contraction import contiguous_axis
from ....kernels.kernel import Kernel
from ....kernels.machine import Machine, aligned_empty
from ....kernels.work import extent_of
from ...numpy import evaluate
from ..base.types import i64, register_type, vector
from ..emit.emitter import Emitter
from ..emit.lanes import minimum
from ..emit.opaque import hidden
from ..emit.reduction import identity
from ..emit.scalar import multiply_add
from .base import Arguments, Dim, Gain, Given, HintSpecialized, Refusal, Schedule
from .cost_model import INTEGER, LOAD, TILE, UNIT, core_of, epilogue, evaluation

POINTS = 8  # outputs of a line that are summed at once
TAPS = 64  # of a window at most
WRITTEN_OUT = 9  # taps up to which there is no loop over the lines of a window


@dataclass(frozen=True)
class WindowSchedule(Schedule):
    """`x` and `w` are the factors; `line` is the axis along which `points` outputs share inputs,
    `tap` the reduction axis along it, `vector_axis` the channels. `packs_weights`: w is a constant
    that is more than a load."""

    name: ClassVar[str] = "window"
    spends: ClassVar[str] = "the filter has few taps for what is loaded, and for what follows"
    meaning: ClassVar[str] = "a small filter that slides, with outputs in registers"
    words: ClassVar[tuple[tuple[str, str], ...]] = (("lanes", "numbers in a vector"),)
    gain: ClassVar[Gain] = Gain.NONE
    opens: ClassVar[bool] = True

    reduce: Expr
    x: Expr
    w: Expr
    outer: tuple[Axis, ...]
    line: Axis
    vector_axis: Axis
    tap: Axis
    lanes: int
    points: int
    packs_weights: bool = False

    @classmethod
    def propose(cls, given: Given) -> "WindowSchedule | Refusal":
        """Of a kernel that is such a sum, whose sizes may be open."""
        kernel, r = given.kernel, given.product
        if isinstance(r, Refusal):
            return r
        vector_axis, taps = contiguous_axis(kernel), r.data[1]
        lanes = given.target.lanes(r.dtype.bits)
        if r.dtype.name not in ("f32", "f64", "i32"):
            return Refusal(f"there are no windows of {r.dtype}")
        if vector_axis is None or vector_axis.extent < lanes:
            return Refusal("its output has no axis that fills a vector")
        if prod(a.extent for a in taps) > TAPS:
            return Refusal(f"its window has more than {TAPS} places")
        if not all(vector_axis in f.free for f in r.args[0].args):
            return Refusal("a factor is the same for all channels")
        for x, w in (r.args[0].args, r.args[0].args[::-1]):
            spatial = [
                a for a in kernel.axes if a is not vector_axis and a in x.free and a not in w.free
            ]
            found = _shared_axes(x, spatial, taps)
            if found is not None and w.free <= {vector_axis, *taps} and _along(vector_axis, x, w):
                line, tap = found
                outer = tuple(a for a in kernel.axes if a is not vector_axis and a is not line)
                points = POINTS if isinstance(line.extent, Sym) else min(POINTS, line.extent)
                loads = {e.data for e in s.walk(w) if e.op == "load"}
                packs = w.op != "load" and loads <= given.constants and _is_closed(w)
                return cls(r, x, w, outer, line, vector_axis, tap, lanes, points, packs)
        return Refusal("neighbouring outputs share no inputs")

    @property
    def units(self) -> Dim:
        return prod(a.extent for a in self.outer)

    @property
    def rest(self) -> tuple[Axis, ...]:
        """The reduction's axes but `tap`."""
        return tuple(a for a in self.reduce.data[1] if a is not self.tap)

    @property
    def packs(self) -> bool:
        return self.packs_weights

    @property
    def weight_axes(self) -> tuple[Axis, ...]:
        """The axes of the packed weights."""
        return (*self.rest, self.tap, self.vector_axis)

    @property
    def packed_bytes(self) -> Dim:
        dtype = self.reduce.dtype
        return prod(a.extent for a in self.weight_axes) * dtype.bytes if self.packs else 0

    def pack(self, arrays: dict[Buffer, np.ndarray]) -> np.ndarray:
        """w as [taps…, channel], of the sum's dtype."""
        dtype, shape = self.reduce.dtype.numpy, [a.extent for a in self.weight_axes]
        packed = aligned_empty(self.packed_bytes).view(dtype).reshape(shape)
        packed[...] = evaluate(self.w, list(self.weight_axes), arrays)
        return packed

    def params(self, kernel: Kernel) -> tuple[Buffer, ...]:
        """Without those that only w reads, once it is packed."""
        if not self.packs:
            return kernel.params
        r = self.reduce
        without = s.make("reduce", (self.x,), r.data, r.dtype)
        roots = [s.transform(e, lambda x: without if x is r else None) for e in kernel.roots()]
        kept = {e.data for e in s.walk(*roots) if e.op == "load"} | set(kernel.outputs)
        return tuple(b for b in kernel.params if b in kept)

    def opened(self, specialized: HintSpecialized) -> list[tuple[Schedule, float]]:
        found = self.propose(specialized.given)
        if isinstance(found, Refusal):
            raise DynamicSize("a window that is one for some sizes only")
        return [(found, specialized.ns)]

    def cycles(self, kernel: Kernel, target: Machine) -> float:
        taps, lines = self.tap.extent, extent_of(self.rest)
        each = 1 / core_of(target).units if self.reduce.dtype.is_float else INTEGER
        loaded = evaluation(self.x, self.vector_axis, self.lanes)
        inputs = taps + self.points - 1  # of a line
        weights = taps * LOAD if self.packs else taps * loaded
        products = self.points * taps * each
        if self.reduce.dtype.is_float:
            converted = max(0.0, weights - 2 * LOAD * taps) + inputs * (loaded - 2 * LOAD)
            line = max(products, converted)
        else:
            line = (
                products + weights + inputs * loaded
            )  # numbers are widened by the units that multiply
        after = self.points * epilogue(kernel, (self.reduce,), self.vector_axis, self.lanes)
        tiles = ceil(self.line.extent / self.points) * ceil(self.vector_axis.extent / self.lanes)
        return self.units * (UNIT + tiles * (lines * line + TILE / 3 + after))

    def emit(self, e: Emitter, kernel: Kernel, given: Arguments, in_place: bool) -> None:
        WindowEmitter(e, kernel, self, given.packed).emit(given.begin, given.end)

    def __str__(self) -> str:
        return f"lanes {self.lanes}"


def _is_closed(w: Expr) -> bool:
    """Whether all axes of the weights have known sizes."""
    return not any(isinstance(a.extent, Sym) for a in w.free)


def _along(vector_axis: Axis, *factors: Expr) -> bool:
    """Whether every load is contiguous along the vector axis, or does not depend on it."""
    loads = [e for f in factors for e in s.walk(f) if e.op == "load"]
    return all(s.linear(e.args[0])[0].get(s.axis(vector_axis), 0) in (0, 1) for e in loads) and all(
        t.op == "axis" for e in loads for t in s.linear(e.args[0])[0]
    )


def _shared_axes(x: Expr, spatial: list[Axis], taps: tuple[Axis, ...]) -> tuple | None:
    """(line, tap): the innermost axis of outputs, and the taps along it."""
    loads = [e for e in s.walk(x) if e.op == "load" and e.free & set(taps)]
    if len(loads) != 1 or any(e.op == "axis" and e.data in taps for e in _outside(x)):
        return None
    terms, _ = s.linear(loads[0].args[0])
    strides = {t.data: k for t, k in terms.items() if t.op == "axis"}
    lines = [a for a in spatial if strides.get(a)]
    inner = [a for a in taps if strides.get(a)]
    if not lines or len(inner) != len(taps):
        return None
    line, tap = (min(axes, key=lambda a: size_hint(strides[a])) for axes in (lines, inner))
    several = size_hint(line.extent) >= 2
    return (line, tap) if several and divides(strides[tap], strides[line]) else None


def _outside(e: Expr):
    """What is above loads."""
    yield e
    if e.op != "load":
        for a in e.args:
            yield from _outside(a)


class WindowEmitter:
    """Writes one such sum. `packed` is the pointer to the packed weights, if there are any."""

    def __init__(self, e: Emitter, kernel: Kernel, plan: WindowSchedule, packed: ir.Value):
        self.e, self.kernel, self.plan, self.packed = e, kernel, plan, packed
        self.type = vector(register_type(plan.reduce.dtype), plan.lanes)
        (load,) = [x for x in s.walk(plan.x) if x.op == "load" and plan.tap in x.free]
        terms, _ = s.linear(load.args[0])
        self.step = terms[s.axis(plan.line)] // terms[s.axis(plan.tap)]

    def emit(self, begin: ir.Value, end: ir.Value) -> None:
        """Units `begin` to `end`."""
        e, plan = self.e, self.plan
        with e.loop(begin, end, name="unit") as unit:
            rest = unit
            for a in reversed(plan.outer):
                e.where[a] = e.b.urem(rest, e.size(a.extent))
                rest = e.b.udiv(rest, e.size(a.extent))
            if maybe_below(plan.line.extent, plan.points):
                enough = e.b.icmp_signed(">=", e.size(plan.line.extent), i64(plan.points))
                with e.b.if_else(enough) as (yes, no):
                    with yes:
                        self._line_tiles(plan.points)
                    with no:
                        self._line_tiles(1)
            else:
                self._line_tiles(plan.points)
            for a in plan.outer:
                del e.where[a]

    def _line_tiles(self, points: int) -> None:
        plan = self.plan
        tile = lambda: self._tile(points)
        self._tiles(plan.line, points, lambda: self._tiles(plan.vector_axis, plan.lanes, tile))

    def _tiles(self, axis: Axis, size: int, run) -> None:
        """The last tile overlaps the one before it."""
        e = self.e
        with e.loop(i64(0), e.size(axis.extent), size, name="tile") as t:
            if axis is self.plan.vector_axis:
                t = hidden(e.b, t)
            if axis.extent % size:
                t = minimum(e, t, e.size(axis.extent - size))
            with e.at(axis, t):
                run()

    def _tile(self, points: int) -> None:
        e, plan = self.e, self.plan
        zero = identity("sum", plan.reduce.dtype, plan.lanes)
        sums = [e.variable(self.type, f"acc.{p}") for p in range(points)]
        for acc in sums:
            e.b.store(zero, acc)
        with e.vectorised(plan.vector_axis, plan.lanes):
            few = prod(a.extent for a in plan.reduce.data[1]) <= WRITTEN_OUT
            e.loops(list(plan.rest), lambda: self._line(sums), unroll=WRITTEN_OUT if few else 1)
            self._epilogue(sums)

    def _line(self, sums: list[ir.Value]) -> None:
        """One line of taps."""
        e, plan = self.e, self.plan
        taps = [self._weights(j) for j in range(plan.tap.extent)]
        uses = defaultdict(list)
        for p in range(len(sums)):
            for j in range(plan.tap.extent):
                uses[p * self.step + j].append((p, j))
        values = [e.b.load(acc) for acc in sums]
        for place, users in sorted(uses.items()):
            with e.scope(), e.at(plan.tap, i64(place)):
                x = e.vector(plan.x)
            for p, j in users:
                values[p] = self._multiply_add(x, taps[j], values[p])
        for acc, value in zip(sums, values):
            e.b.store(value, acc)

    def _weights(self, j: int) -> ir.Value:
        """The weights of a tap of this line, of a vector of channels."""
        e, plan = self.e, self.plan
        with e.scope(), e.at(plan.tap, i64(j)):
            if not plan.packs:
                return e.vector(plan.w)
            place = i64(0)
            for a in plan.weight_axes:
                place = e.b.add(e.b.mul(place, i64(a.extent)), e.where[a])
            place = e.b.gep(self.packed, [place], source_etype=self.type.element)
            return e.b.load(place, typ=self.type, align=plan.reduce.dtype.bytes)

    def _multiply_add(self, x, y, acc):
        if self.plan.reduce.dtype.is_float:
            return multiply_add(self.e.b, x, y, acc)
        return self.e.b.add(acc, self.e.b.mul(x, y))

    def _epilogue(self, sums: list[ir.Value]) -> None:
        e, plan = self.e, self.plan
        (store,) = self.kernel.stores
        first = e.where[plan.line]
        for p, acc in enumerate(sums):
            with e.scope(), e.at(plan.line, e.plus(first, p)):
                e.remember(plan.reduce, e.b.load(acc))
                e.store(store.buffer, store.index[0], e.vector(store.value), None)
