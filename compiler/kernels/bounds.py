"""Proofs that loads and stores stay inside their buffers.

    verify_bounds(program)           a whole program, after the fact
    require_inside(kernel, buffers)  a kernel that is being lowered: refused, or sizes are assumed

A kernel is right if each of its indices lies in its buffer for all values of the axes, for all
sizes that meet the program's conditions, and whatever data is: an index that is data must be
limited in the expression itself (`minimum(maximum(i, 0), n - 1)`, or a select between indices). A
select around a load is no guard, since vector code evaluates both of its sides. The condition of a
store (`where`) guards what it stores to and what is computed for it, but not what it reads itself.

A program is right if its kernels are, and each buffer lies inside the slot that its call names.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..analysis.run_checks import WORD, words
from ..errors import CheckFailed, TypeMismatch
from ..expr import expr as s
from ..expr.expr import Buffer, Expr
from ..expr.proof import Prover
from ..ir import dims
from ..ir.bounds import DynamicSize, assume_above, assume_equal, conditions
from ..ir.dims import Sym
from ..ir.graph import Node, Value
from ..ir.types import TensorType
from .assumptions import Assumptions
from .kernel import Call, For, Kernel, Program, Ref, Store, walk_calls

UNLIMITED = (
    "where an op's rule takes an index from data, ops.expr.inside(i, size) holds it inside, or a "
    "condition guards the store; limits= of the op's record refuses others (docs/custom-ops.md)"
)


class Access(NamedTuple):
    """An index of a load or store: `index[axis]` of `buffer`, which must lie below `size`."""

    kernel: Kernel
    kind: str
    buffer: Buffer
    axis: int
    index: Expr
    size: object
    where: Expr | None
    bounds: tuple = ()

    def __str__(self):
        low, high = self.bounds
        axis = f" (axis {self.axis})" if len(self.buffer.shape) > 1 else ""
        guard = "" if self.where is None else f" where {_shown(self.where)}"
        return (
            f"{self.kernel.name}: {self.kind} {self.buffer.name}[{_shown(self.index)}]{axis}{guard}"
            f" is from {low} to {high}, not within 0 … {self.size - 1}"
        )


def _shown(e: Expr) -> str:
    """Text of an expression, of which what stands deep inside is left out."""
    names, layer = {}, [e]
    for _ in range(6):
        layer = [a for x in dict.fromkeys(layer) for a in x.args]
    for x in dict.fromkeys(layer):
        if x.op not in ("axis", "const", "size"):
            names[x] = "…"
    return s.show(e, names)


def unproven(kernel: Kernel, prover: Prover) -> list[Access]:
    """The accesses of a kernel that cannot be shown to stay inside."""
    if _is_idle(kernel):
        return []
    return [
        access._replace(bounds=prover.bounds(access.index))
        for access in accesses(kernel)
        if not _is_plain(access.index, access.size)
        and not prover.holds(access.index, 0, access.size - 1, access.where)
    ]


def _is_idle(kernel: Kernel) -> bool:
    """Whether the kernel never runs: an axis has no elements."""
    return any(not isinstance(a.extent, Sym) and a.extent == 0 for a in kernel.axes)


def _extents(kernel: Kernel) -> list[tuple]:
    """What holds where a kernel runs: its axes have elements."""
    return [(a.extent, 0) for a in kernel.axes if isinstance(a.extent, Sym)]


def accesses(kernel: Kernel) -> Iterator[Access]:
    """Every index of a kernel, once.

    What is stored under a condition is computed where it holds only: behind a branch, or in the
    lanes of a mask (`llvm/schedules/nest.py`).
    """
    seen: set = set()
    for store in kernel.stores:
        if store.mode != "set":  # what is there already is read
            yield from _indices(kernel, "load", store.buffer, store.index, store.where)
        yield from _indices(kernel, "store", store.buffer, store.index, store.where)
        condition = set() if store.where is None else set(s.walk(store.where))
        for e in _loads(store):
            guard = None if e in condition else store.where
            if (e, guard) not in seen:
                seen.add((e, guard))
                yield from _indices(kernel, "load", e.data, e.args, guard)


def _loads(store: Store) -> Iterator[Expr]:
    return (e for e in s.walk(*store.exprs()) if e.op == "load")


def _indices(kernel, kind, buffer, index: Sequence, where) -> Iterator[Access]:
    for axis, (i, d) in enumerate(zip(index, buffer.shape)):
        yield Access(kernel, kind, buffer, axis, i, d, where)


def require_inside(
    kernel: Kernel, buffers: Mapping[Value, Buffer], known: Assumptions | None = None
) -> None:
    """Check a kernel that is being lowered, whose buffers are those of `buffers`. `known` is shared
    by the kernels of a program, so that what is proved once stays proved.

    Where a dynamic dim decides, it is assumed (`sizes.assume_above`). Raises TypeMismatch for an
    access that leaves its buffer, or may do so.
    """
    doubtful = [a for a in accesses(kernel) if not _is_plain(a.index, a.size)]
    if not doubtful or _is_idle(kernel):
        return
    constants = [(b, v.constant) for v, b in buffers.items() if v.constant is not None]
    known = Assumptions() if known is None else known
    symbols, extents = _symbols(kernel), _extents(kernel)
    prover = Prover(known.about(symbols, extents), ranges(constants))
    for access in doubtful:
        if prover.holds(access.index, 0, access.size - 1, access.where):
            continue
        divisors = [d for d in _divisors(access.index) if not prover.dims.at_least(d, 1)]
        for d in divisors:  # nothing is known of a quotient without it
            assume_above(d, 0)
        prover = Prover(known.about(symbols, extents), prover.ranges)
        if not divisors or not prover.holds(access.index, 0, access.size - 1, access.where):
            _assume_inside(access._replace(bounds=prover.bounds(access.index)))


def _symbols(kernel: Kernel) -> set[str]:
    """The names in sizes of a kernel."""
    exprs = (e for store in kernel.stores for e in (*store.exprs(), *store.index))
    sizes = [e.data for e in s.walk(*exprs) if e.op == "size"]
    shapes = (d for b in kernel.params for d in b.shape)
    return set().union(*map(dims.symbols, (*sizes, *shapes, *(a.extent for a in kernel.axes))))


def _divisors(index: Expr) -> list[Sym]:
    divisors = (e.args[1] for e in s.walk(index) if e.op in ("floordiv", "mod"))
    return [d.data for d in dict.fromkeys(divisors) if d.op == "size"]


def _is_plain(index: Expr, size) -> bool:
    """Whether an index is inside at first sight: an axis of that extent, or 0."""
    if index.op == "axis":
        return index.data.extent is size or index.data.extent == size
    return index.op == "const" and index.data == 0 and (isinstance(size, Sym) or size > 0)


def _assume_inside(access: Access) -> None:
    low, high = access.bounds
    if isinstance(low, float) or isinstance(high, float):
        if _is_dynamic(access):
            raise DynamicSize(f"{access} is not known to be; {UNLIMITED}")
    elif isinstance(access.size, Sym) or isinstance(low, Sym) or isinstance(high, Sym):
        assume_above(access.size, high)
        assume_above(low, -1)
        return
    raise TypeMismatch(
        f"{access.kernel.name}: a {access.kind} may leave its array",
        where=", ".join(access.kernel.origins) or None,
        expected=f"indices within 0 … {access.size - 1} on axis {access.axis} of {access.buffer}",
        received=f"{low} … {high}",
        fix=UNLIMITED if isinstance(low, float) or isinstance(high, float) else None,
    )


def _is_dynamic(access: Access) -> bool:
    """Whether dynamic dims have a part in an access, so that numbers may decide it."""
    extents = (a.extent for a in access.index.free)
    return any(isinstance(d, Sym) for d in (access.size, *extents)) or any(
        e.op == "size" for e in s.walk(access.index)
    )


def require_equal(node: Node, a, b) -> None:
    """Assume that two sizes are equal. Raises TypeMismatch where they cannot be."""
    if not assume_equal(a, b):
        raise TypeMismatch(
            f"{node.op.name}: sizes that must be equal differ",
            where=node.where,
            expected=a,
            received=b,
        )


def require_same(node: Node, inner: Sequence[Value], outer: Sequence[Value]) -> None:
    """Values of a node's region share memory with those outside of it: assume that their shapes are
    the same. Raises TypeMismatch where they are not."""
    for v, w in zip(inner, outer, strict=True):
        if isinstance(v.type, TensorType) and isinstance(w.type, TensorType):
            for d, e in zip(w.shape, v.shape, strict=True):
                require_equal(node, d, e)


def require_rows(node: Node, inner: Sequence[Value], outer: Sequence[Value], *trips) -> None:
    """The same where each turn of a loop sees a row of the outer value: it has a row for each of
    `trips` turns."""
    for v, w in zip(inner, outer, strict=True):
        for d, e in zip(w.shape, (*trips, *v.shape), strict=True):
            require_equal(node, d, e)


# -- programs ------------------------------------------------------------------------------


def verify_bounds(program: Program) -> int:
    """The number of accesses that were looked at. Raises CheckFailed with all that cannot be shown
    to stay inside their buffers, and all buffers that do not lie in their slots."""
    findings, count = [], 0
    known = tuple(conditions(program.conditions, program.equations))
    for call, path in walk_calls(program.steps):
        loops = {step.id: step.trips for step in path if isinstance(step, For)}
        if isinstance(call, Call):
            prover = Prover([*known, *_extents(call.kernel)], _ranges(call, program.weights))
            count += sum(1 for _ in accesses(call.kernel))
            where = ", ".join(call.kernel.origins) or None
            findings += [CheckFailed(str(a), where=where) for a in unproven(call.kernel, prover)]
        findings += _misplaced(call, loops, program, Prover(known))
    if findings:
        raise CheckFailed(
            "not every access can be shown to stay inside its buffer",
            findings=findings,
            fix="limit the index in the op's record: minimum(maximum(i, 0), size - 1)",
        )
    return count


def ranges(buffers: Iterable[tuple[Buffer, np.ndarray]]) -> dict[Buffer, tuple]:
    """The least and largest element of constant buffers of integers."""
    return {
        b: (int(array.min()), int(array.max()))
        for b, array in buffers
        if b.dtype.is_int and b.dtype.bits >= 8 and array.size
    }


def _ranges(call: Call, weights: Sequence) -> Mapping[Buffer, tuple]:
    """Of those buffers of a call that are whole weights."""
    return ranges(
        (b, weights[ref.slot.index])
        for b, ref in zip(call.kernel.params, call.refs)
        if ref.slot.kind == "weight" and not ref.offset and not ref.steps
    )


def _misplaced(call, loops: dict, program: Program, prover: Prover) -> Iterator[CheckFailed]:
    """The buffers of a call that leave their slots in some round of the loops."""
    for ref, nbytes in _places(call):
        first, last = ref.offset, ref.offset
        for loop, step in ref.steps:
            whole = (loops[loop] - 1) * step
            forwards = prover.dims.at_least(step, 0)
            first, last = (first, last + whole) if forwards else (first + whole, last)
        room = slot_bytes(ref, program)
        if not (prover.dims.at_least(first, 0) and prover.dims.at_least(room, last + nbytes)):
            yield CheckFailed(
                f"{ref.slot.kind} {ref.slot.index} is used from byte {first} to {last + nbytes}",
                where=call.kernel.name if isinstance(call, Call) else call.op,
                expected=f"within 0 … {room}",
            )


def _places(call) -> Iterator[tuple[Ref, object]]:
    if isinstance(call, Call):
        yield from ((r, b.type.nbytes) for b, r in zip(call.kernel.params, call.refs))
        return
    for r, t in zip((*call.inputs, *call.outputs), (*call.input_types, *call.output_types)):
        if r is not None and isinstance(t, TensorType) and t.dtype.bits:
            yield r, t.nbytes


def slot_bytes(ref: Ref, program: Program):
    """How many bytes a slot has, a dim."""
    slot = ref.slot
    match slot.kind:
        case "input":
            return program.inputs[slot.index].nbytes
        case "output":
            return program.outputs[slot.index].nbytes
        case "weight":
            return program.weights[slot.index].nbytes
        case "record":
            return words(program.checks) * WORD
    return program.slots[slot.index] if program.slots else program.arena
