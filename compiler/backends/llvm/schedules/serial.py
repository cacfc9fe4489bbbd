"""Serial kernels: one element after the other, where a store may read what those before it stored.

for the axes, in order:
  if a condition that several stores begin with:
    store, store, …
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from math import prod

import llvmlite.ir as ir

from ....expr import expr as s
from ....expr.expr import Axis, Buffer, Expr
from ....ir.types import BOOL
from ....kernels.kernel import Kernel, Store
from ..emit.emitter import Emitter
from ..emit.store import emit_store

ENOUGH = 32  # units that threads share well


def emit_serial(
    e: Emitter, kernel: Kernel, outer: Sequence[Axis], row: Sequence[Axis], begin, end
) -> None:
    """Element after element; a reduction is computed in the loop of the last axis that it depends
    on. One of what the kernel itself stores has to stay where it is wanted."""
    inner = [x for x in s.walk(*kernel.roots()) if x.op == "reduce" and not _reads(x, kernel)]
    waiting = frozenset(x for x in inner if x.free <= frozenset(kernel.axes))
    stores = [(_conditions(st.where), st) for st in kernel.stores]

    def level(axes: list[Axis], waiting: frozenset) -> None:
        ready = [x for x in inner if x in waiting and x.free <= e.where.keys()]
        for x in ready:
            e.emit(x)
        waiting -= frozenset(ready)
        if waiting:
            e.loops(axes[:1], lambda: level(axes[1:], waiting), unroll=1)
        else:
            _turns(e, axes, stores)

    with e.loop(begin, end, name="unit") as unit, outer_axes(e, outer, unit):
        level(list(row), waiting)


def first_axes(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """As many of the first axes as make enough units: where an element is all that there is to do,
    finding out which one it is takes longer."""
    for n in range(1, len(axes)):
        if prod(a.extent for a in axes[:n]) >= ENOUGH:
            return axes[:n]
    return axes


@contextmanager
def outer_axes(e: Emitter, axes: Sequence[Axis], unit: ir.Value) -> Iterator[None]:
    """The outer axes have the values that make up a unit."""
    for a in reversed(axes):
        e.where[a] = e.b.urem(unit, e.size(a.extent)) if a is not axes[0] else unit
        unit = e.b.udiv(unit, e.size(a.extent))
    yield
    for a in axes:
        del e.where[a]


def _turns(e: Emitter, axes: list[Axis], stores: list[tuple[list[Expr], Store]]) -> None:
    """Loops over axes. The last one is left out where no store can come: as long as none does, what
    conditions read of the kernel's own stores stays as it is."""
    able = None
    for conditions, _ in stores if len(axes) > 1 else ():
        mine = [c for c in conditions if axes[-1] not in c.free]
        here = reduce(s.logical_and, mine, s.const(True, BOOL))
        able = here if able is None else s.logical_or(able, here)
    if able is None or able.op == "const":
        e.loops(axes, lambda: _in_order(e, stores))
        return

    def turn() -> None:
        with e.b.if_then(e.emit(able)), e.scope():
            e.loops(axes[-1:], lambda: _in_order(e, stores))

    e.loops(axes[:-1], turn, unroll=1)


def _in_order(e: Emitter, stores: list[tuple[list[Expr], Store]]) -> None:
    """All stores of a turn, each under its conditions; it may read what those before it stored.
    A condition that several begin with is one branch, as long as it stays what it was."""
    while stores:
        (conditions, first), count = stores[0], 1
        if not conditions:
            emit_store(e, first)
            e.forget(first.buffer)
        else:
            stored = {first.buffer}
            for others, st in stores[1:]:
                if others[:1] != conditions[:1] or _loads(conditions[0], stored):
                    break
                stored.add(st.buffer)
                count += 1
            with e.b.if_then(e.emit(conditions[0])), e.scope():
                _in_order(e, [(c[1:], st) for c, st in stores[:count]])
        stores = stores[count:]


def _conditions(where: Expr | None) -> list[Expr]:
    """What must hold, in order: a, b and c of (a and b) and c."""
    if where is None or where.op != "and":
        return [] if where is None else [where]
    return [x for a in where.args for x in _conditions(a)]


def _reads(x: Expr, kernel: Kernel) -> bool:
    """Whether an expression loads from what the kernel stores."""
    return _loads(x, kernel.outputs)


def _loads(x: Expr, buffers: Collection[Buffer]) -> bool:
    return any(y.op == "load" and y.data in buffers for y in s.walk(x))
