"""What `Kernels` records, which say their stores themselves, and constant borders write through."""

from collections.abc import Callable, Sequence

from ..expr import expr as s
from ..expr.blocks import blocked_stores
from ..expr.expr import Axis, Buffer
from ..ir.types import TensorType, dtype_of
from ..kernels.kernel import Store


class KernelWriter:
    """What `Kernels` records write through: `k.store(extents, at, …)`.

    What a kernel hands to those after it, and is no result, lies in `temporary` buffers. `nodes()`
    are those that were pulled since it was asked last: what a kernel is made of.
    """

    def __init__(self, outs: Sequence[Buffer], nodes: Callable[[], tuple] = tuple):
        self.outs, self._nodes = outs, nodes
        self.kernels: list[tuple] = []
        self.temporaries: list[Buffer] = []

    def temporary(self, shape: Sequence, dtype) -> Buffer:
        """Memory for the time of the op."""
        name = f"t{len(self.temporaries)}"
        self.temporaries.append(Buffer(name, TensorType(dtype_of(dtype), tuple(shape))))
        return self.temporaries[-1]

    def store(self, extents, at, *, mode="set", serial=False, output=0, to=None) -> None:
        """Store `at(*i) -> (index, value[, where])` for every i below `extents`, to an output or
        to a buffer, `to`."""
        out = self.outs[output] if to is None else to
        axes, made = blocked_stores(extents, at)
        stores = []
        for (index, value, *where), inside in made:
            index = tuple(
                s.const(0) if d == 1 else s.lift(i, s.const(0)) for i, d in zip(index, out.shape)
            )
            for condition in where:
                inside = condition if inside is None else s.logical_and(inside, condition)
            stores.append(Store(out, index, s.cast(value, out.dtype), inside, mode))
        self.kernels.append((axes, tuple(stores), serial, 0, self._nodes()))

    def in_order(self, extents, at, *, apart: int = 0) -> None:
        """Stores that see what was stored before them: `at(*i)` lists Stores for every i below
        `extents`, which are walked in order; rounds of the first `apart` axes do not meet."""
        axes = tuple(Axis("i", d) for d in extents)
        stores = tuple(
            Store(t.buffer, t.index, s.cast(t.value, t.buffer.dtype), t.where, t.mode)
            for t in at(*map(s.axis, axes))
        )
        self.kernels.append((axes, stores, True, apart, self._nodes()))


def emit_border(k: KernelWriter, x, low: Sequence, fill: s.Expr) -> None:
    """A constant border around an operand: the inside is x, stored at an offset; the border is
    filled in strips."""
    (out,) = k.outs
    rank = len(low)
    k.store(x.shape, lambda *i: ([j + p for j, p in zip(i, low)], x[i]))
    for axis in range(rank):
        # Axes before this one are filled inside only, those after it over their whole length.
        extents = [*x.shape[:axis], 0, *out.shape[axis + 1 :]]
        moved = [*low[:axis], 0, *[0] * (rank - axis - 1)]
        high = low[axis] + x.shape[axis]
        for width, start in ((low[axis], 0), (out.shape[axis] - high, high)):
            if width:
                extents[axis], moved[axis] = width, start
                offsets = tuple(moved)
                k.store(extents, lambda *i, o=offsets: ([j + p for j, p in zip(i, o)], fill))
