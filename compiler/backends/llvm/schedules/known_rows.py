"""Rows that are known while compiling: what follows from the vector axis alone.

    y[i] = x[(2i - 1) // 4] * ((2i - 1) % 4 / 4)    =>    y[i] = x[place[i]] * weight[i]

So there is no division in a loop, whatever the scale of a resampled axis. The axes of reductions
may take part (the taps of a filter). Places are read by `emit/windows.py`.
"""

from math import prod

import llvmlite.ir as ir
import numpy as np

from ....expr import expr as s
from ....expr.expr import Axis, Buffer, Expr
from ....ir.dims import Sym
from ....ir.types import DTYPES, I32, I64, TensorType
from ....kernels.kernel import Kernel
from ....kernels.machine import ALIGNMENT
from ....kernels.simplify import map_kernel
from ...numpy import evaluate
from ..base.types import I8
from ..emit.emitter import Emitter
from ..emit.windows import Window, shuffle_for

LONGEST = 8192  # elements of a row
MOST = 1 << 17  # bytes of all rows
# Primitives whose results are the same on all machines, and of them those that are worth a row.
_NUMBERS = ["add", "sub", "mul", "div", "truncdiv", "floordiv", "mod", "rem", "min", "max"]
_FLAGS = ["lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor", "not", "select"]
_UNARY = ["neg", "abs", "cast", "floor", "ceil", "trunc", "round"]
EXACT = frozenset(["const", "axis", *_NUMBERS, *_FLAGS, *_UNARY])
DEAR = frozenset(["div", "truncdiv", "floordiv", "mod", "rem"])


def keep_known(e: Emitter, kernel: Kernel, axis: Axis | None, lanes: int, exact: bool) -> Kernel:
    """The kernel with known rows in place of what they hold. `exact`: nothing may be read but what
    the kernel reads, so that there are no windows."""
    known = Known(kernel, axis)
    if not known:
        return kernel
    guarded = exact or any(st.where is not None for st in kernel.stores)
    return map_kernel(kernel, kernel.axes, kernel.apart, _Rows(e, known, lanes, guarded).visit)


class Known:
    """What of a kernel is known while compiling, but for where along `axis` it is."""

    def __init__(self, kernel: Kernel, axis: Axis | None):
        self.axis = axis
        if axis is not None and (isinstance(axis.extent, Sym) or axis.extent > LONGEST):
            self.axis = None
        self.exprs = [] if self.axis is None else list(s.walk(*kernel.roots()))
        self.bound = {a for x in self.exprs if x.op == "reduce" for a in x.data[1]}
        self.exact: dict[Expr, bool] = {}

    def __bool__(self) -> bool:
        """Whether rows are worth it."""
        return any(
            (x.op in DEAR and self.has(x)) or (x.op == "load" and self.place(x.args[0]) is not None)
            for x in self.exprs
        )

    def has(self, x: Expr) -> bool:
        return self.axis in x.free and self._is_exact(x) and self.others(x) is not None

    def _is_exact(self, x: Expr) -> bool:
        if x not in self.exact:
            self.exact[x] = x.op in EXACT and all(map(self._is_exact, x.args))
        return self.exact[x]

    def others(self, x: Expr) -> list[Axis] | None:
        """The other axes of a row, which are those of reductions and not many."""
        others = sorted(x.free - {self.axis}, key=lambda a: s.axis(a).serial)
        if not all(a in self.bound and not isinstance(a.extent, Sym) for a in others):
            return None
        return others if prod(a.extent for a in others) * self.axis.extent <= LONGEST else None

    def is_worth(self, x: Expr) -> bool:
        return any(y.op in DEAR and self.has(y) for y in s.walk(x))

    def place(self, index: Expr) -> tuple[Expr, Expr] | None:
        """(rest, what is known): an index that a row says the moving part of."""
        terms, base = s.linear(index)
        own = {t: c for t, c in terms.items() if self.axis in t.free}
        if all(t.op == "axis" for t in own) or any(isinstance(c, Sym) for c in own.values()):
            return None
        place = s.from_linear(own, 0)
        if not self.has(place):
            return None
        return s.from_linear({t: c for t, c in terms.items() if t not in own}, base), place


class _Rows:
    """The rows of a function."""

    def __init__(self, e: Emitter, known: Known, lanes: int, guarded: bool):
        self.e, self.known, self.axis, self.lanes = e, known, known.axis, lanes
        self.guarded = guarded
        self.made: dict[tuple, Expr] = {}
        self.windows: list[tuple] = []
        self.bytes = 0
        self.memo: dict[Expr, Expr] = {}

    # -- what is put in its place -------------------------------------------------------------

    def visit(self, x: Expr) -> Expr | None:
        if x.op == "load":
            found = self.known.place(x.args[0])
            if found is None:
                return None
            rest, place = found
            row = self._row_of_places(place, x.data)
            if row is None:
                return None
            rest = s.transform(rest, self.visit, self.memo)
            return s.make("load", (s.add(rest, s.cast(row, I64)),), x.data, x.dtype)
        if x.dtype.bits >= 8 and self.known.has(x) and self.known.is_worth(x):
            return self._row(x)
        return None

    def _values(self, x: Expr) -> np.ndarray:
        """[places of the other axes, elements]: and a vector of the last one behind them."""
        others = self.known.others(x)
        values = evaluate(x, [*others, self.axis], {})
        values = np.broadcast_to(values, [*(a.extent for a in others), self.axis.extent])
        values = values.reshape(-1, self.axis.extent)
        return np.concatenate([values, np.repeat(values[:, -1:], self.lanes, 1)], 1)

    def _load(self, x: Expr, row: Buffer, width: int) -> Expr:
        place = s.const(0)
        for a in self.known.others(x):
            place = s.add(s.mul(place, s.const(a.extent)), s.axis(a))
        return s.make(
            "load", (s.add(s.mul(place, s.const(width)), s.axis(self.axis)),), row, row.dtype
        )

    def _put(self, values: np.ndarray, dtype) -> Buffer:
        """A row in the code's constants."""
        flat = np.ascontiguousarray(values, dtype.numpy).reshape(-1)
        row = Buffer("row", TensorType(dtype, flat.shape))
        module = self.e.b.module
        text = flat.tobytes()
        kind = ir.ArrayType(I8, len(text))
        place = ir.GlobalVariable(module, kind, module.get_unique_name("row"))
        place.linkage, place.global_constant, place.align = "internal", True, ALIGNMENT
        place.initializer = ir.Constant(kind, bytearray(text))
        self.e.pointers[row] = place
        self.bytes += len(text)
        return row

    def _row(self, x: Expr) -> Expr | None:
        if x in self.made:
            return self.made[x]
        values = self._values(x)
        if self.bytes + values.size * x.dtype.bytes > MOST:
            return None
        return self.made.setdefault(x, self._load(x, self._put(values, x.dtype), values.shape[1]))

    def _row_of_places(self, place: Expr, buffer: Buffer) -> Expr | None:
        size = buffer.dtype.bytes
        if (place, size) in self.made:
            return self.made[place, size]
        values = self._values(place)
        if self.bytes + 16 * values.size > MOST or np.abs(values).max() >= 2**31 // max(size, 4):
            return None
        row = self._put(values, I32)
        self.e.windows[row] = None if self.guarded else self._window(row, values, size)
        return self.made.setdefault((place, size), self._load(place, row, values.shape[1]))

    # -- windows ------------------------------------------------------------------------------

    def _window(self, row: Buffer, values: np.ndarray, size: int) -> Window | None:
        """How a shuffle reads these places; None where they are too far from each other."""
        lanes = self.lanes
        shuffle = shuffle_for(self.e.target, size * 8, lanes)
        if shuffle is None:
            return None
        held = shuffle.width // size
        piece = min(lanes, held)
        starts = self._starts(values, piece, held)
        if starts is None:
            return None
        per = size // shuffle.unit
        picks = row
        if per > 1 or shuffle.unit != 4:
            units = values[..., None] * per + np.arange(per)
            picks = self._put(units % (1 << 8 * shuffle.unit), _UNITS[shuffle.unit])
        return Window(shuffle, piece, starts, picks)

    def _starts(self, values: np.ndarray, piece: int, held: int) -> tuple[Buffer, ...] | None:
        """Where windows of `held` elements begin for the pieces that begin at each element. What
        reads beside another takes the windows of that, which are loaded already."""
        near = np.lib.stride_tricks.sliding_window_view(
            np.concatenate([values, np.repeat(values[:, -1:], piece - 1, 1)], 1), piece, 1
        )
        least, most = near.min(2), near.max(2)
        lowest, last = values.min(1, keepdims=True), values.max(1, keepdims=True) - held + 1
        if (last < lowest).any():
            return None
        for key, known, rows in self.windows:
            inside = all((lowest <= w).all() and (w <= last).all() for w in known)
            if key == (piece, held, values.shape) and inside and _holds(known, least, most, held):
                return rows
        found = [np.clip(least, lowest, last)]
        if not _holds(found, least, most, held):
            found.append(np.minimum(found[0] + held, last))
        if not _holds(found, least, most, held):
            return None
        rows = tuple(self._put(w, I32) for w in found)
        self.windows.append(((piece, held, values.shape), found, rows))
        return rows


_UNITS = {1: DTYPES["u8"], 4: DTYPES["i32"]}


def _holds(starts: list[np.ndarray], least: np.ndarray, most: np.ndarray, held: int) -> bool:
    """Whether windows hold all that lies between `least` and `most`."""
    return bool((starts[0] <= least).all() and (most < starts[-1] + held).all())
