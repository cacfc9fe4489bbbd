"""Short axes of a nest that vectors of the vector axis are stored along."""

from ....expr import expr as s
from ....expr.expr import Axis
from ....ir.bounds import size_hint
from ....ir.dims import Sym
from ....kernels.kernel import Kernel, Store
from .lane_steps import stride_along

INTERLEAVED = (2, 3, 4, 5, 6, 7)  # extents of axes that are interleaved
COPIES = 8  # places of an axis whose stores are written one after the other


def interleaved_axis(kernel: Kernel, vector_axis: Axis | None, lanes: int) -> Axis | None:
    """The axis to interleave (`NestSchedule.interleave`), if there is one."""
    store = kernel.stores[0]
    if (
        vector_axis is None
        or len(kernel.stores) > 1
        or store.mode != "set"
        or store.where is not None
    ):
        return None
    whole = filled_axes(store, vector_axis)
    short = store.buffer.dtype.bits < 8 or vector_axis.extent < 4
    return whole[0] if whole and whole[0].extent in INTERLEAVED and not short else None


def filled_axes(store: Store, vector_axis: Axis | None) -> list[Axis]:
    """Axes whose places fill what lies between two of the vector axis', whatever sizes are."""
    terms, _ = s.linear(store.index[0])
    strides = {t.data: k for t, k in terms.items() if t.op == "axis"}
    return [a for a, k in strides.items() if k == 1 and a.extent == strides.get(vector_axis)]


def copied_axes(kernel: Kernel) -> frozenset[Axis]:
    """Short axes that what is stored does not depend on: it is computed once for all their places
    (rows of an image that is enlarged)."""
    store = kernel.stores[0]
    if len(kernel.stores) > 1 or store.mode != "set" or store.where is not None:
        return frozenset()
    axes = [a for a in kernel.axes if a not in store.value.free]
    return frozenset(a for a in axes if not isinstance(a.extent, Sym) and a.extent <= COPIES)


def repeated_axes(kernel: Kernel, copied: frozenset[Axis], lanes: int) -> set[Axis]:
    """Of the copied axes those that are no vector's: what is stored would be scattered, or lies
    between the elements of another axis' vectors."""
    long = [a for a in kernel.axes if a not in copied and size_hint(a.extent) >= lanes]
    filled = [interleaved_axis(kernel, a, lanes) for a in long] if copied else []
    place = kernel.stores[0].index[0]
    return {a for a in copied if stride_along(place, a) != 1 or a in filled}
