"""How a contraction is tiled, packed and shared: `ContractSchedule`, and the packing of weights."""

from dataclasses import dataclass, replace
from math import ceil, prod

import numpy as np

from ...loops import expr as s
from ...loops.expr import Axis, Buffer
from ...loops.nest import Kernel
from ...loops.schedule import Contraction, Tile, choose_tile, linear_load
from ..base import CpuTarget
from ..numpy import evaluate

PACK_ROWS = 1 << 20  # bytes of scratch that packing may take per thread


@dataclass(frozen=True)
class ContractSchedule:
    """`b`: "constant" (packed while compiling) or "pack"; `a`: "direct" or "pack".

    `chunk` is how many tiles of the inner m axis one parallel unit handles. `order`: "panels"
    keeps a panel of B in cache while all of A passes by, "rows" a tile of A while B does.
    """

    contraction: Contraction
    tile: Tile
    lanes: int
    a: str
    b: str
    chunk: int
    order: str = "panels"

    @property
    def n(self) -> Axis:
        return self.contraction.n[-1]

    @property
    def m(self) -> Axis | None:
        return self.contraction.m[-1] if self.contraction.m else None

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return self.tile.vectors * self.lanes

    @property
    def panels(self) -> int:
        return ceil(self.n.extent / self.width)

    @property
    def depth(self) -> int:
        return prod(a.extent for a in self.contraction.k)

    @property
    def line(self) -> Axis | None:
        """The outer m axis that a spread tile covers several lines of."""
        return self.contraction.m[-2] if self.tile.spread > 1 else None

    @property
    def tiles(self) -> int:
        """Tiles along m (of the lines, for a spread tile)."""
        if self.m is None:
            return 1
        if self.line is not None:
            return ceil(self.line.extent / self.tile.spread)
        return ceil(self.m.extent / self.tile.rows)

    @property
    def chunks(self) -> int:
        return ceil(self.tiles / self.chunk)

    @property
    def outer(self) -> tuple[Axis, ...]:
        """Axes of the parallel units, outermost first, after the panel."""
        c = self.contraction
        return (*c.n[:-1], *c.batch, *self.outer_m)

    @property
    def outer_m(self) -> tuple[Axis, ...]:
        return self.contraction.m[: -1 if self.line is None else -2]

    @property
    def units(self) -> int:
        if self.b == "pack":
            c = self.contraction
            return self.panels * prod(a.extent for a in (*c.n[:-1], *c.batch))
        pieces = self.chunks * prod(a.extent for a in self.outer)
        return pieces if self.order == "rows" else self.panels * pieces

    @property
    def scratch(self) -> int:
        """Bytes of scratch memory per thread."""
        size = self.contraction.reduce.dtype.bytes
        total = 0
        if self.b == "pack":
            total += self.depth * self.width * size
        if self.a == "pack":
            total += -(-self.depth * self.tile.rows * size // 64) * 64
        return -(-total // 64) * 64


def schedule_contraction(
    kernel: Kernel, c: Contraction, target: CpuTarget, constants: frozenset[Buffer]
) -> ContractSchedule | None:
    """The schedule of a contraction, or None where a nest serves better."""
    dtype = c.reduce.dtype
    if dtype.name not in ("f32", "f64", "i32", "i64"):
        return None
    lanes = target.lanes(dtype.bits)
    m = c.m[-1].extent if c.m else 1
    n = c.n[-1].extent
    if n < max(4, lanes // 4):
        return None
    depth = prod(x.extent for x in c.k)
    lines = c.m[-2].extent if len(c.m) > 1 and m < 14 and linear_load(c.a) is not None else 1
    streamed = depth * 2 * lanes * dtype.bytes > target.l1 * 3 // 4
    registers = target.registers if dtype.is_float else min(16, target.registers)
    tile = choose_tile(m, n, lanes, registers, lines=lines, streamed=streamed)
    loads = [x for x in s.walk(c.b) if x.op == "load"]
    packed = all(x.data in constants for x in loads)
    rows = prod(a.extent for a in c.m)
    plan = linear_load(c.a)
    a = "direct" if plan is not None else "pack"
    if not packed and rows < 4:
        return None
    scratch = depth * dtype.bytes * ((0 if packed else tile.vectors * lanes) +
                                     (0 if a == "direct" else tile.rows))  # fmt: skip
    if scratch > PACK_ROWS:
        return None
    panels = ceil(n / (tile.vectors * lanes))
    whole = panels * tile.vectors * lanes * depth * dtype.bytes
    order = "rows" if packed and (whole <= target.l2 * 5 // 8 or a == "pack") else "panels"
    plan = ContractSchedule(c, tile, lanes, a, "constant" if packed else "pack", 1, order)
    pieces = prod(x.extent for x in plan.outer) * (1 if order == "rows" else panels)
    chunk = plan.tiles if order == "panels" else 1
    while pieces * ceil(plan.tiles / chunk) < 16 and chunk > 1:
        chunk = -(-chunk // 2)
    return replace(plan, chunk=chunk)


def pack_constant(plan: ContractSchedule, arrays: dict[Buffer, np.ndarray]) -> np.ndarray:
    """B as panels [n outer…, batch…, panel, k, column], zero past the end."""
    c = plan.contraction
    outer = [a for a in (*c.n[:-1], *c.batch) if a in c.b.free]
    axes = [*outer, plan.n, *c.k]
    value = evaluate(c.b, axes, arrays)
    shape = [a.extent for a in axes]
    value = np.broadcast_to(
        value.reshape([1] * (len(axes) - value.ndim) + list(value.shape)), shape
    )
    value = value.reshape(*[a.extent for a in outer], plan.n.extent, plan.depth)
    extra = plan.panels * plan.width - plan.n.extent
    if extra:
        value = np.pad(value, [(0, 0)] * len(outer) + [(0, extra), (0, 0)])
    value = value.reshape(*value.shape[: len(outer)], plan.panels, plan.width, plan.depth)
    return np.ascontiguousarray(np.moveaxis(value, -1, -2))
